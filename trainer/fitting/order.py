"""Which samples a step sees: one endless stream, epoch after epoch, cut into batches of one size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Order:
    """The stream of a run.

    length: samples of an epoch. fresh: the source never repeats itself, so that position i of the stream is its sample
    i; otherwise each epoch is the data in another order, drawn from the seed.

    Batches run across the ends of epochs, so that each is full, whatever the length. A batch depends on its position
    alone: neither on the number of processes that share it nor on how often the run was stopped.
    """

    length: int
    seed: int
    fresh: bool = False

    def samples(self, start: int, count: int) -> list[int]:
        """Indices of the samples at `count` positions of the stream."""
        if self.fresh:
            return list(range(start, start + count))
        chosen: list[int] = []
        while count > 0:
            epoch, place = divmod(start, self.length)
            part = min(count, self.length - place)
            chosen += _shuffled(self.length, self.seed, epoch)[place : place + part].tolist()
            start, count = start + part, count - part
        return chosen


@lru_cache(maxsize=2)
def _shuffled(length: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(length)


def share(start: int, count: int, rank: int, size: int) -> tuple[int, int]:
    """The part of a batch that a process takes: (start, count). Uneven by one at most; neighbours stay together."""
    first, last = count * rank // size, count * (rank + 1) // size
    return start + first, last - first
