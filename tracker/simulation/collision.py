"""How far a pose's fingers would have to pass through each other: capsules around the bones."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tracker.simulation.hand import RiggedHand

Array = NDArray[np.floating]

_PALM: Final = 15
"""Capsules 0..14 are the finger bones, thumb first, 15..18 the metacarpals of index to little finger."""


def _pairs() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Which capsules are compared, and by how many metres soft tissue lets each pair overlap."""
    found: list[tuple[int, int, float]] = []
    for a in range(15):
        for b in range(a + 1, 15):
            (finger, part), (other, other_part) = divmod(a, 3), divmod(b, 3)
            if finger == other or (finger == 0 and part == 0 and other_part == 0):
                continue
            if finger == 0:
                found.append((a, b, 0.0045 if part == 0 else 0.003))
            elif other - finger > 1:
                found.append((a, b, 0.003))
            elif part > 0 or other_part > 0:
                found.append((a, b, 0.0045))
    for a in range(15):
        finger, part = divmod(a, 3)
        if part > 0:
            found.extend((a, _PALM + i, 0.006) for i in range(4))
    first, second, slack = zip(*found)
    return np.array(first), np.array(second), np.array(slack)


_FIRST, _SECOND, _SLACK = _pairs()
_START: Final = np.array([1 + 4 * f + i for f in range(5) for i in range(3)])


@lru_cache(maxsize=8)
def capsule_radii(hand: RiggedHand) -> NDArray[np.float64]:
    """Radii (19,) in metres: the median distance of each bone's skin from the bone; 11 mm (scaled) for the palm."""
    joints, radii = hand.rest_joints, np.empty(19)
    owner = hand.weights.argmax(axis=1)
    for capsule, start in enumerate(_START):
        skin = hand.rest_vertices[owner == 4 + capsule]
        along = joints[start + 1] - joints[start]
        share = np.clip((skin - joints[start]) @ along / (along @ along), 0, 1)
        radii[capsule] = np.median(np.linalg.norm(skin - joints[start] - share[:, None] * along, axis=1))
    radii[15:] = 0.011 / 0.086 * np.linalg.norm(joints[9] - joints[0])
    return radii


def penetration(hand: RiggedHand, pose: Array) -> float:
    """The deepest forbidden overlap in metres (negative: room left)."""
    radii = capsule_radii(hand)
    joints = hand.bone_transforms(pose)[1]
    start, end = np.empty((19, 3)), np.empty((19, 3))
    start[:15], end[:15] = joints[_START], joints[_START + 1]
    # A tip lies on the skin: its capsule ends one radius before.
    tips = np.arange(2, 15, 3)
    bone = end[tips] - start[tips]
    end[tips] -= bone * (radii[tips] / np.linalg.norm(bone, axis=1))[:, None]
    # Metacarpal capsules run under the palm's skin rather than along its back.
    sink = np.array([0.0, 0.0, -0.35 * radii[15]])
    start[15:] = joints[0] + sink + 0.3 * (joints[[5, 9, 13, 17]] - joints[0])
    end[15:] = joints[[5, 9, 13, 17]] + sink
    distance = _segment_distance(start[_FIRST], end[_FIRST], start[_SECOND], end[_SECOND])
    return float((radii[_FIRST] + radii[_SECOND] - _SLACK - distance).max())


def _segment_distance(p: Array, p_end: Array, q: Array, q_end: Array) -> Array:
    """Shortest distances (n,) between segments (Ericson, Real-Time Collision Detection, 5.1.9)."""
    d, e, r = p_end - p, q_end - q, p - q
    a, b, c = (d * d).sum(1), (d * e).sum(1), (d * r).sum(1)
    f, g = (e * e).sum(1), (e * r).sum(1)
    denominator = np.maximum(a * f - b * b, 1e-12)
    s = np.clip((b * g - c * f) / denominator, 0, 1)
    t = np.clip((b * s + g) / f, 0, 1)
    s = np.clip((b * t - c) / a, 0, 1)
    return np.linalg.norm(r + d * s[:, None] - e * t[:, None], axis=1)
