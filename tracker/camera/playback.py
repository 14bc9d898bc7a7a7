"""Playing a recording: every frame once, or at its own pace with the losses of a live camera.

The kinds of recordings differ only in how they find and decode a frame; the rest is here, once.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tracker.camera.base import Camera
from tracker.camera.frame import DepthFrame
from tracker.errors import CameraError, CameraTimeout


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """A frame that can be skipped without decoding it.

    number: of the frame. captured_ns: capture time, nanoseconds. load: decodes the frame; raises CameraError if it is
    broken.
    """

    number: int
    captured_ns: int
    load: Callable[[], DepthFrame]


class PlaybackCamera(Camera):
    """A recording as a camera.

    frames: the recording in order; may raise CameraError where the recording is broken. count: how many there are.
    realtime: hand out the newest frame that is due, counting those skipped in `dropped`. Time starts at the first
    `read`. Otherwise every frame is handed out once, as fast as they are asked for.
    release: called once, by `close`.
    """

    def __init__(
        self,
        name: str,
        frames: Iterator[RecordedFrame],
        count: int,
        realtime: bool,
        release: Callable[[], None],
    ) -> None:
        self.name = name
        self.count = count
        self.live = realtime
        self._frames = frames
        self._release: Callable[[], None] | None = release
        self._ahead: deque[RecordedFrame] = deque()
        self._zero_ns: int | None = None

    def read(self, timeout: float = 2.0) -> DepthFrame | None:
        """The next frame (in real time: the newest one due), None at the end. Errors as in `Camera.read`."""
        if self._release is None:
            raise CameraError(f"recording {self.name} is closed: open it again to read it")
        if self.live:
            return self._read_due(timeout)
        recorded = next(self._frames, None)
        return None if recorded is None else recorded.load()

    def rest(self) -> list[RecordedFrame]:
        """The frames that follow, undecoded: those of a folder or an `.h5` file load in any order, until `close`."""
        return list(self._frames)

    def find(self, number: int | None) -> DepthFrame:
        """The frame with a number, None the next one; those before it are passed over, most of them undecoded.

        Raises CameraError if there is none.
        """
        if self._release is None:
            raise CameraError(f"recording {self.name} is closed: open it again to read it")
        passed: list[int] = []
        for recorded in self._frames:
            if number is None or recorded.number == number:
                return recorded.load()
            passed.append(recorded.number)
        there = f"its frames are numbered {min(passed)} to {max(passed)}" if passed else "it has ended"
        raise CameraError(f"recording {self.name} has no frame {number}: {there}")

    def close(self) -> None:
        """Give the file back."""
        release, self._release = self._release, None
        if release is not None:
            self._ahead.clear()
            release()

    def _read_due(self, timeout: float) -> DepthFrame | None:
        self._look_ahead()
        if not self._ahead:
            return None
        if self._zero_ns is None:
            self._zero_ns = time.monotonic_ns() - self._ahead[0].captured_ns
        while len(self._ahead) == 2 and self._seconds_until(self._ahead[1]) <= 0:
            self._ahead.popleft()
            self.dropped += 1
            self._look_ahead()
        wait = self._seconds_until(self._ahead[0])
        time.sleep(max(0.0, min(wait, timeout)))
        if wait > timeout:
            raise CameraTimeout(f"recording {self.name} has its next frame in {wait - timeout:.1f} s only: read again")
        return self._ahead.popleft().load()

    def _look_ahead(self) -> None:
        while len(self._ahead) < 2 and (recorded := next(self._frames, None)) is not None:
            self._ahead.append(recorded)

    def _seconds_until(self, recorded: RecordedFrame) -> float:
        assert self._zero_ns is not None
        return (self._zero_ns + recorded.captured_ns - time.monotonic_ns()) / 1e9
