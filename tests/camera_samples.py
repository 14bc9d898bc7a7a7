"""Depth, recordings and cameras that the tests of `tracker.camera` are made from."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker.camera import open_recorder
from tracker.camera.frame import DepthFrame, HandTruth, Intrinsics

INTRINSICS = Intrinsics(64, 48, 50.5, 51.25, 31.5, 23.75)
START_NS = 1_700_000_000_123_456_789
PERIOD_NS = 11_111_111


def depth_of(number: int, width: int = 64, height: int = 48) -> NDArray[np.uint16]:
    """An image that is another one for every frame number, and that compresses badly."""
    return np.random.default_rng(number).integers(0, 65536, (height, width), dtype=np.uint16)


def hand_of(number: int, side: Any = "left") -> HandTruth:
    joints = np.random.default_rng(number).normal(0.1, 0.3, (21, 3)).astype(np.float32)
    joints[number % 21] = np.nan
    return HandTruth(joints, side)


def frame_of(number: int, truth: tuple[HandTruth, ...] | None = None) -> DepthFrame:
    captured_ns = START_NS + number * PERIOD_NS
    return DepthFrame(depth_of(number), 0.000125, INTRINSICS, number, captured_ns, captured_ns, truth)


def frames_with_truth() -> list[DepthFrame]:
    """Ten frames: hands of every kind, no hands, nobody knows, and gaps in the numbers."""
    truths = [None, (), (hand_of(1),), (hand_of(2, "right"), hand_of(3, None)), None]
    return [frame_of(3 * row + 7, truths[row % len(truths)]) for row in range(10)]


def assert_same(frames: list[DepthFrame], originals: list[DepthFrame]) -> None:
    """Bit for bit, with numbers, times and truth."""
    assert [frame.number for frame in frames] == [original.number for original in originals]
    for frame, original in zip(frames, originals, strict=True):
        assert frame.depth.dtype == np.uint16
        np.testing.assert_array_equal(frame.depth, original.depth)
        assert (frame.depth_scale, frame.intrinsics) == (original.depth_scale, original.intrinsics)
        assert frame.captured_ns == original.captured_ns
        assert (frame.truth is None) == (original.truth is None)
        for hand, known in zip(frame.truth or (), original.truth or (), strict=True):
            assert hand.side == known.side
            np.testing.assert_array_equal(hand.joints, known.joints)


def record(path: Path, frames: list[DepthFrame]) -> Path:
    """A recording of the project's own, a folder or an `.h5` file; returns its path."""
    with open_recorder(path, "walk", lossless=True) as recorder:
        for frame in frames:
            recorder.write(frame)
    assert recorder.written == len(frames)
    return path


class SoftwareCamera:
    """A device of the SDK without hardware: what is pushed in comes out of its depth sensor."""

    def __init__(self, serial: str, *modes: tuple[int, int, int]) -> None:
        import pyrealsense2 as rs

        self.rs = rs
        self.device = rs.software_device()
        self.device.register_info(rs.camera_info.serial_number, serial)
        self.device.register_info(rs.camera_info.name, "Software camera")
        self.sensor = self.device.add_sensor("Depth")
        self.sensor.add_read_only_option(rs.option.depth_units, 0.000125)
        self.profiles = {}
        for number, mode in enumerate(modes or ((64, 48, 30),)):
            self.profiles[mode] = self.sensor.add_video_stream(self._stream(number, mode))
        self.mode = next(iter(self.profiles))

    def _stream(self, number: int, mode: tuple[int, int, int]) -> Any:
        stream, k = self.rs.video_stream(), self.rs.intrinsics()
        stream.type, stream.fmt, stream.index, stream.bpp = self.rs.stream.depth, self.rs.format.z16, 0, 2
        stream.uid = number
        stream.width, stream.height, stream.fps = mode
        k.width, k.height, _ = mode
        k.fx, k.fy, k.ppx, k.ppy, k.model = 50.5, 51.25, 31.5, 23.75, self.rs.distortion.none
        stream.intrinsics = k
        return stream

    def push(self, number: int, stamp_ms: float, domain: str = "system_time") -> None:
        """One frame, `depth_of(number)`."""
        width, height, _ = self.mode
        frame = self.rs.software_video_frame()
        frame.pixels = depth_of(number, width, height)
        frame.stride, frame.bpp, frame.depth_units = 2 * width, 2, 0.000125
        frame.frame_number, frame.timestamp = number, stamp_ms
        frame.domain = getattr(self.rs.timestamp_domain, domain)
        frame.profile = self.profiles[self.mode].as_video_stream_profile()
        self.sensor.on_video_frame(frame)


def record_db3(path: Path, count: int, size: tuple[int, int] = (64, 48), compress: bool = True) -> None:
    """A recording made by the SDK: frames 1 to `count`, 20 ms apart from 1.7e12 ms on."""
    camera = SoftwareCamera("0042", (*size, 30))
    recorder = camera.rs.recorder(str(path), camera.device, compress)
    sensor = recorder.query_sensors()[0]
    sensor.open(camera.profiles[camera.mode])
    sensor.start(camera.rs.frame_queue(2))
    for number in range(1, count + 1):
        camera.push(number, 1.7e12 + 20 * number)
        time.sleep(0.002)  # the recorder drops what comes faster than it writes
    sensor.stop()
    sensor.close()
