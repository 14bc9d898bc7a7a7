"""A depth image made small: pixels picked from a grid, no averages, which would lie in the air between surfaces."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import DepthFrame, Intrinsics


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Which pixels of an image make the coarse one, and where they lie in it.

    intrinsics: of the coarse image, as large as was asked for. rows (h,), columns (w,): the pixels picked, which fill
    the window top: top + h, left: left + w of it; the rest stays empty. step: full pixels to a coarse one.
    """

    intrinsics: Intrinsics
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    top: int
    left: int
    step: float

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the coarse image that show the full one."""
        return slice(self.top, self.top + len(self.rows)), slice(self.left, self.left + len(self.columns))

    def coarse_index(self, first: int, last: int, start: int) -> NDArray[np.float32]:
        """Where the full pixels first: last, rows or columns, lie in the coarse image; `start`: `top` or `left`."""
        pixels = np.arange(first, last, dtype=np.float32)
        return (pixels + np.float32(0.5)) / np.float32(self.step) + np.float32(start - 0.5)


@lru_cache(maxsize=8)
def coarse_grid(intrinsics: Intrinsics, width: int, height: int) -> Grid:
    """The grid that fits a whole image into a coarse one of `width` x `height` pixels; it keeps its proportions."""
    k = intrinsics
    step = max(k.width / width, k.height / height)
    columns, rows = (
        np.minimum(((np.arange(max(round(size / step), 1)) + 0.5) * step).astype(np.int64), size - 1)
        for size in (k.width, k.height)
    )
    top, left = (height - len(rows)) // 2, (width - len(columns)) // 2
    small = replace(
        k,
        width=width,
        height=height,
        fx=k.fx / step,
        fy=k.fy / step,
        cx=(k.cx + 0.5) / step - 0.5 + left,
        cy=(k.cy + 0.5) / step - 0.5 + top,
    )
    return Grid(small, rows, columns, top, left, step)


def pick(image: NDArray[np.generic], grid: Grid) -> NDArray[np.generic]:
    """The grid's pixels of an image (height, width), in a coarse image of the same type, 0 around them."""
    picked = np.zeros((grid.intrinsics.height, grid.intrinsics.width), image.dtype)
    picked[grid.window] = image[grid.rows[:, None], grid.columns]
    return picked


def coarse_depth(frame: DepthFrame, grid: Grid) -> NDArray[np.float32]:
    """The coarse depth image in metres, 0 = no reading; where the grid's pixel has none, its neighbours stand in."""
    depth = frame.depth[grid.rows[:, None], grid.columns]
    reach = int(grid.step / 3)
    for down, right in ((0, reach), (reach, 0), (0, -reach), (-reach, 0)) if reach else ():
        row, column = np.nonzero(depth == 0)
        height, width = frame.depth.shape
        rows = np.clip(grid.rows[row] + down, 0, height - 1)
        depth[row, column] = frame.depth[rows, np.clip(grid.columns[column] + right, 0, width - 1)]
    metres = np.zeros((grid.intrinsics.height, grid.intrinsics.width), np.float32)
    metres[grid.window] = depth * np.float32(frame.depth_scale)
    return metres
