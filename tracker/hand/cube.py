"""The cube around a hand: between metres in the camera frame and [-1, 1] in the network's frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import DepthFrame, Intrinsics, Side, ray_slopes

DEFAULT_EDGE = 0.26
"""Edge in metres. A 215 mm hand, held off centre by a tracking error, still fits."""


@dataclass(frozen=True, slots=True)
class Cube:
    """An axis-parallel cube in the camera frame.

    center: (x, y, z) in metres. edge: metres.
    side: a left hand is looked at as its mirror image, so that networks see right hands only.
    """

    center: tuple[float, float, float]
    edge: float = DEFAULT_EDGE
    side: Side = "right"

    def __post_init__(self) -> None:
        if not (np.isfinite(self.edge) and self.edge > 0):
            raise ValueError(f"cube edge must be a positive number of metres, is {self.edge}")
        if not all(np.isfinite(c) for c in self.center):
            raise ValueError(f"cube centre must be finite, is {self.center}")

    def _scale(self) -> NDArray[np.float32]:
        half = np.float32(self.edge / 2)
        return np.array([-half if self.side == "left" else half, half, half], np.float32)

    def normalise(self, points: NDArray[np.floating]) -> NDArray[np.float32]:
        """Camera-frame points (..., 3) in metres to cube coordinates, [-1, 1] inside."""
        return ((points - np.asarray(self.center, np.float32)) / self._scale()).astype(np.float32, copy=False)

    def to_camera(self, coordinates: NDArray[np.floating]) -> NDArray[np.float32]:
        """Cube coordinates (..., 3) to camera-frame points in metres."""
        return (coordinates * self._scale() + np.asarray(self.center, np.float32)).astype(np.float32, copy=False)

    def window(self, intrinsics: Intrinsics) -> tuple[slice, slice]:
        """Rows and columns of the image that can hold points of the cube (empty slices if none can)."""
        half, (x, y, z), k = self.edge / 2, self.center, intrinsics
        near, far = max(z - half, 0.05), max(z + half, 0.05)
        # A slope is extreme at the near face on its own side of the axis, at the far face on the other.
        left = min((x - half) / near, (x - half) / far) * k.fx + k.cx
        right = max((x + half) / near, (x + half) / far) * k.fx + k.cx
        top = min((y - half) / near, (y - half) / far) * k.fy + k.cy
        bottom = max((y + half) / near, (y + half) / far) * k.fy + k.cy
        rows = slice(int(np.clip(np.floor(top), 0, k.height)), int(np.clip(np.ceil(bottom) + 1, 0, k.height)))
        columns = slice(int(np.clip(np.floor(left), 0, k.width)), int(np.clip(np.ceil(right) + 1, 0, k.width)))
        return rows, columns


def cube_center(joints: NDArray[np.floating]) -> NDArray[np.float64]:
    """Where a cube is centred for known joints (21, 3): their mean, which moves little when one of them is wrong."""
    return np.asarray(np.nanmean(joints, axis=0), np.float64)


def crop(frame: DepthFrame, cube: Cube, keep: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """The points of a frame inside a cube, in cube coordinates.

    keep: (height, width) bool, pixels that belong to the hand; without it every reading in the cube counts.
    Returns (n, 3) float32, every coordinate in [-1, 1).
    """
    rows, columns = cube.window(frame.intrinsics)
    depth = frame.depth[rows, columns]
    half = cube.edge / 2
    # Compared as the device's whole numbers, and only what is near enough is computed with: a third of the time.
    nearest = int((cube.center[2] - half) / frame.depth_scale) - 1
    farthest = int((cube.center[2] + half) / frame.depth_scale) + 1
    wanted = (depth > max(nearest, 0)) & (depth < max(farthest, 0))
    if keep is not None:
        wanted &= keep[rows, columns]
    row, column = np.nonzero(wanted)
    x_slope, y_slope = ray_slopes(frame.intrinsics)
    points = np.empty((len(row), 3), np.float32)
    points[:, 2] = depth[row, column]
    points[:, 2] *= np.float32(frame.depth_scale)
    np.multiply(x_slope[columns][column], points[:, 2], out=points[:, 0])
    np.multiply(y_slope[rows][row], points[:, 2], out=points[:, 1])
    coordinates = cube.normalise(points)
    x, y, z = coordinates.T
    inside = (x >= -1) & (x < 1) & (y >= -1) & (y < 1) & (z >= -1) & (z < 1)
    return coordinates[inside]
