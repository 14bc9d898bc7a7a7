"""The parts of librealsense that live cameras and recordings share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker.camera.device_clock import DeviceClock
from tracker.camera.frame import Intrinsics
from tracker.errors import CameraError, missing_package


def load_sdk() -> Any:
    """The module pyrealsense2. Raises CameraError saying how to install it."""
    try:
        import pyrealsense2
    except ModuleNotFoundError as error:
        raise CameraError(
            missing_package("pyrealsense2", "A RealSense camera or recording", "pip install pyrealsense2")
        ) from error
    except ImportError as error:
        raise CameraError(
            f"pyrealsense2 cannot be loaded: {error} (on Debian and Ubuntu: apt install libusb-1.0-0)"
        ) from error
    return pyrealsense2


def depth_intrinsics(profile: Any) -> Intrinsics:
    """Intrinsics of a video stream profile, without its lens distortion (D400 depth images are rectified)."""
    k = profile.as_video_stream_profile().get_intrinsics()
    return Intrinsics(k.width, k.height, k.fx, k.fy, k.ppx, k.ppy)


def is_depth_profile(rs: Any, profile: Any) -> bool:
    """Whether a stream profile gives 16-bit depth images."""
    return profile.stream_type() == rs.stream.depth and profile.format() == rs.format.z16


def depth_image(frame: Any) -> NDArray[np.uint16]:
    """A copy, (height, width) uint16: the SDK stops when too many of its own frames are held."""
    return np.array(frame.as_depth_frame().get_data(), np.uint16)


def capture_time(rs: Any, frame: Any, clock: DeviceClock, arrival_ns: int | None) -> int:
    """Capture time of an SDK frame, Unix epoch ns. arrival_ns: None where nobody knows it, in a recording."""
    if frame.get_frame_timestamp_domain() != rs.timestamp_domain.hardware_clock or arrival_ns is None:
        return clock.from_host_stamp(frame.get_timestamp())
    return clock.from_device_stamp(frame.get_timestamp(), arrival_ns)
