"""`run --view`: what the tracker sees, live, with buttons for pause and recording and sliders for the filter."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final

from tracker.camera.frame import DepthFrame
from tracker.controls import Controls
from tracker.hand.cube import Cube
from tracker.stream.message import HandsMessage
from tracker.stream.rates import LatencyWindow, Rate
from tracker.stream.terminal import format_milliseconds
from tracker.tracking.one_euro import FilterConfig
from tracker.view.curves import Curves
from tracker.view.page import Page, Picture, quoted

log = logging.getLogger(__name__)

DRAW_SECONDS: Final = 0.05
"""At most 20 pictures a second: the tracker's own work comes first."""


class LiveView:
    """A page that shows what the tracker sees and changes `controls`; only programs on this machine can open it.

    url: where it is. If `port` is taken, the next free one is used.
    Drawing is done by a thread of its own from the newest frame; without a browser nothing is done at all.
    Raises TrackerError if viser is not installed.
    """

    def __init__(self, controls: Controls, port: int = 8080) -> None:
        self._controls = controls
        self._page = Page("Hand tracker", port, on_unwatched=self._go_on)
        self.url = self._page.url
        gui = self._page.gui
        self._pause = gui.add_button("Pause", hint="hold the picture; a recording that is played is held, too")
        self._pause.on_click(lambda _: self._set_paused(not controls.paused))
        self._record = gui.add_button("Record", hint="write depth and messages to a file")
        self._record.on_click(lambda _: self._switch_recording())
        self._recording_text = gui.add_markdown("", visible=False)
        with gui.add_folder("Rate"):
            self._curves = Curves(gui)
        self._add_filter(gui)
        self._show_recording()
        self._window = LatencyWindow()
        self._next = -math.inf
        self._latencies: deque[tuple[float, float]] = deque(maxlen=LatencyWindow.MOST)
        self._newest: tuple[DepthFrame, HandsMessage, tuple[Cube, ...]] | None = None
        self._change = threading.Condition()
        self._closed = False
        self._failed = False
        self._thread = threading.Thread(target=self._work, name="live view", daemon=True)
        self._thread.start()
        log.info("live view on %s", self.url)

    @property
    def watched(self) -> bool:
        """Whether a browser shows the page."""
        return self._page.watched

    def update(self, frame: DepthFrame, message: HandsMessage, cubes: Sequence[Cube]) -> None:
        """Show a frame, its hands (in the camera's frame of reference) and where the network looked for them.

        The frame is drawn later, by another thread, and must not be changed.
        """
        if not self._page.watched:
            return
        now = time.monotonic()
        self._latencies.append((now, message.latency_ms.total))
        if now < self._next or self._controls.paused:
            return
        self._next = now + DRAW_SECONDS
        with self._change:
            self._newest = (frame, message, tuple(cubes))
            self._change.notify()

    def close(self) -> None:
        """Stop drawing and serving. Safe to call twice."""
        if self._closed:
            return
        with self._change:
            self._closed = True
            self._change.notify()
        self._thread.join()
        self._page.close()

    def __enter__(self) -> LiveView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._closed or self._newest is not None)
                newest, self._newest = self._newest, None
            if self._closed or newest is None:
                return
            try:
                self._show(*newest)
            except Exception:
                # Whatever it is, the next frame may be drawn; it would end the thread, and freeze the page.
                if not self._failed:
                    self._failed = True
                    log.exception("the live view could not show frame %d (it goes on)", newest[1].frame)

    def _show(self, frame: DepthFrame, message: HandsMessage, cubes: tuple[Cube, ...]) -> None:
        while self._latencies:
            self._window.add(*self._latencies.popleft())
        now = time.monotonic()
        rate = self._window.rate(now)
        self._page.draw(Picture(frame, message.hands, cubes, _text(message, rate)))
        self._curves.add(now, rate)
        self._show_recording()

    def _set_paused(self, paused: bool) -> None:
        self._controls.paused = paused
        self._pause.label = "Go on" if paused else "Pause"

    def _go_on(self) -> None:
        """Nobody is left who could press the button."""
        if self._controls.paused:
            self._set_paused(False)

    def _switch_recording(self) -> None:
        recording = self._controls.recording
        if recording.path is None:
            recording.start()
        else:
            recording.stop()
        self._show_recording()

    def _show_recording(self) -> None:
        recording = self._controls.recording
        path = recording.path
        self._record.label = "Record" if path is None else "Stop recording"
        self._record.color = None if path is None else "red"
        if path is not None:
            text = f"recording to {quoted(path)}: {recording.frames} frames"
        elif recording.error:
            text = f"**Error** {quoted(recording.error)}"
        else:
            text = f"recorded {quoted(recording.last)}" if recording.last else ""
        self._recording_text.content, self._recording_text.visible = text, bool(text)

    def _add_filter(self, gui: Any) -> None:
        start = self._controls.filter or FilterConfig()
        with gui.add_folder("Filter of the joints (One Euro)"):
            self._filter_on = gui.add_checkbox("on", self._controls.filter is not None)
            self._cutoff = gui.add_slider(
                "cut-off, Hz", 0.1, 10.0, 0.1, start.min_cutoff, hint="of a still hand: lower is smoother"
            )
            self._beta = gui.add_slider(
                "beta, Hz per m/s", 0.0, 100.0, 1.0, start.beta, hint="higher follows a moving hand more closely"
            )
        for handle in (self._filter_on, self._cutoff, self._beta):
            handle.on_update(lambda _: self._set_filter())

    def _set_filter(self) -> None:
        config = FilterConfig(min_cutoff=self._cutoff.value, beta=self._beta.value)
        self._controls.filter = config if self._filter_on.value else None


def _text(message: HandsMessage, rate: Rate) -> str:
    """About a frame, as Markdown."""
    p50, p95 = (format_milliseconds(value) for value in (rate.latency_ms.p50, rate.latency_ms.p95))
    return (
        f"{quoted(message.camera)} frame {message.frame}, {message.dropped} dropped\n\n"
        f"**{rate.fps:.1f}** fps, latency **{p50}** ms (p95 {p95} ms)"
    )
