"""Recording while tracking: frames go to a thread of their own, so that the loop never waits for the disk."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from tracker.camera.frame import DepthFrame
from tracker.camera.recording_header import RecordingHeader
from tracker.errors import CameraError

if TYPE_CHECKING:
    from tracker.stream.message import HandsMessage

logger = logging.getLogger(__name__)

QUEUE_FRAMES = 45
"""Frames that may wait for the disk: half a second at 90 frames a second, 37 MB at 848x480."""


class FrameFile(ABC):
    """A recording that is being written. A process that is killed leaves a file that can be read."""

    @abstractmethod
    def append(self, frame: DepthFrame, message: str | None = None) -> None:
        """Write a frame that fits the header and, if it has one, its message: a line of JSON without line end."""

    @abstractmethod
    def close(self) -> None:
        """Finish the file."""


def reason_of(error: BaseException) -> str:
    """Why something failed, as one line for people. HDF5's own texts have line breaks and addresses in them."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return " ".join(str(error).split())


class Recorder:
    """Writes frames and their messages behind the back of the loop. Use it in a `with` block or call `close`.

    name: of the camera. create: starts the file, once the first frame has told its size.
    lossless: `write` waits for the disk where a frame would be lost; for sources that wait themselves.
    target: what is written, for errors.
    written, dropped: frames in the file, and frames lost, with their messages, because the disk was too slow or could
    not be written to.
    A frame that is handed in must not be changed afterwards; cameras hand out a new array each time.
    """

    def __init__(
        self,
        name: str,
        create: Callable[[RecordingHeader], FrameFile],
        lossless: bool = False,
        target: str = "the recording",
    ) -> None:
        self.written = 0
        self.dropped = 0
        self._name = name
        self._target = target
        self._create = create
        self._lossless = lossless
        self._error: CameraError | None = None
        self._waiting: queue.Queue[tuple[DepthFrame, HandsMessage | None] | None] = queue.Queue(QUEUE_FRAMES)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"recorder of {name}", daemon=True)
        self._thread.start()

    def write(self, frame: DepthFrame, message: HandsMessage | None = None) -> None:
        """Take a frame, and what was tracked in it. They are written, or lost, together.

        Raises CameraError, once, if the file could not be written; later frames are then let go.
        """
        if self._error is not None:
            self.dropped += 1
        self._raise_error()
        if self._closed:
            raise CameraError("the recording is closed: open a new one to record more")
        try:
            self._waiting.put((frame, message), block=self._lossless)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what waits, finish the file, and log how many frames it has. Raises CameraError as `write` does."""
        if self._closed:
            return
        self._closed = True
        self._waiting.put(None)
        self._thread.join()
        if self.dropped:
            logger.warning(
                "recorded %d frames; %d were lost because the disk or the compression is too slow, so that a replay "
                "can differ from what was tracked",
                self.written,
                self.dropped,
            )
        else:
            logger.info("recorded %d frames", self.written)
        self._raise_error()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self) -> None:
        try:
            self._write_all()
        except Exception as error:  # whatever it is, the loop must not wait for a thread that has ended
            mend = "; make room, or record to another disk" if isinstance(error, OSError) else ""
            told = CameraError(
                f"{self._target} ends after {self.written} frames, it cannot be written: {reason_of(error)}{mend}"
            )
            # The frame that could not be written is lost, and those that wait are; they count before it is told.
            self.dropped += 1
            ended = False
            while not (ended or self._waiting.empty()):
                ended = self._let_go()
            self._error = told
            while not ended:
                ended = self._let_go()

    def _let_go(self) -> bool:
        """Take what waits, and count it as lost; says whether that was the end."""
        ended = self._waiting.get() is None
        self.dropped += not ended
        return ended

    def _write_all(self) -> None:
        # The messages' module imports this package: at the top of the file the two would wait for each other.
        from tracker.stream.message import to_json_line

        item = self._waiting.get()
        if item is None:
            return
        header = RecordingHeader(self._name, item[0].intrinsics, item[0].depth_scale)
        file = self._create(header)
        try:
            while item is not None:
                frame, message = item
                if not header.fits(frame):
                    raise CameraError(f"frame {frame.number} has another size, lens or scale than the first one")
                file.append(frame, None if message is None else to_json_line(message))
                self.written += 1
                item = self._waiting.get()
        except Exception:
            with contextlib.suppress(Exception):  # on a full disk closing fails, too; the first error counts
                file.close()
            raise
        file.close()
