"""Two simulated hands that cross, touch, or are gone for a moment, before a wall: frames with the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from tracker.camera.frame import DepthFrame, HandTruth, Intrinsics
from tracker.simulation.gestures import GESTURES
from tracker.simulation.hand import HandModel, HandShape
from tracker.simulation.noise import cheap_noise
from tracker.simulation.render import Mesh, render
from tracker.simulation.rotations import turn

INTRINSICS = Intrinsics(480, 360, 290.0, 290.0, 239.5, 179.5)
PERIOD_NS = 33_333_333
Path = Callable[[float], tuple[tuple[float, float, float], tuple[float, float, float]] | None]
"""From seconds to the wrists of the right and of the left hand."""


def frames(
    path: Path, count: int, *, gestures: tuple[str, str] = ("open", "relaxed"), without: dict[str, range] | None = None
) -> Iterator[DepthFrame]:
    """Frames of two hands held up, palms to the camera. without: in which frames a side is not there."""
    model = HandModel.load()
    hands = {side: model.rig(HandShape(hand_length=0.182), side) for side in ("right", "left")}
    wall = Mesh(
        np.array([[-3.0, -3, 1.4], [3, -3, 1.5], [3, 3, 1.5], [-3, 3, 1.4]]),
        np.array([[0, 1, 2], [0, 2, 3]], np.int32),
        closed=False,
    )
    background = render([wall], INTRINSICS)
    for number in range(count):
        time = number * PERIOD_NS * 1e-9
        meshes, truth = [], []
        for (side, hand), wrist, gesture in zip(hands.items(), path(time), gestures):
            if number in (without or {}).get(side, ()):
                continue
            lean = turn(2, 0.15 * np.sin(2 * time) * (1 if side == "right" else -1))
            vertices, joints = hand.pose(GESTURES[gesture], lean, np.array(wrist))
            meshes.append(Mesh(vertices, hand.faces))
            truth.append(HandTruth(joints, side))
        near = render(meshes, INTRINSICS)
        depth = np.where(near > 0, near, background)
        counts = cheap_noise(depth, INTRINSICS.fx, np.random.default_rng(number), jitter=0.05)
        yield DepthFrame(counts, 0.001, INTRINSICS, number, number * PERIOD_NS, 0, tuple(truth))


def crossing(time: float) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Each hand goes to the other's place and stays there; the left one passes 10 cm behind."""
    x = -0.13 + 0.26 * float(np.clip((time - 0.3) / 0.8, 0, 1))
    return (x, 0.08, 0.48), (-x, 0.09, 0.58)


def touching(time: float) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """The hands come together until they touch, stay so for 0.4 s, and part."""
    way = float(np.clip((time - 0.3) / 0.3, 0, 1) - np.clip((time - 1.0) / 0.3, 0, 1))
    x = 0.13 - 0.065 * way
    return (-x, 0.08, 0.50), (x, 0.08, 0.50)


def apart(time: float) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Both move a little, each in its place."""
    return (-0.12 + 0.02 * float(np.sin(3 * time)), 0.08, 0.5), (0.12, 0.08 + 0.02 * float(np.sin(2 * time)), 0.5)
