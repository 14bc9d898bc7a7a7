"""Messages and running ends for the tests of the stream."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from tracker.camera.frame import Side
from tracker.stream.message import Hand, HandsMessage, Percentiles, Stages, StatusMessage
from tracker.stream.publisher import Publisher
from tracker.stream.subscriber import Subscriber

ROOT = Path(__file__).resolve().parents[1]
ANY_PORT = "tcp://127.0.0.1:*"
LISTEN = [sys.executable, "-m", "tracker", "listen"]


def make_hand(number: int = 1, side: Side = "right") -> Hand:
    rng = np.random.default_rng(number)
    return Hand(
        id=number,
        side=side,
        side_confidence=0.75,
        confidence=0.5,
        joints=rng.uniform(-0.5, 0.5, (21, 3)).astype(np.float32),
        joint_confidence=rng.uniform(0, 1, 21).astype(np.float32),
        joint_tracked=rng.uniform(0, 1, 21) < 0.8,
    )


def make_message(frame: int = 7, hands: int = 2, camera: str = "simulated") -> HandsMessage:
    now = time.time_ns()
    return HandsMessage(
        camera=camera,
        frame=frame,
        captured_ns=now - 20_000_000,
        published_ns=now,
        dropped=3,
        latency_ms=Stages(segment=1.5, voxelise=0.25, network=8.0, total=10.5),
        hands=tuple(make_hand(1 + i, "right" if i % 2 == 0 else "left") for i in range(hands)),
    )


def with_unknown_joint(message: HandsMessage, joint: int) -> HandsMessage:
    hand = message.hands[0]
    joints = hand.joints.copy()
    joints[joint] = np.nan
    return replace(message, hands=(replace(hand, joints=joints), *message.hands[1:]))


def make_status(camera: str = "simulated") -> StatusMessage:
    return StatusMessage(
        camera=camera,
        model="v2v",
        engine="openvino",
        device="cpu",
        fps=29.5,
        dropped=3,
        uptime_s=12.5,
        latency_ms=Percentiles(10.5, 12.25, 15.0),
    )


def connect(publisher: Publisher, camera: str | None = None) -> Subscriber:
    """A subscriber that certainly receives what is published from now on."""
    return connect_with(publisher, publisher.endpoint, camera)


def connect_with(
    publisher: Publisher, endpoint: str, camera: str | None = None, *, keys: Path | None = None
) -> Subscriber:
    """The same, at an endpoint that may be another than the publisher's own, such as a proxy's."""
    subscriber = Subscriber(endpoint, camera, keys=keys)
    for _ in range(500):
        publisher.publish(make_message(frame=0))
        if subscriber.receive(0.02) is not None:
            break
    while subscriber.receive(0.05) is not None:
        pass
    return subscriber


@contextmanager
def proxying(*arguments: str) -> Iterator[str]:
    """The command `proxy` with these arguments, running; gives the endpoint where it publishes."""
    with running_proxy(*arguments) as (endpoint, _):
        yield endpoint


@contextmanager
def running_proxy(*arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The same, with the process."""
    command = [sys.executable, "-m", "tracker", "proxy", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stderr.readline()
        assert line.startswith("passing on"), line
        yield line.split()[-1], process
    finally:
        process.kill()
        process.communicate()


def resident_bytes(process: int) -> int:
    """Memory of a process (Linux)."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def publishing(publisher: Publisher, pace: float = 0.01) -> Iterator[None]:
    """Publish frames 0, 1, 2, ... and a status now and then in the background."""
    stop = threading.Event()

    def work() -> None:
        frame = 0
        while not stop.wait(pace):
            publisher.publish(make_message(frame=frame))
            if frame % 10 == 0:
                publisher.status(make_status())
            frame += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
