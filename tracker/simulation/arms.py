"""An arm of two bones from a shoulder to a hand: where its elbow is, and how far the hand on it can turn."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import Side
from tracker.simulation.rotations import Matrix, turn

Array = NDArray[np.floating]

UPPER_ARM: Final = 0.30
"""Shoulder to elbow of an adult of mean size, metres."""
STRETCHED: Final = 0.985
"""Share of its length that an arm reaches at most."""
SUPINATION: Final = np.radians((-80.0, 90.0))
"""How far the forearm turns from the thumb on the side of the upper arm: palm away from it, palm towards it."""
_MIRROR: Final = np.array([-1.0, 1.0, 1.0])


def reach(
    shoulder: Array, wrist: Array, upper: float, lower: float, pole: Array
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(wrist, elbow) of an arm; a wrist that is too far or too near is moved on the line to the shoulder.

    shoulder, wrist: (3,) metres. upper, lower: lengths of the bones. pole: (3,), where the elbow points.
    """
    line = np.asarray(wrist, np.float64) - shoulder
    distance = float(np.linalg.norm(line))
    line = line / distance
    distance = float(np.clip(distance, abs(upper - lower) + 0.12, STRETCHED * (upper + lower)))
    along = (upper**2 - lower**2 + distance**2) / (2 * distance)
    aside = pole - pole @ line * line
    aside /= max(float(np.linalg.norm(aside)), 1e-6)
    elbow = shoulder + along * line + np.sqrt(max(upper**2 - along**2, 0.0)) * aside
    return shoulder + distance * line, elbow


def palm_rotation(side: Side, shoulder: Array, elbow: Array, wrist: Array, supination: float, pose: Array) -> Matrix:
    """How the palm is turned on a forearm: hand model's frame to the frame of the points, (3, 3).

    supination: radians, 0 where the thumb lies on the side to which the elbow bends, see SUPINATION. pose: (23,), whose
    first two angles bend the wrist.
    """
    # A left arm is a right one in the mirror.
    mirror = _MIRROR if side == "left" else np.ones(3)
    up, y = (shoulder - elbow) * mirror, (elbow - wrist) * mirror
    y = y / np.linalg.norm(y)
    inner = up - up @ y * y
    length = float(np.linalg.norm(inner))
    if length < 1e-3:  # a straight arm: as if bent a little, elbow down
        inner = np.array([0.0, -1.0, 0.0]) + y[1] * y
        length = float(np.linalg.norm(inner)) or 1.0
    inner = inner / length
    thumb = np.cos(supination) * inner + np.sin(supination) * np.cross(inner, y)
    forearm = np.stack([thumb, y, np.cross(thumb, y)], axis=1)
    bend = turn(2, float(pose[1])) @ turn(0, -float(pose[0]))
    return (forearm @ bend.T) * mirror[:, None] * mirror
