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
    index = torch.arange(size**3, device=maps.device)
    summit = ((_highest_near(maps, reach) == maps) & (maps > lowest)).flatten(1)
    # Of equal neighbours, all of them summits, the one that comes last is the peak. Floats hold these numbers exactly.
    number = torch.where(summit, index.float(), -1.0).view(maps.shape)
    is_peak = summit & (_highest_near(number, reach) == number).flatten(1)
    heights, best = maps.flatten(1).masked_fill(~is_peak, -torch.inf).topk(min(count, size**3), dim=1)
    if heights.shape[1] < count:
        missing = count - heights.shape[1]
        heights = functional.pad(heights, (0, missing), value=-torch.inf)
        best = functional.pad(best, (0, missing))
    place = torch.stack([best // (size * size), best // size % size, best % size], dim=2)
    points = (place + 0.5 + _top(maps, place)) * (2 / size) - 1
    nothing = torch.isinf(heights)
    return points.masked_fill(nothing[..., None], torch.nan), heights.masked_fill(nothing, torch.nan)


def _highest_near(maps: Tensor, reach: int) -> Tensor:
    """The highest of the voxels at most `reach` away along every axis: one axis after another, ten times as quick."""
    size = maps.shape[-1]
    for axis in (1, 2, 3):
        highest = maps.clone()
        for step in range(1, min(reach, size - 1) + 1):
            for to, since in ((0, step), (step, 0)):
                part = highest.narrow(axis, to, size - step)
                torch.maximum(part, maps.narrow(axis, since, size - step), out=part)
        maps = highest
    return maps


def _top(maps: Tensor, place: Tensor, step: int = 2) -> Tensor:
    """Offset in voxels, at most half of one, from a peak voxel to the top of the Gaussian through it, (B, n, 3).

    The logarithm of a Gaussian is a parabola along each axis: three heights, `step` voxels apart, give its top (Zhang
    et al., "Distribution-Aware Coordinate Representation", CVPR 2020). The centre of mass of the few voxels that
    belong to one joint alone would stay too near to the middle of the voxel. Peaks less than `step` from the rim of
    the map keep to the middle of their voxel along that axis.
    """
    size = maps.shape[-1]
    row = torch.arange(len(maps), device=maps.device)[:, None]

    def height(at: Tensor) -> Tensor:
        x, y, z = at.unbind(dim=2)
        return torch.log(maps[row, x, y, z].clamp(min=1e-4))

    middle = height(place)
    offsets = []
    for axis in range(3):
        away = torch.zeros(3, dtype=place.dtype, device=place.device)
        away[axis] = step
        low, high = height((place - away).clamp(min=0)), height((place + away).clamp(max=size - 1))
        bend = low - 2 * middle + high
        inner = (place[..., axis] >= step) & (place[..., axis] < size - step) & (bend < 0)
        offsets.append(torch.where(inner, step * (low - high) / (2 * bend.clamp(max=-1e-12)), 0.0).clamp(-0.5, 0.5))
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
