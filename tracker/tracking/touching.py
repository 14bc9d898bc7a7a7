"""Hands that touch or overlap in the image: whose each pixel is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import DepthFrame, ray_slopes

Mask = NDArray[np.bool_]


def divided(frame: DepthFrame, masks: Sequence[Mask], joints: Sequence[NDArray[np.float32]]) -> list[Mask]:
    """Masks (height, width) of hands without the pixels that are nearer to another hand whose mask has them, too.

    joints: (21, 3) float32 of each, metres, camera frame: where the hand should be. Masks that share nothing come out
    as they went in.
    """
    result = list(masks)
    for one in range(len(masks)):
        for other in range(one):
            row, column = np.nonzero(result[one] & result[other])
            if len(row) == 0:
                continue
            x, y = ray_slopes(frame.intrinsics)
            depth = frame.depth[row, column] * np.float32(frame.depth_scale)
            points = np.stack([depth * x[column], depth * y[row], depth], axis=1)
            nearer = _distance(points, joints[one]) < _distance(points, joints[other])
            for number, lost in ((one, ~nearer), (other, nearer)):
                result[number] = result[number].copy()
                result[number][row[lost], column[lost]] = False
    return result


def _distance(points: NDArray[np.float32], joints: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared distance (n,) of points to the nearest joint, less what is the same for all joints of all hands."""
    nearest: NDArray[np.float32] = ((joints * joints).sum(axis=1) - 2 * points @ joints.T).min(axis=1)
    return nearest
