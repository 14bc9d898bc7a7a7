"""`python -m tracker view RECORDING`: scrub through a recording and what was tracked in it, in the browser."""

from __future__ import annotations

import argparse
import logging
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tracker.arguments import port
from tracker.errors import CameraError

if TYPE_CHECKING:
    from types import TracebackType

    from tracker.camera.playback import RecordedFrame
    from tracker.stream.message import HandsMessage


log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `view`."""
    parser.add_argument("recording", type=Path, metavar="RECORDING", help="a recording folder or an .h5 recording")
    parser.add_argument(
        "--messages", type=Path, metavar="FILE.jsonl", help="the hands to show (default: those in the recording)"
    )
    parser.add_argument("--port", type=port, default=8080, help="of the page on this machine (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C; returns the exit status."""
    # Imported here, so that `--help` need not wait for them.
    from tracker.camera import open_camera
    from tracker.camera.playback import PlaybackCamera
    from tracker.kept_messages import messages_beside

    path: Path = options.recording
    if path.suffix in (".bag", ".db3"):
        raise CameraError(
            f"{path} can be read from start to end only: make an .h5 file of it (python -m tracker convert)"
        )
    if not path.exists():
        raise CameraError(f"there is no recording {path}: give a recording folder or an .h5 file")
    with open_camera(str(path)) as camera:
        assert isinstance(camera, PlaybackCamera)
        messages = {message.frame: message for message in messages_beside(path, options.messages)}
        with ReplayView(camera.name, camera.rest(), messages, options.port) as view:
            print(f"{camera.name}: {camera.count} frames on {view.url}; Ctrl-C ends", file=sys.stderr, flush=True)
            try:
                while True:
                    time.sleep(3600)
            except KeyboardInterrupt:
                pass
    return 0


class ReplayView:
    """A page that shows any frame of a recording, with a slider, and plays it at its own pace.

    frames: in order; loaded by a thread of the view when they are shown. messages: by frame number.
    url: where it is; if `port` is taken, the next free one is used.
    Raises CameraError if there is no frame, TrackerError if viser is not installed.
    """

    def __init__(
        self, name: str, frames: Sequence[RecordedFrame], messages: Mapping[int, HandsMessage], port: int = 8080
    ) -> None:
        from tracker.view.page import Page

        if not frames:
            raise CameraError(f"recording {name} has no frames")
        self._name, self._frames, self._messages = name, frames, messages
        self._page = Page("Recording", port, on_unwatched=self._stop, cubes=False)
        self.url = self._page.url
        gui = self._page.gui
        # A slider needs two ends.
        self._slider = gui.add_slider("Frame", 0, max(1, len(frames) - 1), 1, 0)
        self._button = gui.add_button("Play")
        # Set from here, the slider calls too, but without a client.
        self._slider.on_update(lambda event: self._seek(event.target.value) if event.client else None)
        self._button.on_click(lambda _: self._set_playing(not self._playing))
        self._row = 0
        self._playing: bool = False
        self._closed = False
        self._failed = False
        self._stale = True
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="replay", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop loading and serving. Safe to call twice."""
        if self._closed:
            return
        with self._change:
            self._closed = True
            self._change.notify()
        self._thread.join()
        self._page.close()

    def __enter__(self) -> ReplayView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _seek(self, row: int) -> None:
        with self._change:
            self._row = min(row, len(self._frames) - 1)
            self._playing, self._button.label = False, "Play"
            self._stale = True
            self._change.notify()

    def _set_playing(self, playing: bool) -> None:
        with self._change:
            if playing and self._row == len(self._frames) - 1:
                self._row, self._stale = 0, True
            self._playing, self._button.label = playing, "Pause" if playing else "Play"
            self._change.notify()

    def _stop(self) -> None:
        if self._playing:
            self._set_playing(False)

    def _work(self) -> None:
        shown = time.monotonic()
        while True:
            with self._change:
                self._change.wait_for(lambda: self._closed or self._playing or self._stale)
                if not self._stale:
                    self._change.wait_for(lambda: self._closed or self._stale or not self._playing, self._wait(shown))
                if self._closed:
                    return
                if not self._stale:
                    if not self._playing:
                        continue
                    self._advance(shown)
                self._stale = False
                row = self._row
            shown = time.monotonic()
            try:
                self._show(row)
            except Exception:
                # Whatever it is, other frames may be shown; it would end the thread, and freeze the page.
                if not self._failed:
                    self._failed = True
                    log.exception("row %d of the recording could not be shown (others may be)", row)

    def _wait(self, shown: float) -> float:
        """Seconds until the next frame is due, after one that was shown then."""
        ahead = min(self._row + 1, len(self._frames) - 1)
        gap = (self._frames[ahead].captured_ns - self._frames[self._row].captured_ns) * 1e-9
        return max(0.0, shown + gap - time.monotonic())

    def _advance(self, shown: float) -> None:
        """Go on to the newest frame that is due; a slow browser or disk makes it skip."""
        last = len(self._frames) - 1
        due_ns = self._frames[self._row].captured_ns + int((time.monotonic() - shown) * 1e9)
        self._row = min(self._row + 1, last)
        while self._row < last and self._frames[self._row + 1].captured_ns <= due_ns:
            self._row += 1
        if self._row == last:
            self._playing, self._button.label = False, "Play"

    def _show(self, row: int) -> None:
        from tracker.view.page import Picture, quoted

        recorded = self._frames[row]
        self._slider.value = row  # type: ignore[misc]  # it is, whatever viser's type says
        try:
            frame = recorded.load()
        except CameraError as error:
            self._page.text.content = f"**Error** {quoted(error)}"
            return
        message = self._messages.get(frame.number)
        seconds = (frame.captured_ns - self._frames[0].captured_ns) * 1e-9
        hands = () if message is None else message.hands
        if not self._messages:
            found = "no messages: depth only"
        elif message is None:
            found = "no message for this frame"
        else:
            found = ", ".join(f"{hand.side} #{hand.id}" for hand in hands) or "no hands"
        text = (
            f"{quoted(self._name)} frame {frame.number}, {row + 1} of {len(self._frames)}, {seconds:.2f} s\n\n{found}"
        )
        self._page.draw(Picture(frame, hands, (), text))
