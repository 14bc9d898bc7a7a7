"""From a depth frame to a message: find, crop, voxelise, run, follow."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Final

from tracker.camera.frame import DepthFrame
from tracker.engine import open_engine
from tracker.errors import WeightsError
from tracker.hand.cube import Cube
from tracker.hand.skeleton import SKELETON
from tracker.network.hand_network import follow_curve
from tracker.network.weights import find_weights, load_weights
from tracker.stream.message import Hand, HandsMessage, Stages
from tracker.tracking.aiming import Aim
from tracker.tracking.association import by_other_hand, owners
from tracker.tracking.belief import beside_others, real_odds, without_doubtful
from tracker.tracking.config import TrackerConfig
from tracker.tracking.hypotheses import Candidate, Estimate, better_of, without_doubles
from tracker.tracking.looking import Looker
from tracker.tracking.one_euro import FilterConfig
from tracker.tracking.search import Search
from tracker.tracking.sight import Expected, open_sight
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


class Tracker:
    """Follows the hands in a stream of depth frames.

    model: `auto`, the name of shipped weights, or a weights file. engine, device, threads: see
    `tracker.engine.open_engine`. cubes: where the hands of the last message were looked for, in their order.
    curve: that of the published joint confidence, see `HandNetworkConfig`; what is decided, is by the network's own.
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
        self.curve = network.config.curve
        self.edge = network.config.edge * (self.config.profile.cube_scale if self.config.profile else 1.0)
        # In a cube of another size, 10 mm are another share of it.
        network.decoder.set_edge(self.edge)
        self._aim = Aim(self.edge, network.config.upright)
        self._sight = open_sight(self.config.segmentation, engine, threads)
        self.engine = open_engine(network, engine, device, threads=threads, max_batch=2 * self.config.hands)
        self._looker = Looker(self.engine)
        self._search = Search(self._sight, self._looker, self._aim, self._real_odds, self._timed)
        self.reset()

    def reset(self) -> None:
        """Forget every hand, as before another recording. Ids go on."""
        self._tracks: list[Track] = []
        self._frames = 0
        self._search.reset()
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
        due = unsure or not sure or self._frames % self.config.search_every == 0
        if len(sure) < self.config.hands and due:
            found = self._search(self.config, frame, self._frames, chosen, unsure)
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
        return tuple(self._published(frame, track, estimate) for track, estimate in chosen)

    def _published(self, frame: DepthFrame, track: Track, estimate: Estimate) -> Hand:
        confidence = follow_curve(self.curve, estimate.confidence)
        return Hand(
            id=track.id,
            side=track.side,
            side_confidence=track.side_confidence,
            confidence=math.sqrt(estimate.presence * float(confidence.mean())),  # that it is a hand, and known
            joints=track.update(estimate.joints, estimate.confidence, frame.captured_ns),
            joint_confidence=confidence,
            joint_tracked=seen(frame, estimate.joints, estimate.confidence),
        )
