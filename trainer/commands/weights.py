"""`python -m trainer weights`: both networks that the tracker needs, stage by stage, by one command."""

from __future__ import annotations

import argparse
import json
import math
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tracker.errors import DataError
from trainer.commands.arguments import add_device_argument, command_line, commit, pick_device, positive

SAMPLES_AN_HOUR: Final = 24_000
MOST_SAMPLES: Final = 400_000
"""Cubes that are rendered to a folder before the hand network is trained on them: each is seen two or three times."""
DEV_SAMPLES: Final = 768
DEV_SEED: Final = 1_000_001
"""Of the cubes to judge on: odd seeds are not trained on."""
SEEDS: Final = 35
EXACT: Final = ("--distance", "400", "--presence", "12")
"""Once the heat maps are roughly right, how far joints are off counts for most: see docs/training.md."""
FIRST_RUN: Final = 10
FIRST_SAMPLES: Final = 1000
FIRST_STREAM: Final = 540
"""Seeds of segmentation runs, of cubes and of runs on a stream of situations (those of twice the seed, which lie beyond
the cubes') begin here: the shipped weights saw those below."""
PLAN: Final = "weights.json"
"""File in the folder: what was asked for, and which stages are done."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A command of this package. name: also of the folder that it makes, if it makes one."""

    name: str
    command: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `weights`."""
    add = parser.add_argument
    add("output", type=Path, metavar="OUT_DIR", help="folder for all stages; the same command goes on where it stopped")
    add("--hours", type=_hours, required=True, help="of training in all; rendering takes some minutes more an hour")
    add("--seed", type=int, default=0, help=f"from 0 to {SEEDS - 1}: other situations (default: 0)")
    add("--model", default="v2v-lite", choices=("v2v", "v2v-lite"), help="the hand network (default: v2v-lite)")
    add("--init", choices=("shipped",), help="go on from the shipped weights instead of from nothing")
    add("--workers", type=positive, default=1, help="processes that render beside a training (default: 1)")
    add_device_argument(parser)


def _hours(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 10_000:
        raise argparse.ArgumentTypeError(f"must be a number above 0 and below 10000, is {text}")
    return value


def stages(options: argparse.Namespace, device: str) -> list[Stage]:
    """The commands, in their order: half of the time for each network. device: cpu or cuda."""
    segmentation, hands = _segmentation(options, device), _hands(options, device)
    model, segmenter = (f"{options.output}/{name}.safetensors" for name in (options.model, "segmenter"))
    calibrate = Stage("calibrate", ("calibrate", model, "--segmentation", segmenter))
    return [*segmentation, *_rendered(options, device), *hands, calibrate]


def _segmentation(options: argparse.Namespace, device: str) -> list[Stage]:
    """Half-size images first, which teach most of it in a quarter of the time."""

    def stage(number: int, share: float, *more: str) -> Stage:
        return Stage(
            f"segment-{number}",
            (
                *("segment", f"{options.output}/segment-{number}", "--minutes", _minutes(options, share)),
                *("--seed", str(FIRST_RUN + 2 * options.seed + number - 1), "--reuse", "6", "--compare", "0"),
                *(*_machine(options), *more),
            ),
        )

    images = 64 if device == "cuda" else 16
    fine = ("--batch-size", str(images), "--learning-rate", "2e-3")
    if options.init:
        return [stage(1, 0.5, *fine, "--init", "shipped")]
    coarse = stage(1, 0.12, "--size", "96x80", "--batch-size", str(2 * images), "--learning-rate", "4e-3")
    return [coarse, stage(2, 0.38, *fine, "--init", _best(options, coarse))]


def _rendered(options: argparse.Namespace, device: str) -> list[Stage]:
    """Cubes to judge on; and to train on, for a CPU. A GPU takes more than can be rendered beforehand: a stream."""

    def stage(name: str, samples: int, seed: int) -> Stage:
        count = ("--samples", str(samples), "--seed", str(seed))
        # Small shards, for a shard that was not finished is made again.
        how = ("--grid", "128", "--shard-samples", "1024")
        return Stage(name, ("synthesize", f"{options.output}/{name}", "--scenes", *count, *how))

    dev = stage("dev", DEV_SAMPLES, DEV_SEED)
    if device == "cuda":
        return [dev]
    return [
        dev,
        stage(
            "scenes", min(math.ceil(SAMPLES_AN_HOUR * options.hours), MOST_SAMPLES), FIRST_SAMPLES + 2 * options.seed
        ),
    ]


def _hands(options: argparse.Namespace, device: str) -> list[Stage]:
    """A coarse grid first, likewise."""
    streamed = device == "cuda"
    train = "scenes" if streamed else f"{options.output}/scenes"
    many = ("--views", "4", "--batch-size", "64") if streamed else ("--batch-size", "8")

    def stage(number: int, share: float, *more: str) -> Stage:
        seed = FIRST_STREAM + 2 * options.seed + number - 1 if streamed else options.seed
        return Stage(
            f"pose-{number}",
            (
                *("fit", train, f"{options.output}/pose-{number}", "--dev", f"{options.output}/dev"),
                *("--model", options.model, "--upright", "--minutes", _minutes(options, share)),
                *("--optimizer", "muon", "--learning-rate", "1.5e-3", "--ema", "0.999", "--seed", str(seed)),
                *(*many, *_machine(options), *more),
            ),
        )

    if options.init:
        return [stage(1, 0.5, *EXACT, "--init", options.model)]
    grids = {"v2v-lite": ("32", "48"), "v2v": ("44", "88")}[options.model]
    coarse = stage(1, 0.25, "--input-size", grids[0])
    return [coarse, stage(2, 0.25, *EXACT, "--input-size", grids[1], "--init", _best(options, coarse))]


def _minutes(options: argparse.Namespace, share: float) -> str:
    return f"{60 * share * options.hours:g}"


def _machine(options: argparse.Namespace) -> tuple[str, ...]:
    return ("--device", options.device, "--workers", str(options.workers))


def _best(options: argparse.Namespace, stage: Stage) -> str:
    """The weights that a run leaves."""
    return f"{options.output}/{stage.name}/best.safetensors"


def run(options: argparse.Namespace) -> int:
    """`python -m trainer weights OUT_DIR --hours H`."""
    from tracker.network.weights import shipped_weights
    from trainer.fitting.lock import lock_run

    if not 0 <= options.seed < SEEDS:
        raise DataError(f"--seed must be from 0 to {SEEDS - 1}, is {options.seed}")
    if options.init and options.model not in shipped_weights():
        raise DataError(f"no weights of {options.model} are shipped: leave --init out")
    output: Path = options.output
    device = pick_device(options.device).type
    lock = lock_run(output)
    try:
        return _go_on(output, options.model, _begun(output, options, device))
    finally:
        if lock is not None:
            lock.close()


def _go_on(output: Path, model: str, plan: dict[str, Any]) -> int:
    hands, segmenter = (output / f"{name}.safetensors" for name in (model, "segmenter"))
    use = f"python -m tracker run --model {shlex.quote(str(hands))} --segmentation {shlex.quote(str(segmenter))}"
    for name, words in plan["stages"].items():
        if name in plan["done"]:
            continue
        if name == "calibrate":
            runs = [other for other in plan["stages"] if (output / other / "best.safetensors").is_file()]
            for weights, kind in ((segmenter, "segment"), (hands, "pose")):
                _copy(output / [run for run in runs if run.startswith(kind)][-1] / "best.safetensors", weights, plan)
        command = _again(words) if (output / name / "checkpoint.pt").exists() else words
        print(f"{name}: python -m trainer {shlex.join(command)}", file=sys.stderr)
        status = _call(command)
        if status == 130:
            print(f"stopped in stage {name}; the same command goes on", file=sys.stderr)
        elif status and name == "calibrate":
            print(f"the weights can be used without that, if less is known of their confidence: {use}", file=sys.stderr)
        if status:
            return status
        plan["done"].append(name)
        _write(output / PLAN, plan)
    print(f"done; to use the weights: {use}")
    return 0


def _begun(output: Path, options: argparse.Namespace, device: str) -> dict[str, Any]:
    """The plan in a folder, which is begun if there is none. Raises DataError if the folder has other work in it.

    asked: by what the work is the same. stages: the commands by name; those of the version that began it.
    """
    path = output / PLAN
    # The commands name the folder: one that was moved would be gone on with in its old place.
    asked = {"OUT_DIR": str(output), "--device": device}
    asked |= {f"--{name}": getattr(options, name) for name in ("hours", "seed", "model", "init", "workers")}
    if not path.exists():
        if any(item.name not in (".lock", f"{PLAN}.part") for item in output.iterdir()):
            raise DataError(f"{output} holds other things: give a new or empty folder")
        wanted = {stage.name: stage.command for stage in stages(options, device)}
        plan: dict[str, Any] = {
            "command": command_line(),
            "commit": commit(),
            "asked": asked,
            "stages": wanted,
            "done": [],
        }
        _write(path, plan)
        return plan
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        before = dict(plan["asked"])
        if not (isinstance(plan["stages"], dict) and isinstance(plan["done"], list)):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path} is damaged: give another folder") from error
    for name, value in asked.items():
        if before.get(name) != value:
            raise DataError(f"{output} was begun with {name} {before.get(name)}, not {value}: give another folder")
    return dict(plan)


def _again(command: Sequence[str]) -> Sequence[str]:
    """The command that resumes what a command began."""
    words = list(command)
    if "--init" in words:
        start = words.index("--init")
        del words[start : start + 2]
    return [*words, "--resume"]


def _call(command: Sequence[str]) -> int:
    """Run a command of this package; returns its exit status. Its cards name the command, as if a person had run it."""
    from trainer.cli import main

    words = sys.argv
    sys.argv = [words[0], *command]
    try:
        return main(command)
    finally:
        sys.argv = words


def _copy(weights: Path, to: Path, plan: dict[str, Any]) -> None:
    """Copy weights with their card, which then says by which commands they were made."""
    commands = [shlex.join(["python", "-m", "trainer", *words]) for words in plan["stages"].values()]
    card = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))
    card["made_by"] = {"command": plan["command"], "commit": plan["commit"], "stages": commands}
    shutil.copyfile(weights, to)
    _write(to.with_suffix(".json"), card)


def _write(path: Path, value: dict[str, Any]) -> None:
    from trainer.data.writing import write_whole

    write_whole(path, (json.dumps(value, indent=2) + "\n").encode())
