"""Occupied voxels as bytes: a breadth-first octree, a byte for every node that holds something.

A byte says which of the eight children hold something (Meagher, "Geometric modeling using octree encoding", 1982). A
hand of 2,200 voxels takes about 1.2 kB. There is no entropy coding on purpose: each level of a whole batch is decoded
by a few look-ups in tables, on any device.

Bit 4 * x + 2 * y + z of a byte stands for the child in the upper half of x, y and z. Bytes are ordered by level, then
by their parents' order, then by bit. A sample without voxels has no bytes.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tracker.errors import DataError

FIELD = 10
"""Bits that each of x, y and z has in the one number that stands for a node."""
MOST_LEVELS = FIELD


def levels_of(size: int) -> int:
    """How many levels a grid of `size` voxels along an edge needs: it is padded to the next power of two.

    Raises ValueError for a size that is not from 1 to 1024.
    """
    if not 1 <= size <= 1 << MOST_LEVELS:
        raise ValueError(f"a grid has from 1 to {1 << MOST_LEVELS} voxels along an edge, not {size}")
    return max(1, (size - 1).bit_length())


def _spread() -> NDArray[np.int64]:
    """Every number of FIELD bits with two zero bits between its bits."""
    number = np.arange(1 << FIELD)
    return np.asarray(sum((number >> bit & 1) << 3 * bit for bit in range(FIELD)), np.int64)


_SPREAD = _spread()


def encode(index: NDArray[np.integer], levels: int) -> NDArray[np.uint8]:
    """Voxels to bytes.

    index: (n, 3) whole numbers x y z, in any order, some more than once; each from 0 to 2**levels - 1, or ValueError.
    """
    if not len(index):
        return np.empty(0, np.uint8)
    if index.min() < 0 or index.max() >= 1 << levels:
        raise ValueError(f"voxel indices must be from 0 to {(1 << levels) - 1}")
    x, y, z = _SPREAD[index].T
    # Morton order: the children of a node, and theirs, follow one another.
    node = np.unique(x << 2 | y << 1 | z)
    parts = []
    for _ in range(levels):
        parent = node >> 3
        first = np.flatnonzero(np.diff(parent, prepend=-1))
        parts.append(np.bitwise_or.reduceat((1 << (node & 7)).astype(np.uint8), first))
        node = parent[first]
    return np.concatenate(parts[::-1])


@lru_cache(maxsize=4)
def _tables(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Of each byte: how many children it has, and where they begin in the third table, of children's x y z fields."""
    bits = (torch.arange(256)[:, None] >> torch.arange(8)) & 1
    number = bits.sum(dim=1)
    bit = bits.nonzero()[:, 1]
    child = (bit >> 2 & 1) << 2 * FIELD | (bit >> 1 & 1) << FIELD | bit & 1
    return number.to(device), (number.cumsum(0) - number).to(device), child.to(device, torch.int32)


def decode(stream: Tensor, starts: Tensor, ends: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Bytes of a batch of samples to voxels.

    stream: (n,) uint8. starts, ends: (B,) int64, sample i is stream[starts[i] : ends[i]]; in any order.
    Returns the voxels (P, 3) int32 x y z and the sample (P,) int64 that each is of, ascending; on the stream's device.
    Raises DataError if the bytes are not whole octrees; nothing outside the ranges is read, and a damaged
    stream of n bytes gives at most 8 n voxels.
    """
    device = stream.device
    number_of, first_of, child_of = _tables(device)
    if bool(((starts < 0) | (ends < starts) | (ends > len(stream))).any()):
        raise DataError("the octrees are damaged: a sample lies outside the stream of bytes; convert the data again")
    position = starts
    # A level's nodes, sample after sample, `width` of each; a node is its x, y and z so far, FIELD bits each.
    width = (ends > starts).to(torch.int64)
    node = torch.zeros(int(width.sum()), dtype=torch.int32, device=device)
    for _ in range(levels if len(node) else 0):
        stop = position + width
        if bool((stop > ends).any()):
            raise DataError(f"the octree of sample {int((stop > ends).nonzero()[0])} of the batch is cut short")
        last = width.cumsum(0)
        where = torch.repeat_interleave(stop - last, width, output_size=len(node))
        where += torch.arange(len(node), device=device)
        byte = stream.index_select(0, where).to(torch.int32)
        number = number_of.index_select(0, byte)
        after = number.cumsum(0)
        total = int(number.sum())
        shift = first_of.index_select(0, byte).add_(number).sub_(after)
        parent = torch.repeat_interleave(number, output_size=total)
        rank = shift.index_select(0, parent).add_(torch.arange(total, device=device))
        node = (node << 1).index_select(0, parent).add_(child_of.index_select(0, rank))
        position = stop
        # `after` at the last node of a sample, less that at the last node of the sample before.
        sums = torch.nn.functional.pad(after, (1, 0)).index_select(0, last)
        width = sums.diff(prepend=sums.new_zeros(1))
    if bool((position != ends).any()):
        raise DataError(f"the octree of sample {int((position != ends).nonzero()[0])} of the batch is damaged")
    mask = (1 << levels) - 1
    index = torch.stack([node >> 2 * FIELD, node >> FIELD & mask, node & mask], dim=1)
    sample = torch.repeat_interleave(torch.arange(len(starts), device=device), width, output_size=len(node))
    return index, sample
