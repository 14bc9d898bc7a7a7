"""Which hand in an image is which of those that are followed: all together, by where they should be and by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from tracker.tracking.hypotheses import Pair
from tracker.tracking.track import Track

AWAY: Final = 0.10
"""A hand so far (metres) from where it should be costs as much as one log odds of its side."""
MOST_ODDS: Final = 4.0
"""Log odds of a side that one look can give."""
SIDE_WEIGHT: Final = 0.5
"""Of those; one look at two hands that touch may be wrong about both."""
STAY: Final = 0.5
"""A track keeps its place unless another suits it better by so much."""
NEAR_LOSS: Final = 0.25
"""A hand that is found this near (metres) to where one was just lost may be the same hand."""
WANDER: Final = 0.4
"""Metres a second by which a lost hand may have gone further than that."""
HELD: Final = 0.1
"""Unless it was followed in this very frame: then it is not further (metres) from there."""
NEVER: Final = 1e6
OTHER_HAND: Final = 1.0
"""Log odds, per comparison, that a second hand is of the other side; less than what a clear view says."""
TOUCHING_HAND: Final = 3.0
"""The same of hands that touch, which spoil each other's looks,"""
TOUCHING: Final = 0.12
"""as those do whose middles are this near, in metres."""
CERTAIN_SIDE: Final = 0.9


def owners(places: Sequence[Pair], side_odds: Sequence[float], time_ns: int) -> list[Track]:
    """The track of each place that was looked into; two hands that crossed may have changed places.

    places: estimates of each, with the track that expected its hand there. side_odds: log odds of each for a right hand
    by its looks in the image. A place goes to another track if it was tried as a hand of that track's side.
    """
    tracks = [place.candidate.track for place in places]
    known = [track for track in tracks if track is not None]
    if len(known) < 2:
        return known
    cost = np.array(
        [
            [_misfit(track, place, odds, time_ns) if place.of_side(track.side) else NEVER for track in known]
            for place, odds in zip(places, side_odds)
        ]
    )
    cost[np.diag_indices(len(known))] = np.minimum(np.diag(cost), NEVER / 2) - STAY
    return [known[column] for column in linear_sum_assignment(cost)[1]]


def continued(
    found: Sequence[Pair],
    side_odds: Sequence[float],
    lost: Sequence[Track],
    time_ns: int,
    held: Mapping[int, NDArray[np.float32]],
) -> list[Track | None]:
    """Which lost track each found hand continues, None for a new hand: the cheapest way to pair them all.

    held: joints (21, 3), metres, camera frame, by id of the track, of those that were followed in this frame, if
    unsurely: what is found elsewhere does not continue them, however well its side suits.
    """
    result: list[Track | None] = [None] * len(found)
    if not found or not lost:
        return result
    cost = np.full((len(found), len(lost)), NEVER)
    for row, (place, odds) in enumerate(zip(found, side_odds)):
        for column, track in enumerate(lost):
            if track.id in held and _apart(held[track.id], place.best.joints) > HELD:
                continue
            if track.distance(place.best.joints, time_ns) < NEAR_LOSS + WANDER * track.unseen_seconds(time_ns):
                cost[row, column] = _misfit(track, place, odds, time_ns)
    for row, column in zip(*linear_sum_assignment(cost)):
        if cost[row, column] < NEVER:
            result[row] = lost[column]
    return result


def by_other_hand(hand: Track | None, joints: NDArray[np.float32], tracks: Sequence[Track], time_ns: int) -> float:
    """Log odds for a right hand by the other hand: two hands are mostly one person's left and right.

    hand, joints: the one that is asked about, None if it is not followed yet, and where it is, (21, 3) metres, camera
    frame. tracks: all that are followed; of more than two hands, nothing is known.
    """
    others = [other for other in tracks if other is not hand]
    if len(others) != 1 or others[0].side_confidence < CERTAIN_SIDE:
        return 0.0
    odds = TOUCHING_HAND if others[0].distance(joints, time_ns) < TOUCHING else OTHER_HAND
    return -odds if others[0].side == "right" else odds


def _misfit(track: Track, place: Pair, side_odds: float, time_ns: int) -> float:
    """How badly a place suits a track: metres from where it should be, and a side that is not its own."""
    right = float(np.clip((place.right_minus_left or 0.0) + side_odds, -MOST_ODDS, MOST_ODDS))
    return track.distance(_joints(place, track), time_ns) / AWAY - SIDE_WEIGHT * right * math.tanh(track.side_vote / 2)


def _apart(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Metres between the middles of two hands' joints."""
    return float(np.linalg.norm(one.mean(axis=0) - other.mean(axis=0)))


def _joints(place: Pair, track: Track) -> NDArray[np.float32]:
    return (place.of_side(track.side) or place.best).joints
