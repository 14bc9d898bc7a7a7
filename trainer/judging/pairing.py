"""Which published hand is which true one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy.optimize import linear_sum_assignment

from tracker.camera.frame import HandTruth
from tracker.stream.message import Hand

FAR: Final = 0.10
"""Metres: a published hand whose joints are further from a true hand than this on average is not that hand."""


def pair(hands: Sequence[Hand], truth: Sequence[HandTruth]) -> dict[int, int]:
    """True hand to published hand: as many pairs nearer than `FAR` as there can be, and of these the nearest."""
    if not hands or not truth:
        return {}
    cost = np.array([[_mean_distance(hand, known) for hand in hands] for known in truth])
    # A pair that is too far costs more than all the near ones together, so that it never drives one of these out.
    near = cost < FAR
    rows, columns = linear_sum_assignment(np.where(near, cost, FAR * (1 + len(hands) + len(truth))))
    return {int(row): int(column) for row, column in zip(rows, columns) if near[row, column]}


def _mean_distance(hand: Hand, known: HandTruth) -> float:
    distance = np.linalg.norm(hand.joints - known.joints, axis=1)
    measured = np.isfinite(distance)
    return float(distance[measured].mean()) if measured.any() else np.inf
