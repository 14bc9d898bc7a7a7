"""Grids with the look of a hand, to warm engines up, to compare them and to time them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def hand_like_grids(batch: int, size: int, seed: int = 0) -> NDArray[np.uint8]:
    """(batch, size, size, size) uint8 grids: a palm and five fingers in random poses, about as full as a real hand.

    Grids of noise, or empty ones, would not do: networks answer them with flat maps, which hide what rounding does.
    """
    random = np.random.default_rng(seed)
    grids = np.zeros((batch, size, size, size), np.uint8)
    for grid in grids:
        palm = random.uniform(-0.25, 0.25, 3)
        tips = palm + random.normal(0, 1, (5, 3)) * (0.45, 0.45, 0.2)
        along = random.uniform(0, 1, (5, 40 * size, 1))
        fingers = (palm + along * (tips - palm)[:, None]).reshape(-1, 3)
        points = np.concatenate([fingers, np.repeat(palm[None], 40 * size, axis=0)])
        spread = np.repeat((0.05, 0.15), (len(fingers), len(points) - len(fingers)))
        points = points + random.normal(0, 1, points.shape) * spread[:, None] * (1, 1, 0.3)
        x, y, z = np.clip((points + 1) * (size / 2), 0, size - 1).astype(int).T
        grid[x, y, z] = 1
    return grids
