"""The vocabulary of hand poses, and random poses for training."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tracker.simulation.collision import penetration
from tracker.simulation.hand import ABDUCTION, ANGLES, DIP, LOWER, MCP, PIP, UPPER, HandModel, RiggedHand, limited

Pose = NDArray[np.floating]
_Finger = tuple[float, float, float, float]

_STRAIGHT: Final = (0, 5, 3, 2)
_CLOSED: Final = (84, 0, 102, 62)
_REST_THUMB: Final = (5, -12, 3, 8, 8)


def _gesture(
    thumb: tuple[float, float, float, float, float],
    index: _Finger = _STRAIGHT,
    middle: _Finger = (0, 0, 3, 2),
    ring: _Finger = _STRAIGHT,
    little: _Finger = (0, 9, 3, 2),
    wrist: tuple[float, float] = (0, 0),
) -> Pose:
    """A pose from degrees in the order of ANGLES; a finger is (mcp flexion, mcp abduction, pip, dip)."""
    return limited(np.radians([*wrist, *thumb, *index, *middle, *ring, *little]))


# Thumbs that touch something: angles found by search, which put the pad outside, on the other finger's back.
_OVER_FIST: Final = (8, 16, 6, 31, 46)
GESTURES: Final[dict[str, Pose]] = {
    "open": _gesture((-8, -18, 0, 2, 2)),
    "spread": _gesture((-20, -12, 0, -4, -8), (-8, 16, 0, 0), (-6, 2, 0, 0), (-6, 12, 0, 0), (-8, 26, 0, 0)),
    "flat": _gesture((-2, -38, 4, 6, 4), (0, -3, 2, 1), (0, 0, 2, 1), (0, -2, 2, 1), (0, -2, 2, 1)),
    "relaxed": _gesture(_REST_THUMB, (22, 3, 28, 14), (28, 0, 34, 18), (32, 2, 38, 20), (34, 5, 36, 20), (-12, 4)),
    "half_curl": _gesture((14, -8, 6, 16, 22), (45, 2, 55, 30), (48, 0, 60, 34), (50, 1, 60, 34), (50, 3, 55, 32)),
    "cup": _gesture((14, 4, 8, 14, 14), (40, 0, 22, 12), (42, 0, 24, 14), (42, 0, 24, 14), (42, 2, 22, 12)),
    "grab": _gesture(
        (16, 10, 10, 16, 22), (52, 8, 40, 24), (54, 0, 42, 26), (54, 6, 42, 26), (52, 14, 40, 24), (-15, 0)
    ),
    "claw": _gesture((2, 2, 0, 12, 40), (-6, 12, 70, 48), (-4, 0, 72, 50), (-4, 9, 72, 50), (-4, 20, 66, 46)),
    "hook": _gesture((10, -30, 2, 10, 15), (4, 0, 95, 62), (4, 0, 98, 64), (4, 0, 98, 64), (4, 0, 92, 60)),
    "fist": _gesture(_OVER_FIST, (82, 0, 100, 62), _CLOSED, (86, 0, 102, 62), (84, 0, 100, 60)),
    "fist_side": _gesture((10, 12, -10, 21, 22), (82, 0, 100, 62), _CLOSED, (86, 0, 102, 62), (84, 0, 100, 60)),
    "thumb_up": _gesture((-20, -14, -4, -6, -12), (82, 0, 100, 62), _CLOSED, (86, 0, 102, 62), (84, 0, 100, 60)),
    "point": _gesture((37, 7, 28, 5, 57), (4, 3, 4, 3), _CLOSED, (86, 0, 102, 62), (84, 0, 100, 60)),
    "gun": _gesture((-20, -8, -4, -6, -10), (4, 3, 4, 3), _CLOSED, (86, 0, 102, 62), (84, 0, 100, 60)),
    "v": _gesture((46, -2, 3, -6, 2), (0, 12, 2, 2), (0, -8, 2, 2), (86, 0, 102, 62), (84, 0, 100, 60)),
    "two_together": _gesture((46, -2, 3, -6, 2), (2, -4, 3, 2), (2, 0, 3, 2), (86, 0, 102, 62), (84, 0, 100, 60)),
    "three": _gesture((47, 0, -8, 13, -9), (0, 8, 3, 2), (0, 0, 3, 2), (0, 8, 3, 2), (78, 0, 95, 60)),
    "thumb_three": _gesture((-16, -8, 0, -4, -8), (0, 8, 3, 2), (0, -2, 3, 2), (80, 0, 98, 60), (82, 0, 98, 60)),
    "four": _gesture((40, 2, 20, 25, 35), (0, 8, 3, 2), (0, 0, 3, 2), (0, 8, 3, 2), (0, 16, 3, 2)),
    "rock": _gesture((31, 12, 20, 9, 60), (0, 5, 3, 2), _CLOSED, (86, 0, 102, 62), (0, 10, 3, 2)),
    "shaka": _gesture((-20, -8, -4, -6, -12), (82, 0, 100, 62), _CLOSED, (84, 0, 100, 60), (0, 14, 3, 2)),
    "pinky": _gesture(_OVER_FIST, (82, 0, 100, 62), _CLOSED, (86, 0, 102, 62), (0, 10, 3, 2)),
    "ok": _gesture((15, 6, 12, 9, 69), (39, -1, 70, 34), (15, 0, 15, 8), (8, 5, 10, 6), (2, 8, 8, 5)),
    "pinch_middle": _gesture((26, 16, 14, 15, 80), (5, 8, 10, 5), (56, 2, 77, 12), (15, 5, 20, 10), (8, 8, 12, 8)),
    "pinch_ring": _gesture((22, -4, 18, 33, 22), (5, 8, 10, 5), (12, 0, 15, 8), (32, -8, 71, 54), (25, 8, 30, 15)),
    "pinch_open": _gesture((8, 8, 8, 6, 20), (36, 2, 38, 22), (40, 0, 42, 24), (44, 1, 46, 26), (46, 3, 44, 26)),
    "tap": _gesture((8, -14, 3, 8, 10), (55, 2, 12, 8), (10, 0, 12, 8), (10, 3, 12, 8), (10, 6, 12, 8)),
    "bent_flat": _gesture((10, -20, 4, 6, 4), (75, -2, 4, 2), (78, 0, 4, 2), (78, -1, 4, 2), (75, -1, 4, 2)),
}
"""Poses (23,) in radians by name."""

TOLERANCE: Final = 0.002
"""Metres that capsules may overlap beyond the soft tissue's share."""

_FINGER_OF: Final = np.array([-1 if n.startswith("wrist") else ("thumb", "index", "middle", "ring", "little").index(
    n.split("_")[0]) for n in ANGLES])  # fmt: skip
_VOCABULARY: Final = np.stack(list(GESTURES.values()))


@lru_cache(maxsize=1)
def _default_hand() -> RiggedHand:
    return HandModel.load().rig()


def random_pose(rng: np.random.Generator, hand: RiggedHand | None = None) -> Pose:
    """A random pose (23,) within the limits whose fingers do not pass through each other.

    A quarter are gestures, half are blends of two (half of these finger by finger), a quarter random with one curl
    common to the fingers; most get 6 degrees of jitter. hand: whose fingers to keep apart; the mean hand if None.
    """
    hand = hand or _default_hand()
    kind = rng.random()
    # The kind is drawn once, so that rejecting does not favour the open hands among the kinds.
    for attempt in range(40):
        pose = _draw(rng, kind)
        if rng.random() < 0.85:
            # Less jitter after each failure: a closed hand has little room, and must not be lost for it.
            pose = pose + rng.normal(0, np.radians(6) * 0.85**attempt, len(pose)) * (_FINGER_OF >= 0)
        pose[:2] = rng.normal(0, np.radians((22, 9)))
        pose = limited(pose)
        if penetration(hand, pose) < TOLERANCE:
            return pose
    return limited(np.concatenate([pose[:2], GESTURES["relaxed"][2:]]))


def _draw(rng: np.random.Generator, kind: float) -> Pose:
    first, second = _VOCABULARY[rng.integers(len(_VOCABULARY), size=2)]
    if kind < 0.25:
        return first
    if kind < 0.5:
        return first + rng.random() * (second - first)
    if kind < 0.75:
        # Finger by finger, but each finger mostly like one of the two.
        share = rng.beta(0.4, 0.4, 6)[_FINGER_OF]
        return first + share * (second - first)
    pose = LOWER + (UPPER - LOWER) * rng.beta(2, 2, len(ANGLES))
    curl = rng.random()
    fingers = np.clip(curl + rng.normal(0, 0.25, 4), 0, 1)
    pose[MCP] = np.radians(-12 + 100 * np.clip(fingers + rng.normal(0, 0.15, 4), 0, 1))
    pose[PIP] = np.radians(106 * np.clip(fingers + rng.normal(0, 0.15, 4), 0, 1))
    pose[DIP] = pose[PIP] * rng.uniform(0.4, 0.85, 4)
    pose[ABDUCTION] = rng.normal(np.radians((4, 1, 3, 7)), np.radians((5, 3, 4, 6)))
    return pose
