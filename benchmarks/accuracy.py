"""How well hands are tracked where the truth is known: the frozen synthetic test set, real recordings, any camera.

    python benchmarks/accuracy.py --set synthetic
    python benchmarks/accuracy.py --set real --real FOLDER
    python benchmarks/accuracy.py --set still
    python benchmarks/accuracy.py --camera simulated --frames 300
    python benchmarks/accuracy.py --camera PATH

Runs the whole tracker, every frame, and compares the published joints with the truth of the same frame. What the sets
hold, how the figures are defined and what came out: docs/accuracy.md. Ctrl-C ends a run with the figures so far.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import accuracy_real
import accuracy_set
import cv2
from accuracy_figures import side_by_side
from accuracy_run import Method, Result, Source, View, cores, follow
from accuracy_tables import Table, check_region, real_tables, replace_region, show, synthetic_tables
from accuracy_tally import Observation, tally
from machine import machine
from tqdm import tqdm

from tracker import TrackerConfig, open_camera
from tracker.errors import CameraError, DataError, TrackerError
from tracker.hand.profile import read_profile
from tracker.network.weights import find_weights

CHECKOUT = Path(__file__).resolve().parents[1]
UNFROZEN = {
    "tuning": accuracy_set.TUNING_SEEDS,
    "further": accuracy_set.FURTHER_SEEDS,
    "fresh": accuracy_set.FRESH_SEEDS,
}
RENDERED = ("synthetic", *UNFROZEN)
DEFAULT_FRAMES = 300
"""Of a camera, which may have no end."""
STOPPED = 130
"""Exit status after Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    # What OpenCV warns of (a damaged image) is told by our own errors; here, and in other processes.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    if complaint := _complaint(options):
        parser.error(complaint)
    try:
        if options.freeze:
            accuracy_set.freeze(tqdm(accuracy_set.plan(), unit="sequence", desc="freezing"))
            return 0
        return run(options)
    except TrackerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return STOPPED


def _complaint(options: argparse.Namespace) -> str | None:
    """What is wrong with the options, None if nothing is."""
    for name in ("frames", "sequences", "processes"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            return f"--{name} must be at least 1, is {getattr(options, name)}"
    if not 1 <= options.hands <= 4:
        return f"--hands must be from 1 to 4, is {options.hands}"
    part = options.frames is not None or options.sequences is not None
    unusual = options.raw or options.hands != 2
    if options.set == "still" and (part or unusual):
        return "--set still always measures the same: leave --frames, --sequences, --raw and --hands out"
    if options.set is None and options.sequences is not None:
        return "--sequences counts those of a --set: a camera is one, use --frames"
    if options.cache and options.set not in RENDERED:
        return f"--cache needs --set {', '.join(RENDERED)}: only their frames are rendered"
    if options.real and options.set != "real":
        return "--real has the recordings of --set real: give both, or one recording as --camera"
    if options.set and options.profile:
        return "--profile is of one person: the sets show others, use it with --camera"
    if options.write and not options.set:
        return "--write needs --set: only the tables of a set are kept in documents"
    if options.write and part:
        return "--write keeps the figures of whole sets only: leave --frames and --sequences out"
    if options.write and unusual:
        return "--write keeps the figures of two filtered hands, as users get them: leave --raw and --hands out"
    if not options.pictures:
        return None
    if options.set not in (*RENDERED, "real"):
        return f"--pictures needs --set {', '.join(RENDERED)}, real: only their frames can be had twice"
    folder = options.pictures.resolve()
    if options.set == "real" and CHECKOUT in (folder, *folder.parents):
        return "--pictures: recordings of people are not the project's to spread; draw them outside the checkout"
    return None


def run(options: argparse.Namespace) -> int:
    """Measure and report; returns the exit status. Raises TrackerError."""
    methods = _methods(options)
    if options.write:
        check_region(options.write, options.set)
    if options.output:
        _check_output(options.output)
    if options.pictures:
        try:
            options.pictures.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"no pictures can be written to {options.pictures}: {error.strerror}") from error
    report: dict[str, Any] = {
        "set": options.set or options.camera,
        "machine": machine(),
        "complete": True,
        "differs": [],
    }
    if options.set == "still":
        from accuracy_still import still_figures, still_tables

        measured = {method.name: still_figures(method) for method in methods}
        report["methods"] = {each.name: each.described(measured[each.name]["engine"]) for each in methods}
        tables = still_tables(measured)
        _tell(options, report, measured, tables)
        _document(options, report, tables)
        return 0
    sources = _sources(options)
    results, status = _gather(sources, methods, options)
    if not results:
        return status
    report |= {
        "methods": {each.name: each.described(results[0].engines[each.name]) for each in methods},
        "sequences": len(results),
        "complete": status == 0 and options.frames is None and options.sequences is None,
        "differs": [result.differs for result in results if result.differs],
    }
    measured, tables = _measure(options, methods, results, sources)
    _tell(options, report, measured, tables)
    pictures = _draw(options, results, methods[0], sources, measured) if options.pictures else []
    _document(options, report, tables, pictures)
    return status


def _check_output(path: Path) -> None:
    """Raise DataError where a file cannot be written, before hours of measuring."""
    there = path.exists()
    try:
        path.open("ab").close()
        if not there:
            path.unlink()
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error.strerror}): give a file in a folder that is there and yours"
        ) from error


def _about(report: dict[str, Any]) -> list[str]:
    return [report["machine"], "\n".join(f"- {name}: {what}" for name, what in report["methods"].items())]


def _tell(options: argparse.Namespace, report: dict[str, Any], measured: dict[str, Any], tables: list[Table]) -> None:
    """Print, and keep the figures if that was asked for. Raises DataError."""
    print(*_about(report), sep="\n")
    if differs := report["differs"]:
        print(
            f"NOT THE FROZEN SET: {len(differs)} of {report['sequences']} sequences are others, such as: {differs[0]}"
        )
    print("", show(tables, options.markdown), sep="\n", flush=True)
    if options.output:
        _save(options.output, {**report, "figures": measured})


def _document(
    options: argparse.Namespace, report: dict[str, Any], tables: list[Table], pictures: Sequence[Path] = ()
) -> None:
    """Write the tables into the document, if that was asked for. Raises DataError."""
    if not options.write:
        return
    if report["differs"] or not report["complete"]:
        raise DataError(f"{options.write} is not rewritten: these are not the figures of the whole, unchanged set")
    # Pictures of people are for those who have the recordings, so that no document shows them.
    shown = pictures if options.set == "synthetic" else ()
    links = [f"![{path.stem}]({os.path.relpath(path, options.write.parent)})" for path in shown]
    replace_region(options.write, options.set, "\n\n".join([*_about(report), show(tables, markdown=True), *links]))


def _methods(options: argparse.Namespace) -> list[Method]:
    """Every model with every segmentation. Raises WeightsError, ProfileError, DataError."""
    profile = read_profile(options.profile) if options.profile else None
    methods: dict[str, Method] = {}
    for model, segmentation in product(options.model, options.segmentation):
        names = [find_weights(model).stem] if len(options.model) > 1 or len(options.segmentation) == 1 else []
        names += [Path(segmentation).stem] if len(options.segmentation) > 1 else []
        name = " ".join(names)
        if name in methods:
            raise DataError(f"two methods would both be called {name!r}: rename one of the files")
        methods[name] = Method(name, model, segmentation, options.engine, options.hands, options.raw, profile)
        if options.set == "real" and not options.raw:
            # Some of these recordings are single frames a second or more apart, where a filter has no say.
            methods[f"{name} unfiltered"] = replace(methods[name], name=f"{name} unfiltered", raw=True)
    return list(methods.values())


def _sources(options: argparse.Namespace) -> list[Source]:
    if options.set == "synthetic":
        return accuracy_set.sources(accuracy_set.frozen()[: options.sequences], options.cache)
    if options.set in UNFROZEN:
        plan = accuracy_set.plan(UNFROZEN[options.set])
        return accuracy_set.sources(plan[: options.sequences], options.cache)
    if options.set == "real":
        return accuracy_real.sources(options.real or accuracy_real.DEFAULT)[: options.sequences]
    return [Source(options.camera, "", options.camera, partial(_views, options.camera))]


def _views(spec: str, places: Sequence[int] | None = None) -> Iterator[View]:
    """The frames of any camera that knows where its hands are. Raises CameraError."""
    with open_camera(spec, realtime=False) as camera:
        for number, frame in enumerate(camera):
            if frame.truth is None:
                raise CameraError(
                    f"{spec} does not know where the hands of frame {frame.number} are: "
                    "its joints.jsonl is missing, or has no line of that frame"
                )
            if places is None or number in places:
                yield View(frame)


def _gather(
    sources: Sequence[Source], methods: Sequence[Method], options: argparse.Namespace
) -> tuple[list[Result], int]:
    """The results in the order of the sources, and the exit status: Ctrl-C, or an error of another kind, leaves those
    that were done, and a source that cannot be read leaves the others. Raises TrackerError if none was done.
    """
    limit = options.frames or (None if options.set else DEFAULT_FRAMES)
    results: list[Result] = []
    status = 0
    running = follow(sources, methods, options.processes, limit)
    with tqdm(total=len(sources), unit="sequence", disable=len(sources) == 1) as bar:
        try:
            for result in running:
                bar.update()
                if result.broken is None:
                    results.append(result)
                else:
                    status = 1
                    bar.write(f"error: {result.broken}", file=sys.stderr)
        except KeyboardInterrupt:
            status = STOPPED
            bar.write(f"stopped after {len(results)} of {len(sources)} sequences", file=sys.stderr)
        except TrackerError as error:
            if not results:
                raise
            status = 1
            bar.write(f"error: {error} (after {len(results)} of {len(sources)} sequences)", file=sys.stderr)
        finally:
            running.close()
    return sorted(results, key=lambda result: result.source), status


def _measure(
    options: argparse.Namespace,
    methods: Sequence[Method],
    results: Sequence[Result],
    sources: Sequence[Source],
) -> tuple[dict[str, Any], list[Table]]:
    """The figures as JSON and as tables."""
    if options.set == "real":
        folders = {
            sources[result.source].name: {
                name: accuracy_real.real_figures(sources[result.source].name, seen)
                for name, seen in result.observations.items()
            }
            for result in results
        }
        return folders, real_tables(folders)
    measured = side_by_side({method.name: tally(_together(results, method)) for method in methods})
    return measured, synthetic_tables(measured)


def _together(results: Sequence[Result], method: Method) -> list[Observation]:
    return [seen for result in results for seen in result.observations[method.name]]


def _draw(
    options: argparse.Namespace,
    results: Sequence[Result],
    method: Method,
    sources: Sequence[Source],
    measured: dict[str, Any],
) -> list[Path]:
    """Sheets of the first method, and curves of all; returns the files. Raises DataError."""
    import accuracy_pictures as pictures
    from accuracy_plots import draw_plots

    judged = {}
    for result in results:
        seen = result.observations[method.name]
        labelled = options.set != "real" or any(frame.truth for frame in seen)
        judged[sources[result.source].name] = pictures.judge(seen, labelled)
    if options.set == "real":
        files = [options.pictures / f"accuracy_{name}.png" for name in judged]
        for path, frames in zip(files, judged.values()):
            pictures.save(path, pictures.sheet(pictures.evenly(frames), sources))
        return files
    frames, curves = options.pictures / "accuracy_frames.png", options.pictures / "accuracy_curves.png"
    pictures.save(frames, pictures.sheet(pictures.choose([each for row in judged.values() for each in row]), sources))
    try:
        draw_plots(curves, measured)
    except OSError as error:
        raise DataError(f"{curves} cannot be written: {error.strerror}") from error
    return [curves, frames]


def _save(path: Path, report: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--set", choices=(*RENDERED, "real", "still"), help="a test set")
    source.add_argument("--camera", default="simulated", help="or a source with known joints (default: simulated)")
    parser.add_argument("--real", type=Path, metavar="DIR", help="recordings of --set real, or one")
    parser.add_argument("--sequences", type=int, metavar="N", help="only the first N sequences of the set")
    parser.add_argument("--frames", type=int, metavar="N", help="only the first N frames of each sequence or camera")
    parser.add_argument("--model", nargs="+", default=["auto"], help="one or several, side by side")
    parser.add_argument(
        "--segmentation",
        nargs="+",
        default=[TrackerConfig().segmentation],
        metavar="HOW",
        help="network, geometric, or a file; one or several",
    )
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--hands", type=int, default=2)
    parser.add_argument("--profile", type=Path, metavar="FILE.json", help="hand size of the person before --camera")
    parser.add_argument("--raw", action="store_true", help="without the One Euro filter (for frames far apart in time)")
    parser.add_argument(
        "--processes", type=int, default=cores(), metavar="N", help="sequences at a time (default: cores)"
    )
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="keep rendered frames here, for the next time (300 MB)"
    )
    parser.add_argument("--markdown", action="store_true", help="print tables as Markdown")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="write all figures as JSON")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="draw the best, median and worst frames into DIR")
    parser.add_argument("--write", type=Path, metavar="FILE.md", help="rewrite the tables of the set in a document")
    parser.add_argument("--freeze", action="store_true", help="make the synthetic test set anew, with what it is then")
    return parser


if __name__ == "__main__":
    sys.exit(main())
