"""What the live view draws, as arrays: the depth cloud, skeletons and cubes with their colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import DepthFrame
from tracker.hand.cube import Cube
from tracker.hand.skeleton import BONES
from tracker.stream.message import Hand

MOST_POINTS: Final = 30_000
INFERRED: Final = 0.5
"""Brightness of a joint that is not seen, of 1."""
NEAR_COLOR: Final = (150, 195, 255)
FAR_COLOR: Final = (45, 75, 170)
"""Blues, as the skeletons are red, yellow and green."""

CORNERS: Final = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
EDGES: Final = [(i, i | bit) for i in range(8) for bit in (1, 2, 4) if not i & bit]


class Cloud(NamedTuple):
    """points: (n, 3) float32, metres, camera frame. colors: (n, 3) uint8. near, far: metres, ends of the colours."""

    points: NDArray[np.float32]
    colors: NDArray[np.uint8]
    near: float
    far: float


def depth_cloud(frame: DepthFrame, most: int = MOST_POINTS) -> Cloud:
    """At most `most` points of a frame, coloured from near to far; near and far are NaN if it has none."""
    step = max(1, math.ceil(math.sqrt(frame.depth.size / most)))
    while math.prod(-(-size // step) for size in frame.depth.shape) > most:
        step += 1
    points = frame.points(slice(None, None, step), slice(None, None, step)).reshape(-1, 3)
    points = points[points[:, 2] > 0]
    if not len(points):
        return Cloud(points, np.zeros((0, 3), np.uint8), math.nan, math.nan)
    near, far = (float(end) for end in np.percentile(points[:, 2], [1, 95]))
    return Cloud(points, depth_colors((points[:, 2] - near) / max(far - near, 1e-3)), near, far)


def depth_colors(share: NDArray[np.floating]) -> NDArray[np.uint8]:
    """(n, 3): the colours of depths from 0, the nearest, to 1, the farthest."""
    near, far = np.array([NEAR_COLOR, FAR_COLOR], np.float32)
    return np.uint8(near + np.clip(share, 0, 1)[:, None] * (far - near))


def confidence_colors(confidence: NDArray[np.floating]) -> NDArray[np.uint8]:
    """(n, 3): red, yellow, green for 0, 0.5, 1; what is not known is red."""
    confidence = np.clip(np.nan_to_num(confidence), 0, 1)
    colors = np.stack([np.minimum(1, 2 - 2 * confidence), np.minimum(1, 2 * confidence), 0 * confidence], axis=1)
    return np.uint8(255 * colors)


def joint_colors(hand: Hand) -> NDArray[np.uint8]:
    """(21, 3): the colour of each joint's confidence, darker where the joint is inferred."""
    return np.uint8(confidence_colors(hand.joint_confidence) * np.where(hand.joint_tracked, 1.0, INFERRED)[:, None])


def joint_points(hands: Sequence[Hand]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The joints with an estimate, (n, 3) metres, and their colours (n, 3)."""
    points = np.concatenate([np.zeros((0, 3), np.float32), *(hand.joints for hand in hands)])
    colors = np.concatenate([np.zeros((0, 3), np.uint8), *(joint_colors(hand) for hand in hands)])
    known = np.isfinite(points).all(axis=1)
    return points[known], colors[known]


def bone_segments(hands: Sequence[Hand]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The bones with both ends known, (n, 2, 3) metres, and the colours of their ends (n, 2, 3)."""
    bones = np.array(BONES)
    points = np.concatenate([np.zeros((0, 2, 3), np.float32), *(hand.joints[bones] for hand in hands)])
    colors = np.concatenate([np.zeros((0, 2, 3), np.uint8), *(joint_colors(hand)[bones] for hand in hands)])
    known = np.isfinite(points).all(axis=(1, 2))
    return points[known], colors[known]


def cube_segments(cubes: Sequence[Cube]) -> NDArray[np.float32]:
    """The twelve edges of every cube, (12 n, 2, 3) metres, camera frame."""
    return np.concatenate([np.zeros((0, 2, 3), np.float32), *(cube.to_camera(CORNERS)[EDGES] for cube in cubes)])


def mirrored(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Points (..., 3), camera frame, as in a mirror: left and right changed over."""
    return points * np.array([-1, 1, 1], np.float32)
