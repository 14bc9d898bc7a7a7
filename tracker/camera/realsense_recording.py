"""RealSense recordings, `.bag` and `.db3`, played by librealsense: every depth frame once, bit for bit."""

from __future__ import annotations

import atexit
import logging
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace as with_changes
from functools import partial
from pathlib import Path
from typing import Any

from tracker.camera.device_clock import DeviceClock
from tracker.camera.frame import DepthFrame
from tracker.camera.playback import PlaybackCamera, RecordedFrame
from tracker.camera.realsense_index import count_depth_images
from tracker.camera.realsense_sdk import capture_time, depth_image, depth_intrinsics, is_depth_profile, load_sdk
from tracker.errors import CameraError

logger = logging.getLogger(__name__)

AHEAD_FRAMES = 4
"""Frames decoded ahead. The SDK's thread waits while they are not read, so nothing is lost."""
SILENCE_S = 2.0
"""Without a frame for so long, a playback that has not stopped is taken for stuck."""


def open_realsense_recording(path: Path, realtime: bool = False) -> PlaybackCamera:
    """A `.bag` or `.db3` recording as a camera, named by its file name without suffix.

    Reading raises CameraError at the place where a damaged file ends early; the frames before it are good.
    Raises CameraError if the file is missing, empty, cut off, of another kind, or has no depth.
    """
    if not path.is_file():
        raise CameraError(f"there is no file {path}: check the path")
    if path.stat().st_size == 0:
        raise CameraError(f"{path} is empty")
    expected = count_depth_images(path)
    if expected == 0:
        raise CameraError(f"{path} has no depth images: record it with the depth stream switched on")
    replay = _Replay(path, expected)
    return PlaybackCamera(path.stem, replay.frames(), expected, realtime, release=replay.close)


STOP_S = 1.0
"""Time that the SDK is given to stop at the end of a file."""


@dataclass(frozen=True, slots=True)
class _Broken:
    """Stands in the queue for a frame that could not be taken over."""

    error: Exception


def _receive(frame: DepthFrame) -> DepthFrame:
    return with_changes(frame, received_ns=time.time_ns())


class _Replay:
    """The SDK's playback of one depth stream, handed over by its thread through a small queue.

    The SDK's own real-time mode is not used: it loses frames without telling how many.
    """

    def __init__(self, path: Path, expected: int) -> None:
        rs = self._rs = load_sdk()
        self._path = path
        self._expected = expected
        self._clock = DeviceClock()
        self._ahead: queue.Queue[DepthFrame | _Broken] = queue.Queue(AHEAD_FRAMES)
        self._closing = threading.Event()
        self._ended = False
        try:
            # The device only lives as long as its context is held.
            self._context = rs.context()
            self._playback = self._context.load_device(str(path))
            self._playback.set_real_time(False)
            self._sensor, profile = self._depth_stream()
            self._scale = float(self._sensor.as_depth_sensor().get_depth_scale())
            self._intrinsics = depth_intrinsics(profile)
            self._sensor.open(profile)
            self._sensor.start(self._take)
            # A call of the SDK's thread into an interpreter that is ending would abort the process.
            atexit.register(self.close)
        except (RuntimeError, ValueError) as error:
            raise CameraError(f"{path} cannot be played, it is damaged or of another kind: {error}") from error

    def frames(self) -> Iterator[RecordedFrame]:
        """The frames in order; raises CameraError if there are fewer than the file's index promises."""
        last = "the start"
        for count in range(self._expected):
            frame = self._next()
            if frame is None:
                raise CameraError(
                    f"{self._path} is damaged after {last}: only {count} of its {self._expected} frames can be read"
                )
            last = f"frame {frame.number}"
            self._ended = count + 1 == self._expected
            yield RecordedFrame(frame.number, frame.captured_ns, partial(_receive, frame))

    def close(self) -> None:
        """Stop the SDK's thread and give the file back."""
        atexit.unregister(self.close)
        self._closing.set()
        # At the end of the file the SDK's thread stops the sensor itself; stopping it at the same time crashes.
        deadline = time.monotonic() + STOP_S
        while self._ended and time.monotonic() < deadline:
            if self._playback.current_status() == self._rs.playback_status.stopped:
                break
            time.sleep(0.005)
        try:
            self._sensor.stop()
            self._sensor.close()
        except RuntimeError as error:
            logger.debug("closing %s: %s", self._path, error)

    def _depth_stream(self) -> tuple[Any, Any]:
        for sensor in self._playback.query_sensors():
            for profile in sensor.get_stream_profiles():
                if is_depth_profile(self._rs, profile):
                    return sensor, profile
        raise CameraError(f"{self._path} has no 16-bit depth stream: record it with the depth stream switched on")

    def _take(self, raw: Any) -> None:
        """Called by the SDK's thread for each frame; waits where the reader is slower than the file."""
        try:
            item: DepthFrame | _Broken = self._convert(raw)
        except Exception as error:  # raised by the reader's thread instead: the SDK would only print it
            item = _Broken(error)
        while not self._closing.is_set():
            try:
                return self._ahead.put(item, timeout=0.05)
            except queue.Full:
                continue

    def _convert(self, raw: Any) -> DepthFrame:
        arrival = self._rs.frame_metadata_value.time_of_arrival
        known = raw.supports_frame_metadata(arrival)
        arrival_ns = raw.get_frame_metadata(arrival) * 1_000_000 if known else None
        captured_ns = capture_time(self._rs, raw, self._clock, arrival_ns)
        depth = depth_image(raw)
        return DepthFrame(depth, self._scale, self._intrinsics, raw.get_frame_number(), captured_ns, captured_ns)

    def _next(self) -> DepthFrame | None:
        """The next frame, None if no more come."""
        started = time.monotonic()
        while True:
            # Looked up before the wait: what was handed over before the stop is then in the queue.
            stopped = self._playback.current_status() == self._rs.playback_status.stopped
            try:
                item = self._ahead.get(timeout=0.1)
            except queue.Empty:
                silent = time.monotonic() - started
                # The status also reads "stopped" in the first milliseconds.
                if (stopped and silent > 0.3) or silent > SILENCE_S:
                    return None
                continue
            if isinstance(item, _Broken):
                raise CameraError(f"{self._path} cannot be played: {item.error}") from item.error
            return item
