"""Finding hands in one depth image, by geometry alone: no learning, and no memory of earlier images."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import DepthFrame
from tracker.hand.cube import Cube
from tracker.tracking.palms import Palm, examine, palm_pixels
from tracker.tracking.regions import HandRegion
from tracker.tracking.silhouette import Silhouette, silhouette

MINIMUM_SCORE = 0.52
"""In recordings heads and elbows stay below 0.35 (0.5 with much noise added); of real hands the least has 0.58."""
CERTAIN = 0.9
"""Above this score, with three fingers, the rest of the hand and its elbow are not looked at as hands of their own."""
SAME_HAND = 0.1
"""Metres: palms closer than this are one hand."""
ARM_LENGTH = 0.45
"""Metres: what lies along the forearm up to here is that arm's elbow, not another hand."""
FINGER_WEIGHT = 4.0
FLESH = 0.005
"""Metres from the visible surface to the middle of the hand."""


def find_hands(frame: DepthFrame, limit: int = 2, exclude: Sequence[Cube] = ()) -> list[HandRegion]:
    """The hands in a depth image, best first, at most `limit`.

    exclude: cubes of hands that are known already; what lies in them, or is the
    arm of it, is no new hand.

    Each limb that ends in a palm is one: a place where the largest disc that fits into the silhouette is as wide as a
    palm, with thin fingers around it and one forearm, and an outline that stands out before what is behind it.
    """
    image = silhouette(frame)
    found: list[Palm] = []
    for row, column in palm_pixels(image):
        point = image.points[row, column]
        if any(other.score > CERTAIN and other.fingers >= 3 and _part_of(point, other) for other in found):
            continue
        palm = examine(image, row, column)
        if palm is None or palm.score < MINIMUM_SCORE:
            continue
        if not any(_known(palm, cube) for cube in exclude):
            found.append(palm)
    hands: list[Palm] = []
    for palm in sorted(found, key=lambda palm: -palm.score):
        if not any(_part_of(palm.point, other) for other in hands):
            hands.append(palm)
    return [_region(frame, image, palm) for palm in hands[:limit]]


def _known(palm: Palm, cube: Cube) -> bool:
    """Whether a palm lies in a cube, or is the elbow of an arm that leads into it."""
    offset = np.asarray(cube.center, np.float32) - palm.point
    if np.abs(offset).max() < cube.edge / 2:
        return True
    if palm.arm is None or palm.fingers >= 2:
        return False
    along = float(offset @ palm.arm)
    return 0 < along < ARM_LENGTH and float(np.linalg.norm(offset - along * palm.arm)) < cube.edge / 2


def _part_of(point: NDArray[np.float32], hand: Palm) -> bool:
    """Whether a point lies in a hand, or on the arm behind it."""
    offset = point - hand.point
    length = float(np.linalg.norm(offset))
    if length < SAME_HAND:
        return True
    return hand.arm is not None and length < ARM_LENGTH and float(offset @ hand.arm) > 0.75 * length


def _region(frame: DepthFrame, image: Silhouette, palm: Palm) -> HandRegion:
    top, left = palm.corner
    height, width = palm.mask.shape
    points = image.points[top : top + height, left : left + width]
    # Joints are many in the fingers and few in the palm, so the fingers' pixels count more.
    weight = np.where(image.thin[top : top + height, left : left + width][palm.mask], FINGER_WEIGHT, 1)
    middle = np.average(points[palm.mask], axis=0, weights=weight)
    ray = middle / np.linalg.norm(middle)
    return HandRegion(
        center=(middle + FLESH * ray).astype(np.float32),
        mask=_full_mask(frame, image.step, palm.mask, points[..., 2], palm.corner),
        score=palm.score,
        palm=palm.point,
        arm=palm.arm,
    )


def _full_mask(
    frame: DepthFrame, step: float, mask: NDArray[np.bool_], depth: NDArray[np.float32], corner: tuple[int, int]
) -> NDArray[np.bool_]:
    """The mask at full resolution: pixels next to the thinned-out mask that continue its surface."""
    surface = np.where(mask, depth, cv2.dilate(np.where(mask, depth, np.float32(0)), np.ones((3, 3), np.uint8)))
    first = np.ceil(np.multiply(corner, step)).astype(np.int64)
    last = np.minimum(np.ceil(np.add(corner, mask.shape) * step).astype(np.int64), frame.depth.shape)
    row = (np.arange(first[0], last[0]) / step).astype(np.int64) - corner[0]
    column = (np.arange(first[1], last[1]) / step).astype(np.int64) - corner[1]
    surface = surface[row[:, None], column]
    window = np.s_[first[0] : last[0], first[1] : last[1]]
    here = frame.depth[window] * np.float32(frame.depth_scale)
    full = np.zeros(frame.depth.shape, np.bool_)
    full[window] = (surface > 0) & (np.abs(here - surface) < 0.02)
    return full
