"""Joints of a map that shows all of them without telling which is which: its peaks, and their match to the truth."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional


def find_peaks(maps: Tensor, count: int, *, reach: int = 2, lowest: float = 0.0) -> tuple[Tensor, Tensor]:
    """The strongest local maxima of each map.

    maps: (B, G, G, G) heat maps, axes x y z. count: how many at most. reach: a peak is the highest of the voxels this
    near along every axis. lowest: peaks must be higher than this.
    Returns (B, count, 3) cube coordinates and (B, count) heights, highest first, float32, NaN where there are fewer.
    """
    maps = maps.float()
    size = maps.shape[-1]
    highest, where = functional.max_pool3d(maps[:, None], 2 * reach + 1, 1, reach, return_indices=True)
    # Compared by place and not by height, so that of equal neighbours one is a peak.
    itself = torch.arange(size**3, device=maps.device)
    is_peak = (where.flatten(1) == itself) & (highest.flatten(1) > lowest)
    heights, best = maps.flatten(1).masked_fill(~is_peak, -torch.inf).topk(min(count, size**3), dim=1)
    if heights.shape[1] < count:
        missing = count - heights.shape[1]
        heights = functional.pad(heights, (0, missing), value=-torch.inf)
        best = functional.pad(best, (0, missing))
    index = torch.stack([best // (size * size), best // size % size, best % size], dim=2)
    points = (index + 0.5 + _summit(maps, index)) * (2 / size) - 1
    nothing = torch.isinf(heights)
    return points.masked_fill(nothing[..., None], torch.nan), heights.masked_fill(nothing, torch.nan)


def _summit(maps: Tensor, index: Tensor) -> Tensor:
    """Offset in voxels, at most half of one, from a peak voxel to the top of the parabola through it, (B, n, 3).

    Gaussians that are some voxels wide are parabolas near their top. The centre of mass of the few voxels that belong
    to one joint alone would stay too near to the middle of the voxel.
    """
    batch, size = maps.shape[0], maps.shape[-1]
    row = torch.arange(batch, device=maps.device)[:, None]

    def height(at: Tensor) -> Tensor:
        x, y, z = at.unbind(dim=2)
        return maps[row, x, y, z]

    middle = height(index)
    offsets = []
    for axis in range(3):
        step = torch.zeros(3, dtype=index.dtype, device=index.device)
        step[axis] = 1
        low, high = height((index - step).clamp(min=0)), height((index + step).clamp(max=size - 1))
        bend = low - 2 * middle + high
        inner = (index[..., axis] > 0) & (index[..., axis] < size - 1) & (bend < 0)
        offsets.append(torch.where(inner, (low - high) / (2 * bend.clamp(max=-1e-20)), 0.0).clamp(-0.5, 0.5))
    return torch.stack(offsets, dim=2)


def match_peaks(
    points: NDArray[np.floating], heights: NDArray[np.floating], truth: NDArray[np.floating]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give each true joint a peak of its own, so that the sum of the distances is least (Kuhn 1955).

    points: (n, 3), NaN where there is none. heights: (n,). truth: (J, 3), NaN where not known; same unit as points.
    Returns the distances (J,), NaN where not known and infinite where there were too few peaks, and the heights (J,)
    of the matched peaks, 0 where there is none.
    """
    distance = np.full(len(truth), np.nan, np.float32)
    height = np.zeros(len(truth), np.float32)
    known = np.flatnonzero(np.isfinite(truth).all(axis=1))
    found = np.flatnonzero(np.isfinite(points).all(axis=1))
    distance[known] = np.inf
    cost = np.linalg.norm(truth[known][:, None] - points[found][None], axis=2)
    rows, columns = linear_sum_assignment(cost)
    distance[known[rows]] = cost[rows, columns]
    height[known[rows]] = heights[found[columns]]
    return distance, height
