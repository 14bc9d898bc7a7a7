"""HANDS 2019, task 1 (Armagan et al. 2020): labelled training images, and test images with boxes.

Camera, joints and handedness are those of HANDS 2017.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from trainer.data.importers.common import DepthSamples
from trainer.data.importers.hands2017 import boxed, labelled, read_boxes


def open_samples(root: Path, options: argparse.Namespace) -> DepthSamples:
    """The training frames with labels, or the test frames with boxes (and labels, if `--labels` names them).

    root: the folder of task 1. Raises DataError.
    """
    if (options.split or "train") == "train":
        return labelled(
            options.labels or root / "training_joint_annotation.txt",
            options.images or root / "training_images",
            options,
        )
    images = options.images or root / "test_images"
    if options.labels is not None:
        return labelled(options.labels, images, options)
    names, boxes = read_boxes(root / "test_bbs.txt")  # left, top, right, bottom
    return boxed(names, boxes, images, options)
