"""RealSense recordings, `.bag` and `.db3`, played by librealsense: every depth frame once, bit for bit."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace as with_changes
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from tracker.camera.frame import DepthFrame, Intrinsics
from tracker.camera.playback import PlaybackCamera, RecordedFrame
from tracker.camera.realsense_index import count_depth_images
from tracker.camera.realsense_player import FAULT, FRAME, LENS, MESSAGE, Message
from tracker.camera.realsense_sdk import load_sdk
from tracker.errors import CameraError

AHEAD_FRAMES = 4
"""Frames read ahead."""
PATIENCE_S = 30.0
"""A player that is silent for so long hangs; one whose playback is stuck says so much earlier. It starts in a third of
a second, on a busy computer with a cold disk in many times that."""
LARGEST_BYTES = 1 << 26
"""More than any depth image has."""
ROOT = str(Path(__file__).resolve().parents[2])
"""The folder that holds the package `tracker`."""


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
    load_sdk()  # if it is missing, that is told here
    replay = _Replay(path, expected)
    return PlaybackCamera(path.stem, replay.frames(), expected, realtime, release=replay.close)


class _Replay:
    """One depth stream, played in a process of its own (`realsense_player`) and read by a thread."""

    def __init__(self, path: Path, expected: int) -> None:
        self._path = path
        self._expected = expected
        self._ahead: queue.Queue[Message] = queue.Queue(AHEAD_FRAMES)
        try:
            self._noise = tempfile.TemporaryFile()  # noqa: SIM115
            self._player = _start(path, expected, self._noise)
        except OSError as error:
            raise CameraError(f"{path} cannot be played, as no process can be started for it: {error}") from error
        closing = threading.Event()
        reader = threading.Thread(
            target=_read, args=(self._player, self._ahead, closing), name=f"player of {path.name}", daemon=True
        )
        # It is also called where nobody closes the camera: when that is forgotten, or the interpreter ends.
        self.close = weakref.finalize(self, _end, self._player, reader, closing, self._noise)
        reader.start()
        kind, _, _, data = self._next()
        if kind != LENS:
            raise CameraError(f"{path} cannot be played, it is damaged or of another kind{self._why(data)}")
        lens = json.loads(data)
        self._scale = lens["depth_scale"]
        self._intrinsics = Intrinsics(**lens["intrinsics"])

    def frames(self) -> Iterator[RecordedFrame]:
        """The frames in order; raises CameraError if there are fewer than the file's index promises."""
        last = "the start"
        for count in range(self._expected):
            kind, number, captured_ns, data = self._next()
            if kind != FRAME:
                raise CameraError(
                    f"{self._path} is damaged after {last}: "
                    f"only {count} of its {self._expected} frames can be read{self._why(data)}"
                )
            last = f"frame {number}"
            depth = np.frombuffer(data, np.uint16).reshape(self._intrinsics.height, self._intrinsics.width)
            frame = DepthFrame(depth, self._scale, self._intrinsics, number, captured_ns, captured_ns)
            yield RecordedFrame(number, captured_ns, partial(_receive, frame))

    def _next(self) -> Message:
        try:
            return self._ahead.get(timeout=PATIENCE_S)
        except queue.Empty:
            return FAULT, 0, 0, f"librealsense was silent for {PATIENCE_S:g} s".encode()

    def _why(self, told: Any) -> str:
        """The reason in brackets, if there is one: what the player told, or else what it printed and how it ended."""
        if told:
            return f" ({bytes(told).decode(errors='replace')})"
        self._noise.seek(0)
        # The last line printed, and the indented ones that go on with it.
        last = re.findall(r"^\S.*(?:\n\s.*)*", self._noise.read().decode(errors="replace"), re.MULTILINE)[-1:]
        reasons = [" ".join(lines.split())[:300] for lines in last]
        ended = self._player.poll()
        if ended:
            reasons.append(f"librealsense ended with {signal.strsignal(-ended) if ended < 0 else f'status {ended}'}")
        return f" ({', '.join(reasons)})" if reasons else ""


def _receive(frame: DepthFrame) -> DepthFrame:
    return with_changes(frame, received_ns=time.time_ns())


def _start(path: Path, expected: int, noise: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start the player. noise: where to what it and the SDK print goes."""
    code = (
        f"import sys; sys.path[:] = {_search_path()!a}; "
        f"from tracker.camera.realsense_player import main; main(sys.argv[1], {expected})"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        bufsize=0,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=noise,
        # Ctrl-C in the terminal is for this process only.
        start_new_session=True,
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )


def _search_path() -> list[str]:
    """Where the player finds modules: as this process, but not in the current folder, which is not made for that."""
    here = os.getcwd()
    places = [os.path.abspath(place) for place in sys.path if isinstance(place, str)]
    places = [place for place in places if place == ROOT or place != here]
    return places if ROOT in places else [*places, ROOT]


def _read(player: subprocess.Popen[bytes], ahead: queue.Queue[Message], closing: threading.Event) -> None:
    """Pass on what the player writes, until it ends or the recording is closed."""
    assert player.stdout is not None
    kind = LENS
    with player.stdout:
        while kind != FAULT and not closing.is_set():
            message = _message(player.stdout)
            kind = message[0]
            if kind == FAULT:  # it ends now; how, is known when it is handed over
                with contextlib.suppress(subprocess.TimeoutExpired):
                    player.wait(5)
            while not closing.is_set():
                with contextlib.suppress(queue.Full):
                    ahead.put(message, timeout=0.05)
                    break
    player.kill()
    player.wait()


def _message(pipe: IO[bytes]) -> Message:
    """The next message; a FAULT without a reason if the player has ended."""
    head = _exactly(pipe, MESSAGE.size)
    if head is not None:
        kind, number, captured_ns, size = MESSAGE.unpack(head)
        data = _exactly(pipe, size) if size <= LARGEST_BYTES else None
        if data is not None:
            return kind, number, captured_ns, data
    return FAULT, 0, 0, b""


def _exactly(pipe: IO[bytes], size: int) -> bytearray | None:
    """So many bytes, None if the pipe ends before."""
    data = bytearray(size)
    rest = memoryview(data)
    while rest:
        count = pipe.readinto(rest)  # type: ignore[attr-defined]
        if not count:
            return None
        rest = rest[count:]
    return data


def _end(player: subprocess.Popen[bytes], reader: threading.Thread, closing: threading.Event, noise: IO[bytes]) -> None:
    """End the player and the thread that reads from it."""
    closing.set()
    player.kill()
    if reader is not threading.current_thread():  # where the garbage collector calls, that may be any thread
        reader.join()
    noise.close()
