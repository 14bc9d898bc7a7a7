"""Milliseconds of each stage of the tracker, and whether it keeps up with the simulated camera.

    python benchmarks/stages.py
    python benchmarks/stages.py --camera PATH --frames 40

First every frame is tracked, one after another, without a clock; then the live simulated camera is tracked at its
30 frames a second, and the dropped frames are counted. The reference is the length of a frame, 33.3 ms.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
from machine import machine

from tracker import Tracker, TrackerConfig, open_camera
from tracker.errors import TrackerError

FRAME_MS = 1000 / 30
WARM_UP = 15
"""Frames left out of the figures: both sides of a new hand are tried in its first frames."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camera", default="simulated")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10.0, help="of live tracking (0: none)")
    parser.add_argument("--model", default="auto")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--hands", type=int, default=2)
    options = parser.parse_args()
    try:
        with Tracker(options.model, options.engine, config=TrackerConfig(hands=options.hands)) as tracker:
            print(machine())
            print(f"{tracker.model} on {tracker.engine.name} ({tracker.engine.device}), camera {options.camera}")
            every_frame(tracker, options.camera, options.frames)
            if options.seconds:
                live(options)
    except TrackerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def every_frame(tracker: Tracker, source: str, count: int) -> None:
    """The stages, frame after frame."""
    rows: list[tuple[float, ...]] = []
    hands = 0
    with open_camera(source, realtime=False) as camera:
        for number in range(count):
            start = time.perf_counter()
            frame = camera.read()
            if frame is None:
                break
            read = time.perf_counter()
            message = tracker.track(frame)
            done = time.perf_counter()
            if number >= min(WARM_UP, count // 3):
                stages = message.latency_ms
                track = (done - read) * 1e3
                rest = track - stages.segment - stages.voxelise - stages.network
                rows.append(((read - start) * 1e3, stages.segment, stages.voxelise, stages.network, rest, track))
                hands += len(message.hands)
    if not rows:
        raise TrackerError(f"{source} has too few frames")
    table = np.array(rows)
    print(f"\n{len(rows)} frames, {hands / len(rows):.2f} hands a frame\n")
    print(f"{'stage':10} {'p50 ms':>8} {'p95 ms':>8} {'of a frame':>11}")
    for name, column in zip(("read", "segment", "voxelise", "network", "rest", "track"), table.T):
        p50, p95 = np.percentile(column, [50, 95])
        print(f"{name:10} {p50:8.2f} {p95:8.2f} {100 * p50 / FRAME_MS:10.0f} %")


def live(options: argparse.Namespace) -> None:
    """The simulated camera at its own pace."""
    total: list[float] = []
    with (
        Tracker(options.model, options.engine, config=TrackerConfig(hands=options.hands)) as tracker,
        open_camera("simulated") as camera,
    ):
        for _ in range(WARM_UP):
            frame = camera.read()
            assert frame is not None
            tracker.track(frame)
        dropped, start, hands = camera.dropped, time.perf_counter(), 0
        while time.perf_counter() - start < options.seconds:
            frame = camera.read()
            assert frame is not None
            message = tracker.track(frame)
            total.append(message.latency_ms.total)
            hands += len(message.hands)
        seconds = time.perf_counter() - start
        dropped = camera.dropped - dropped
    p50, p95, p99 = np.percentile(total, [50, 95, 99])
    print(
        f"\nlive: {len(total)} frames in {seconds:.1f} s ({len(total) / seconds:.1f} a second, the camera gives 30), "
        f"{dropped} dropped, {hands / len(total):.2f} hands a frame, latency {p50:.1f} / {p95:.1f} / {p99:.1f} ms "
        "(p50 / p95 / p99)"
    )


if __name__ == "__main__":
    sys.exit(main())
