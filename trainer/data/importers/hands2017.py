"""HANDS 2017 (Yuan et al. 2017): labels and images under training/, test images with boxes under frame/.

A RealSense SR300 at 640x480, right hands. Lines of an image's name and 21 joints in millimetres, optical frame.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import Intrinsics
from tracker.errors import DataError
from trainer.data.importers.centers import found_center
from trainer.data.importers.common import DepthSamples, Frames, build, metres
from trainer.data.importers.images import read_depth
from trainer.data.importers.joint_sets import HANDS
from trainer.data.importers.text import read_labels

INTRINSICS = Intrinsics(640, 480, 475.065948, 475.065857, 315.944855, 245.287079)
EDGE = 0.25
"""V2V-PoseNet (Moon et al. 2018)."""
read_image = partial(read_depth, intrinsics=INTRINSICS)


def open_samples(root: Path, options: argparse.Namespace) -> DepthSamples:
    """The training frames with labels, or the test frames with boxes (and labels, if `--labels` names them).

    Raises DataError.
    """
    if (options.split or "train") == "train":
        return labelled(
            options.labels or root / "training" / "Training_Annotation.txt",
            options.images or root / "training" / "images",
            options,
        )
    images = options.images or root / "frame" / "images"
    if options.labels is not None:
        return labelled(options.labels, images, options)
    names, boxes = read_boxes(root / "frame" / "BoundingBox.txt")
    return boxed(names, _as_corners(boxes), images, options)


def labelled(path: Path, images: Path, options: argparse.Namespace) -> DepthSamples:
    """Frames of a file of labels, by their names in a folder of images. Raises DataError."""
    found, labels = read_labels(path, 3 * len(HANDS), "x y z of 21 joints in mm")
    if not images.is_dir():
        raise DataError(f"no such folder: {images}; it should hold the images of {path}")
    # Some label files name images by a path of their own.
    frames = Frames(
        folder=images,
        names=[name.replace("\\", "/").rpartition("/")[2] for name in found],
        joint_names=HANDS,
        joints=metres(labels),
        left=np.zeros(len(found), np.bool_),
    )
    return build(frames, options, read_image, found_center, EDGE)


def read_boxes(path: Path) -> tuple[list[str], NDArray[np.float32]]:
    """Names and the four numbers of each box. Raises DataError."""
    names, boxes = read_labels(path, 4, "a box")
    return names, boxes.copy()


def _as_corners(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Left, top, width, height to left, top, right, bottom; boxes that are corners already stay what they are."""
    sums = boxes[:, :2] + boxes[:, 2:]
    # The data set does not say what the numbers are, and one of its readers takes sizes. Right and lower corners taken
    # for sizes would reach out of the image wherever the hand is not in its upper left quarter.
    beyond = (sums > (INTRINSICS.width + 1, INTRINSICS.height + 1)).any(axis=1)
    return boxes if np.mean(beyond) > 0.2 else np.concatenate([boxes[:, :2], sums], axis=1)


def boxed(
    names: list[str],
    boxes: NDArray[np.float32],
    images: Path,
    options: argparse.Namespace,
) -> DepthSamples:
    """Frames without labels. boxes: (n, 4) pixels, left, top, right, bottom; an empty box is a frame without a hand."""
    if not images.is_dir():
        raise DataError(f"no such folder: {images}; it should hold the test images")
    frames = Frames(
        folder=images,
        names=names,
        joint_names=HANDS,
        joints=np.full((len(names), len(HANDS), 3), np.nan, np.float32),
        left=np.zeros(len(names), np.bool_),
        boxes=boxes,
    )
    return build(frames, options, read_image, found_center, EDGE)
