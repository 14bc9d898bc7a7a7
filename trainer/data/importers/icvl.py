"""ICVL (Tang et al. 2014): Training/labels.txt, Testing/test_seq_1.txt and test_seq_2.txt, each with images in Depth/.

An Intel Creative camera at 320x240, left hands. Lines of an image's path and 16 joints: u, v in pixels, depth in mm.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from tracker.camera.frame import Intrinsics
from tracker.errors import DataError
from trainer.data.importers.centers import found_center
from trainer.data.importers.common import DepthSamples, Frames, build
from trainer.data.importers.images import read_depth
from trainer.data.importers.joint_sets import ICVL
from trainer.data.importers.nyu import back_projected
from trainer.data.importers.text import read_labels

INTRINSICS = Intrinsics(320, 240, 241.42, 241.42, 160.0, 120.0)
EDGE = 0.25
"""DeepPrior++ (Oberweger and Lepetit 2017); V2V-PoseNet used 0.20."""
TEST = ("test_seq_1.txt", "test_seq_2.txt")


def open_samples(root: Path, options: argparse.Namespace) -> DepthSamples:
    """The frames of one split, in the order of the label files. All are left hands. Raises DataError."""
    split = options.split or "train"
    folder = root / ("Training" if split == "train" else "Testing")
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}; ICVL is a folder with Training/ and Testing/")
    files = ("labels.txt",) if split == "train" else TEST
    parts = [read_labels(folder / file, 3 * len(ICVL), "u v d of 16 joints") for file in files]
    names = [name for part, _ in parts for name in part]
    labels = np.concatenate([numbers for _, numbers in parts]).reshape(-1, len(ICVL), 3)
    frames = Frames(
        folder=folder / "Depth",
        names=names,
        joint_names=ICVL,
        joints=back_projected(labels, INTRINSICS),
        left=np.ones(len(names), np.bool_),
    )
    # Copies rotated in the plane lie in folders named by their angle; originals in folders named by a date.
    keep = np.array([len(name.split("/")[0]) > 6 for name in names]) if options.originals else None
    return build(frames, options, partial(read_depth, intrinsics=INTRINSICS), found_center, EDGE, keep=keep)
