"""OpenXR's 26 joints (`openxr26`) from our 21: the order of the extension XR_EXT_hand_tracking, with radii.

Twenty-one joints are the same ones under other names, but that a fingertip moves from the skin to a radius below it,
where OpenXR has it. Five are inferred and flagged so (`joint_tracked` false): the base of each finger's metacarpal, by
the proportions of a typical hand, and the palm, the middle of the middle finger's metacarpal bone as OpenXR defines it.

Proportions and radii are measured on the right hand of `generic-hand` of the WebXR Input Profiles (npm
`@webxr-input-profiles/assets` 1.0.20, MIT licence), whose joints are OpenXR's; they scale with the hand.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import Side
from tracker.hand.skeleton import FINGERS, SKELETON, WRIST, joint
from tracker.stream.definition import OPENXR
from tracker.stream.message import Hand, HandsMessage, StatusMessage

OPENXR_NAMES: Final[tuple[str, ...]] = (
    "palm",
    "wrist",
    *(f"thumb_{part}" for part in ("metacarpal", "proximal", "distal", "tip")),
    *(
        f"{finger}_{part}"
        for finger in FINGERS[1:]
        for part in ("metacarpal", "proximal", "intermediate", "distal", "tip")
    ),
)

OPENXR_BONES: Final[tuple[tuple[int, int], ...]] = (
    *((1 if part == 0 else 1 + part, 2 + part) for part in range(4)),
    *((1 if part == 0 else 5 + 5 * finger + part, 6 + 5 * finger + part) for finger in range(4) for part in range(5)),
)
"""(parent, child) joint indices: each finger from the wrist outwards; the palm has no bone of its own."""

PALM: Final = 0
METACARPALS: Final = (6, 11, 16, 21)
TIPS: Final = (5, 10, 15, 20, 25)
SAME: Final = tuple(place for place in range(1, 26) if place not in METACARPALS)
"""Places in `openxr26` of the joints of `hand21`, in the order of the latter."""

_BASES: Final = np.array([[0.297, 0.150, 0.080], [0.313, 0.038, 0.060], [0.321, -0.156, 0.047], [0.440, -0.417, 0.062]])
"""Of index, middle, ring, little finger: from the wrist to the metacarpal's base, in three directions: wrist to middle
knuckle; little to index knuckle; into the palm, in lengths of the first."""
_TYPICAL_LENGTH: Final = 0.0917
"""From wrist to middle knuckle, metres, of the hand that the radii belong to."""
_RADII: Final = 1e-3 * np.array(
    [
        *(15.7, 17.6),
        *(11.2, 10.5, 6.6, 5.9),
        *(19.0, 10.2, 7.4, 6.8, 6.0),
        *(20.4, 11.0, 7.9, 6.9, 6.1),
        *(18.8, 10.3, 6.8, 6.3, 6.2),
        *(13.1, 7.9, 6.1, 5.5, 5.6),
    ]
)
"""Metres from each joint to the skin, of a hand of that length."""


def to_openxr_hand(hand: Hand) -> Hand:
    """A `hand21` hand as an `openxr26` one. A joint that needs an unknown one is unknown (NaN), its confidence 0."""
    joints, radii = openxr_joints(hand.joints, hand.side)
    confidence = np.zeros(len(joints), np.float32)
    confidence[list(SAME)] = hand.joint_confidence
    # As sure as the least sure joint that it was inferred from.
    knuckles = [joint(f"{finger}_mcp") for finger in FINGERS[1:]]
    confidence[[PALM, *METACARPALS]] = hand.joint_confidence[[WRIST, *knuckles]].min()
    confidence[np.isnan(joints).any(axis=1)] = 0.0
    tracked = np.zeros(len(joints), np.bool_)
    tracked[list(SAME)] = hand.joint_tracked
    return replace(hand, joints=joints, joint_confidence=confidence, joint_tracked=tracked, joint_radii=radii)


def to_hand21(hand: Hand) -> Hand:
    """The `hand21` hand that an `openxr26` one was made from, to float rounding."""
    if hand.joint_radii is None:
        return hand
    joints = hand.joints.copy()
    for tip in TIPS:
        joints[tip] += hand.joint_radii[tip] * _direction(joints[tip - 1], joints[tip])
    same = list(SAME)
    return replace(
        hand,
        joints=joints[same],
        joint_confidence=hand.joint_confidence[same],
        joint_tracked=hand.joint_tracked[same],
        joint_radii=None,
    )


def to_openxr(message: HandsMessage) -> HandsMessage:
    """The message with every hand as `openxr26`."""
    return replace(message, skeleton=OPENXR, hands=tuple(to_openxr_hand(hand) for hand in message.hands))


def to_openxr_status(status: StatusMessage) -> StatusMessage:
    """The status of a tracker that publishes `openxr26`."""
    return replace(status, skeleton=OPENXR, joint_names=OPENXR_NAMES, bones=OPENXR_BONES)


def from_openxr(message: HandsMessage) -> HandsMessage:
    """The message with every hand as `hand21`, whichever skeleton it has."""
    return replace(message, skeleton=SKELETON, hands=tuple(to_hand21(hand) for hand in message.hands))


def openxr_joints(joints: NDArray[np.float32], side: Side) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Joints (26, 3) and radii (26,), float32 metres, from `hand21` joints (21, 3) metres of a hand of that side.

    NaN where a joint that is needed is unknown; radii are those of a typical hand where the hand's size is unknown.
    """
    wrist = joints[WRIST].astype(np.float64)
    index, middle, little = (
        joints[joint(f"{finger}_mcp")].astype(np.float64) for finger in ("index", "middle", "little")
    )
    along, across = middle - wrist, index - little
    length = float(np.linalg.norm(along))
    # A cross product does not mirror as points do: for a left hand it points the other way.
    inward = np.cross(across, along) * (1.0 if side == "right" else -1.0)
    inward *= length / max(float(np.linalg.norm(inward)), 1e-12)
    bases = wrist + _BASES @ np.stack([along, across, inward])
    # Within what hands are, so that a wild estimate does not make a wild radius.
    scale = float(np.clip(length / _TYPICAL_LENGTH, 0.3, 2.0)) if np.isfinite(length) else 1.0
    radii = _RADII * scale

    result = np.empty((len(OPENXR_NAMES), 3), np.float64)
    result[list(SAME)] = joints
    result[list(METACARPALS)] = bases
    result[PALM] = (bases[1] + middle) / 2
    for tip in TIPS:
        # Not behind the joint before it, however short the last bone came out.
        bone = float(np.linalg.norm(result[tip] - result[tip - 1]))
        radii[tip] = min(radii[tip], bone / 2)
        result[tip] -= radii[tip] * _direction(result[tip - 1], result[tip])
    return result.astype(np.float32), radii.astype(np.float32)


def _direction(start: NDArray[np.floating], end: NDArray[np.floating]) -> NDArray[np.floating]:
    """The unit vector from start to end, zero if they are the same point."""
    bone = end - start
    return np.asarray(bone / max(float(np.linalg.norm(bone)), 1e-12))
