"""Arguments and look-ups that several commands share."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.errors import DataError

if TYPE_CHECKING:
    import torch

    from trainer.data.sample import SampleSource

STREAMS = ("synthetic", "scenes")
"""Samples that are made as they are needed: hands alone, and hands in whole situations."""


def positive(text: str) -> int:
    """A whole number from 1 up, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 up, is {text}")
    return int(text)


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """What an HDF5 file does not tell by itself: its keys, and where y points."""
    parser.add_argument("--data-label", default="real_voxels", metavar="KEY", help="of the voxels in an HDF5 file")
    parser.add_argument("--cubes-label", default="cube", metavar="KEY", help="of the cube edges in an HDF5 file")
    parser.add_argument(
        "--com3d-y",
        choices=("auto", "down", "up"),
        default="auto",
        help="where y points in the `com3D` of an HDF5 file (default: as its `gt3Dcrop` tells, down without it)",
    )


def add_device_argument(parser: argparse._ActionsContainer) -> None:
    """`--device`."""
    parser.add_argument("--device", default="auto", help="auto | cpu | cuda[:N] (default: auto)")


def open_samples(name: str, options: argparse.Namespace, count: int, seed: int, views: int = 1) -> SampleSource:
    """The samples that an argument names: `synthetic` or `scenes` (`count` of them, by `seed`), an HDF5 file, or a
    compact folder. Raises DataError.
    """
    from trainer.data.hdf5 import Hdf5Samples
    from trainer.data.packed import PackedSamples
    from trainer.data.scenes import SceneSamples
    from trainer.data.synthetic import SyntheticSamples

    if name in STREAMS:
        if seed < 0:
            raise DataError(f"--seed must be 0 or above, is {seed}")
        return {"synthetic": SyntheticSamples, "scenes": SceneSamples}[name](count, seed, views=views)
    if Path(name).is_dir():
        return PackedSamples(Path(name))
    return Hdf5Samples(Path(name), options.data_label, options.cubes_label, options.com3d_y)


def pick_device(name: str) -> torch.device:
    """The device that `--device` names. Raises DataError if it is not there."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DataError(f"--device {name!r} is none: use auto, cpu, cuda or cuda:N") from error
    # Nothing is allocated to try it: that would take memory of a GPU that other processes use.
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if device.type not in ("cpu", "cuda"):
        raise DataError(f"--device {name} is not one that this program runs on: use cpu or cuda")
    if (device.index or 0) >= count:
        raise DataError(f"--device {name} cannot be used: torch {torch.__version__} finds {count} GPUs here")
    return device


def command_line() -> str:
    """The command line of this process, as a person would type it."""
    return shlex.join(["python", "-m", "trainer", *sys.argv[1:]])


def commit() -> str | None:
    """The commit that this code was checked out at; None for an installed package."""
    here = Path(__file__).parent
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() if found.returncode == 0 else None


def card_of(weights: Path) -> dict[str, Any]:
    """What is known of weights, without their network's description, which is written anew. Raises DataError."""
    path = weights.with_suffix(".json")
    try:
        card = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"the card {path} cannot be read ({error}): mend it, or move it away") from error
    if not isinstance(card, dict):
        raise DataError(f"the card {path} is no JSON object: mend it, or move it away")
    return {key: value for key, value in card.items() if key != "config"}


def run_in(output: Path) -> list[str]:
    """The files of a run in a folder: none if it ended before its first checkpoint, which leaves nothing to keep."""
    names = ("checkpoint.pt", "last.safetensors", "log.jsonl")
    return [name for name in names if (output / name).is_file() and (output / name).stat().st_size]
