"""From a depth frame to a message: find, crop, voxelise, run, follow."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Final

import numpy as np

from tracker.camera.frame import DepthFrame
from tracker.engine import open_engine
from tracker.errors import WeightsError
from tracker.hand.cube import Cube, cube_center
from tracker.hand.profile import HandProfile
from tracker.hand.skeleton import SKELETON
from tracker.network.weights import find_weights, load_weights
from tracker.stream.message import Hand, HandsMessage, Stages
from tracker.tracking.aiming import Aim
from tracker.tracking.association import JUMP, by_other_hand, continued, owners
from tracker.tracking.belief import UNCLEAR, beside_others, least_odds, real_odds, without_doubtful
from tracker.tracking.hypotheses import Candidate, Estimate, Pair, better_of, without_doubles
from tracker.tracking.looking import Looker
from tracker.tracking.one_euro import FilterConfig
from tracker.tracking.refusals import Refusals
from tracker.tracking.sight import Expected, Known, Place, open_sight
from tracker.tracking.touching import divided
from tracker.tracking.track import Track, seen

FAST: Final = 0.05
"""A hand that is further (metres) from where it was expected is searched for in the whole image, too."""
NEAR: Final = 0.2
"""Hands whose middles are this near (metres) may be mistaken for each other."""
HIDDEN_PATIENCE: Final = 4
"""How many times longer than any other a hand is waited for that was lost beside another hand."""
PARTED_NS: Final = 400_000_000
"""For so long both sides are tried in every frame after two hands were near each other."""
DOUBTFUL: Final = 3
"""Frames that a hand may be missing and still be taken for there as easily as one that is followed."""
DOUBTED: Final = (1, 3)
"""Frames of a new hand in which it is doubted which way up it is; later that is done every `side_every` frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerConfig:
    """How hands are followed.

    hands: how many at most. accept, keep: presence from which a new hand is taken and a followed one kept; all that is
    known must speak for it as well (`tracker.tracking.belief`).
    patience: seconds that a hand may be unseen before it is lost; beside another hand `HIDDEN_PATIENCE` times as long.
    side_frames: in how many first frames both sides are tried; side_every: and how often later. Then, of networks that
    want upright cubes, hands without a forearm are also looked at the other way up.
    search_every: frames between two searches for a further hand; while there is none, or one was just lost, every
    frame is searched.
    filter: the One Euro filter of the published joints, None for none.
    profile: the size of the person's hands, None to find it out.
    segmentation: what tells hands from the rest of the image: `network`, `geometric`, or a weights file of the former.
    """

    hands: int = 2
    accept: float = 0.6
    keep: float = 0.25
    patience: float = 0.6
    side_frames: int = 6
    side_every: int = 30
    search_every: int = 5
    filter: FilterConfig | None = field(default_factory=FilterConfig)
    profile: HandProfile | None = None
    segmentation: str = "network"

    def __post_init__(self) -> None:
        if not 1 <= self.hands <= 4:
            raise ValueError(f"hands must be from 1 to 4, is {self.hands}")
        if not 0 < self.keep <= self.accept < 1:
            raise ValueError(f"want 0 < keep <= accept < 1, got {self.keep} and {self.accept}")
        if not (math.isfinite(self.patience) and self.patience >= 0):
            raise ValueError(f"patience must be a number of seconds from 0, is {self.patience}")
        if self.side_frames < 0 or self.side_every < 1 or self.search_every < 1:
            raise ValueError(
                "side_frames must be at least 0, side_every and search_every at least 1, are "
                f"{self.side_frames}, {self.side_every} and {self.search_every}"
            )


class Tracker:
    """Follows the hands in a stream of depth frames.

    model: `auto`, the name of shipped weights, or a weights file. engine, device, threads: see
    `tracker.engine.open_engine`. cubes: where the hands of the last message were looked for, in their order.
    Raises WeightsError, EngineError.
    """

    def __init__(
        self,
        model: str = "auto",
        engine: str = "auto",
        device: str = "auto",
        config: TrackerConfig | None = None,
        *,
        threads: int | None = None,
    ) -> None:
        self.config = config or TrackerConfig()
        network = load_weights(find_weights(model))
        if network.config.skeleton != SKELETON:
            raise WeightsError(
                f"{model} finds {network.config.v2v.joints} joints ({network.config.skeleton}); "
                f"the tracker publishes {SKELETON}: train on data with its 21 joints"
            )
        self.model = network.config.name
        self.edge = network.config.edge * (self.config.profile.cube_scale if self.config.profile else 1.0)
        # In a cube of another size, 10 mm are another share of it.
        network.decoder.set_edge(self.edge)
        self._aim = Aim(self.edge, network.config.upright)
        self._sight = open_sight(self.config.segmentation, engine, threads)
        self.engine = open_engine(network, engine, device, threads=threads, max_batch=2 * self.config.hands)
        self._looker = Looker(self.engine)
        self._next_id = 1
        self.reset()

    def reset(self) -> None:
        """Forget every hand, as before another recording. Ids go on."""
        self._tracks: list[Track] = []
        self._frames = 0
        self._refusals = Refusals()
        self._sight.reset()
        self.cubes: tuple[Cube, ...] = ()

    def set_filter(self, config: FilterConfig | None) -> None:
        """Filter the published joints otherwise from the next frame on; None not at all."""
        self.config = replace(self.config, filter=config)
        for track in self._tracks:
            track.set_filter(config)

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The hands that are followed: those of the last message in its order, then those that are missing."""
        return tuple(self._tracks)

    def close(self) -> None:
        """Give the engine's resources back."""
        self.engine.close()

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def track(self, frame: DepthFrame, camera: str = "", dropped: int = 0) -> HandsMessage:
        """The hands in the next frame of a stream, in the camera's frame of reference.

        camera, dropped: copied into the message.
        """
        self._ms = {"segment": 0.0, "voxelise": 0.0, "network": 0.0}
        chosen = without_doubles(self._follow(frame), frame.captured_ns)
        sure = [(track, estimate) for track, estimate in chosen if self._is_sure(frame, track, estimate)]
        unsure = [track for track in self._tracks if all(track is not other for other, _ in sure)]
        missing = self.config.hands - len(sure)
        if missing and (unsure or not sure or self._frames % self.config.search_every == 0):
            found = self._search(frame, missing, chosen, [estimate for _, estimate in sure], unsure)
            chosen = without_doubles(better_of(chosen, found), frame.captured_ns)
        self._frames += 1
        hands = self._settle(frame, self._believed(frame, chosen))
        published = time.time_ns()
        return HandsMessage(
            camera=camera,
            frame=frame.number,
            captured_ns=frame.captured_ns,
            published_ns=published,
            dropped=dropped,
            latency_ms=Stages(total=(published - frame.received_ns) * 1e-6, **self._ms),
            hands=hands,
        )

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._ms[stage] += (time.perf_counter() - start) * 1e3

    def _follow(self, frame: DepthFrame) -> list[tuple[Track, Estimate]]:
        """Look for the hands that are followed, where they should be; now and then as the other side too."""
        now = frame.captured_ns
        expected = [Expected(track.cube(now, self.edge), track.predicted_joints(now)) for track in self._tracks]
        with self._timed("segment"):
            places = self._sight.follow(frame, expected)
            masks = divided(frame, [place.mask for place in places], [one.joints for one in expected])
            places = [replace(place, mask=mask) for place, mask in zip(places, masks)]
        candidates = []
        voting = []
        for number, (track, place) in enumerate(zip(self._tracks, places)):
            turn = (track.age + number * self.config.side_every // 2) % self.config.side_every
            if near := self._is_near_another(track, now):
                track.met_ns = now
            # Hands that touch spoil each other's looks: asked for their sides they are when they have parted.
            parted = not near and now - track.met_ns < PARTED_NS
            voting.append(track.age < self.config.side_frames or turn == 0 or parted)
            doubt = turn == 0 or track.age in DOUBTED
            cubes = self._aim.followed(place, track.predicted_joints(now), track.side, doubt)
            if voting[-1] or near:
                cubes += [replace(cube, side=track.other_side) for cube in cubes]
            candidates += [Candidate(cube, place.mask, track, number) for cube in cubes]
        looked = self._looker(frame, candidates, self._timed)
        seen_sides = [places[pair.candidate.number].side_odds for pair in looked]
        chosen = []
        present = [track for track in self._tracks if not track.missed]
        for pair, seen_side, followed in zip(looked, seen_sides, owners(looked, seen_sides, now)):
            stayed = followed is pair.candidate.track
            compared = pair.right_minus_left if voting[pair.candidate.number] else None
            if stayed and compared is not None:
                followed.compared = compared + by_other_hand(followed, followed.predicted_joints(now), present, now)
            if stayed and (compared is not None or seen_side):
                # What was said when both sides were tried counts until they are tried again: else what is seen in
                # each frame would outvote it by numbers alone.
                followed.vote(followed.compared + seen_side)
            # Where the vote has just changed, only the side that it was taken for may have been tried.
            estimate = pair.of_side(followed.side) or pair.best
            # What is found where a hand was lost some time ago is as doubtful as a new one.
            least = self.config.keep if followed.missed <= DOUBTFUL else self.config.accept
            if estimate.presence >= least:
                chosen.append((followed, estimate))
        return chosen

    def _is_near_another(self, track: Track, now: int) -> bool:
        """Whether another hand is so near that the two may be mistaken for each other."""
        joints = track.predicted_joints(now)
        return any(other is not track and other.distance(joints, now) < NEAR for other in self._tracks)

    def _is_awaited(self, track: Track, now: int) -> bool:
        """Whether a hand that is not seen may still come back as itself; one beside another hand may be behind it."""
        patience = self.config.patience * (HIDDEN_PATIENCE if self._is_near_another(track, now) else 1)
        return track.unseen_seconds(now) <= patience

    def _is_sure(self, frame: DepthFrame, track: Track, estimate: Estimate) -> bool:
        """Whether a followed hand needs no second look: the network believes in it, and it is where it should be.

        One that made a leap may have been cut off where its old place ended.
        """
        return estimate.presence >= self.config.accept and track.distance(estimate.joints, frame.captured_ns) < FAST

    def _search(
        self,
        frame: DepthFrame,
        missing: int,
        followed: Sequence[tuple[Track, Estimate]],
        known: Sequence[Estimate],
        unsure: Sequence[Track],
    ) -> list[tuple[Track, Estimate]]:
        """Look for `missing` hands in the whole image, apart from the known ones.

        A hand that is found near an unsure track continues it; others are new. followed: what was, surely or not.
        """
        # One more than is missing, where there is room: the network may refuse the first.
        most = min(missing + 1, self.config.hands)
        there = [Known(one.candidate.cube, one.joints, one.candidate.mask) for one in known]
        with self._timed("segment"):
            places = self._sight.search(frame, most + self._refusals.resting(self._frames), there)
        places = [place for place in places if not self._rests(place, unsure, frame.captured_ns)][:most]
        # The network has the last word on where a hand is, and how it is turned: look again, as it said.
        first = self._look(frame, places, [self._aim.new(place) for place in places])
        first = [pair for pair in first if pair.best.presence >= self.config.keep]
        joints = [pair.best.joints for pair in first]
        again = [
            replace(places[pair.candidate.number], center=cube_center(found)) for pair, found in zip(first, joints)
        ]
        cubes = [self._aim.again(place, found) for place, found in zip(again, joints)]
        unclear = [number for number, pair in enumerate(first) if self._real_odds(frame, pair.best) < UNCLEAR]
        looked = self._look(frame, again, cubes, unclear)
        looked = [pair for pair in looked if pair.best.presence >= self.config.accept]
        seen_sides = [again[pair.candidate.number].side_odds for pair in looked]
        chosen: list[tuple[Track, Estimate]] = []
        taken: set[int] = set()
        held = {track.id: estimate.joints for track, estimate in followed}
        weighed = [(estimate, self._real_odds(frame, estimate)) for _, estimate in followed] if looked else []
        # What is only waited for says nothing of others: it may be the very hand that is new here.
        present = [track for track in self._tracks if track.id in held]
        continues = continued(looked, seen_sides, unsure, frame.captured_ns, held)
        for pair, seen_side, lost in zip(looked, seen_sides, continues):
            side_vote = (pair.right_minus_left or 0.0) + seen_side
            if lost is None:
                side_vote += by_other_hand(None, pair.best.joints, present, frame.captured_ns)
            track = lost or Track(self._next_id, side_vote, self.config.filter, self.config.profile)
            estimate = pair.of_side(track.side) or pair.best
            odds = self._real_odds(frame, estimate)
            if lost is None:
                if beside_others(estimate, odds, weighed) < least_odds(alone=not weighed):
                    continue
                self._next_id += 1
                track.compared = pair.right_minus_left or 0.0
            chosen.append((track, estimate))
            weighed.append((estimate, odds))
            taken.add(first[pair.candidate.number].candidate.number)
        for number, place in enumerate(places):
            if number not in taken:
                self._refusals.note(place.center, self._frames)
        return chosen

    def _rests(self, place: Place, unsure: Sequence[Track], now: int) -> bool:
        """Whether a place was looked at in vain of late; where a hand was just lost, that does not matter."""
        if any(float(np.linalg.norm(track.cube(now, self.edge).center - place.center)) < JUMP for track in unsure):
            return False
        return self._refusals.rests(place.center, self._frames)

    def _look(
        self, frame: DepthFrame, places: Sequence[Place], cubes: Sequence[Sequence[Cube]], unclear: Sequence[int] = ()
    ) -> list[Pair]:
        """Look for new hands in places, in some cubes each. unclear: those of which everything in the cube is, too."""
        candidates = [
            Candidate(cube, mask, None, number)
            for number, (place, several) in enumerate(zip(places, cubes))
            for mask in ((place.mask, np.ones_like(place.mask)) if number in unclear else (place.mask,))
            for cube in several
        ]
        return self._looker(frame, candidates, self._timed)

    def _real_odds(self, frame: DepthFrame, estimate: Estimate) -> float:
        """Log odds that an estimate is a hand."""
        return real_odds(estimate, self._sight.likeness(frame, estimate.joints))

    def _believed(self, frame: DepthFrame, chosen: Sequence[tuple[Track, Estimate]]) -> list[tuple[Track, Estimate]]:
        """Without those that are too unsure, which are forgotten."""
        odds = [(estimate, self._real_odds(frame, estimate)) for _, estimate in chosen]
        for (track, estimate), (_, own) in zip(chosen, odds):
            track.believe(beside_others(estimate, own, odds))
        kept = without_doubtful(chosen)
        refused = {track.id for track, _ in chosen} - {track.id for track, _ in kept}
        self._tracks = [track for track in self._tracks if track.id not in refused]
        return kept

    def _settle(self, frame: DepthFrame, chosen: Sequence[tuple[Track, Estimate]]) -> tuple[Hand, ...]:
        """Take this frame's estimates into the tracks, and say what is published of them."""
        # The surest, in the order of their ids.
        chosen = sorted(chosen, key=lambda pair: -pair[0].sureness)[: self.config.hands]
        chosen.sort(key=lambda pair: pair[0].id)
        seen_now = {track.id for track, _ in chosen}
        waiting = [track for track in self._tracks if track.id not in seen_now]
        for track in waiting:
            track.missed += 1
        waiting = [track for track in waiting if self._is_awaited(track, frame.captured_ns)]
        self._tracks = ([track for track, _ in chosen] + waiting)[: self.config.hands]
        self.cubes = tuple(estimate.candidate.cube for _, estimate in chosen)
        return tuple(
            Hand(
                id=track.id,
                side=track.side,
                side_confidence=track.side_confidence,
                confidence=estimate.hand_confidence,
                joints=track.update(estimate.joints, estimate.confidence, frame.captured_ns),
                joint_confidence=estimate.confidence,
                joint_tracked=seen(frame, estimate.joints, estimate.confidence),
            )
            for track, estimate in chosen
        )
