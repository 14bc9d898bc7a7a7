"""The loop of `tracker run`: read a frame, track, publish, write, show; until the end or Ctrl-C."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

from tracker.camera.base import Camera
from tracker.errors import CameraTimeout
from tracker.hand_tracker import Tracker
from tracker.interrupts import Interrupts
from tracker.stream.message import HandsMessage, StatusMessage
from tracker.stream.output import JsonLines
from tracker.stream.publisher import Publisher
from tracker.stream.rates import LatencyWindow
from tracker.stream.terminal import LiveLine, Summary

if TYPE_CHECKING:
    from tracker.camera.frame import DepthFrame
    from tracker.camera.recorder import Recorder
    from tracker.controls import Controls, RecordSwitch
    from tracker.hand.cube import Cube

log = logging.getLogger(__name__)

STATUS_SECONDS = 1.0
READ_SECONDS = 10.0
"""A recording on a slow disk may take so long for a frame."""
HOLD_SECONDS = 0.05
"""A recording that is held looks so often whether it may go on."""


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
    recorder: Recorder | RecordSwitch | None = None,
    view: View | None = None,
    controls: Controls | None = None,
    live_line: LiveLine | None = None,
    frames: int | None = None,
    summary: Summary | None = None,
) -> Summary:
    """Track until the camera ends, `frames` are done, or KeyboardInterrupt; returns what was counted.

    controls: looked at before every frame. A recording waits while they say `paused`, a live camera does not.
    summary: where to count, for those who want it after an error, too.
    A live camera that falls silent (unplugged) is waited for. Raises TrackerError when the source breaks or something
    cannot be written; what was written before is kept.
    """
    summary = Summary() if summary is None else summary
    window = LatencyWindow()
    started = next_status = time.monotonic()
    silent = False
    with ExitStack() as closing, Interrupts() as interrupts:
        if live_line is not None:
            closing.callback(live_line.close)
        try:
            while frames is None or summary.frames < frames:
                if controls is not None:
                    controls.apply(tracker)
                    if controls.paused and not camera.live:
                        with interrupts.let_through():
                            time.sleep(HOLD_SECONDS)
                        next_status = _publish_status(publisher, camera, tracker, window, started, next_status)
                        continue
                try:
                    # Not longer than a second, so that the status goes out while an unplugged camera is waited for.
                    with interrupts.let_through():
                        frame = camera.read(STATUS_SECONDS if camera.live else READ_SECONDS)
                except CameraTimeout as error:
                    if not camera.live:
                        raise
                    if not silent:
                        log.warning("%s; waiting for it", error)
                    silent = True
                    next_status = _publish_status(publisher, camera, tracker, window, started, next_status)
                    continue
                silent = False
                if frame is None:
                    break
                if summary.frames == 0:
                    log.debug("%s", _details(frame, camera, tracker))
                message = tracker.track(frame, camera.name, camera.dropped)
                publisher.publish(message)
                if recorder is not None:
                    recorder.write(frame, message)
                if output is not None:
                    output.write(message)
                if view is not None:
                    view.update(frame, message, tracker.cubes)
                now = time.monotonic()
                summary.add(message)
                window.add(now, message.latency_ms.total)
                if live_line is not None:
                    live_line.update(now, message, window)
                next_status = _publish_status(publisher, camera, tracker, window, started, next_status)
        except KeyboardInterrupt:
            pass
    return summary


def _publish_status(
    publisher: Publisher, camera: Camera, tracker: Tracker, window: LatencyWindow, started: float, due: float
) -> float:
    """Say how things are, if that is due; returns when it is due next."""
    now = time.monotonic()
    if now < due:
        return due
    rate = window.rate(now)
    publisher.status(
        StatusMessage(
            camera=camera.name,
            model=tracker.model,
            engine=tracker.engine.name,
            device=tracker.engine.device,
            fps=rate.fps,
            dropped=camera.dropped,
            uptime_s=now - started,
            latency_ms=rate.latency_ms,
        )
    )
    # At its own pace, whatever the frames take; what is late by more than that is not made up for.
    return due + STATUS_SECONDS if now < due + STATUS_SECONDS else now + STATUS_SECONDS


def _details(frame: DepthFrame, camera: Camera, tracker: Tracker) -> str:
    """The camera and the engine, for those who look for the reason of something."""
    k, engine = frame.intrinsics, tracker.engine
    pace = "live: frames that come too fast are dropped" if camera.live else "every frame is tracked"
    return (
        f"camera {camera.name}: {k.width}x{k.height}, fx {k.fx:.1f}, fy {k.fy:.1f}, cx {k.cx:.1f}, cy {k.cy:.1f}, "
        f"{frame.depth_scale * 1e3:.4g} mm a step, {pace}; "
        f"engine {engine.name} on {engine.device}: {engine.size}^3 voxels of a cube of {tracker.edge:.2f} m, "
        f"up to {engine.max_batch} cubes at once"
    )
