"""Whether what the networks took for a hand is one: log odds, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from tracker.tracking.hypotheses import Estimate
from tracker.tracking.track import Track

PRESENCE: Final = 0.72
CONFIDENCE: Final = 7.73
LIKENESS: Final = 5.83
OFFSET: Final = -8.56
"""Logistic regression: weights of the log odds of presence, of the mean joint confidence and of the likeness, fitted to
what was followed in simulated situations (`benchmarks/belief.py`)."""
UNKNOWN_LIKENESS: Final = 0.7
"""Where nothing but the hand network says what looks like a hand: so much speaks neither for one nor against it."""
SAME_SIDE: Final = 2.0
"""Log odds against a hand that is of the same side as a surer one: most are one person's left and right."""
FURTHER: Final = 0.5
"""Log odds that a hand beside another must have to be taken for a new one, and keep on average: with less it is mostly
a thing, or an arm."""
LONE: Final = -1.0
"""The same of the only or the surest hand. Less, for networks are less sure of real hands than of simulated ones, and
it takes no place away from another."""
UNCLEAR: Final = 0.0
"""Log odds below which everything in the cube is looked at as well: of what is hardly a hand by its looks in the image,
half may have been cut off."""


def evidence(estimate: Estimate, likeness: float) -> tuple[float, float, float]:
    """What is weighed: log odds of presence, mean joint confidence, likeness.

    likeness: mean probability that the surface about its bones is a hand's (`Sight.likeness`).
    """
    presence = min(max(estimate.presence, 1e-3), 1 - 1e-3)
    return math.log(presence / (1 - presence)), float(estimate.confidence.mean()), likeness


def real_odds(estimate: Estimate, likeness: float) -> float:
    """Log odds that an estimate is a hand, with its joints roughly right. likeness: as for `evidence`."""
    presence, confidence, likeness = evidence(estimate, likeness)
    return PRESENCE * presence + CONFIDENCE * confidence + LIKENESS * likeness + OFFSET


def beside_others(estimate: Estimate, odds: float, others: Sequence[tuple[Estimate, float]]) -> float:
    """The log odds of an estimate in the light of others of the frame and theirs."""
    side = estimate.candidate.cube.side
    rivalled = any(other.candidate.cube.side == side and their > odds for other, their in others)
    return odds - SAME_SIDE if rivalled else odds


def least_odds(alone: bool) -> float:
    """Log odds that a hand must have. alone: whether it is the only one, or the surest."""
    return LONE if alone else FURTHER


def without_doubtful(chosen: Sequence[tuple[Track, Estimate]]) -> list[tuple[Track, Estimate]]:
    """Those hands that are mostly sure."""
    surest = max((track.sureness for track, _ in chosen), default=0.0)
    return [(track, estimate) for track, estimate in chosen if track.sureness >= least_odds(track.sureness == surest)]
