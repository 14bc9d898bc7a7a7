"""Recording folders: camera.json, depth/000000.png, joints.jsonl. One sample per hand; left hands are mirrored."""

from __future__ import annotations

import argparse
import logging
from functools import partial
from pathlib import Path

import numpy as np

from tracker.camera.frame import HandTruth
from tracker.camera.recording import numbered_images, read_header, read_truth
from tracker.errors import CameraError, DataError
from tracker.hand.cube import DEFAULT_EDGE
from tracker.hand.skeleton import JOINT_COUNT, JOINT_NAMES
from trainer.data.importers.centers import found_center
from trainer.data.importers.common import DepthSamples, Frames, build
from trainer.data.importers.images import read_depth

logger = logging.getLogger(__name__)

UNKNOWN = HandTruth(np.full((JOINT_COUNT, 3), np.nan, np.float32))


def open_samples(root: Path, options: argparse.Namespace) -> DepthSamples:
    """Every labelled hand of a recording; without joints.jsonl, a hand without labels per image. Raises DataError."""
    try:
        header = read_header(root / "camera.json")
        images = numbered_images(root / "depth")
        truth = read_truth(root / "joints.jsonl", list(images))
    except CameraError as error:
        raise DataError(str(error)) from error
    names: list[str] = []
    hands: list[HandTruth] = []
    for number, path in images.items():
        there = [UNKNOWN] if truth is None else truth.get(number, ())
        known = [hand for hand in there if truth is None or np.isfinite(hand.joints).any()]
        names += [f"depth/{path.name}"] * len(known)
        hands += known
    without = len(images) - len(set(names))
    if without:
        logger.warning("%d of %d frames left out: no hand is labelled in them", without, len(images))
    if not names:
        raise DataError(f"{root / 'joints.jsonl'} labels no hand in any frame")
    frames = Frames(
        folder=root,
        names=names,
        joint_names=JOINT_NAMES,
        joints=np.stack([hand.joints for hand in hands]),
        left=np.array([hand.side == "left" for hand in hands]),
    )
    read = partial(read_depth, intrinsics=header.intrinsics, scale=header.depth_scale)
    return build(frames, options, read, found_center, DEFAULT_EDGE)
