"""Jitter of a still hand and lag of a moving one: the network's own joints, on settled bones, and filtered.

    python benchmarks/filtering.py [--model M] [--hands N] [--frames N]

Each hand of the simulator is held still, half a metre before the camera, while the sensor's noise goes on; then it is
swung to and fro by 12 cm, 1 m/s in the middle. Jitter: standard deviation of a joint in space (root of the sum of the
three variances) and of one of its coordinates, RMS over joints and hands. Lag: the time for which filtered joints stay
behind unfiltered ones, by regression of the difference on the velocity where the hand is faster than 0.7 m/s. The first
second is left out. Last, the time that bones and filter take.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from machine import machine
from numpy.typing import NDArray
from tqdm import tqdm

from tracker import Tracker, TrackerConfig
from tracker.camera.frame import DepthFrame, Side
from tracker.errors import TrackerError
from tracker.simulation.noise import StereoNoise
from tracker.simulation.render import Mesh, render
from tracker.simulation.scene import Scene
from tracker.simulation.worker import DEPTH_SCALE, FRAMES_PER_SECOND, INTRINSICS, PERIOD_NS
from tracker.tracking.one_euro import FilterConfig
from tracker.tracking.track import Track

SETTLE = FRAMES_PER_SECOND
FEWEST = 2 * SETTLE
"""Frames in which a hand must be seen to say anything of it."""
SWING = 0.12
"""Metres to either side."""
FASTEST = 1.0
"""Metres a second, in the middle of the swing."""
FAST = 0.7
"""Metres a second from which the lag is measured."""
DISTANCE = 0.5


@dataclass(frozen=True)
class Seen:
    """What the network said of one hand: joints (frames, 21, 3) metres, confidence (frames, 21), nanoseconds."""

    joints: NDArray[np.float32]
    confidence: NDArray[np.float32]
    time_ns: list[int]
    side: Side


def frames(seed: int, count: int, path: Callable[[float], float]) -> Iterator[DepthFrame]:
    """A right hand in a pose that does not change, its middle at path(seconds) metres to the right of the axis."""
    scene = Scene(seed)
    meshes, truth = scene.at(0.4 * seed)
    middle = truth[0].joints.mean(axis=0) - (0, 0, DISTANCE)
    hand = [Mesh(mesh.vertices - middle, mesh.faces, mesh.closed) for mesh in meshes[:2]]
    noise = StereoNoise(INTRINSICS.height, INTRINSICS.width, seed, focal=INTRINSICS.fx)
    for number in range(count):
        shift = np.array([path(number / FRAMES_PER_SECOND), 0, 0])
        depth = render([Mesh(m.vertices + shift, m.faces, m.closed) for m in hand], INTRINSICS)
        counts = noise(depth, np.random.default_rng([seed, number]), DEPTH_SCALE)
        yield DepthFrame(counts, DEPTH_SCALE, INTRINSICS, number, number * PERIOD_NS, 0)


def look(tracker: Tracker, source: Iterator[DepthFrame]) -> Seen | None:
    """The network's own joints of the one hand there is; None if it was not held on to."""
    tracker.reset()
    joints, confidence, times, sides = [], [], [], []
    for frame in source:
        hands = tracker.track(frame).hands
        if hands:
            own = tracker.tracks[0].joints
            assert own is not None  # it was published just now
            joints.append(own)
            confidence.append(hands[0].joint_confidence)
            times.append(frame.captured_ns)
            sides.append((hands[0].id, hands[0].side))
    if len(times) < FEWEST or len(set(sides[SETTLE:])) > 1:
        return None
    return Seen(np.stack(joints), np.stack(confidence), times, sides[-1][1])


def watch(tracker: Tracker, seeds: Sequence[int], count: int) -> tuple[list[Seen], list[Seen]]:
    """The hands that were held on to for `count` frames: still, and moving. Raises TrackerError if there are none."""
    still: list[Seen] = []
    moving: list[Seen] = []
    for seed in tqdm(seeds, unit="hand"):
        for kept, path in ((still, still_path), (moving, swing)):
            seen = look(tracker, frames(seed, count, path))
            if seen is not None:
                kept.append(seen)
    if not still or not moving:
        raise TrackerError(
            f"no hand found: of {len(seeds)}, {len(still)} still and {len(moving)} moving ones were seen in {FEWEST} "
            f"of {count} frames; jitter and lag cannot be told, so try more hands or another model"
        )
    return still, moving


def published(seen: Seen, config: FilterConfig | None) -> NDArray[np.float32]:
    """Joints (frames, 21, 3) as a track makes them of what the network said."""
    track = Track(1, 5.0 if seen.side == "right" else -5.0, config)
    return np.stack([track.update(*frame) for frame in zip(seen.joints, seen.confidence, seen.time_ns)])


def cost(seen: Seen) -> float:
    """Seconds that bones and filter take for a frame of the hand, median."""
    track = Track(1, 5.0 if seen.side == "right" else -5.0, FilterConfig())
    spent = []
    for frame in zip(seen.joints, seen.confidence, seen.time_ns):
        start = time.perf_counter()
        track.update(*frame)
        spent.append(time.perf_counter() - start)
    return float(np.median(spent))


def still_path(seconds: float) -> float:
    return 0.0


def swing(seconds: float) -> float:
    return SWING * float(np.sin(FASTEST / SWING * seconds))


def variance(joints: NDArray[np.floating]) -> float:
    """Square metres, mean over the joints of (frames, 21, 3)."""
    return float(joints[SETTLE:].astype(np.float64).var(axis=0).sum(axis=1).mean())


def lag(raw: NDArray[np.floating], out: NDArray[np.floating], time_ns: list[int]) -> float:
    """Seconds for which joints (frames, 21, 3) stay behind others, where the hand is fast."""
    x = raw.astype(np.float64).mean(axis=1)[:, 0]
    seconds = np.array(time_ns) * 1e-9
    velocity = np.gradient(x, seconds)
    fast = (np.abs(velocity) > FAST) & (np.arange(len(x)) >= SETTLE)
    behind = x - out.astype(np.float64).mean(axis=1)[:, 0]
    return float((behind[fast] * velocity[fast]).sum() / (velocity[fast] ** 2).sum())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="auto")
    parser.add_argument("--hands", type=int, default=8, help="identities and poses (default: 8)")
    parser.add_argument("--frames", type=int, default=90, help="of each, still and moving (default: 90)")
    options = parser.parse_args()
    if options.hands < 1 or options.frames < FEWEST:
        parser.error(f"needs at least 1 of --hands and {FEWEST} --frames")
    try:
        with Tracker(options.model, config=TrackerConfig(hands=1, filter=None)) as tracker:
            still, moving = watch(tracker, range(options.hands), options.frames)
            name = f"{tracker.model} on {tracker.engine.name}"
    except TrackerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{machine()}\n{name}: {len(still)} still and {len(moving)} moving hands of {options.hands}\n")
    print(f"{'':24}{'jitter, mm':>12}{'a coordinate':>14}{'lag, ms':>10}")
    print(_row("network", [seen.joints for seen in still], [0.0]))
    for label, config in (("on settled bones", None), ("filtered, as published", FilterConfig())):
        late = [lag(seen.joints, published(seen, config), seen.time_ns) for seen in moving]
        print(_row(label, [published(seen, config) for seen in still], late))
    print(f"\nbones and filter take {1e3 * float(np.median([cost(seen) for seen in still])):.2f} ms a hand and frame")
    return 0


def _row(label: str, joints: list[NDArray[np.float32]], late: list[float]) -> str:
    jitter = float(np.sqrt(np.mean([variance(one) for one in joints])))
    return f"{label:24}{1e3 * jitter:12.2f}{1e3 * jitter / np.sqrt(3):14.2f}{1e3 * np.mean(late):10.1f}"


if __name__ == "__main__":
    sys.exit(main())
