from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest
from stream_samples import make_hand, make_message, make_status, with_unknown_joint

from tracker.errors import StreamError
from tracker.hand.skeleton import BONES, JOINT_NAMES
from tracker.stream.fields import MAX_BYTES
from tracker.stream.message import Percentiles, pack, to_json_line, unpack, unpack_status

HANDS_KEYS = {
    "version", "camera", "frame", "captured_ns", "published_ns", "space", "unit", "skeleton", "dropped", "latency_ms",
    "hands",
}  # fmt: skip
HAND_KEYS = {"id", "side", "side_confidence", "confidence", "joints", "joint_confidence", "joint_tracked"}
STATUS_KEYS = {
    "version", "camera", "model", "engine", "device", "skeleton", "joint_names", "bones", "fps", "dropped", "uptime_s",
    "latency_ms",
}  # fmt: skip


def test_packed_map_has_the_keys_and_plain_types_of_the_protocol():
    message = make_message()
    fields = msgpack.unpackb(pack(message))
    assert fields.keys() == HANDS_KEYS
    assert fields["version"] == 1
    assert (fields["space"], fields["unit"], fields["skeleton"]) == ("camera", "m", "hand21")
    assert (fields["frame"], fields["dropped"], fields["captured_ns"]) == (7, 3, message.captured_ns)
    assert fields["latency_ms"] == {"segment": 1.5, "voxelise": 0.25, "network": 8.0, "total": 10.5}
    assert [hand.keys() for hand in fields["hands"]] == [HAND_KEYS, HAND_KEYS]
    hand = fields["hands"][1]
    assert (hand["id"], hand["side"], hand["side_confidence"], hand["confidence"]) == (2, "left", 0.75, 0.5)
    assert {type(flag) for flag in hand["joint_tracked"]} == {bool}
    np.testing.assert_array_equal(np.float32(hand["joints"]), message.hands[1].joints)


def test_numpy_scalars_are_packed_as_plain_numbers():
    hand = replace(make_hand(), id=np.int64(5), confidence=np.float32(0.5))
    message = replace(make_message(), hands=(hand,), frame=np.int64(9))
    assert unpack(pack(message)).hands[0].id == 5
    assert json.loads(to_json_line(message))["frame"] == 9


def test_unpack_returns_what_was_packed():
    message = with_unknown_joint(make_message(), joint=8)
    back = unpack(pack(message))
    for name in ("version", "camera", "frame", "captured_ns", "published_ns", "space", "unit", "skeleton", "dropped"):
        assert getattr(back, name) == getattr(message, name)
    assert back.latency_ms.total == 10.5
    for hand, original in zip(back.hands, message.hands, strict=True):
        assert (hand.id, hand.side, hand.confidence) == (original.id, original.side, original.confidence)
        np.testing.assert_array_equal(hand.joints, original.joints)
        np.testing.assert_array_equal(hand.joint_confidence, original.joint_confidence)
        np.testing.assert_array_equal(hand.joint_tracked, original.joint_tracked)
        assert (hand.joints.dtype, hand.joint_tracked.dtype) == (np.float32, np.bool_)


def test_frame_without_hands_is_a_message_with_an_empty_list():
    message = make_message(hands=0)
    assert msgpack.unpackb(pack(message))["hands"] == []
    assert unpack(pack(message)).hands == ()


def test_negative_total_of_a_clock_set_back_is_still_a_message():
    message = make_message()
    message = replace(message, latency_ms=replace(message.latency_ms, total=-3.0))
    assert unpack(pack(message)).latency_ms.total == -3.0


def test_json_line_is_strict_short_and_has_null_for_nan():
    message = with_unknown_joint(make_message(), joint=8)
    line = to_json_line(message)
    assert "\n" not in line

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    fields = json.loads(line, parse_constant=refuse)
    assert fields.keys() == HANDS_KEYS
    assert fields["hands"][0].keys() == HAND_KEYS
    assert fields["hands"][0]["joints"][8] == [None, None, None]
    np.testing.assert_allclose(fields["hands"][1]["joints"], message.hands[1].joints, atol=0.51e-6)
    coordinate = line.split('"joints":[[')[1].split(",")[0]
    assert len(coordinate) <= len("-0.123456")


def test_camera_name_that_is_not_text_in_utf8_is_still_published():
    message = make_message(camera="bad\udcff name")
    assert unpack(pack(message)).camera == "bad? name"
    assert json.loads(to_json_line(message))["frame"] == 7


def test_status_round_trip():
    status = make_status()
    fields = msgpack.unpackb(pack(status))
    assert fields.keys() == STATUS_KEYS
    assert fields["joint_names"] == list(JOINT_NAMES)
    assert fields["bones"] == [list(bone) for bone in BONES]
    assert fields["latency_ms"] == {"p50": 10.5, "p95": 12.25, "p99": 15.0}
    assert unpack_status(pack(status)) == status


def test_status_before_the_first_frame_has_no_percentiles():
    status = replace(make_status(), fps=0.0, latency_ms=Percentiles(math.nan, math.nan, math.nan))
    assert math.isnan(unpack_status(pack(status)).latency_ms.p50)
    assert json.loads(to_json_line(status))["latency_ms"] == {"p50": None, "p95": None, "p99": None}


def test_hand_with_wrong_shapes_is_refused():
    with pytest.raises(ValueError, match="joints"):
        replace(make_hand(), joints=np.zeros((20, 3), np.float32))


def test_unknown_keys_are_ignored_so_that_the_version_can_grow():
    fields = msgpack.unpackb(pack(make_message()))
    fields["gesture"] = "fist"
    assert unpack(msgpack.packb(fields)).frame == 7


def change(fields: dict[str, Any], path: tuple[Any, ...], value: Any) -> bytes:
    place: Any = fields
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return msgpack.packb(fields)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("version",), 2, "version 2"),
        (("version",), True, "version True"),
        (("version",), "\x1b[2J", "x1b"),
        (("camera",), 5, "camera"),
        (("camera",), "x" * 2000, "camera"),
        (("frame",), -1, "frame"),
        (("frame",), 1.5, "frame"),
        (("captured_ns",), 2**64 - 1, "captured_ns"),
        (("space",), "moon", "space"),
        (("space",), [], "space"),
        (("unit",), "mm", "unit"),
        (("skeleton",), "nyu14", "skeleton"),
        (("dropped",), None, "dropped"),
        (("latency_ms",), 3.0, "latency_ms"),
        (("latency_ms", "network"), math.nan, "network"),
        (("latency_ms", "network"), -1.0, "network"),
        (("hands",), {}, "hands"),
        (("hands",), [0] * 33, "hands"),
        (("hands", 0), 1, "hand"),
        (("hands", 0, "id"), "1", "id"),
        (("hands", 0, "id"), 2, "same id"),
        (("hands", 0, "side"), "both", "side"),
        (("hands", 0, "confidence"), 1.5, "confidence"),
        (("hands", 0, "side_confidence"), math.nan, "side_confidence"),
        (("hands", 0, "joints"), [[0.0, 0.0, 0.0]] * 20, "joints"),
        (("hands", 0, "joints", 3), [0.0, 0.0], "joints"),
        (("hands", 0, "joints", 3, 1), "x", "joints"),
        (("hands", 0, "joints", 3, 1), True, "joints"),
        (("hands", 0, "joints", 3, 1), math.inf, "joints"),
        (("hands", 0, "joints", 3, 1), 1e300, "joints"),
        (("hands", 0, "joint_confidence", 3), math.nan, "joint_confidence"),
        (("hands", 0, "joint_confidence", 3), -0.1, "joint_confidence"),
        (("hands", 0, "joint_tracked", 3), 1, "joint_tracked"),
        (("hands", 0, "joint_tracked"), None, "joint_tracked"),
    ],
)
def test_a_broken_field_is_named(path, value, says):
    with pytest.raises(StreamError, match=says) as caught:
        unpack(change(msgpack.unpackb(pack(make_message())), path, value))
    assert len(str(caught.value)) < 250
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("key", sorted(HANDS_KEYS))
def test_a_missing_field_is_named(key):
    fields = msgpack.unpackb(pack(make_message()))
    del fields[key]
    with pytest.raises(StreamError, match=key):
        unpack(msgpack.packb(fields))


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("fps",), -1.0, "fps"),
        (("fps",), "fast", "fps"),
        (("joint_names", 0), 1, "joint_names"),
        (("bones", 0), [0, 21], "bones"),
        (("bones", 0), [0], "bones"),
        (("bones",), "none", "bones"),
        (("latency_ms", "p99"), None, "p99"),
        (("latency_ms",), [], "latency_ms"),
        (("version",), 0, "version 0"),
    ],
)
def test_a_broken_status_field_is_named(path, value, says):
    with pytest.raises(StreamError, match=says):
        unpack_status(change(msgpack.unpackb(pack(make_status())), path, value))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not MessagePack"),
        (b"\x93\x01\x02\x03", "must be a map"),
        (b"\xc1", "not MessagePack"),
        (b"\x91" * 5000, "not MessagePack"),
        (b"\x81\x91\x01\x02", "not MessagePack"),
        (b"\xd6\xff" + b"\xff" * 4, "must be a map"),
        (b"\xdd\xff\xff\xff\xff", "not MessagePack"),
        (pack(make_message()) + b"\x00", "not MessagePack"),
        (bytes(MAX_BYTES + 1), "too long"),
    ],
)
def test_bytes_that_are_no_message_are_refused(data, says):
    with pytest.raises(StreamError, match=says):
        unpack(data)
