"""What the live view costs the loop: frame for frame, without it, with nobody watching, and with a browser connected.

    python benchmarks/view.py
    python benchmarks/view.py --camera PATH --frames 300

The same frames, made beforehand, are tracked at 30 a second in turns: without a view (the reference), with one that
nobody watches, and with one that is watched. The watching client takes all that a browser is sent, in a process of its
own, but draws nothing, since a browser that draws on the tracker's processor takes its time whatever it shows.
Latency is from the moment that the camera hands a frame out until its message is published; the call that hands the
frame to the view is shown by itself.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np
from machine import machine

from tracker import Tracker, open_camera
from tracker.camera.frame import DepthFrame
from tracker.controls import Controls, RecordSwitch
from tracker.errors import TrackerError
from tracker.stream.publisher import Publisher
from tracker.view.live import LiveView

CASES = ("no view", "nobody watches", "watched")
PERIOD_S = 1 / 30
WARM_UP = 15
CLIENT = """
import sys, msgspec, viser
from websockets.sync.client import connect
camera = dict(type="ViewerCameraMessage", wxyz=(1, 0, 0, 0), position=(0, 0, 0), fov=1.0, near=0.01, far=100.0,
              image_height=480, image_width=640, look_at=(0, 0, 1), up_direction=(0, -1, 0))
with connect(sys.argv[1], subprotocols=[f"viser-v{viser.__version__}"], max_size=None) as page:
    page.send(msgspec.msgpack.encode(camera))
    for _ in page:
        pass
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camera", default="simulated")
    parser.add_argument("--frames", type=int, default=150, help="of every turn")
    parser.add_argument("--turns", type=int, default=3, help="of every case")
    parser.add_argument("--model", default="auto")
    parser.add_argument("--engine", default="auto")
    options = parser.parse_args()
    try:
        with open_camera(options.camera, realtime=False) as camera:
            frames = [frame for _, frame in zip(range(options.frames), camera)]
        if len(frames) <= WARM_UP:
            raise TrackerError(f"{options.camera} has {len(frames)} frames; more than {WARM_UP} are needed")
        print(machine())
        latency: dict[str, list[float]] = {case: [] for case in CASES}
        call: dict[str, list[float]] = {case: [] for case in CASES}
        with (
            Tracker(options.model, options.engine) as tracker,
            Publisher("tcp://127.0.0.1:*", "benchmark") as publisher,
        ):
            for _ in range(options.turns):
                for case in CASES:
                    with view_of(case, tracker) as view:
                        for total, update in turn(tracker, publisher, frames, view):
                            latency[case].append(total)
                            call[case].append(update)
    except TrackerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{tracker.model} on {tracker.engine.name}, {len(frames)} frames, {options.turns} turns of every case\n")
    print(f"{'':16}{'p50 ms':>8}{'p95 ms':>8}{'p99 ms':>8}{'to no view':>12}{'p50 of the call, ms':>22}")
    reference = np.median(latency[CASES[0]])
    for case in CASES:
        p50, p95, p99 = np.percentile(latency[case], [50, 95, 99])
        print(f"{case:16}{p50:8.2f}{p95:8.2f}{p99:8.2f}{p50 - reference:+9.2f} ms{np.median(call[case]):22.4f}")
    return 0


@contextmanager
def view_of(case: str, tracker: Tracker) -> Iterator[LiveView | None]:
    """The view of a case, with a client that is connected where it wants one."""
    if case == "no view":
        yield None
        return
    with ExitStack() as open_things:
        view = open_things.enter_context(
            LiveView(Controls(tracker.config.filter, RecordSwitch(lambda path: None)), port=0)  # type: ignore[arg-type]
        )
        if case == "watched":
            client = subprocess.Popen([sys.executable, "-c", CLIENT, view.url.replace("http", "ws")])
            open_things.callback(client.wait)
            open_things.callback(client.kill)
            end = time.monotonic() + 30
            while not view.watched:
                if time.monotonic() > end:
                    raise TrackerError("the client does not connect")
                time.sleep(0.05)
        yield view


def turn(
    tracker: Tracker, publisher: Publisher, frames: list[DepthFrame], view: LiveView | None
) -> Iterator[tuple[float, float]]:
    """Milliseconds from a frame to its message, and of the view's call, for every frame after the first few."""
    tracker.reset()
    due = time.perf_counter()
    for number, recorded in enumerate(frames):
        due += PERIOD_S
        time.sleep(max(0.0, due - time.perf_counter()))
        frame = replace(recorded, received_ns=time.time_ns())
        start = time.perf_counter()
        message = tracker.track(frame, "benchmark")
        publisher.publish(message)
        published = time.perf_counter()
        if view is not None:
            view.update(frame, message, tracker.cubes)
        end = time.perf_counter()
        due = max(due, end - PERIOD_S)
        if number >= WARM_UP:
            yield (published - start) * 1e3, (end - published) * 1e3


if __name__ == "__main__":
    sys.exit(main())
