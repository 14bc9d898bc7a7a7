"""Raw data sets, by their published layouts, as sources of samples. Nothing of the data sets comes with the project.

Every sample ends in the project's convention: metres, optical camera frame (x right, y down, z forward), right hands.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tracker.errors import DataError

if TYPE_CHECKING:
    from trainer.data.importers.common import DepthSamples

KINDS = {
    "nyu": "NYU Hand Pose: 14 (or 36) joints",
    "icvl": "ICVL: 16 joints",
    "msra": "MSRA Hand Gesture (CVPR 2015): 21 joints",
    "hands2017": "HANDS 2017 challenge: 21 joints",
    "hands2019": "HANDS 2019 challenge, task 1: 21 joints",
    "bighand": "BigHand2.2M, and other text labels of a name and 63 numbers: 21 joints",
    "recording": "a recording folder with joints.jsonl: 21 joints",
}

_SPLIT = ("nyu", "icvl", "msra", "hands2017", "hands2019")
_HANDS = ("hands2017", "hands2019", "bighand")
_OF = {
    "split": _SPLIT,
    "subjects": ("msra",),
    "centers": tuple(kind for kind in KINDS if kind != "recording"),
    "truth": ("nyu",),
    "hand21": ("msra", *_HANDS),
    "all_joints": ("nyu",),
    "originals": ("icvl",),
    "labels": _HANDS,
    "images": _HANDS,
}
"""Options that only some kinds have."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the importers; those that a kind does not have are refused by `open_data_set`."""
    group = parser.add_argument_group("raw data sets")
    group.add_argument("--split", choices=("train", "test"), help="which part (default: train)")
    group.add_argument(
        "--subjects", metavar="LIST", help="msra: test subjects, such as 3 or 0,3; train is all the others"
    )
    group.add_argument(
        "--centers", type=Path, metavar="FILE", help="centre of each frame: a line x y z in mm, or invalid"
    )
    group.add_argument(
        "--center",
        choices=("hand", "joints"),
        default="hand",
        help="without --centers: found in the image (default), or the labels' mean",
    )
    group.add_argument("--truth", choices=("xyz", "uvd"), help="nyu: labels in space (default), or in pixels and depth")
    group.add_argument(
        "--edge", type=_edge, metavar="METRES", help="of the cube (default: what is usual for the data set)"
    )
    group.add_argument(
        "--mirror",
        choices=("auto", "yes", "no"),
        default="auto",
        help="mirror hands (default: those known as left ones)",
    )
    group.add_argument("--hand21", action="store_true", help="21 joints in the tracker's order, not the data set's")
    group.add_argument("--all-joints", action="store_true", help="nyu: all 36 joints, not the usual 14")
    group.add_argument(
        "--originals", action="store_true", help="icvl: without the copies that are rotated in the plane"
    )
    group.add_argument(
        "--labels", type=Path, metavar="FILE", help="hands2017, hands2019, bighand: another file of labels"
    )
    group.add_argument(
        "--images", type=Path, metavar="DIR", help="hands2017, hands2019, bighand: another folder of images"
    )
    group.add_argument("--allow-missing", action="store_true", help="leave out frames whose image is missing")


def open_data_set(kind: str, root: Path, options: argparse.Namespace) -> DepthSamples:
    """The data set of a kind in the folder `root`. The labels are read at once, an image when its sample is asked for.

    options: from a parser that `add_arguments` was called with. A sample without points is a frame without a usable
    hand, to be left out. Raises DataError.
    """
    if kind not in KINDS:
        raise DataError(f"there is no importer for {kind!r}; there are {', '.join(KINDS)}")
    for name, kinds in _OF.items():
        if getattr(options, name) and kind not in kinds:
            raise DataError(f"--{name.replace('_', '-')} is not for {kind}, but for {', '.join(kinds)}")
    if not root.is_dir():
        raise DataError(f"no such folder: {root}; the data set {kind} is read from the folder it was unpacked to")
    return cast("DepthSamples", import_module(f"trainer.data.importers.{kind}").open_samples(root, options))


def _edge(text: str) -> float:
    try:
        edge = float(text)
    except ValueError:
        edge = 0.0
    if not 0.05 <= edge <= 1.0:
        raise argparse.ArgumentTypeError(f"must be metres, such as 0.25, is {text}")
    return edge
