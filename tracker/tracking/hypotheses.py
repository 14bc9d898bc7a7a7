"""Hypotheses about hands: a cube to look into as a right or a left hand, and what the network makes of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tracker.hand.cube import Cube
from tracker.tracking.flesh import flesh_points, squared_distances
from tracker.tracking.track import Track

SAME_FLESH: Final = 0.025
"""Two estimates are one hand if the joints of one are this close (metres, on average) to the bones of the other: two
hands hardly fit into each other. Of hands that touch, in 80 simulated situations, 4 % are nearer, and would be one."""
SAME_HAND: Final = 0.05
"""Or if their joints are this close, each to its like, on the same pixels: hands that touch rest on their own."""
SHARED_PIXELS: Final = 0.5
"""Of the smaller mask."""
CONFIDENCE_WEIGHT: Final = 4.0
"""Log odds for a side per unit of mean joint confidence: the wrong side looks like a hand, but a puzzling one."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A cube to look into.

    mask: (height, width) bool, the pixels that count. track: the hand that is followed, None for a new one.
    number: candidates for one hand, seen as right and as left, or either way up, share it.
    """

    cube: Cube
    mask: NDArray[np.bool_]
    track: Track | None
    number: int


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """What the network says: joints (21, 3) metres, camera frame; confidence (21,); presence 0..1."""

    candidate: Candidate
    joints: NDArray[np.float32]
    confidence: NDArray[np.float32]
    presence: float

    @property
    def odds(self) -> float:
        """Log odds that the cube holds a hand of the candidate's side."""
        p = min(max(self.presence, 0.01), 0.99)
        return math.log(p / (1 - p)) + CONFIDENCE_WEIGHT * float(self.confidence.mean())


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """The estimates for one hand, of one side or of both, one or more each."""

    estimates: tuple[Estimate, ...]

    @property
    def candidate(self) -> Candidate:
        """The first: what all share."""
        return self.estimates[0].candidate

    @property
    def right_minus_left(self) -> float | None:
        """Log odds for a right hand; None where only one side was tried."""
        right, left = self.of_side("right"), self.of_side("left")
        return right.odds - left.odds if right and left else None

    @property
    def best(self) -> Estimate:
        """The likeliest."""
        return max(self.estimates, key=lambda estimate: estimate.odds)

    def of_side(self, side: str) -> Estimate | None:
        """The likeliest estimate of one side, if it was tried."""
        of_it = [estimate for estimate in self.estimates if estimate.candidate.cube.side == side]
        return max(of_it, key=lambda estimate: estimate.odds, default=None)


def pairs(estimates: Sequence[Estimate]) -> list[Pair]:
    """Estimates grouped by hand, in their order."""
    groups: dict[int, list[Estimate]] = {}
    for estimate in estimates:
        groups.setdefault(estimate.candidate.number, []).append(estimate)
    return [Pair(tuple(group)) for group in groups.values()]


def better_of(
    followed: Sequence[tuple[Track, Estimate]], found: Sequence[tuple[Track, Estimate]]
) -> list[tuple[Track, Estimate]]:
    """One estimate per track: the likelier of where it was followed to and where it was found."""
    best = {track.id: (track, estimate) for track, estimate in followed}
    for track, estimate in found:
        if track.id not in best or estimate.odds > best[track.id][1].odds:
            best[track.id] = (track, estimate)
    return list(best.values())


def without_doubles(chosen: Sequence[tuple[Track, Estimate]], time_ns: int) -> list[tuple[Track, Estimate]]:
    """Of two tracks on one hand, the one stays that expected a hand there and of that side; else the older."""
    kept: list[tuple[Track, Estimate]] = []
    for track, estimate in sorted(chosen, key=lambda pair: (_surprise(pair[0], pair[1], time_ns), pair[0].id)):
        if not any(same_hand(estimate, other) for _, other in kept):
            kept.append((track, estimate))
    return sorted(kept, key=lambda pair: pair[0].id)


def same_hand(one: Estimate, other: Estimate) -> bool:
    """Whether two estimates are of the same hand."""
    if min(_within(one.joints, other.joints), _within(other.joints, one.joints)) < SAME_FLESH:
        return True
    apart = float(np.linalg.norm(one.joints - other.joints, axis=1).mean())
    return apart < SAME_HAND and _shared(one, other) > SHARED_PIXELS


def _within(joints: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Metres from the joints (21, 3) of one hand to the bones of another, on average."""
    return float(np.sqrt(np.maximum(squared_distances(joints, flesh_points(other)), 0)).mean())


def _shared(one: Estimate, other: Estimate) -> float:
    """The share of the smaller of two masks that lies in the other."""
    first, second = one.candidate.mask, other.candidate.mask
    smaller = min(int(np.count_nonzero(first)), int(np.count_nonzero(second)))
    return int(np.count_nonzero(first & second)) / max(smaller, 1)


def _surprise(track: Track, estimate: Estimate, time_ns: int) -> float:
    """How little a track expected what it got; a new one expected nothing."""
    if track.joints is None:
        return math.inf
    return track.distance(estimate.joints, time_ns) / SAME_HAND - estimate.odds
