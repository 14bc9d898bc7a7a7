"""What a person may change while the tracker runs: pause, filter, recording. Any thread sets it, the loop obeys."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tracker.errors import CameraError, TrackerError
from tracker.tracking.one_euro import FilterConfig

if TYPE_CHECKING:
    from tracker.camera.frame import DepthFrame
    from tracker.camera.recorder import Recorder
    from tracker.hand_tracker import Tracker
    from tracker.stream.message import HandsMessage

log = logging.getLogger(__name__)


class RecordSwitch:
    """A recording that can be started and stopped while frames go by; safe to use from several threads.

    open_recorder: makes the recorder of a path. first: the path of a recording that starts at once, or None.
    folder, suffix: where and as what further ones are written, under the time at which they start.
    path: of the recording that is being written, None while there is none. last: of the one before.
    error: why the last recording ended by itself, empty where it did not.
    """

    def __init__(
        self, open_recorder: Callable[[Path], Recorder], first: Path | None = None, folder: Path | None = None
    ) -> None:
        self._open = open_recorder
        self._lock = threading.Lock()
        self._recorder: Recorder | None = None
        self._asked_for = first is not None
        self._folder = folder or (first.parent if first else Path())
        self._suffix = first.suffix if first else ".h5"
        self.path: Path | None = None
        self.last: Path | None = None
        self.error = ""
        self._lost = 0
        if first is not None:
            self._recorder, self.path = open_recorder(first), first

    @property
    def frames(self) -> int:
        """In the recording that is being written."""
        recorder = self._recorder
        return 0 if recorder is None else recorder.written

    @property
    def lost(self) -> int:
        """Frames that all recordings together lost, because the disk was too slow or could not be written to."""
        recorder = self._recorder
        return self._lost + (0 if recorder is None else recorder.dropped)

    def write(self, frame: DepthFrame, message: HandsMessage) -> None:
        """Record a frame and what was tracked in it, if there is a recording.

        Raises CameraError if the recording was asked for before tracking began and cannot go on. One that was started
        later ends with `error` instead: tracking is what the program is for.
        """
        with self._lock:
            if self._recorder is None:
                return
            try:
                self._recorder.write(frame, message)
            except TrackerError as error:
                if self._asked_for:
                    raise
                with contextlib.suppress(TrackerError):  # the first error counts
                    self._recorder.close()  # its thread ends
                self._lost += self._recorder.dropped
                self.last, self._recorder, self.path, self.error = self.path, None, None, str(error)
                log.error("%s", error)

    def start(self) -> None:
        """Begin a recording under a new name, if there is none; `error` tells why it could not be made."""
        with self._lock:
            if self._recorder is not None:
                return
            # To the millisecond, as a button can be pressed twice in a second.
            now = datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]
            path = self._folder / f"recording-{now}{self._suffix}"
            try:
                self._recorder = self._open(path)
            except TrackerError as error:
                self.error = str(error)
                log.error("%s", error)
                return
            self.path, self.error, self._asked_for = path, "", False
        log.info("recording to %s", path)

    def stop(self) -> None:
        """End the recording, if there is one; returns when it is on the disk. The loop does not wait meanwhile."""
        with self._lock:
            recorder, self._recorder = self._recorder, None
            self._lost += 0 if recorder is None else recorder.dropped
            self.last, self.path = self.path or self.last, None
        if recorder is None:
            return
        try:
            recorder.close()
        except TrackerError as error:
            self.error = str(error)
            log.error("%s", error)

    def close(self) -> None:
        """End what is being recorded. Raises CameraError as `write` does."""
        self.stop()
        if self._asked_for and self.error:
            raise CameraError(self.error)


class Controls:
    """Wishes of whoever watches. Each is one attribute, so that no thread waits for another.

    paused: a source that waits (a recording) is held; a camera goes on, only its picture is held.
    filter: of the published joints, None for the network's own.
    recording: starts and stops a recording.
    """

    def __init__(self, filter_config: FilterConfig | None, recording: RecordSwitch) -> None:
        self.paused = False
        self.filter = filter_config
        self.recording = recording

    def apply(self, tracker: Tracker) -> None:
        """Between two frames: give the tracker what was changed."""
        if self.filter is not tracker.config.filter:
            tracker.set_filter(self.filter)
