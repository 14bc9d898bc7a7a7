"""Messages for the tests of the stream."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from tracker.camera.frame import Side
from tracker.stream.message import Hand, HandsMessage, Percentiles, Stages, StatusMessage


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
