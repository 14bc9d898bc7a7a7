"""`--view`: the depth cloud, the hands and their cubes, live in a browser on this machine (needs the package viser)."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import DepthFrame
from tracker.errors import TrackerError, missing_package
from tracker.hand.cube import Cube
from tracker.hand.skeleton import BONES, WRIST
from tracker.stream.message import Hand, HandsMessage
from tracker.stream.rates import LatencyWindow, Rate
from tracker.stream.terminal import format_milliseconds

log = logging.getLogger(__name__)

MOST_POINTS: Final = 30_000
DRAW_SECONDS: Final = 0.05
"""At most 20 pictures a second: the tracker's own work comes first."""

CORNERS: Final = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
EDGES: Final = [(i, i | bit) for i in range(8) for bit in (1, 2, 4) if not i & bit]


def depth_cloud(frame: DepthFrame, most: int = MOST_POINTS) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """At most `most` points of a frame, (n, 3) metres in the camera frame, and their colours (n, 3), near to far."""
    step = max(1, math.ceil(math.sqrt(frame.depth.size / most)))
    while math.prod(-(-size // step) for size in frame.depth.shape) > most:
        step += 1
    points = frame.points(slice(None, None, step), slice(None, None, step)).reshape(-1, 3)
    points = points[points[:, 2] > 0]
    if not len(points):
        return points, np.zeros((0, 3), np.uint8)
    near, far = np.percentile(points[:, 2], [1, 95])
    level = np.clip((points[:, 2] - near) / max(far - near, 1e-3), 0, 1) * 255
    colors = cv2.applyColorMap(level.astype(np.uint8)[:, None], cv2.COLORMAP_COOL)[:, 0, ::-1]
    return points, np.ascontiguousarray(colors)


def joint_colors(hand: Hand) -> NDArray[np.uint8]:
    """(21, 3): red, yellow, green for a confidence of 0, 0.5, 1; darker where the joint is inferred."""
    confidence = np.clip(np.nan_to_num(hand.joint_confidence), 0, 1)
    colors = np.stack([np.minimum(1, 2 - 2 * confidence), np.minimum(1, 2 * confidence), 0 * confidence], axis=1)
    return np.uint8(255 * colors * np.where(hand.joint_tracked, 1.0, 0.5)[:, None])


def bone_segments(hands: Sequence[Hand]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The bones with both ends known, (n, 2, 3) metres, and the colours of their ends (n, 2, 3)."""
    bones = np.array(BONES)
    points = np.concatenate([np.zeros((0, 2, 3), np.float32), *(hand.joints[bones] for hand in hands)])
    colors = np.concatenate([np.zeros((0, 2, 3), np.uint8), *(joint_colors(hand)[bones] for hand in hands)])
    known = np.isfinite(points).all(axis=(1, 2))
    return points[known], colors[known]


def cube_segments(cubes: Sequence[Cube]) -> NDArray[np.float32]:
    """The twelve edges of every cube, (12 n, 2, 3) metres, camera frame."""
    return np.concatenate([np.zeros((0, 2, 3), np.float32), *(cube.to_camera(CORNERS)[EDGES] for cube in cubes)])


def _silent() -> contextlib.redirect_stdout[io.StringIO]:
    """Viser announces itself on standard output, which belongs to the tracker's own data."""
    return contextlib.redirect_stdout(io.StringIO())


class LiveView:
    """A page that shows what the tracker sees; only programs on this machine can open it.

    url: where it is. If `port` is taken, the next free one is used.
    Drawing is done by a thread of its own from the newest frame; without a browser nothing is done at all.
    Raises TrackerError if viser is not installed.
    """

    def __init__(self, port: int = 8080) -> None:
        try:
            import viser
        except ImportError as error:
            raise TrackerError(
                missing_package("viser", "the live view", 'pip install "v2v-hand-tracker[view]"')
            ) from error
        with _silent():
            self._server = viser.ViserServer(host="127.0.0.1", port=port, label="Hand tracker", verbose=False)
        self.url = f"http://127.0.0.1:{self._server.get_port()}"
        scene = self._server.scene
        self._server.gui.configure_theme(dark_mode=True)
        scene.set_up_direction("-y")
        self._server.initial_camera.position = (0.08, -0.15, -0.05)
        self._server.initial_camera.look_at = (0.0, 0.0, 0.6)
        nothing = np.zeros((1, 3), np.float32)
        no_lines, black = np.zeros((1, 2, 3), np.float32), np.zeros((1, 2, 3), np.uint8)
        self._cloud = scene.add_point_cloud("/depth", nothing, (0, 0, 0), point_size=0.0015, visible=False)
        self._bones = scene.add_line_segments("/hands", no_lines, black, thickness=0.007, visible=False)
        self._cubes = scene.add_line_segments("/cubes", no_lines, black, thickness=0.0015, visible=False)
        self._labels: list[Any] = []
        self._text = self._server.gui.add_markdown("waiting for frames")
        self._window = LatencyWindow()
        self._next = -math.inf
        self._newest: tuple[DepthFrame, HandsMessage, tuple[Cube, ...], Rate] | None = None
        self._change = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="live view", daemon=True)
        self._thread.start()
        log.info("live view on %s", self.url)

    def update(self, frame: DepthFrame, message: HandsMessage, cubes: Sequence[Cube]) -> None:
        """Show a frame, its hands (in the camera's frame of reference) and where the network looked for them."""
        now = time.monotonic()
        self._window.add(now, message.latency_ms.total)
        if now < self._next or not self._server.get_clients():
            return
        self._next = now + DRAW_SECONDS
        # The camera may write the next image into the same memory while the thread still draws this one.
        frame = replace(frame, depth=frame.depth.copy())
        with self._change:
            self._newest = (frame, message, tuple(cubes), self._window.rate(now))
            self._change.notify()

    def close(self) -> None:
        """Stop drawing and serving. Safe to call twice."""
        if self._closed:
            return
        with self._change:
            self._closed = True
            self._change.notify()
        self._thread.join()
        with _silent():
            self._server.stop()

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
            self._draw(*newest)

    def _draw(self, frame: DepthFrame, message: HandsMessage, cubes: tuple[Cube, ...], rate: Rate) -> None:
        points, colors = depth_cloud(frame)
        bones, bone_colors = bone_segments(message.hands)
        edges = cube_segments(cubes)
        with self._server.atomic():
            self._cloud.visible = len(points) > 0
            self._bones.visible = len(bones) > 0
            self._cubes.visible = len(edges) > 0
            if len(points):
                self._cloud.points, self._cloud.colors = points, colors
            if len(bones):
                self._bones.points, self._bones.colors = bones, bone_colors
            if len(edges):
                self._cubes.points, self._cubes.colors = edges, np.full(edges.shape, 160, np.uint8)
            self._draw_labels(message.hands)
            self._text.content = (
                f"**{message.camera}** frame {message.frame}\n\n{rate.fps:.1f} fps, {message.dropped} dropped\n\n"
                f"latency {format_milliseconds(rate.latency_ms.p50)} ms, "
                f"p95 {format_milliseconds(rate.latency_ms.p95)} ms"
            )

    def _draw_labels(self, hands: Sequence[Hand]) -> None:
        while len(self._labels) < len(hands):
            self._labels.append(self._server.scene.add_label(f"/labels/{len(self._labels)}", ""))
        for i, label in enumerate(self._labels):
            wrist = hands[i].joints[WRIST] if i < len(hands) else np.full(3, np.nan)
            label.visible = bool(np.isfinite(wrist).all())
            if label.visible:
                label.text = f"{hands[i].side} #{hands[i].id}  {hands[i].confidence:.0%}"
                label.position = wrist
