"""What recording costs: the disk, the recorder's thread, and the loop.

    python benchmarks/recording.py
    python benchmarks/recording.py --camera PATH --frames 60

First the writers alone, as fast as they can, on frames of the camera. Then frames at a fixed pace through the recorder,
as the loop hands them over: what the hand-over takes, and how many frames are lost. Last, tracking at 30 frames a
second without and with a recording, in turns; the reference is the one without.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from machine import machine

from tracker import Tracker, open_camera
from tracker.camera import DepthFrame, open_recorder
from tracker.camera.opening import create_recording
from tracker.camera.recording_header import RecordingHeader
from tracker.errors import TrackerError
from tracker.stream.message import HandsMessage, to_json_line

KINDS = {"folder": "run", ".h5": "run.h5"}
Tracked = list[tuple[DepthFrame, HandsMessage]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camera", default="simulated")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=4.0, help="of every measurement at a fixed pace")
    parser.add_argument("--folder", help="on the disk to be measured (default: that of temporary files)")
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        print(machine())
        with Tracker() as tracker, open_camera(options.camera, realtime=False) as camera:
            frames = list(islice(camera, options.frames))
            tracked = [(frame, tracker.track(frame, camera.name)) for frame in frames]
            k = frames[0].intrinsics
            print(f"{len(frames)} frames of {camera.name}, {k.width}x{k.height}, {frames[0].depth.nbytes / 1e3:.0f} kB")
            writers_alone(tracked, place)
            at_a_pace(tracked, place, options.seconds)
            tracking(tracker, frames, place, options.seconds)
    except TrackerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(place)
    return 0


def endless(frames: list[DepthFrame]) -> list[DepthFrame]:
    """The frames again and again, numbered and timed anew, as a camera of 30 frames a second gives them."""
    start = time.time_ns()
    return [
        replace(frame, number=number, captured_ns=start + number * 33_333_333)
        for number, frame in enumerate(islice(cycle(frames), 2000))
    ]


def writers_alone(tracked: Tracked, place: Path) -> None:
    print(f"\n{'writer alone':14s} {'ms a frame p50':>15s} {'p99':>7s} {'kB a frame':>11s}")
    for kind, name in KINDS.items():
        path = place / f"alone-{name}"
        first = tracked[0][0]
        file = create_recording(path, RecordingHeader("benchmark", first.intrinsics, first.depth_scale))
        times = []
        for frame, message in tracked:
            start = time.perf_counter()
            file.append(frame, to_json_line(message))
            times.append((time.perf_counter() - start) * 1e3)
        file.close()
        size = sum(part.stat().st_size for part in ([path] if path.is_file() else path.rglob("*.*")) if part.is_file())
        p50, p99 = np.percentile(times, [50, 99])
        print(f"{kind:14s} {p50:15.2f} {p99:7.2f} {size / len(tracked) / 1e3:11.1f}")


def at_a_pace(tracked: Tracked, place: Path, seconds: float) -> None:
    print(f"\n{'at a pace':14s} {'frames/s':>9s} {'hand-over us p50':>17s} {'p99':>7s} {'written':>8s} {'lost':>5s}")
    messages = [message for _, message in tracked]
    for kind, name in KINDS.items():
        for rate in (30, 60, 90):
            times = []
            with open_recorder(place / f"pace{rate}-{name}", "benchmark") as recorder:
                begin = time.monotonic()
                frames = endless([frame for frame, _ in tracked])[: int(rate * seconds)]
                for number, (frame, message) in enumerate(zip(frames, cycle(messages))):
                    time.sleep(max(0.0, begin + number / rate - time.monotonic()))
                    start = time.perf_counter()
                    recorder.write(frame, message)
                    times.append((time.perf_counter() - start) * 1e6)
            p50, p99 = np.percentile(times, [50, 99])
            print(f"{kind:14s} {rate:9d} {p50:17.1f} {p99:7.1f} {recorder.written:8d} {recorder.dropped:5d}")


def tracking(tracker: Tracker, frames: list[DepthFrame], place: Path, seconds: float) -> None:
    print(f"\n{'tracking':14s} {'ms a frame p50':>15s} {'p95':>7s} {'p99':>7s} {'late':>5s} {'lost':>5s}")
    latency: dict[str, list[float]] = {"no recording": [], **{kind: [] for kind in KINDS}}
    late = dict.fromkeys(latency, 0)
    lost = dict.fromkeys(latency, 0)
    for turn in range(3):
        for kind in latency:
            tracker.reset()
            recorder = open_recorder(place / f"track{turn}-{KINDS[kind]}", "benchmark") if kind in KINDS else None
            begin = time.monotonic()
            for number, frame in enumerate(endless(frames)[: int(30 * seconds / 3)]):
                wait = begin + number / 30 - time.monotonic()
                late[kind] += wait < 0
                time.sleep(max(0.0, wait))
                start = time.perf_counter()
                message = tracker.track(frame)
                if recorder is not None:
                    recorder.write(frame, message)
                latency[kind].append((time.perf_counter() - start) * 1e3)
            if recorder is not None:
                recorder.close()
                lost[kind] += recorder.dropped
    for kind, times in latency.items():
        p50, p95, p99 = np.percentile(times, [50, 95, 99])
        print(f"{kind:14s} {p50:15.2f} {p95:7.2f} {p99:7.2f} {late[kind]:5d} {lost[kind]:5d}")


if __name__ == "__main__":
    sys.exit(main())
