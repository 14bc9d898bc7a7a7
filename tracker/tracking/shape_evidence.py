"""What speaks for a hand and against it, and how much: the anatomy of hands, arms and heads in numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for and against a hand. Lengths in metres, shares 0..1.

    radius: of the palm's circle; widest: of the largest circle anywhere in the hand. fingers: thin things that stick
    out. exits: limbs that go on farther than fingers. narrowing: width of the wrist, in widths of the
    palm; 1 where none is seen. arm_depth: z of the unit vector to the forearm, 0 without one.
    reach: from the palm to the farthest finger tip. free: share of the outline that stands out before what is behind
    it; hidden: share that lies behind something. ragged: share that is mere noise. border: from the palm to the image's
    edge. depth: of the palm. prominence: how far before the body.
    """

    radius: float
    widest: float
    fingers: int
    exits: int
    narrowing: float
    arm_depth: float
    reach: float
    free: float
    hidden: float
    ragged: float
    border: float
    depth: float
    prominence: float


def weigh(seen: Evidence) -> dict[str, float]:
    """What each piece of evidence says, 0 (no hand) to 1 (as hands are); the score is their product."""
    few = seen.fingers < 2
    in_front = _ramp(seen.prominence, (0.08, 0.0), (0.2, 1.0))
    no_arm = (0.25, 0.45, 0.55, 0.75, 0.85)[min(seen.fingers, 4)]  # a hand may be all that is seen, if it is clear
    two_arms = 0.2 if seen.fingers < 3 else 0.5  # the middle of an arm
    unproven = 0.8 if seen.fingers else 0.6 + 0.2 * in_front
    return {
        "fingers": _ramp(seen.fingers, (0, 0.8), (1, 0.9), (2, 0.95), (5, 1.0)),
        # With few fingers to see, a fist or flat hand must be wider than the wrist behind it; and it may be a narrow
        # head if it is as wide as the widest hands and not in front of the body.
        "narrowing": _ramp(seen.narrowing, (0.75, 1.0), (0.95, unproven)) if few else 1.0,
        "head": _ramp(seen.radius, (0.043, 1.0), (0.05, 0.6 + 0.4 * in_front)) if few else 1.0,
        "exits": {0: no_arm, 1: 1.0}.get(seen.exits, two_arms),
        "radius": _ramp(seen.radius, (0.018, 0.5), (0.028, 0.9), (0.036, 1.0), (0.047, 1.0), (0.056, 0.5)),
        # The palm is the widest part of a hand; else the circle is at a wrist or the root of a finger.
        "widest": _ramp(seen.widest / seen.radius, (1.1, 1.0), (1.4, 0.5)),
        "reach": _ramp(seen.reach, (0.135, 1.0), (0.165, 0.6)),
        "free": _ramp(seen.free, (0.5, 0.0), (0.85, 1.0)),
        "hidden": _ramp(seen.hidden, (0.05, 1.0), (0.3, 0.0)),
        "ragged": _ramp(seen.ragged, (0.02, 1.0), (0.06, 0.6)),
        "border": _ramp(seen.border / seen.radius, (0.5, 0.3), (1.1, 1.0)),
        "depth": _ramp(seen.depth, (1.0, 1.0), (1.5, 0.7)),
        # Heads and shoulders are where the body is.
        "prominence": _ramp(seen.prominence, (-0.08, 0.5 if few else 0.6), (0.08 if few else 0.03, 1.0)),
        # An elbow looks like a fist at the end of an arm; but it is seldom nearer to the camera than the rest.
        "elbow": _ramp(seen.arm_depth, (-0.4, 0.6), (0.2, 1.0)) if few and seen.exits else 1.0,
    }


def _ramp(value: float, *corners: tuple[float, float]) -> float:
    """Straight lines between (value, result) corners, level outside."""
    return float(np.interp(value, [x for x, _ in corners], [y for _, y in corners]))
