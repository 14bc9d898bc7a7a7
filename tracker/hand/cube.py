"""The cube around a hand: between metres in the camera frame and [-1, 1] in the network's frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import DepthFrame, Intrinsics, Side, ray_slopes
from tracker.hand.skeleton import PALM, WRIST

DEFAULT_EDGE = 0.26
"""Edge in metres. A 215 mm hand, held off centre by a tracking error, still fits."""


@dataclass(frozen=True, slots=True)
class Cube:
    """A cube in the camera frame.

    center: (x, y, z) in metres. edge: metres.
    side: a left hand is looked at as its mirror image, so that networks see right hands only.
    roll: None for axes parallel to the camera's. Otherwise the cube's z axis is the ray from the camera to its centre,
    and the cube is turned about that by so many radians (see `upright_roll`): from wherever in the image and however
    turned there, a hand then looks alike.
    """

    center: tuple[float, float, float]
    edge: float = DEFAULT_EDGE
    side: Side = "right"
    roll: float | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.edge) and self.edge > 0):
            raise ValueError(f"cube edge must be a positive number of metres, is {self.edge}")
        if not all(np.isfinite(c) for c in self.center):
            raise ValueError(f"cube centre must be finite, is {self.center}")
        if self.roll is not None and not np.isfinite(self.roll):
            raise ValueError(f"a cube's roll must be finite, is {self.roll}")

    @property
    def axes(self) -> NDArray[np.float32]:
        """The cube's axes x, y, z (rows) in the camera frame, (3, 3); those of a left hand before it is mirrored."""
        if self.roll is None:
            return np.eye(3, dtype=np.float32)
        cos, sin = np.cos(self.roll), np.sin(self.roll)
        about_z = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
        return (about_z @ straight_axes(self.center)).astype(np.float32)

    def _scale(self) -> NDArray[np.float32]:
        half = np.float32(self.edge / 2)
        return np.array([-half if self.side == "left" else half, half, half], np.float32)

    def normalise(self, points: NDArray[np.floating]) -> NDArray[np.float32]:
        """Camera-frame points (..., 3) in metres to cube coordinates, [-1, 1] inside."""
        away = points - np.asarray(self.center, np.float32)
        if self.roll is not None:
            away = away @ self.axes.T
        return (away / self._scale()).astype(np.float32, copy=False)

    def to_camera(self, coordinates: NDArray[np.floating]) -> NDArray[np.float32]:
        """Cube coordinates (..., 3) to camera-frame points in metres."""
        away = coordinates * self._scale()
        if self.roll is not None:
            away = away @ self.axes
        return (away + np.asarray(self.center, np.float32)).astype(np.float32, copy=False)

    @property
    def reach(self) -> tuple[float, float, float]:
        """Metres along the camera's x, y, z from the centre to the outermost points of the cube."""
        half = self.edge / 2
        if self.roll is None:
            return half, half, half
        return triple(half * np.abs(self.axes).sum(axis=0))

    def window(self, intrinsics: Intrinsics) -> tuple[slice, slice]:
        """Rows and columns of the image that can hold points of the cube (empty slices if none can)."""
        (across, down, ahead), (x, y, z), k = self.reach, self.center, intrinsics
        near, far = max(z - ahead, 0.05), max(z + ahead, 0.05)
        # A slope is extreme at the near face on its own side of the axis, at the far face on the other.
        left = min((x - across) / near, (x - across) / far) * k.fx + k.cx
        right = max((x + across) / near, (x + across) / far) * k.fx + k.cx
        top = min((y - down) / near, (y - down) / far) * k.fy + k.cy
        bottom = max((y + down) / near, (y + down) / far) * k.fy + k.cy
        rows = slice(int(np.clip(np.floor(top), 0, k.height)), int(np.clip(np.ceil(bottom) + 1, 0, k.height)))
        columns = slice(int(np.clip(np.floor(left), 0, k.width)), int(np.clip(np.ceil(right) + 1, 0, k.width)))
        return rows, columns


def triple(point: NDArray[np.floating]) -> tuple[float, float, float]:
    """A point (3,) as a cube's centre is given."""
    x, y, z = (float(value) for value in point)
    return x, y, z


def cube_center(joints: NDArray[np.floating]) -> NDArray[np.float64]:
    """Where a cube is centred for known joints (21, 3): their mean, which moves little when one of them is wrong."""
    return np.asarray(np.nanmean(joints, axis=0), np.float64)


def straight_axes(center: tuple[float, float, float]) -> NDArray[np.float64]:
    """The camera's axes (rows) after the shortest turn that takes z onto the ray to a point (metres, camera frame)."""
    ray = np.asarray(center, np.float64)
    length = float(np.linalg.norm(ray))
    if length < 1e-6 or ray[2] < -0.9 * length:
        return np.eye(3)
    x, y, z = ray / length
    share = 1 / (1 + z)
    return np.array([[1 - x * x * share, -x * y * share, -x], [-x * y * share, 1 - y * y * share, -y], [x, y, z]])


def upright_roll(joints: NDArray[np.floating], center: tuple[float, float, float]) -> float:
    """The roll of a cube in which the fingers' knuckles lie above the wrist.

    joints: (21, 3) metres, camera frame. center: the cube's. 0 if these joints are not known.
    """
    return roll_of(hand_axis(joints), center)


def hand_axis(joints: NDArray[np.floating]) -> NDArray[np.floating]:
    """From the wrist to the middle of the fingers' knuckles, (3,), of joints (21, 3)."""
    knuckles = [joints[number] for number in PALM if number != WRIST]
    return np.asarray(np.mean(knuckles, axis=0) - joints[WRIST])


def roll_of(direction: NDArray[np.floating], center: tuple[float, float, float]) -> float:
    """The roll of a cube in which a direction (3,) of the camera frame points up; 0 if it is not finite."""
    x, y, _ = straight_axes(center) @ direction
    return -math.atan2(x, -y) if math.isfinite(x + y) else 0.0


def crop(frame: DepthFrame, cube: Cube, keep: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """The points of a frame inside a cube, in cube coordinates.

    keep: (height, width) bool, pixels that belong to the hand; without it every reading in the cube counts.
    Returns (n, 3) float32, every coordinate in [-1, 1).
    """
    rows, columns = cube.window(frame.intrinsics)
    depth = frame.depth[rows, columns]
    half = cube.reach[2]
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
