"""Where a hand's flesh is, by its bones: what is how far from it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tracker.hand.skeleton import BONES


def flesh_points(joints: NDArray[np.float32]) -> NDArray[np.float32]:
    """Points (n, 3) all along the bones between joints (21, 3)."""
    start, end = joints[[a for a, _ in BONES]], joints[[b for _, b in BONES]]
    along = np.linspace(0, 1, 4, dtype=np.float32)[:, None, None]
    points: NDArray[np.float32] = (start + along * (end - start)).reshape(-1, 3)
    return points


def squared_distances(points: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared metres (n,) from each point (n, 3) to the nearest of others (m, 3); infinite if none is known."""
    known = others[np.isfinite(others).all(axis=1)]
    if len(known) == 0:
        return np.full(len(points), np.inf, np.float32)
    square = (points**2).sum(1)[:, None] + (known**2).sum(1) - 2 * points @ known.T
    nearest: NDArray[np.float32] = square.min(axis=1)
    return nearest
