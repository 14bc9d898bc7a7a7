"""The search for hands that are not followed yet, or were just lost, in the whole image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np

from tracker.camera.frame import DepthFrame
from tracker.hand.cube import Cube, cube_center
from tracker.tracking.aiming import Aim
from tracker.tracking.association import NEAR_LOSS, by_other_hand, continued
from tracker.tracking.belief import UNCLEAR, beside_others, least_odds
from tracker.tracking.config import TrackerConfig
from tracker.tracking.hypotheses import Candidate, Estimate, Pair
from tracker.tracking.looking import Looker
from tracker.tracking.refusals import Refusals
from tracker.tracking.sight import Known, Place, Sight
from tracker.tracking.track import Track


class Search:
    """Finds new hands and numbers them; remembers where it looked in vain.

    odds: log odds that an estimate of a frame is a hand. timed: takes the time of a stage, by its name.
    """

    def __init__(
        self,
        sight: Sight,
        looker: Looker,
        aim: Aim,
        odds: Callable[[DepthFrame, Estimate], float],
        timed: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self._sight = sight
        self._looker = looker
        self._aim = aim
        self._odds = odds
        self._timed = timed
        self._next_id = 1
        self.reset()

    def reset(self) -> None:
        """Forget where it looked. Ids go on."""
        self._refusals = Refusals()

    def __call__(
        self,
        config: TrackerConfig,
        frame: DepthFrame,
        number: int,
        followed: Sequence[tuple[Track, Estimate]],
        unsure: Sequence[Track],
    ) -> list[tuple[Track, Estimate]]:
        """Look for as many hands as are missing, apart from the sure ones.

        A hand that is found near an unsure track continues it; others are new. number: of the frame, from any on.
        followed: the hands that were, surely or not. unsure: the tracks that may be elsewhere.
        """
        known = [estimate for track, estimate in followed if all(track is not other for other in unsure)]
        # One more than is missing, where there is room: the network may refuse the first.
        most = min(config.hands - len(known) + 1, config.hands)
        there = [Known(one.candidate.cube, one.joints, one.candidate.mask) for one in known]
        with self._timed("segment"):
            places = self._sight.search(frame, most + self._refusals.resting(number), there)
        places = [place for place in places if not self._rests(place, number, unsure, frame.captured_ns)][:most]
        # The network has the last word on where a hand is, and how it is turned: look again, as it said.
        first = self._look(frame, places, [self._aim.new(place) for place in places])
        first = [pair for pair in first if pair.best.presence >= config.keep]
        joints = [pair.best.joints for pair in first]
        again = [
            replace(places[pair.candidate.number], center=cube_center(found)) for pair, found in zip(first, joints)
        ]
        cubes = [self._aim.again(place, found) for place, found in zip(again, joints)]
        unclear = [index for index, pair in enumerate(first) if self._odds(frame, pair.best) < UNCLEAR]
        looked = self._look(frame, again, cubes, unclear)
        looked = [pair for pair in looked if pair.best.presence >= config.accept]
        seen_sides = [again[pair.candidate.number].side_odds for pair in looked]
        chosen = self._chosen(config, frame, looked, seen_sides, followed, unsure)
        taken = {first[estimate.candidate.number].candidate.number for _, estimate in chosen}
        for index, place in enumerate(places):
            if index not in taken:
                self._refusals.note(place.center, number)
        return chosen

    def _rests(self, place: Place, number: int, unsure: Sequence[Track], now: int) -> bool:
        """Whether a place was looked at in vain of late; where a hand was just lost, that does not matter."""
        lost = (track.cube(now, self._aim.edge).center for track in unsure)
        if any(float(np.linalg.norm(center - place.center)) < NEAR_LOSS for center in lost):
            return False
        return self._refusals.rests(place.center, number)

    def _look(
        self, frame: DepthFrame, places: Sequence[Place], cubes: Sequence[Sequence[Cube]], unclear: Sequence[int] = ()
    ) -> list[Pair]:
        """Look for hands in places, in some cubes each. unclear: those of which everything in the cube is, too."""
        candidates = [
            Candidate(cube, mask, None, index)
            for index, (place, several) in enumerate(zip(places, cubes))
            for mask in ((place.mask, np.ones_like(place.mask)) if index in unclear else (place.mask,))
            for cube in several
        ]
        return self._looker(frame, candidates, self._timed)

    def _chosen(
        self,
        config: TrackerConfig,
        frame: DepthFrame,
        looked: Sequence[Pair],
        seen_sides: Sequence[float],
        followed: Sequence[tuple[Track, Estimate]],
        unsure: Sequence[Track],
    ) -> list[tuple[Track, Estimate]]:
        """Lost hands that were found, and new ones that are believed in.

        looked: what the network says of each. seen_sides: log odds of each for a right hand by its looks in the image.
        """
        chosen: list[tuple[Track, Estimate]] = []
        held = {track.id: estimate.joints for track, estimate in followed}
        weighed = [(estimate, self._odds(frame, estimate)) for _, estimate in followed] if looked else []
        # What is only waited for says nothing of others: it may be the very hand that is new here.
        present = [track for track, _ in followed]
        continues = continued(looked, seen_sides, unsure, frame.captured_ns, held)
        for pair, seen_side, lost in zip(looked, seen_sides, continues):
            side_vote = (pair.right_minus_left or 0.0) + seen_side
            if lost is None:
                side_vote += by_other_hand(None, pair.best.joints, present, frame.captured_ns)
            track = lost or Track(self._next_id, side_vote, config.filter, config.profile)
            estimate = pair.of_side(track.side) or pair.best
            odds = self._odds(frame, estimate)
            if lost is None:
                if beside_others(estimate, odds, weighed) < least_odds(alone=not weighed):
                    continue
                self._next_id += 1
                track.compared = pair.right_minus_left or 0.0
            chosen.append((track, estimate))
            weighed.append((estimate, odds))
        return chosen
