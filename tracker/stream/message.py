"""The messages: what they hold, and pure functions to and from MessagePack and JSON.

Floats travel as 32-bit. Keys that a reader does not know are ignored, so that version 1 can gain some.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgpack
import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import Side
from tracker.errors import StreamError
from tracker.hand.skeleton import BONES, JOINT_COUNT, JOINT_NAMES, SKELETON
from tracker.stream import fields as read

VERSION: Final = 1
MAX_HANDS: Final = 32
MAX_METRES: Final = 1e4
"""A coordinate beyond this is a broken message rather than a hand."""

Space = Literal["camera", "world"]


@dataclass(frozen=True, slots=True, eq=False)
class Hand:
    """One tracked hand.

    id: kept while the same hand stays tracked, never used again after it is lost.
    side_confidence, confidence: 0..1, of the side and of the whole hand.
    joints: (21, 3) float32, metres, in the message's space, `hand21` order; NaN where there is no estimate.
    joint_confidence: (21,) float32, 0..1; of joints with confidence p, a share p is within 10 mm.
    joint_tracked: (21,) bool, True where seen in this frame, False where inferred.
    """

    id: int
    side: Side
    side_confidence: float
    confidence: float
    joints: NDArray[np.float32]
    joint_confidence: NDArray[np.float32]
    joint_tracked: NDArray[np.bool_]

    def __post_init__(self) -> None:
        shapes = (self.joints.shape, self.joint_confidence.shape, self.joint_tracked.shape)
        if shapes != ((JOINT_COUNT, 3), (JOINT_COUNT,), (JOINT_COUNT,)):
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
    fields = read.unpack_map(data)
    _check_version(fields)
    stages = read.mapping(fields, "latency_ms")
    hands = tuple(_hand(value) for value in read.sequence(fields, "hands", limit=MAX_HANDS))
    if len({hand.id for hand in hands}) != len(hands):
        raise StreamError("two hands of a message have the same id")
    return HandsMessage(
        camera=read.text(fields, "camera"),
        frame=read.integer(fields, "frame"),
        captured_ns=read.integer(fields, "captured_ns"),
        published_ns=read.integer(fields, "published_ns"),
        space=read.choice(fields, "space", ("camera", "world")),
        unit=read.choice(fields, "unit", ("m",)),
        skeleton=read.choice(fields, "skeleton", (SKELETON,)),
        dropped=read.integer(fields, "dropped"),
        latency_ms=Stages(
            segment=read.number(stages, "segment"),
            voxelise=read.number(stages, "voxelise"),
            network=read.number(stages, "network"),
            # A difference of wall-clock times: a clock that is set back makes it negative.
            total=read.number(stages, "total", low=-math.inf),
        ),
        hands=hands,
    )


def unpack_status(data: bytes) -> StatusMessage:
    """A `status` message from its bytes; raises StreamError, and nothing else, if they are not one."""
    fields = read.unpack_map(data)
    _check_version(fields)
    names = read.sequence(fields, "joint_names")
    if not all(isinstance(name, str) and len(name) <= read.MAX_TEXT for name in names):
        raise StreamError("field 'joint_names' must hold text only")
    bones = read.sequence(fields, "bones")
    for bone in bones:
        if not (
            isinstance(bone, list) and len(bone) == 2 and all(type(j) is int and 0 <= j < len(names) for j in bone)
        ):
            raise StreamError(f"field 'bones' must hold pairs of joint indices, holds {read.shown(bone)}")
    latency = read.mapping(fields, "latency_ms")
    return StatusMessage(
        camera=read.text(fields, "camera"),
        model=read.text(fields, "model"),
        engine=read.text(fields, "engine"),
        device=read.text(fields, "device"),
        skeleton=read.text(fields, "skeleton"),
        joint_names=tuple(names),
        bones=tuple((parent, child) for parent, child in bones),
        fps=read.number(fields, "fps"),
        dropped=read.integer(fields, "dropped"),
        uptime_s=read.number(fields, "uptime_s"),
        latency_ms=Percentiles(
            p50=read.number(latency, "p50", low=-math.inf, unknown=True),
            p95=read.number(latency, "p95", low=-math.inf, unknown=True),
            p99=read.number(latency, "p99", low=-math.inf, unknown=True),
        ),
    )


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
    return {
        "id": int(hand.id),
        "side": hand.side,
        "side_confidence": float(hand.side_confidence),
        "confidence": float(hand.confidence),
        "joints": hand.joints.tolist(),
        "joint_confidence": hand.joint_confidence.tolist(),
        "joint_tracked": hand.joint_tracked.tolist(),
    }


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


def _check_version(fields: dict[str, Any]) -> None:
    version = read.field(fields, "version")
    if type(version) is not int or version != VERSION:
        raise StreamError(
            f"a message of protocol version {read.shown(version)} arrived, this program reads version {VERSION}: "
            "install the same version of the tracker on both sides"
        )


def _hand(value: Any) -> Hand:
    if not isinstance(value, dict):
        raise StreamError(f"a hand must be a map, is {read.shown(value)}")
    rows = read.sequence(value, "joints", JOINT_COUNT)
    if not all(isinstance(row, list) and len(row) == 3 for row in rows):
        raise StreamError("field 'joints' must hold lists of three numbers")
    coordinates = [coordinate for row in rows for coordinate in row]
    tracked = read.sequence(value, "joint_tracked", JOINT_COUNT)
    if not all(type(flag) is bool for flag in tracked):
        raise StreamError("field 'joint_tracked' must hold true and false only")
    return Hand(
        id=read.integer(value, "id"),
        side=read.choice(value, "side", ("left", "right")),
        side_confidence=read.number(value, "side_confidence", high=1.0),
        confidence=read.number(value, "confidence", high=1.0),
        joints=read.floats(coordinates, "joints", -MAX_METRES, MAX_METRES, unknown=True).reshape(JOINT_COUNT, 3),
        joint_confidence=read.floats(
            read.sequence(value, "joint_confidence", JOINT_COUNT), "joint_confidence", 0.0, 1.0
        ),
        joint_tracked=np.array(tracked, np.bool_),
    )
