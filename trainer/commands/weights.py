"""`python -m trainer weights`: both networks that the tracker needs, stage by stage, by one command."""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tracker.errors import DataError
from trainer.commands.arguments import add_device_argument, command_line, commit, pick_device, positive
from trainer.interrupts import interrupts_noted

SAMPLES_AN_HOUR: Final = 24_000
MOST_SAMPLES: Final = 400_000
"""Cubes that are rendered to a folder before the hand network is trained on them: each is seen two or three times."""
DEV_SAMPLES: Final = 768
DEV_SEED: Final = 1_000_001
"""Of the cubes to judge on: odd seeds are not trained on."""
SEEDS: Final = 40
PLAN: Final = "weights.json"
"""File in the folder: what was asked for, and which stages are done."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A command of this package. name: also of its folder, if it is a run that can be resumed."""

    name: str
    command: tuple[str, ...]
    run: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `weights`."""
    add = parser.add_argument
    add("output", type=Path, metavar="OUT_DIR", help="folder for all stages; the same command goes on where it stopped")
    add("--hours", type=_hours, required=True, help="of training in all; rendering takes some minutes of each besides")
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
        raise argparse.ArgumentTypeError(f"must be a number above 0, is {text}")
    return value


def stages(options: argparse.Namespace, device: str) -> list[Stage]:
    """The commands, in their order: half of the time for each network. device: cpu or cuda."""
    segmentation, hands = _segmentation(options, device), _hands(options, device)
    calibrate = (
        *("calibrate", _best(options, hands[-1]), "--output", f"{options.output}/{options.model}.safetensors"),
        *("--segmentation", _best(options, segmentation[-1])),
    )
    return [*segmentation, *_rendered(options, device), *hands, Stage("calibrate", calibrate)]


def _segmentation(options: argparse.Namespace, device: str) -> list[Stage]:
    """Half-size images first, which teach most of it in a quarter of the time."""

    def stage(number: int, share: float, *more: str) -> Stage:
        return Stage(
            f"segment-{number}",
            (
                *("segment", f"{options.output}/segment-{number}", "--minutes", _minutes(options, share)),
                *("--seed", str(2 * options.seed + number - 1), "--reuse", "6", "--compare", "0"),
                *(*_machine(options), *more),
            ),
            run=True,
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
        return Stage(name, ("synthesize", f"{options.output}/{name}", "--scenes", *count, "--grid", "128"))

    dev = stage("dev", DEV_SAMPLES, DEV_SEED)
    if device == "cuda":
        return [dev]
    return [dev, stage("scenes", min(math.ceil(SAMPLES_AN_HOUR * options.hours), MOST_SAMPLES), 2 * options.seed)]


def _hands(options: argparse.Namespace, device: str) -> list[Stage]:
    """A coarse grid first, likewise."""
    streamed = device == "cuda"
    train = "scenes" if streamed else f"{options.output}/scenes"
    many = ("--views", "4", "--batch-size", "64") if streamed else ("--batch-size", "8")

    def stage(number: int, share: float, *more: str) -> Stage:
        return Stage(
            f"pose-{number}",
            (
                *("fit", train, f"{options.output}/pose-{number}", "--dev", f"{options.output}/dev"),
                *("--model", options.model, "--upright", "--minutes", _minutes(options, share)),
                *("--optimizer", "muon", "--learning-rate", "1.5e-3", "--ema", "0.999", "--seed", str(options.seed)),
                *(*many, *_machine(options), *more),
            ),
            run=True,
        )

    if options.init:
        return [stage(1, 0.5, "--init", options.model)]
    grids = {"v2v-lite": ("32", "48"), "v2v": ("44", "88")}[options.model]
    coarse = stage(1, 0.25, "--input-size", grids[0])
    return [coarse, stage(2, 0.25, "--input-size", grids[1], "--init", _best(options, coarse))]


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

    if not 0 <= options.seed < SEEDS:
        raise DataError(f"--seed must be from 0 to {SEEDS - 1}, is {options.seed}")
    if options.init and options.model not in shipped_weights():
        raise DataError(f"no weights of {options.model} are shipped: leave --init out")
    output: Path = options.output
    device = pick_device(options.device).type
    plan = stages(options, device)
    state = _begun(output, plan)
    for stage in plan:
        if stage.name in state["done"]:
            continue
        print(f"{stage.name}: python -m trainer {shlex.join(stage.command)}", file=sys.stderr)
        status = _call(_again(stage.command) if stage.run and _has_checkpoint(output / stage.name) else stage.command)
        if status:
            if status == 130:
                print(f"stopped in stage {stage.name}; the same command goes on", file=sys.stderr)
            return status
        state["done"].append(stage.name)
        _write(output / PLAN, state)
    segmentation = output / _segmentation(options, device)[-1].name
    for ending in ("safetensors", "json"):
        shutil.copyfile(segmentation / f"best.{ending}", output / f"segmenter.{ending}")
    for name in ("segmenter", options.model):
        _tell(output / f"{name}.json", state)
    hands, segmenter = (output / f"{name}.safetensors" for name in (options.model, "segmenter"))
    print(f"done; to use the weights: python -m tracker run --model {hands} --segmentation {segmenter}")
    return 0


def _begun(output: Path, plan: Sequence[Stage]) -> dict[str, Any]:
    """What is known of the folder's work; it is begun if there is none. Raises DataError for other work in it."""
    path = output / PLAN
    wanted = [list(stage.command) for stage in plan]
    try:
        if not path.exists():
            if output.exists() and any(output.iterdir()):
                raise DataError(f"{output} holds other things: give a new or empty folder")
            output.mkdir(parents=True, exist_ok=True)
            state = {"command": command_line(), "commit": commit(), "stages": wanted, "done": []}
            _write(path, state)
            return state
        state = json.loads(path.read_text(encoding="utf-8"))
        if state["stages"] != wanted or not isinstance(state["done"], list):
            raise DataError(f"{output} was begun by `{state['command']}`: give that command, or another folder")
    except OSError as error:
        raise DataError(f"{output} cannot be used ({error.strerror}): give a folder where you may write") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path} is damaged: give another folder") from error
    return dict(state)


def _has_checkpoint(folder: Path) -> bool:
    return (folder / "checkpoint.pt").exists()


def _again(command: tuple[str, ...]) -> tuple[str, ...]:
    """The command that resumes what a command began."""
    words = list(command)
    if "--init" in words:
        start = words.index("--init")
        del words[start : start + 2]
    return (*words, "--resume")


def _call(command: Sequence[str]) -> int:
    """Run a command of this package by itself; returns its exit status.

    Ctrl-C and SIGTERM are handed on to it once, and it has the time it needs; a second Ctrl-C ends it sooner.
    """
    with interrupts_noted() as asked:
        # In a session of its own it is reached by no signal but ours: two would end it before it has kept its work.
        child = subprocess.Popen([sys.executable, "-m", "trainer", *command], start_new_session=True)
        told = False
        try:
            while True:
                try:
                    return child.wait(timeout=0.2)
                except subprocess.TimeoutExpired:
                    if asked.is_set() and not told:
                        told = True
                        child.send_signal(signal.SIGINT)
        finally:
            if child.poll() is None:
                child.send_signal(signal.SIGINT)
                child.wait()


def _tell(card: Path, state: dict[str, Any]) -> None:
    """Say on a card by which commands the weights were made, beside what it says of the last of them."""
    commands = [shlex.join(["python", "-m", "trainer", *words]) for words in state["stages"]]
    made_by = {"command": state["command"], "commit": state["commit"], "stages": commands}
    _write(card, {**json.loads(card.read_text(encoding="utf-8")), "made_by": made_by})


def _write(path: Path, value: dict[str, Any]) -> None:
    """Write JSON beside the old file, then in its place: a kill leaves one of them whole."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    os.replace(new, path)
