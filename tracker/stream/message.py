"""The messages: what they hold, and pure functions to and from MessagePack and JSON.

Floats travel as 32-bit. Keys that a reader does not know are ignored, so that version 1 can gain some.
What is in a message is defined in definition.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgpack
import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import Side
from tracker.errors import StreamError
from tracker.hand.skeleton import BONES, JOINT_NAMES, SKELETON
from tracker.stream.definition import HANDS, JOINT_COUNTS, STATUS, VERSION
from tracker.stream.endpoint import HANDS_TOPIC, STATUS_TOPIC
from tracker.stream.fields import Choice, Field, Record, shown, unpack_map

_VERSION_ONLY: Final = Record({"version": STATUS.fields["version"]})
_UNKNOWN_SKELETON: Final = Record({"skeleton": Field(Choice(tuple(JOINT_COUNTS)), "Of those that are known.")})

Space = Literal["camera", "world"]


@dataclass(frozen=True, slots=True, eq=False)
class Hand:
    """One tracked hand.

    id: kept while the same hand stays tracked, never used again after it is lost.
    side_confidence, confidence: 0..1, of the side and of the whole hand.
    joints: (21, 3) float32, metres, in the message's space, `hand21` order; NaN where there is no estimate.
    joint_confidence: (21,) float32, 0..1; of joints with confidence p, a share p is within 10 mm.
    joint_tracked: (21,) bool, True where seen in this frame, False where inferred.
    joint_radii: (26,) float32, metres, from the joint to the skin; only with the skeleton `openxr26`.
    With `openxr26` there are 26 of everything (see openxr.py).
    """

    id: int
    side: Side
    side_confidence: float
    confidence: float
    joints: NDArray[np.float32]
    joint_confidence: NDArray[np.float32]
    joint_tracked: NDArray[np.bool_]
    joint_radii: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        count = len(self.joints)
        shapes = (self.joints.shape, self.joint_confidence.shape, self.joint_tracked.shape)
        if count not in JOINT_COUNTS.values() or shapes != ((count, 3), (count,), (count,)):
            raise ValueError(f"joints, their confidence and tracked flags must be (21, 3), (21,), (21,), are {shapes}")


@dataclass(frozen=True, slots=True, eq=False)
class Stages:
    """Where the time went, milliseconds. total: from the frame's arrival at the host to its message."""

    segment: float
    voxelise: float
    network: float
    total: float


@dataclass(frozen=True, slots=True, eq=False)
class HandsMessage:
    """What was seen in one frame.

    camera: the camera's name. frame: number from the source; gaps show dropped frames.
    captured_ns, published_ns: Unix epoch, nanoseconds.
    space: frame of reference of the joints. unit: "m". skeleton: "hand21".
    dropped: frames dropped since the start.
    """

    camera: str
    frame: int
    captured_ns: int
    published_ns: int
    dropped: int
    latency_ms: Stages
    hands: tuple[Hand, ...]
    space: Space = "camera"
    unit: Literal["m"] = "m"
    skeleton: str = SKELETON
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Latency, milliseconds; NaN where no frame was measured."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class StatusMessage:
    """What is running, once a second.

    model, engine, device: as the user would name them on the command line.
    joint_names, bones: names and (parent, child) pairs of the joints in the `hands` messages.
    fps: frames of the last second. dropped: frames since the start. uptime_s: seconds.
    latency_ms: percentiles of `total` over the last second.
    """

    camera: str
    model: str
    engine: str
    device: str
    fps: float
    dropped: int
    uptime_s: float
    latency_ms: Percentiles
    skeleton: str = SKELETON
    joint_names: tuple[str, ...] = JOINT_NAMES
    bones: tuple[tuple[int, int], ...] = BONES
    version: int = VERSION


def pack(message: HandsMessage | StatusMessage) -> bytes:
    """The message as it goes over the wire: a MessagePack map, NaN where there is no estimate."""
    fields = _hands_map(message) if isinstance(message, HandsMessage) else _status_map(message)
    return bytes(msgpack.packb(fields, use_single_float=True, unicode_errors="replace"))


def to_json_line(message: HandsMessage | StatusMessage) -> str:
    """The message as one line of strict JSON without a line end: the same keys, null where there is no estimate."""
    fields = _hands_map(message) if isinstance(message, HandsMessage) else _status_map(message)
    return json.dumps(_for_json(fields), allow_nan=False, separators=(",", ":"))


def unpack(data: bytes) -> HandsMessage:
    """A `hands` message from its bytes; raises StreamError, and nothing else, if they are not one."""
    fields = unpack_map(data)
    _VERSION_ONLY.read(fields, "a message")
    skeleton = fields.get("skeleton", SKELETON)
    # A skeleton that nobody knows is refused by the field itself, with the names of those that are known.
    record = HANDS[skeleton] if isinstance(skeleton, str) and skeleton in HANDS else _UNKNOWN_SKELETON
    values = record.read(fields, "a message")
    hands = tuple(Hand(**hand) for hand in values.pop("hands"))
    if len({hand.id for hand in hands}) != len(hands):
        raise StreamError("two hands of a message have the same id")
    return HandsMessage(hands=hands, latency_ms=Stages(**values.pop("latency_ms")), **values)


def unpack_status(data: bytes) -> StatusMessage:
    """A `status` message from its bytes; raises StreamError, and nothing else, if they are not one."""
    values = STATUS.read(unpack_map(data), "a message")
    if any(joint >= len(values["joint_names"]) for bone in values["bones"] for joint in bone):
        raise StreamError("field 'bones' must hold pairs of joint indices, one is beyond the last joint")
    return StatusMessage(latency_ms=Percentiles(**values.pop("latency_ms")), **values)


def read_parts(parts: Sequence[bytes]) -> HandsMessage | StatusMessage:
    """The message in the parts that came from a socket: topic and map. Raises StreamError, and nothing else."""
    if len(parts) != 2:
        raise StreamError(f"a message of {len(parts)} parts arrived, it must have 2: this is not a hand tracker")
    topic, data = parts
    if topic.startswith(STATUS_TOPIC.encode()):
        return unpack_status(data)
    if topic.startswith(HANDS_TOPIC.encode()):
        return unpack(data)
    raise StreamError(f"a message of the topic {shown(topic)} arrived: this is not a hand tracker")


def _hands_map(message: HandsMessage) -> dict[str, Any]:
    stages = message.latency_ms
    return {
        "version": message.version,
        "camera": message.camera,
        "frame": int(message.frame),
        "captured_ns": int(message.captured_ns),
        "published_ns": int(message.published_ns),
        "space": message.space,
        "unit": message.unit,
        "skeleton": message.skeleton,
        "dropped": int(message.dropped),
        "latency_ms": {
            "segment": float(stages.segment),
            "voxelise": float(stages.voxelise),
            "network": float(stages.network),
            "total": float(stages.total),
        },
        "hands": [_hand_map(hand) for hand in message.hands],
    }


def _hand_map(hand: Hand) -> dict[str, Any]:
    fields = {
        "id": int(hand.id),
        "side": hand.side,
        "side_confidence": float(hand.side_confidence),
        "confidence": float(hand.confidence),
        "joints": hand.joints.tolist(),
        "joint_confidence": hand.joint_confidence.tolist(),
        "joint_tracked": hand.joint_tracked.tolist(),
    }
    if hand.joint_radii is not None:
        fields["joint_radii"] = hand.joint_radii.tolist()
    return fields


def _status_map(message: StatusMessage) -> dict[str, Any]:
    latency = message.latency_ms
    return {
        "version": message.version,
        "camera": message.camera,
        "model": message.model,
        "engine": message.engine,
        "device": message.device,
        "skeleton": message.skeleton,
        "joint_names": list(message.joint_names),
        "bones": [list(bone) for bone in message.bones],
        "fps": float(message.fps),
        "dropped": int(message.dropped),
        "uptime_s": float(message.uptime_s),
        "latency_ms": {
            "p50": float(latency.p50),
            "p95": float(latency.p95),
            "p99": float(latency.p99),
        },
    }


def _for_json(value: Any) -> Any:
    """Floats to six decimals (a micrometre, a nanosecond); NaN, which JSON does not have, to null."""
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, list):
        return [_for_json(item) for item in value]
    if isinstance(value, dict):
        return {key: _for_json(item) for key, item in value.items()}
    return value
