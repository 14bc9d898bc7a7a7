"""The loop of `tracker run`: read a frame, track, publish, write, show; until the end or Ctrl-C."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

from tracker.camera.base import Camera
from tracker.errors import CameraTimeout
from tracker.hand_tracker import Tracker
from tracker.stream.message import HandsMessage, StatusMessage
from tracker.stream.output import JsonLines
from tracker.stream.publisher import Publisher
from tracker.stream.rates import LatencyWindow
from tracker.stream.terminal import LiveLine, Summary

if TYPE_CHECKING:
    from tracker.camera.frame import DepthFrame
    from tracker.camera.recorder import Recorder
    from tracker.hand.cube import Cube

log = logging.getLogger(__name__)

STATUS_SECONDS = 1.0
READ_SECONDS = 10.0
"""A recording on a slow disk may take so long for a frame."""


class View(Protocol):
    """A picture of what goes on; must cost the loop next to nothing."""

    def update(self, frame: DepthFrame, message: HandsMessage, cubes: tuple[Cube, ...]) -> None:
        """Show a frame with its hands."""

    def close(self) -> None:
        """Take the picture down."""


def run(
    camera: Camera,
    tracker: Tracker,
    publisher: Publisher,
    *,
    output: JsonLines | None = None,
    recorder: Recorder | None = None,
    view: View | None = None,
    live_line: LiveLine | None = None,
    frames: int | None = None,
) -> Summary:
    """Track until the camera ends, `frames` are done, or KeyboardInterrupt; returns what was counted.

    A live camera that falls silent (unplugged) is waited for. Raises TrackerError when the source breaks or something
    cannot be written; what was written before is kept.
    """
    summary = Summary()
    window = LatencyWindow()
    started = next_status = time.monotonic()
    silent = False
    with ExitStack() as closing:
        if live_line is not None:
            closing.callback(live_line.close)
        try:
            while frames is None or summary.frames < frames:
                try:
                    # Not longer than a second, so that the status goes out while an unplugged camera is waited for.
                    frame = camera.read(STATUS_SECONDS if camera.live else READ_SECONDS)
                except CameraTimeout as error:
                    if not camera.live:
                        raise
                    if not silent:
                        log.warning("%s; waiting for it", error)
                    silent = True
                    publisher.status(_status(camera, tracker, window, time.monotonic(), started))
                    continue
                silent = False
                if frame is None:
                    break
                if recorder is not None:
                    recorder.write(frame)
                message = tracker.track(frame, camera.name, camera.dropped)
                publisher.publish(message)
                if output is not None:
                    output.write(message)
                if view is not None:
                    view.update(frame, message, tracker.cubes)
                now = time.monotonic()
                summary.add(message)
                window.add(now, message.latency_ms.total)
                if live_line is not None:
                    live_line.update(now, message, window)
                if now >= next_status:
                    next_status = now + STATUS_SECONDS
                    publisher.status(_status(camera, tracker, window, now, started))
        except KeyboardInterrupt:
            pass
    return summary


def _status(camera: Camera, tracker: Tracker, window: LatencyWindow, now: float, started: float) -> StatusMessage:
    rate = window.rate(now)
    return StatusMessage(
        camera=camera.name,
        model=tracker.model,
        engine=tracker.engine.name,
        device=tracker.engine.device,
        fps=rate.fps,
        dropped=camera.dropped,
        uptime_s=now - started,
        latency_ms=rate.latency_ms,
    )
