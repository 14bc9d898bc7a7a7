"""The ROS 2 bridge in `examples/ros2`, with stand-ins for ROS: it is not installed where the tests run."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import msgpack
import numpy as np
import pytest
import zmq
from stream_samples import ANY_PORT, ROOT, make_message, make_status, with_unknown_joint

from tracker.hand.skeleton import BONES, joint
from tracker.stream.message import pack
from tracker.stream.publisher import Publisher

INDEX_TIP = joint("index_tip")

ROS_FIELDS: dict[str, dict[str, object]] = {
    # Fields and what they are before they are set, as in ROS 2 Humble.
    "Time": {"sec": int, "nanosec": int},
    "Duration": {"sec": int, "nanosec": int},
    "Header": {"stamp": "Time", "frame_id": str},
    "Point": {"x": float, "y": float, "z": float},
    "Vector3": {"x": float, "y": float, "z": float},
    "ColorRGBA": {"r": float, "g": float, "b": float, "a": float},
    "Quaternion": {"x": float, "y": float, "z": float, "w": float},
    "Pose": {"position": "Point", "orientation": "Quaternion"},
    "PoseArray": {"header": "Header", "poses": list},
    "Marker": {
        "header": "Header",
        "ns": str,
        "id": int,
        "type": int,
        "pose": "Pose",
        "scale": "Vector3",
        "color": "ColorRGBA",
        "lifetime": "Duration",
        "points": list,
    },
    "MarkerArray": {"markers": list},
}


def ros_types() -> dict[str, type]:
    """Stand-ins for message types of ROS, as strict as the real ones: unknown fields and wrong types are refused."""

    def make(name: str, fields: dict[str, object]) -> type:
        def start(self, **values: object) -> None:
            for key, kind in fields.items():
                setattr(self, key, types[kind]() if isinstance(kind, str) else kind())
            for key, value in values.items():
                setattr(self, key, value)

        def set_field(self, key: str, value: object) -> None:
            kind = fields[key]
            assert type(value) is (types[kind] if isinstance(kind, str) else kind), (name, key, value)
            object.__setattr__(self, key, value)

        return type(name, (), {"__init__": start, "__setattr__": set_field, "SPHERE_LIST": 7, "LINE_LIST": 5})

    types: dict[str, type] = {}
    types.update({name: make(name, fields) for name, fields in ROS_FIELDS.items()})
    return types


def ros_module(monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    """A file of examples/ros2, with stand-ins for what it imports of ROS."""
    types = ros_types()
    for package in ("geometry_msgs", "visualization_msgs"):
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
        monkeypatch.setitem(sys.modules, f"{package}.msg", SimpleNamespace(**types))
    monkeypatch.setitem(sys.modules, "rclpy", ModuleType("rclpy"))
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "ros2"))
    for module in ("conversions", "hand_bridge"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return importlib.import_module(name)


def test_ros_names_frames_and_stamps(monkeypatch):
    ros = ros_module(monkeypatch, "conversions")
    assert [ros.ros_name(name) for name in ("simulated", "841612070058", "walk.db3", "Küche 2", "_x", "")] == [
        "simulated",
        "camera_841612070058",
        "walk_db3",
        "K_che_2",
        "camera__x",
        "camera_",
    ]
    assert ros.frame_id({"space": "camera", "camera": "841"}) == "camera_841_depth_optical_frame"
    assert ros.frame_id({"space": "world", "camera": "841"}) == "world"
    assert ros.stamp(1_700_000_000_123_456_789) == (1_700_000_000, 123_456_789)


def test_ros_bones_are_those_of_the_skeleton_and_unknown_joints_have_none(monkeypatch):
    ros = ros_module(monkeypatch, "conversions")
    assert tuple(ros.BONES) == BONES
    hand = {"joints": [[float(i), 0.0, 0.5] for i in range(21)]}
    assert ros.known_joints(hand) == hand["joints"]
    assert ros.known_bones(hand) == [hand["joints"][index] for bone in BONES for index in bone]
    hand["joints"][INDEX_TIP - 1] = [np.nan] * 3
    assert len(ros.known_joints(hand)) == 20
    assert len(ros.known_bones(hand)) == 2 * 18


def test_ros_bridge_fills_its_messages(monkeypatch):
    bridge = ros_module(monkeypatch, "hand_bridge")
    sent = with_unknown_joint(make_message(hands=3), INDEX_TIP)
    sent = replace(sent, hands=(*sent.hands[:2], replace(sent.hands[2], confidence=0.9)))
    message = msgpack.unpackb(pack(sent))
    markers = bridge.marker_array(message).markers
    assert [(marker.ns, marker.type, len(marker.points)) for marker in markers] == [
        ("right_1", 7, 20),
        ("right_1", 5, 38),
        ("left_2", 7, 21),
        ("left_2", 5, 40),
        ("right_3", 7, 21),
        ("right_3", 5, 40),
    ]
    assert len({(marker.ns, marker.id) for marker in markers}) == 6
    best = bridge.best_hand(message["hands"], "right")
    assert best["id"] == 3
    array = bridge.pose_array(message, best)
    assert array.header.frame_id == "simulated_depth_optical_frame"
    assert array.header.stamp.sec * 10**9 + array.header.stamp.nanosec == sent.captured_ns
    positions = [[pose.position.x, pose.position.y, pose.position.z] for pose in array.poses]
    np.testing.assert_array_equal(np.array(positions, np.float32), sent.hands[2].joints)
    assert bridge.best_hand(message["hands"][:1], "left") is None


def test_ros_bridge_passes_by_what_is_no_message(monkeypatch):
    bridge = ros_module(monkeypatch, "hand_bridge")
    assert bridge.read(pack(make_message()))["version"] == 1
    for data in (b"", b"\xc1", b"\x93\x01\x02", b"\x07", b"\x80", b"\x81\xa1v\x01"):
        assert bridge.read(data) is None


def test_ros_bridge_publishes_each_camera_on_topics_of_its_own(monkeypatch):
    bridge = ros_module(monkeypatch, "hand_bridge")
    published: dict[str, list[object]] = {}
    node = SimpleNamespace(
        create_publisher=lambda kind, topic, depth: SimpleNamespace(publish=published.setdefault(topic, []).append),
        get_logger=lambda: SimpleNamespace(warning=lambda text: published.setdefault("warnings", []).append(text)),
    )
    with Publisher(ANY_PORT, "841") as publisher:

        def still_running() -> bool:
            publisher.status(replace(make_status("841"), fps=0.0))
            publisher.publish(make_message(camera="841", hands=1))
            return len(published) < 3

        monkeypatch.setattr(sys, "argv", ["hand_bridge.py", publisher.endpoint])
        bridge.rclpy.init = lambda: None
        bridge.rclpy.create_node = lambda name: node
        bridge.rclpy.ok = still_running
        monkeypatch.setattr(bridge, "SILENCE_MS", 50)
        bridge.main()
    zmq.Context.instance().destroy(linger=0)
    assert {"hands/camera_841/markers", "hands/camera_841/right"} <= set(published) - {"warnings"}
    assert "hands/camera_841/left" not in published
    assert "camera 841 gives no frames" in published["warnings"]
