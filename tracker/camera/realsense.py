"""Live RealSense cameras: the newest depth frame, with the device's own scale, intrinsics and time.

The depth sensor is opened directly, not through `rs.pipeline`: that waits 15 s for a camera that is not there, and
librealsense's software device, which the tests push frames through, works with sensors only.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from tracker.camera.base import Camera
from tracker.camera.device_clock import DeviceClock
from tracker.camera.frame import DepthFrame, Intrinsics
from tracker.camera.realsense_sdk import capture_time, depth_image, depth_intrinsics, is_depth_profile, load_sdk
from tracker.errors import CameraError, CameraTimeout

logger = logging.getLogger(__name__)

PREFERRED_MODES = ((848, 480, 90), (640, 480, 30))
"""(width, height, frames a second), the best first."""
PRESETS = ("Hand", "High Accuracy")
"""Visual presets by their name in the SDK, the best first; L515 and SR300 have others, which are left alone."""
QUEUE_FRAMES = 4
CHECK_S = 0.5
"""Silence after which it is looked whether the camera is still there, and time between two attempts to open it."""
STALLED_S = 5.0
"""Silence after which a camera that is there is opened again. Some need two seconds for their first frame."""

Devices = Callable[[], Sequence[Any]]


@dataclass(frozen=True, slots=True)
class RealSenseInfo:
    """A camera that is plugged in. usb: "3.2" or "2.1", what the port and cable really give."""

    serial: str
    name: str
    firmware: str
    usb: str


@dataclass(frozen=True, slots=True)
class DepthSource:
    """The depth sensor of a device, running. mode: (width, height, frames a second). scale: metres per unit."""

    device: Any
    sensor: Any
    queue: Any
    mode: tuple[int, int, int]
    intrinsics: Intrinsics
    scale: float

    def close(self) -> None:
        """Stop the sensor, also if it was unplugged meanwhile."""
        for give_back in (self.sensor.stop, self.sensor.close):
            with contextlib.suppress(RuntimeError):
                give_back()


@cache
def _context() -> Any:
    return load_sdk().context()


def connected_devices() -> Sequence[Any]:
    """The SDK's devices that are plugged in now, a few milliseconds. Raises CameraError without the SDK."""
    try:
        return list(_context().query_devices())
    except RuntimeError as error:
        raise CameraError(f"librealsense cannot look for cameras: {error}") from error


def list_realsense(devices: Devices = connected_devices) -> list[RealSenseInfo]:
    """The RealSense cameras with a depth sensor that are plugged in. Raises CameraError without the SDK."""
    rs = load_sdk()
    fields = [
        getattr(rs.camera_info, key) for key in ("serial_number", "name", "firmware_version", "usb_type_descriptor")
    ]
    found = []
    for device in devices():
        with contextlib.suppress(RuntimeError):  # unplugged while being asked
            if _depth_sensor(device) is not None and device.supports(rs.camera_info.serial_number):
                found.append(RealSenseInfo(*(device.get_info(f) if device.supports(f) else "unknown" for f in fields)))
    return found


def depth_source(device: Any) -> DepthSource:
    """Open and start the depth sensor of a device in its best mode. Raises CameraError."""
    rs = load_sdk()
    try:
        sensor = _depth_sensor(device)
        profiles = [] if sensor is None else [p for p in sensor.get_stream_profiles() if is_depth_profile(rs, p)]
        if sensor is None or not profiles:
            raise CameraError("the device has no 16-bit depth stream: use a RealSense depth camera")
        modes = {_mode(profile): profile for profile in profiles}
        mode = choose_mode(list(modes))
        _set_preset(rs, sensor)
        queue = rs.frame_queue(QUEUE_FRAMES)
        sensor.open(modes[mode])
        try:
            scale = float(sensor.as_depth_sensor().get_depth_scale())
            source = DepthSource(device, sensor, queue, mode, depth_intrinsics(modes[mode]), scale)
            sensor.start(queue)
        except BaseException:
            sensor.close()
            raise
    except (RuntimeError, ValueError) as error:
        raise CameraError(
            f"the RealSense camera cannot be opened: {error} (close other programs that use it; "
            "on Linux without the SDK's udev rules it needs their installation, or root; replug the camera)"
        ) from error
    return source


def choose_mode(modes: Sequence[tuple[int, int, int]]) -> tuple[int, int, int]:
    """The mode to use of those offered, each (width, height, frames a second).

    848x480 at 90, else 640x480 at 30, else the nearest to 640x480 in pixels, of these the quickest up to 90.
    """
    for mode in PREFERRED_MODES:
        if mode in modes:
            return mode
    return min(modes, key=lambda mode: (abs(mode[0] * mode[1] - 640 * 480), mode[2] > 90, -mode[2]))


def _mode(profile: Any) -> tuple[int, int, int]:
    video = profile.as_video_stream_profile()
    return video.width(), video.height(), profile.fps()


def _depth_sensor(device: Any) -> Any:
    return next((sensor for sensor in device.query_sensors() if sensor.is_depth_sensor()), None)


def _set_preset(rs: Any, sensor: Any) -> None:
    """Choose the preset made for hands, where there is one; a camera that refuses it still works."""
    option = rs.option.visual_preset
    try:
        if not sensor.supports(option):
            return
        values = range(int(sensor.get_option_range(option).min), int(sensor.get_option_range(option).max) + 1)
        by_name = {sensor.get_option_value_description(option, value): value for value in values}
        for name in PRESETS:
            if name in by_name:
                sensor.set_option(option, by_name[name])
                logger.info("visual preset: %s", name)
                return
    except RuntimeError as error:
        logger.warning("the visual preset could not be set: %s", error)


class RealSenseCamera(Camera):
    """A RealSense depth camera; named by its serial number. mode: (width, height, frames a second) in use.

    serial: which one; None takes the only or first one. devices: how to look for devices.

    A thread keeps the newest frame. A camera that is unplugged makes `read` raise CameraTimeout until it is back; then
    it goes on by itself, and the frame numbers with it. `dropped` counts gaps in the device's frame numbers and frames
    that were replaced by a newer one before they were read, each once.
    """

    live = True

    def __init__(self, serial: str | None = None, *, devices: Devices = connected_devices) -> None:
        """Open the camera. Raises CameraError if it is not there or cannot be opened, in well under a second."""
        self._rs = load_sdk()
        self._devices = devices
        self.name = _choose_serial(serial, list_realsense(devices))
        source = self._open()
        if source is None:
            raise CameraError(f"RealSense {self.name} was unplugged while it was opened: plug it in again")
        self.mode = source.mode
        self._clock = DeviceClock()
        self._last_number: int | None = None
        self._last_on_device: int | None = None
        self._changed = threading.Condition()
        self._latest: DepthFrame | None = None
        self._broken: Exception | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(source,), name=f"RealSense {self.name}", daemon=True)
        self._thread.start()

    def read(self, timeout: float = 2.0) -> DepthFrame:
        """The newest frame that was not handed out yet. Errors as in `Camera.read`."""
        with self._changed:
            self._changed.wait_for(lambda: self._latest or self._broken or self._closing.is_set(), timeout)
            frame, self._latest = self._latest, None
        if self._closing.is_set():
            raise CameraError(f"RealSense {self.name} is closed: open it again to read it")
        if frame is not None:
            return frame
        if self._broken is not None:
            raise CameraError(f"RealSense {self.name} failed: {self._broken}") from self._broken
        raise CameraTimeout(
            f"RealSense {self.name} gave no frame for {timeout:g} s: check its cable; it goes on once it is plugged in"
        )

    def close(self) -> None:
        """Stop the camera."""
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join()

    def _run(self, source: DepthSource | None) -> None:
        try:
            while not self._closing.is_set():
                if source is None:
                    source = self._reopen()
                else:
                    self._take_frames(source)
                    source.close()
                    source = None
        except Exception as error:  # told by `read`, in the thread of the caller
            logger.debug("the thread of RealSense %s ends", self.name, exc_info=True)
            with self._changed:
                self._broken = error
                self._changed.notify_all()
        finally:
            if source is not None:
                source.close()

    def _take_frames(self, source: DepthSource) -> None:
        """Keep the newest frame until the camera is gone, silent, or closed."""
        heard = checked = time.monotonic()
        while not self._closing.is_set():
            try:
                arrived, raw = source.queue.try_wait_for_frame(100)
                now = time.monotonic()
                if arrived:
                    self._accept(source, raw)
                    heard = checked = now
                elif now - heard > STALLED_S:
                    logger.warning("RealSense %s gives no frames: opening it again", self.name)
                    return
                elif now - checked > CHECK_S:
                    checked = now
                    if not source.device.is_connected() or self._find() is None:
                        logger.warning("RealSense %s is gone: waiting for it to come back", self.name)
                        return
            except (RuntimeError, CameraError) as error:
                logger.warning("RealSense %s: %s: opening it again", self.name, error)
                return
            raw = None  # the SDK's frame goes back to its pool before the next one is waited for

    def _accept(self, source: DepthSource, raw: Any) -> None:
        received_ns = time.time_ns()
        on_device = raw.get_frame_number()
        captured_ns = capture_time(self._rs, raw, self._clock, received_ns)
        if self._last_number is None:
            number = on_device
        elif self._last_on_device is None or on_device <= self._last_on_device:  # plugged in again, or restarted
            number = self._last_number + 1
        else:
            number = self._last_number + on_device - self._last_on_device
            self.dropped += number - self._last_number - 1
        self._last_number, self._last_on_device = number, on_device
        frame = DepthFrame(depth_image(raw), source.scale, source.intrinsics, number, captured_ns, received_ns)
        with self._changed:
            self.dropped += self._latest is not None
            self._latest = frame
            self._changed.notify()

    def _reopen(self) -> DepthSource | None:
        source = None
        try:
            source = self._open()
        except CameraError as error:
            logger.debug("RealSense %s: %s", self.name, error)
        if source is None:
            self._closing.wait(CHECK_S)
        else:
            self._last_on_device = None
            logger.warning("RealSense %s is back", self.name)
        return source

    def _open(self) -> DepthSource | None:
        device = self._find()
        if device is None:
            return None
        source = depth_source(device)
        logger.info("RealSense %s: depth %dx%d at %d frames a second", self.name, *source.mode)
        return source

    def _find(self) -> Any | None:
        """The device with this camera's serial number, if it is plugged in."""
        serial = self._rs.camera_info.serial_number
        for device in self._devices():
            with contextlib.suppress(RuntimeError):
                if device.supports(serial) and device.get_info(serial) == self.name:
                    return device
        return None


def _choose_serial(serial: str | None, found: Sequence[RealSenseInfo]) -> str:
    if not found:
        raise CameraError(
            f"no RealSense {serial or 'camera'} is plugged in (lsusb shows what the computer sees; on Linux a camera "
            "needs the udev rules of the SDK to be found); without one use --camera simulated, or a recording"
        )
    serials = [info.serial for info in found]
    if serial is not None and serial not in serials:
        raise CameraError(f"there is no RealSense {serial}: plugged in are {', '.join(serials)}")
    return serial or serials[0]
