"""What a camera hands out: a depth image with everything needed to turn it into metres."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Side = Literal["left", "right"]


@dataclass(frozen=True, slots=True)
class Intrinsics:
    """Pinhole model of a depth image; pixels, the centre of the first pixel at (0, 0)."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f"image size must be positive, is {self.width}x{self.height}")
        if not (self.fx > 0 and self.fy > 0 and math.isfinite(self.fx) and math.isfinite(self.fy)):
            raise ValueError(f"focal lengths must be positive pixels, are {self.fx}, {self.fy}")
        if not (math.isfinite(self.cx) and math.isfinite(self.cy)):
            raise ValueError(f"principal point must be finite, is {self.cx}, {self.cy}")

    def project(self, points: NDArray[np.floating]) -> NDArray[np.floating]:
        """Camera-frame points (..., 3) in metres to pixels (..., 2), u right and v down."""
        z = points[..., 2]
        u = points[..., 0] / z * self.fx + self.cx
        v = points[..., 1] / z * self.fy + self.cy
        return np.stack([u, v], axis=-1)


@lru_cache(maxsize=8)
def ray_slopes(intrinsics: Intrinsics) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """x/z of each column (width,) and y/z of each row (height,), float32."""
    x = (np.arange(intrinsics.width) - intrinsics.cx) / intrinsics.fx
    y = (np.arange(intrinsics.height) - intrinsics.cy) / intrinsics.fy
    return x.astype(np.float32), y.astype(np.float32)


@dataclass(frozen=True, slots=True)
class HandTruth:
    """Known joints of a hand, where a simulator or a labelled recording has them.

    joints: (21, 3) float32, metres, camera frame, `hand21` order; NaN where not known.
    side: None where the recording does not say.
    """

    joints: NDArray[np.float32]
    side: Side | None = None


@dataclass(frozen=True, slots=True, eq=False)
class DepthFrame:
    """One depth image.

    depth: (height, width) uint16; depth * depth_scale = metres along the optical axis, 0 = no reading.
    number: frame number given by the source; gaps are dropped frames.
    captured_ns: capture time, Unix epoch. received_ns: when the host had it, Unix epoch.
    truth: the hands that are really there, or None where nobody knows.
    """

    depth: NDArray[np.uint16]
    depth_scale: float
    intrinsics: Intrinsics
    number: int
    captured_ns: int
    received_ns: int
    truth: tuple[HandTruth, ...] | None = field(default=None)

    def metres(self) -> NDArray[np.float32]:
        """The image in metres, (height, width) float32, 0 where there is no reading."""
        return self.depth.astype(np.float32) * np.float32(self.depth_scale)

    def points(self, rows: slice = slice(None), columns: slice = slice(None)) -> NDArray[np.float32]:
        """Camera-frame points of a window, (window height, window width, 3) float32, metres; z = 0 where no reading."""
        x_slope, y_slope = ray_slopes(self.intrinsics)
        z = self.depth[rows, columns].astype(np.float32) * np.float32(self.depth_scale)
        points = np.empty((*z.shape, 3), np.float32)
        np.multiply(z, x_slope[columns], out=points[..., 0])
        np.multiply(z, y_slope[rows, None], out=points[..., 1])
        points[..., 2] = z
        return points
