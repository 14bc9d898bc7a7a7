"""A camera that needs no device: a simulated person who moves both hands before a simulated depth sensor."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from tracker.camera.base import Camera
from tracker.camera.frame import DepthFrame
from tracker.errors import CameraError, CameraTimeout
from tracker.simulation.worker import DEPTH_SCALE, INTRINSICS, PACKET_BYTES, PERIOD_NS, FrameMaker, unpack

START_SECONDS = 20.0
"""How long the simulator's process may take to start on a busy machine; half a second is usual."""


class SimulatedCamera(Camera):
    """640x480 depth at 30 frames a second with the truth in every frame; frames depend on seed and number only.

    realtime: True, a live camera: its own pace, rendered in a process of its own, the newest frame counts. False, every
    frame once, as fast as it is read. frames: how many there are; None: without end.
    """

    def __init__(self, seed: int = 0, realtime: bool = True, frames: int | None = None) -> None:
        """Raises CameraError where the simulator cannot be started."""
        if frames is not None and frames < 1:
            raise CameraError(f"the simulated camera needs at least 1 frame, not {frames}")
        if seed < 0:
            raise CameraError(f"the simulated camera's seed must be 0 or more, is {seed}")
        self.name, self.live, self.dropped = "simulated", realtime, 0
        self._frames, self._next = frames, 0
        self._closed = False
        if realtime:
            self._changed = threading.Condition()
            self._newest: bytearray | None = None
            self._received_ns = 0
            self._process = _start(seed, frames or 0)
            self._thread = threading.Thread(target=self._receive, name="simulated camera", daemon=True)
            self._thread.start()
            self._wait_for_start()
        else:
            self._maker = FrameMaker(seed)
            self._start_ns = time.time_ns()

    def read(self, timeout: float = 2.0) -> DepthFrame | None:
        """See `Camera.read`."""
        if self._closed:
            raise CameraError("the simulated camera is closed; open a new one")
        return self._read_live(timeout) if self.live else self._read_next()

    def close(self) -> None:
        """Ends the simulator's process."""
        if self._closed:
            return
        self._closed = True
        if self.live:
            self._process.terminate()
            self._process.wait()
            self._thread.join()
            assert self._process.stdout is not None
            self._process.stdout.close()

    def _read_next(self) -> DepthFrame | None:
        if self._frames is not None and self._next >= self._frames:
            return None
        number = self._next
        self._next += 1
        depth, truth = self._maker.frame(number)
        captured = self._start_ns + number * PERIOD_NS
        return DepthFrame(depth, DEPTH_SCALE, INTRINSICS, number, captured, time.time_ns(), truth)

    def _read_live(self, timeout: float) -> DepthFrame | None:
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or not self._thread.is_alive(), timeout)
            packet, received, self._newest = self._newest, self._received_ns, None
        if packet is None:
            if self._thread.is_alive():
                raise CameraTimeout(f"the simulated camera gave no frame for {timeout:g} s; is the machine overloaded?")
            self._check_end()
            return None
        number, captured, depth, truth = unpack(packet)
        self.dropped += number - self._next
        self._next = number + 1
        return DepthFrame(depth, DEPTH_SCALE, INTRINSICS, number, captured, received, truth)

    def _check_end(self) -> None:
        status = self._process.wait()
        if status or self._frames is None:
            raise CameraError(f"the simulator's process ended with status {status}; what it printed says why")

    def _receive(self) -> None:
        """Thread: takes packets as they come, and keeps the newest."""
        stream = self._process.stdout
        assert stream is not None
        while True:
            packet, filled = bytearray(PACKET_BYTES), 0
            with memoryview(packet) as view:
                while filled < PACKET_BYTES and (count := stream.readinto(view[filled:])):  # type: ignore[attr-defined]
                    filled += count
            if filled < PACKET_BYTES:
                break
            with self._changed:
                self._newest, self._received_ns = packet, time.time_ns()
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def _wait_for_start(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._process.poll() is not None, START_SECONDS)
        if self._newest is None:
            status = self._process.poll()
            self.close()
            raise CameraError(f"the simulator's process gave no frame (status {status}); what it printed says why")


def _start(seed: int, frames: int) -> subprocess.Popen[bytes]:
    """The simulator's process: it imports this package from where this one was imported."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "tracker.simulation.worker", str(seed), str(frames)]
    # One thread for its matrices: the tracker has better use for the cores.
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0, env=environment)
    if sys.platform == "linux":
        import fcntl

        assert process.stdout is not None
        # Room for a whole frame, so that it is handed over at once; a system that grants less is only slower.
        with contextlib.suppress(OSError):
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 1 << 20)
    return process
