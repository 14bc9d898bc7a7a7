"""From a depth frame to a message: find, crop, voxelise, run, follow."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from tracker.camera.frame import DepthFrame
from tracker.engine import open_engine
from tracker.errors import WeightsError
from tracker.hand.cube import Cube, crop, cube_center
from tracker.hand.skeleton import SKELETON
from tracker.hand.voxels import voxelise
from tracker.network.weights import find_weights, load_weights
from tracker.stream.message import Hand, HandsMessage, Stages
from tracker.tracking.finder import find_hands
from tracker.tracking.one_euro import FilterConfig
from tracker.tracking.regions import isolate
from tracker.tracking.track import Track, seen

SAME_HAND: Final = 0.05
"""Two estimates whose joints are this close on average (metres) are one hand."""
FEWEST_POINTS: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerConfig:
    """How hands are followed.

    hands: how many at most. accept, keep: presence from which a new hand is taken and a followed one kept.
    patience: frames that a hand may miss before it is lost. side_frames: in how many first frames both sides are tried;
    side_every: and how often later. search_every: frames between two searches while a hand is missing.
    filter: the One Euro filter of the published joints, None for the network's own.
    """

    hands: int = 2
    accept: float = 0.6
    keep: float = 0.25
    patience: int = 5
    side_frames: int = 6
    side_every: int = 12
    search_every: int = 2
    filter: FilterConfig | None = field(default_factory=FilterConfig)

    def __post_init__(self) -> None:
        if not 1 <= self.hands <= 8:
            raise ValueError(f"hands must be from 1 to 8, is {self.hands}")
        if not 0 < self.keep <= self.accept < 1:
            raise ValueError(f"want 0 < keep <= accept < 1, got {self.keep} and {self.accept}")


@dataclass(frozen=True, slots=True, eq=False)
class _Candidate:
    """A cube to look into: a followed hand (as one side or the other), or a new one."""

    cube: Cube
    mask: NDArray[np.bool_]
    track: Track | None
    pair: int
    """Candidates of one hand, seen as right and as left, share this number."""


@dataclass(frozen=True, slots=True, eq=False)
class _Estimate:
    """What the network says of a candidate: joints (21, 3) metres, confidence (21,), presence."""

    candidate: _Candidate
    joints: NDArray[np.float32]
    confidence: NDArray[np.float32]
    presence: float


class Tracker:
    """Follows the hands in a stream of depth frames.

    model: `auto`, the name of shipped weights, or a weights file. engine, device: see `tracker.engine.open_engine`.
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
        self.edge = network.config.edge
        self.engine = open_engine(network, engine, device, threads=threads, max_batch=min(8, 2 * self.config.hands))
        shape = (self.engine.max_batch, *(self.engine.size,) * 3)
        self._grids = torch.zeros(shape, dtype=torch.uint8, device=self.engine.voxel_device)
        self._tracks: list[Track] = []
        self._next_id = 1
        self._frames = 0
        self.cubes: tuple[Cube, ...] = ()
        """Where the network looked for the hands of the last message, in their order."""

    def close(self) -> None:
        """Give the engine's resources back."""
        self.engine.close()

    def reset(self) -> None:
        """Forget every hand, as before another recording. Ids go on."""
        self._tracks = []
        self._frames = 0
        self.cubes = ()

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
        clock = time.perf_counter()
        candidates = self._followed(frame)
        if len(self._tracks) < self.config.hands and self._frames % self.config.search_every == 0:
            candidates += self._found(frame, first_pair=len(candidates))
        self._frames += 1
        self._lap("segment", clock)
        estimates = self._estimate(frame, candidates)
        hands = self._update(frame, estimates)
        published = time.time_ns()
        total = (published - frame.received_ns) * 1e-6
        return HandsMessage(
            camera=camera,
            frame=frame.number,
            captured_ns=frame.captured_ns,
            published_ns=published,
            dropped=dropped,
            latency_ms=Stages(total=total, **self._ms),
            hands=hands,
        )

    def _lap(self, stage: str, since: float) -> None:
        self._ms[stage] += (time.perf_counter() - since) * 1e3

    def _followed(self, frame: DepthFrame) -> list[_Candidate]:
        """The cubes of the hands that are being followed; now and then as the other side too."""
        candidates = []
        for pair, track in enumerate(self._tracks):
            cube = track.cube(frame.captured_ns, self.edge)
            mask = isolate(frame, cube, track.predicted_joints(frame.captured_ns))
            candidates.append(_Candidate(cube, mask, track, pair))
            early = track.age < self.config.side_frames
            if early or (track.age + pair * self.config.side_every // 2) % self.config.side_every == 0:
                candidates.append(_Candidate(replace(cube, side=track.other_side), mask, track, pair))
        return candidates

    def _found(self, frame: DepthFrame, first_pair: int) -> list[_Candidate]:
        """The cubes of hands that the search finds, each as right and as left."""
        taken = [track.cube(frame.captured_ns, self.edge) for track in self._tracks]
        missing = self.config.hands - len(self._tracks)
        candidates = []
        for pair, region in enumerate(find_hands(frame, missing, taken), start=first_pair):
            x, y, z = (float(c) for c in region.center)
            for side in ("right", "left"):
                candidates.append(_Candidate(Cube((x, y, z), self.edge, side), region.mask, None, pair))  # type: ignore[arg-type]
        # The network has the last word on where a new hand is: look again around what it said.
        first = self._best_of_pairs(self._estimate(frame, candidates))
        again = []
        for estimate in first:
            if estimate.presence < self.config.keep:
                continue
            mask = estimate.candidate.mask
            x, y, z = (float(c) for c in cube_center(estimate.joints))
            for side in ("right", "left"):
                moved = Cube((x, y, z), self.edge, side)  # type: ignore[arg-type]
                again.append(_Candidate(moved, mask, None, estimate.candidate.pair))
        return again

    def _estimate(self, frame: DepthFrame, candidates: Sequence[_Candidate]) -> list[_Estimate]:
        """Run the network on the candidates that hold any points."""
        clock = time.perf_counter()
        kept, clouds = [], []
        for candidate in candidates:
            points = crop(frame, candidate.cube, candidate.mask)
            if len(points) >= FEWEST_POINTS:
                kept.append(candidate)
                clouds.append(points)
        if not kept:
            return []
        most = self.engine.max_batch
        kept, clouds = kept[:most], clouds[:most]
        counts = torch.tensor([len(points) for points in clouds])
        sample = torch.repeat_interleave(torch.arange(len(clouds)), counts)
        cloud = torch.from_numpy(np.concatenate(clouds))
        grids = self._grids[: len(kept)]
        voxelise(cloud.to(grids.device), sample.to(grids.device), len(kept), self.engine.size, out=grids)
        self._lap("voxelise", clock)
        clock = time.perf_counter()
        joints, presence = self.engine.run(grids)
        self._lap("network", clock)
        return [
            _Estimate(candidate, candidate.cube.to_camera(values[:, :3]), values[:, 3], float(p))
            for candidate, values, p in zip(kept, joints, presence)
        ]

    @staticmethod
    def _best_of_pairs(estimates: Sequence[_Estimate]) -> list[_Estimate]:
        """Of each hand, seen as right and as left, the likelier."""
        best: dict[int, _Estimate] = {}
        for estimate in estimates:
            pair = estimate.candidate.pair
            if pair not in best or _score(estimate) > _score(best[pair]):
                best[pair] = estimate
        return list(best.values())

    def _update(self, frame: DepthFrame, estimates: Sequence[_Estimate]) -> tuple[Hand, ...]:
        """Take the estimates into the tracks: votes on sides, joints, losses, new hands, doubles."""
        by_track: dict[int, list[_Estimate]] = {}
        new: list[_Estimate] = []
        for estimate in estimates:
            track = estimate.candidate.track
            if track is None:
                new.append(estimate)
            else:
                by_track.setdefault(track.id, []).append(estimate)

        chosen: list[tuple[Track, _Estimate]] = []
        for track in self._tracks:
            own = by_track.get(track.id, [])
            if len(own) == 2:
                track.vote(_right_minus_left(own))
            best = next((e for e in own if e.candidate.cube.side == track.side), None)
            if best is None or best.presence < self.config.keep:
                track.missed += 1
            else:
                chosen.append((track, best))
        for estimate in self._best_of_pairs(new):
            if estimate.presence >= self.config.accept:
                pair = [e for e in new if e.candidate.pair == estimate.candidate.pair]
                chosen.append((Track(self._next_id, _right_minus_left(pair), self.config.filter), estimate))
                self._next_id += 1
        chosen = _without_doubles(chosen)

        kept = {track.id for track, _ in chosen}
        waiting = [t for t in self._tracks if t.id not in kept and 0 < t.missed <= self.config.patience]
        self._tracks = [track for track, _ in chosen] + waiting
        self._tracks = self._tracks[: self.config.hands]
        chosen = [pair for pair in chosen if pair[0] in self._tracks]
        self.cubes = tuple(estimate.candidate.cube for _, estimate in chosen)
        return tuple(self._hand(frame, track, estimate) for track, estimate in chosen)

    @staticmethod
    def _hand(frame: DepthFrame, track: Track, estimate: _Estimate) -> Hand:
        """What is published of a track."""
        return Hand(
            id=track.id,
            side=track.side,
            side_confidence=track.side_confidence,
            confidence=estimate.presence,
            joints=track.update(estimate.joints, frame.captured_ns),
            joint_confidence=estimate.confidence,
            joint_tracked=seen(frame, estimate.joints, estimate.confidence),
        )


def _score(estimate: _Estimate) -> float:
    """How well a hypothesis explains its cube: presence first, then how sure the joints are."""
    return estimate.presence + 0.5 * float(estimate.confidence.mean())


def _right_minus_left(pair: Sequence[_Estimate]) -> float:
    """Log odds for a right hand from its two hypotheses; 0 where only one was tried."""

    def odds(side: str) -> float:
        for estimate in pair:
            if estimate.candidate.cube.side == side:
                p = min(max(estimate.presence, 0.01), 0.99)
                return float(np.log(p / (1 - p))) + 4 * float(estimate.confidence.mean())
        return 0.0

    return odds("right") - odds("left")


def _without_doubles(chosen: Sequence[tuple[Track, _Estimate]]) -> list[tuple[Track, _Estimate]]:
    """Of two tracks on one hand, the older stays."""
    kept: list[tuple[Track, _Estimate]] = []
    for track, estimate in sorted(chosen, key=lambda pair: pair[0].id):
        apart = (np.linalg.norm(estimate.joints - other.joints, axis=1).mean() for _, other in kept)
        if all(distance > SAME_HAND for distance in apart):
            kept.append((track, estimate))
    return kept
