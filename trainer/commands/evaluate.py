"""`python -m trainer evaluate`: how far joints lie from the truth, of networks on data or of text files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.errors import DataError
from trainer.commands.arguments import add_data_arguments, add_device_argument, open_samples, pick_device, positive

if TYPE_CHECKING:
    from trainer.judging.metrics import Errors

PRESET_NAMES = ("nyu", "icvl", "msra", "hands2017", "xyz")
"""As in `trainer.judging.text_files`, which needs numpy; help must not wait for it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `evaluate`."""
    parser.usage = (
        "%(prog)s WEIGHTS [WEIGHTS ...] DATA [--samples N] [--seed N] [--device DEVICE] [--data-label KEY] ...\n"
        "       %(prog)s --predictions FILE [FILE ...] --truth FILE --preset PRESET\n"
        "       both: [--names NAME [NAME ...]] [--output FOLDER]"
    )
    parser.add_argument(
        "files",
        nargs="*",
        metavar="WEIGHTS ... DATA",
        help="one or more .safetensors files or names of shipped weights, then the data: an HDF5 file, a packed "
        "folder, `synthetic` or `scenes`",
    )
    parser.add_argument("--predictions", nargs="+", type=Path, metavar="FILE", help="text files, a line a frame")
    parser.add_argument("--truth", type=Path, metavar="FILE", help="the text file that --predictions are judged by")
    parser.add_argument(
        "--preset", choices=PRESET_NAMES, help="what text files hold: u v d of this data set's camera, or x y z in mm"
    )
    parser.add_argument("--names", nargs="+", metavar="NAME", help="what to call the methods (default: file names)")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="write curves.png, joints.png and figures.json")
    parser.add_argument("--samples", type=positive, default=1000, help="samples of a stream")
    parser.add_argument("--seed", type=int, default=1, help="seed of a stream; training uses even ones")
    add_device_argument(parser)
    add_data_arguments(parser)
    parser.set_defaults(usage_error=parser.error)


def run(options: argparse.Namespace) -> int:
    """`python -m trainer evaluate`."""
    if options.predictions or options.truth:
        return _text_files(options)
    return _networks(options)


def _text_files(options: argparse.Namespace) -> int:
    if options.files:
        options.usage_error(
            f"give either weights and data, or --predictions and --truth; {options.files[0]} is neither"
        )
    if not options.predictions:
        options.usage_error("--truth needs --predictions FILE")
    if not options.truth:
        options.usage_error("--predictions needs --truth FILE")
    if not options.preset:
        options.usage_error(f"text files need --preset, one of {', '.join(PRESET_NAMES)} (xyz: x y z in mm)")
    from trainer.judging.text_files import text_errors

    names = _names(options, options.predictions)
    methods = {name: text_errors(path, options.truth, options.preset) for name, path in zip(names, options.predictions)}
    joints = next(iter(methods.values())).shape[1]
    _report(methods, [f"joint {i}" for i in range(joints)], {}, options.output)
    return 0


def _networks(options: argparse.Namespace) -> int:
    if len(options.files) < 2:
        options.usage_error("give WEIGHTS and DATA, or --predictions and --truth")
    if options.preset:
        options.usage_error("--preset is for text files, which --predictions and --truth name")
    from tracker.hand.skeleton import JOINT_NAMES, SKELETON
    from tracker.network.weights import find_weights, load_weights
    from trainer.judging.confidence import calibration_error
    from trainer.judging.evaluate import evaluate, joint_count

    *weights, data = options.files
    names = _names(options, [Path(name) for name in weights])
    networks = [load_weights(find_weights(name)) for name in weights]
    device = pick_device(options.device)
    samples = open_samples(data, options, options.samples, options.seed)
    for name, network in zip(weights, networks):
        if joint_count(network.config) != samples.joints:
            raise DataError(f"{name} has {joint_count(network.config)} joints, {data} {samples.joints}")
    methods: dict[str, Errors] = {}
    more: dict[str, dict[str, float]] = {}
    for name, network in zip(names, networks):
        result = evaluate(network, samples, device, progress=name)
        methods[name] = result.error_mm
        if network.config.global_joints:
            more[name] = {"precision_20_mm": result.precision, "recall_20_mm": result.recall}
        else:
            more[name] = {"calibration_error": calibration_error(result.confidence, result.error_mm)}
    ours = all(network.config.skeleton == SKELETON for network in networks)
    joint_names = JOINT_NAMES if ours else [f"joint {i}" for i in range(samples.joints)]
    _report(methods, joint_names, more, options.output)
    return 0


def _names(options: argparse.Namespace, paths: Sequence[Path]) -> list[str]:
    """What the methods are called: as the person says, else by their files, with as many folders as tell them apart."""
    names: list[str] = options.names or [path.stem for path in paths]
    if len(names) != len(paths):
        options.usage_error(f"--names gives {len(names)} names for {len(paths)} methods")
    if not options.names and len(set(names)) < len(names):
        names = [str(path.with_suffix("")) for path in paths]
    if len(set(names)) < len(names):
        options.usage_error(f"two methods are called {max(names, key=names.count)}; see --names")
    return names


def _report(
    methods: Mapping[str, Errors],
    joint_names: Sequence[str],
    more: Mapping[str, Mapping[str, float]],
    output: Path | None,
) -> None:
    """Print the table; write it and the plots to a folder."""
    from trainer.judging.metrics import figures
    from trainer.judging.plots import plot_curves, plot_joints

    results = {name: figures(error_mm, joint_names) for name, error_mm in methods.items()}
    for name, error_mm in methods.items():
        if not results[name]["joints_known"]:
            raise DataError(f"there is nothing to judge {name} by: no joint of {len(error_mm)} frames is known")
        results[name] |= {key: None if value != value else round(value, 4) for key, value in more.get(name, {}).items()}
    print(format_table(results))
    if output is None:
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise DataError(f"--output {output} is a file; give a folder") from None
    plot_curves(output / "curves.png", methods)
    plot_joints(output / "joints.png", methods, joint_names)
    part = output / "figures.json.part"
    part.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    part.replace(output / "figures.json")


def format_table(results: Mapping[str, dict[str, Any]]) -> str:
    """The figures (see `trainer.judging.metrics.figures`), a line a figure, a column a method."""
    from trainer.judging.metrics import TABLE_THRESHOLDS

    first = next(iter(results.values()))
    rows: list[tuple[str, str, list[Any]]] = [("frames", "{:.0f}", [r["frames"] for r in results.values()])]
    for label, key in (("mean error, mm", "mean_mm"), ("median error, mm", "median_mm"), ("max error, mm", "max_mm")):
        rows.append((label, "{:.3f}", [r[key] for r in results.values()]))
    for joint in first["joint_mean_mm"]:
        rows.append((f"  {joint}", "{:.3f}", [r["joint_mean_mm"][joint] for r in results.values()]))
    for limit in TABLE_THRESHOLDS:
        label = f"frames within {limit:g} mm, %"
        rows.append((label, "{:.2f}", [100 * r["frames_within"][f"{limit:g}"] for r in results.values()]))
    span = f"0-{first['area_limit_mm']:g} mm"
    rows.append((f"area, frames, {span}", "{:.4f}", [r["frames_area"] for r in results.values()]))
    rows.append((f"area, joints, {span}", "{:.4f}", [r["joints_area"] for r in results.values()]))
    for label, key, scale in (
        ("joints not found, %", "missed", 100),
        ("precision at 20 mm, %", "precision_20_mm", 100),
        ("recall at 20 mm, %", "recall_20_mm", 100),
        ("calibration error", "calibration_error", 1),
    ):
        values = [None if r.get(key) is None else scale * r[key] for r in results.values()]
        # Text files tell no confidence, and only networks with one map for all joints can miss some.
        told = any(key in r for r in results.values())
        if told and (any(values) or key != "missed"):
            rows.append((label, "{:.3f}" if scale == 1 else "{:.2f}", values))
    cells = [["", *results]] + [
        [label, *("-" if value is None else form.format(value) for value in values)] for label, form, values in rows
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))]
        ).rstrip()
        for line in cells
    )
