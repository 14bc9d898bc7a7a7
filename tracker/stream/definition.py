"""The protocol, version 1: every field of every message, its kind, its meaning and its unit.

The one definition: messages are read by it (message.py), and the JSON Schema files are made from it (schema.py).
"""

from __future__ import annotations

import math
from typing import Final

from tracker.hand.skeleton import JOINT_COUNT, SKELETON
from tracker.stream.fields import Choice, Field, Flags, Integer, Many, Number, Numbers, Record, Text, Version

VERSION: Final = 1
OPENXR: Final = "openxr26"
JOINT_COUNTS: Final = {SKELETON: JOINT_COUNT, OPENXR: 26}
"""Of the skeletons that a message may hold."""
MAX_HANDS: Final = 32
MAX_JOINTS: Final = 256
MAX_METRES: Final = 1e4
"""A coordinate beyond this is a broken message rather than a hand."""

_SHARE: Final = Number(high=1.0)
_MILLISECONDS: Final = Number()
# A difference of wall-clock times: a clock that is set back makes it negative.
_TOTAL: Final = Number(low=-math.inf)
_PERCENTILE: Final = Number(low=-math.inf, unknown=True)


def hand_record(skeleton: str) -> Record:
    """A hand of a skeleton that JOINT_COUNTS has."""
    count = JOINT_COUNTS[skeleton]
    fields = {
        "id": Field(Integer(), "Kept while the same hand stays tracked; never used again after it is lost."),
        "side": Field(Choice(("left", "right")), "Which hand it is."),
        "side_confidence": Field(_SHARE, "0.5 where the side cannot be told, 1 where it is certain."),
        "confidence": Field(_SHARE, "Of the whole hand, 0..1."),
        "joints": Field(
            Numbers((count, 3), Number(-MAX_METRES, MAX_METRES, unknown=True)),
            "x, y, z of every joint, metres, in the frame of reference that `space` names; "
            "NaN in MessagePack, null in JSON, where there is no estimate.",
        ),
        "joint_confidence": Field(
            Numbers((count,), _SHARE), "Of each joint, 0..1: of joints with confidence p, a share p is within 10 mm."
        ),
        "joint_tracked": Field(Flags(count), "Of each joint: true where seen in this frame, false where inferred."),
    }
    if skeleton == OPENXR:
        fields["joint_radii"] = Field(
            Numbers((count,), Number(high=1.0)),
            "From each joint to the skin, metres: those of a typical hand, scaled to this one.",
        )
    return Record(fields)


def hands_record(skeleton: str) -> Record:
    """The `hands` message with a skeleton that JOINT_COUNTS has."""
    return Record(
        {
            "version": Field(Version(VERSION), "Of this protocol."),
            "camera": Field(Text(), "The camera's name: simulated, a serial number, or a recording's name."),
            "frame": Field(Integer(), "Frame number from the source; gaps show dropped frames."),
            "captured_ns": Field(Integer(), "When the frame was captured: Unix epoch, nanoseconds."),
            "published_ns": Field(Integer(), "Just before sending: Unix epoch, nanoseconds."),
            "space": Field(Choice(("camera", "world")), "Frame of reference of the joints."),
            "unit": Field(Choice(("m",)), "Of the joints: metres."),
            "skeleton": Field(Choice((skeleton,)), "Which joints, in which order; names travel in the status message."),
            "dropped": Field(Integer(), "Frames dropped since the start."),
            "latency_ms": Field(
                Record(
                    {
                        "segment": Field(_MILLISECONDS, "Finding the hands in the image, milliseconds."),
                        "voxelise": Field(_MILLISECONDS, "From depth to voxels, milliseconds."),
                        "network": Field(_MILLISECONDS, "The network, milliseconds."),
                        "total": Field(_TOTAL, "From the frame's arrival at the host to published_ns, milliseconds."),
                    }
                ),
                "Where the time of this frame went.",
            ),
            "hands": Field(Many(hand_record(skeleton), MAX_HANDS), "One map per hand; empty if there are none."),
        }
    )


HANDS: Final = {skeleton: hands_record(skeleton) for skeleton in JOINT_COUNTS}

STATUS: Final = Record(
    {
        "version": Field(Version(VERSION), "Of this protocol."),
        "camera": Field(Text(), "The camera's name, as in the `hands` messages."),
        "model": Field(Text(), "The network's weights."),
        "engine": Field(Text(), "What runs the network."),
        "device": Field(Text(), "What it runs on."),
        "skeleton": Field(Text(), "Which joints the `hands` messages hold."),
        "joint_names": Field(Many(Text(), MAX_JOINTS), "Of the joints, in their order."),
        "bones": Field(
            Many(Many(Integer(MAX_JOINTS - 1), 2, least=2), MAX_JOINTS), "(parent, child) pairs of joint indices."
        ),
        "fps": Field(Number(), "Frames of the last second."),
        "dropped": Field(Integer(), "Frames dropped since the start."),
        "uptime_s": Field(Number(), "Since the tracker's start, seconds; it falls when the tracker is started again."),
        "latency_ms": Field(
            Record(
                {
                    "p50": Field(_PERCENTILE, "Median, milliseconds."),
                    "p95": Field(_PERCENTILE, "95th percentile, milliseconds."),
                    "p99": Field(_PERCENTILE, "99th percentile, milliseconds."),
                }
            ),
            "Of `total` over the last second; NaN in MessagePack, null in JSON, if no frame came.",
        ),
    }
)
