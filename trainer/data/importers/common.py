"""Depth image, joints and centre to a sample: what the importers of all data sets share."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import DepthFrame
from tracker.errors import DataError
from tracker.hand.cube import Cube, triple
from tracker.hand.skeleton import JOINT_NAMES
from trainer.data.importers.centers import only_box
from trainer.data.importers.joint_sets import hand21_order
from trainer.data.importers.text import read_centers
from trainer.data.sample import Sample
from trainer.data.synthetic import REACH

logger = logging.getLogger(__name__)

LEAST_POINTS = 20
"""A cube with fewer points holds no hand to learn from."""

OTHER_HAND = 0.12
"""Metres from the labels' mean: a centre that is farther away is that of something else."""

CenterFinder = Callable[[DepthFrame, NDArray[np.floating] | None, float], NDArray[np.floating] | None]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """The n frames of a data set, before any image is read.

    folder: of the images; names: their paths in it. joint_names: J of them.
    joints: (n, J, 3) float32, metres, camera frame; NaN where not known. left: (n,) bool, the left hands.
    centers: (n, 3) metres, camera frame, NaN where there is none; None where the images must tell.
    boxes: (n, 4) pixels, left, top, right, bottom, where hands are to be looked for; None: anywhere.
    """

    folder: Path
    names: list[str]
    joint_names: tuple[str, ...]
    joints: NDArray[np.float32]
    left: Bool
    centers: NDArray[np.float64] | None = None
    boxes: NDArray[np.float32] | None = None

    def only(self, keep: Bool) -> Frames:
        """The frames that are marked, (n,) bool."""
        return replace(
            self,
            names=[name for name, kept in zip(self.names, keep, strict=True) if kept],
            joints=self.joints[keep],
            left=self.left[keep],
            centers=None if self.centers is None else self.centers[keep],
            boxes=None if self.boxes is None else self.boxes[keep],
        )


class DepthSamples:
    """Samples cut out of depth images.

    joint_names: of the data set, in its order, or the tracker's. read: an image by its path, raising DataError.
    find: the centre of a hand in an image, where the frames do not give it.
    A frame without a usable hand (no centre, fewer than LEAST_POINTS points, or a centre that is not at the labelled
    hand) is a sample without points and with presence False.
    reach: how far out the points are kept, cube coordinates.
    """

    reach = REACH

    def __init__(self, frames: Frames, read: Callable[[Path], DepthFrame], find: CenterFinder, edge: float) -> None:
        self._frames, self._read, self._find, self._edge = frames, read, find, edge
        self.joint_names = frames.joint_names
        self.joints = len(frames.joint_names)

    def __len__(self) -> int:
        return len(self._frames.names)

    def __getitem__(self, index: int) -> Sample:
        frames = self._frames
        name, joints = frames.names[index], frames.joints[index]
        frame = self._read(frames.folder / name)
        center = self._center(frame, index)
        if center is None:
            return self._without_hand(name)
        mirrored = bool(frames.left[index])
        cube = Cube(triple(center), self._edge, "left" if mirrored else "right")
        rows, columns = Cube(cube.center, self._edge * REACH).window(frame.intrinsics)
        points = frame.points(rows, columns)
        coordinates = cube.normalise(points[points[..., 2] > 0])
        away = np.abs(coordinates).max(axis=1, initial=0)
        if np.count_nonzero(away < 1) < LEAST_POINTS:
            return self._without_hand(name)
        return Sample(
            coordinates[away < REACH],
            cube.normalise(joints),
            self._edge,
            center=cube.center,
            mirrored=mirrored,
            name=name,
        )

    def _center(self, frame: DepthFrame, index: int) -> NDArray[np.floating] | None:
        frames = self._frames
        if frames.centers is not None:
            return frames.centers[index]
        known = frames.joints[index][np.isfinite(frames.joints[index]).all(axis=1)]
        middle = known.mean(axis=0) if len(known) else None
        if frames.boxes is not None:
            frame = only_box(frame, frames.boxes[index])
        center = self._find(frame, middle, self._edge)
        # Something else was found than the hand that the labels are of.
        wrong = center is not None and middle is not None and np.abs(center - middle).max() > self._edge / 2
        return None if wrong else center

    def _without_hand(self, name: str) -> Sample:
        nothing = np.full((self.joints, 3), np.nan, np.float32)
        return Sample(np.empty((0, 3), np.float32), nothing, self._edge, presence=False, name=name)


def build(
    frames: Frames,
    options: argparse.Namespace,
    read: Callable[[Path], DepthFrame],
    find: CenterFinder,
    edge: float,
    center_signs: tuple[int, int, int] = (1, 1, 1),
    keep: Bool | None = None,
) -> DepthSamples:
    """Samples of a data set's frames under the options that all importers have.

    edge: the default. center_signs: of the axes of centre files. keep: (n,) which frames were asked for.
    """
    if options.centers is not None:
        centers = read_centers(options.centers, len(frames.names)) * center_signs
        _compare(centers, frames.joints, options.centers)
        frames = replace(frames, centers=centers)
    elif options.center == "joints":
        frames = replace(frames, centers=_joint_centers(frames.joints))
    if options.mirror != "auto":
        frames = replace(frames, left=np.full(len(frames.names), options.mirror == "yes"))
    if options.hand21 and frames.joint_names != JOINT_NAMES:
        order = hand21_order(frames.joint_names)
        frames = replace(frames, joints=frames.joints[:, order], joint_names=JOINT_NAMES)
    if keep is not None:
        frames = frames.only(keep)
    frames = _with_images(frames, options.allow_missing)
    if frames.centers is not None:
        no_center = np.isnan(frames.centers).sum(axis=1) > 0
        frames = leave_out(frames, no_center, "their centre is not valid")
    elif frames.boxes is not None:
        left, top, right, bottom = frames.boxes.T
        frames = leave_out(frames, (left >= right) | (top >= bottom), "their box is empty")
    if not frames.names:
        raise DataError(f"{frames.folder}: no frame is left of this data set")
    return DepthSamples(frames, read, find, edge if options.edge is None else options.edge)


def leave_out(frames: Frames, those: Bool, why: str) -> Frames:
    """The frames without those that are marked, (n,) bool; says how many and why."""
    if not those.any():
        return frames
    logger.warning("%d of %d frames left out: %s", np.count_nonzero(those), len(those), why)
    return frames.only(~those)


def _compare(centers: NDArray[np.float64], joints: NDArray[np.float32], path: Path) -> None:
    """Raises DataError if centres are not at the labelled hands: a file of the right length may be the wrong one."""
    if np.isnan(joints).all():
        return
    away = np.abs(centers - _joint_centers(joints)).max(axis=1)
    away = away[np.isfinite(away)]
    if len(away) and np.median(away) > OTHER_HAND:
        raise DataError(
            f"{path}: half of the centres are more than {1000 * np.median(away):.0f} mm from the labelled hands: "
            "the file is of another data set, split or order, or its axes are others"
        )


def _joint_centers(joints: NDArray[np.float32]) -> NDArray[np.float64]:
    if np.isnan(joints).all():
        raise DataError("--center joints needs labels, which this part of the data set does not have")
    unknown = np.isnan(joints).any(axis=2, keepdims=True)
    count = np.count_nonzero(~unknown, axis=1)
    total = np.where(unknown, 0, joints).sum(axis=1, dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _with_images(frames: Frames, allow_missing: bool) -> Frames:
    """The frames whose images are there; the folders are listed, which is quicker than to ask for each file."""
    there: dict[str, set[str]] = {}
    missing = np.zeros(len(frames.names), np.bool_)
    for index, name in enumerate(frames.names):
        folder, _, file = name.rpartition("/")
        if folder not in there:
            path = frames.folder / folder
            there[folder] = set(os.listdir(path)) if path.is_dir() else set()
        missing[index] = file not in there[folder]
    if missing.any() and not allow_missing:
        first = frames.folder / frames.names[int(missing.argmax())]
        raise DataError(
            f"missing image: {first} ({np.count_nonzero(missing)} of {len(missing)} frames have none); "
            "unpack all of the data set, or leave such frames out with --allow-missing"
        )
    return leave_out(frames, missing, "their image is missing")


def metres(labels: NDArray[np.float32], signs: tuple[int, int, int] = (1, 1, 1)) -> NDArray[np.float32]:
    """Labels (n, 3 J) in millimetres to joints (n, J, 3) in metres; signs: of the axes."""
    return (labels.reshape(len(labels), -1, 3) * (np.array(signs, np.float32) / 1000)).astype(np.float32)
