"""Random numbers made from counters: the same on every device, for every number of processes, in any order.

A number depends on its key alone, not on how many were drawn before, so there is no state to keep or to restore. The
mixing is the finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA
2014).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_STEP = -7046029254386353131  # 0x9E3779B97F4A7C15, the golden ratio, as a signed number
_FIRST = -4658895280553007687  # 0xBF58476D1CE4E5B9
_SECOND = -7723592293110705685  # 0x94D049BB133111EB


def _shift(x: Tensor, bits: int) -> Tensor:
    """Shift numbers right as if they were unsigned; torch's own keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mix(key: Tensor) -> Tensor:
    """Scramble int64 keys; neighbours become unrelated."""
    key = (key ^ _shift(key, 30)) * _FIRST
    key = (key ^ _shift(key, 27)) * _SECOND
    return key ^ _shift(key, 31)


def split(key: Tensor, number: Tensor | int) -> Tensor:
    """New keys from keys and numbers (int64, shapes that broadcast)."""
    return mix(key + (torch.as_tensor(number) + 1) * _STEP)


def uniform(key: Tensor, count: int = 1) -> Tensor:
    """(..., count) float32 in [0, 1) for keys (...)."""
    numbers = torch.arange(count, device=key.device)
    return _shift(split(key[..., None], numbers), 40).to(torch.float32) * 2.0**-24


def normal(key: Tensor, count: int = 1) -> Tensor:
    """(..., count) float32, standard normal, for keys (...) (Box and Muller 1958)."""
    first, second = uniform(key, 2 * count).unflatten(-1, (count, 2)).unbind(-1)
    return torch.sqrt(-2 * torch.log1p(-first)) * torch.cos(2 * math.pi * second)


def sample_keys(seed: int, start: int, count: int) -> list[int]:
    """The keys of `count` samples of a run, from position `start` of its stream on."""
    run = split(torch.tensor(seed, dtype=torch.int64), 0)
    keys: list[int] = split(run, torch.arange(start, start + count)).tolist()
    return keys
