"""Points in a cube to an occupancy grid. The live path and the training use this one definition."""

from __future__ import annotations

import torch
from torch import Tensor


def voxel_index(points: Tensor, size: int) -> Tensor:
    """Cube coordinates (..., 3) in [-1, 1) to voxel indices (..., 3) int64: floor((c + 1) / 2 * size)."""
    return torch.floor((points + 1) * (size / 2)).to(torch.int64)


def voxel_center(index: Tensor, size: int) -> Tensor:
    """The centre of voxels (..., 3), in cube coordinates: the inverse of `voxel_index` up to half a voxel."""
    return (index.to(torch.float32) + 0.5) * (2 / size) - 1


def voxelise(points: Tensor, sample: Tensor, batch: int, size: int, out: Tensor | None = None) -> Tensor:
    """Occupancy grids of a batch of hands.

    points: (n, 3) float, cube coordinates x y z of all hands, one after another; those outside [-1, 1) are left out.
    sample: (n,) int64, which hand of the batch each point belongs to.
    out: (batch, size, size, size) uint8 to write into; allocated if None.
    Returns (batch, size, size, size) uint8, axes x y z, 1 where at least one point lies in the voxel.
    """
    x, y, z = voxel_index(points.t(), size)
    inside = (torch.minimum(torch.minimum(x, y), z) >= 0) & (torch.maximum(torch.maximum(x, y), z) < size)
    flat = ((sample * size + x) * size + y) * size + z
    if out is None:
        # Points outside mark a spare cell at the end: a GPU would have to be waited for to leave them out.
        cells = batch * size**3
        room = torch.zeros(cells + 1, dtype=torch.uint8, device=points.device)
        room.index_fill_(0, flat.masked_fill(~inside, cells), 1)
        return room[:cells].view(batch, size, size, size)
    out.zero_()
    out.view(-1).index_fill_(0, flat[inside], 1)
    return out
