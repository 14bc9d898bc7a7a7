"""The process that plays a RealSense recording and writes its depth frames to its standard output.

librealsense now and then aborts the process in which a playback is stopped or dropped: a thread of its own waits for
itself. Here that cannot take a user's program along, and it does not come to it: the process leaves without stopping
anything. `realsense_recording` starts it and reads what it writes: a row of messages, each a `MESSAGE` head and as
many bytes as the head says; first one `LENS`, then a `FRAME` for each depth image. A `FAULT` is the last one.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, NoReturn

from tracker.camera.device_clock import DeviceClock
from tracker.camera.realsense_sdk import capture_time, depth_image, depth_intrinsics, is_depth_profile, load_sdk
from tracker.errors import CameraError

MESSAGE = struct.Struct("=cqqI")
"""Kind, frame number, capture time (Unix epoch, nanoseconds), bytes that follow."""
LENS = b"L"
"""JSON: "depth_scale" (metres per unit) and "intrinsics", the fields of Intrinsics."""
FRAME = b"F"
"""The depth image, (height, width) uint16 in the machine's byte order."""
FAULT = b"X"
"""UTF-8: why the recording cannot be played."""

AHEAD_FRAMES = 2
"""Frames decoded ahead. The SDK's thread waits while they are not written, so nothing is lost."""
SILENCE_S = 2.0
"""Without a frame for so long, a playback that has not stopped is taken for stuck."""

Message = tuple[bytes, int, int, Any]
"""Kind, number, capture time, and data: anything with a buffer."""


def main(path: str, expected: int) -> NoReturn:
    """Write the first `expected` frames of a recording to standard output, as messages. The process ends with it."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the SDK prints must not get between the frames

    def send(message: Message) -> None:
        kind, number, captured_ns, data = message
        output.write(MESSAGE.pack(kind, number, captured_ns, memoryview(data).nbytes))
        output.write(data)
        output.flush()

    try:
        _play(path, expected, send)
    except BrokenPipeError:  # nobody reads any more
        os._exit(0)
    except Exception as error:  # whose traceback holds the SDK's objects until the process has left
        with contextlib.suppress(OSError):
            send((FAULT, 0, 0, str(error).encode(errors="replace")))
        os._exit(1)


def _play(path: str, expected: int, send: Callable[[Message], None]) -> NoReturn:
    rs = load_sdk()
    # The device only lives as long as its context is held.
    context = rs.context()
    playback = context.load_device(path)
    # The SDK's own real-time mode is not used: it loses frames without telling how many.
    playback.set_real_time(False)
    sensor, profile = _depth_stream(rs, playback)
    scale, intrinsics = float(sensor.as_depth_sensor().get_depth_scale()), depth_intrinsics(profile)
    shape = (intrinsics.height, intrinsics.width)
    clock = DeviceClock()
    ahead: queue.Queue[Message] = queue.Queue(AHEAD_FRAMES)
    taken = 0

    def take(raw: Any) -> None:
        """Called by the SDK's thread for each frame; waits where the reader is slower than the file."""
        nonlocal taken
        try:
            message = _message(rs, raw, clock)
            if message[3].shape != shape:
                raise ValueError("its images change their size")
        except Exception as error:  # the SDK would only print it
            message = (FAULT, 0, 0, str(error).encode(errors="replace"))
        ahead.put(message)
        taken += 1
        if taken == expected:
            threading.Event().wait()  # for the end of the process: the SDK must not come to stopping by itself

    sensor.open(profile)
    sensor.start(take)
    send((LENS, 0, 0, json.dumps({"depth_scale": scale, "intrinsics": asdict(intrinsics)}).encode()))
    for _ in range(expected):
        message = _next(rs, playback, ahead)
        if message is None:
            break
        send(message)
        if message[0] == FAULT:
            break
    os._exit(0)  # a return would drop the SDK's objects


def _depth_stream(rs: Any, playback: Any) -> tuple[Any, Any]:
    for sensor in playback.query_sensors():
        for profile in sensor.get_stream_profiles():
            if is_depth_profile(rs, profile):
                return sensor, profile
    raise CameraError("it has no 16-bit depth stream: record it with the depth stream switched on")


def _message(rs: Any, raw: Any, clock: DeviceClock) -> Message:
    arrival = rs.frame_metadata_value.time_of_arrival
    arrival_ns = raw.get_frame_metadata(arrival) * 1_000_000 if raw.supports_frame_metadata(arrival) else None
    return FRAME, raw.get_frame_number(), capture_time(rs, raw, clock, arrival_ns), depth_image(raw)


def _next(rs: Any, playback: Any, ahead: queue.Queue[Message]) -> Message | None:
    """The next message, None if no more come."""
    started = time.monotonic()
    while True:
        # Looked up before the wait: what was handed over before the stop is then in the queue.
        stopped = playback.current_status() == rs.playback_status.stopped
        try:
            return ahead.get(timeout=0.1)
        except queue.Empty:
            silent = time.monotonic() - started
            # The status also reads "stopped" in the first milliseconds.
            if (stopped and silent > 0.3) or silent > SILENCE_S:
                return None
