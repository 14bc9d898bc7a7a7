"""`inspect --view`: samples in a browser on this machine (needs the package viser)."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tracker.errors import DataError, missing_package
from tracker.hand.heatmaps import axis_centers
from tracker.hand.skeleton import BONES, JOINT_COUNT, JOINT_NAMES
from trainer.showing.pictures import MAPS, Scene, joint_colors, target_map

NOTHING: Final = "none"
ALL: Final = "all joints"
FAINTEST: Final = 0.2
"""Heat below this share of a peak is not shown."""
MAGENTA: Final = (255, 0, 255)
CORNERS: Final = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
EDGES: Final = [(i, i | bit) for i in range(8) for bit in (1, 2, 4) if not i & bit]


class SampleViewer:
    """A page that shows one scene at a time, in cube coordinates; only programs on this machine can open it.

    url: where it is. If `port` is taken, the next free one is used. chosen: joints whose heat map is shown at first.
    Raises DataError if viser is not installed.
    """

    def __init__(self, scenes: Sequence[Scene], chosen: Sequence[int] = (), port: int = 8080) -> None:
        try:
            import viser
        except ImportError as error:
            raise DataError(missing_package("viser", "--view", 'pip install "v2v-hand-tracker[view]"')) from error
        self._scenes = scenes
        self._lock = threading.Lock()
        joints = len(scenes[0].joints)
        names = JOINT_NAMES if joints == JOINT_COUNT else [str(i) for i in range(joints)]
        self._maps: dict[str, list[int]] = {
            NOTHING: [],
            ALL: list(range(joints)),
            **{name: [i] for i, name in enumerate(names)},
        }
        with _silent():
            self._server = viser.ViserServer(host="127.0.0.1", port=port, label="Samples", verbose=False)
        self.url = f"http://127.0.0.1:{self._server.get_port()}"
        self._server.gui.configure_theme(dark_mode=True)
        self._server.scene.set_up_direction("-y")
        self._server.initial_camera.position = (0.8, -1.0, -3.0)
        self._server.initial_camera.look_at = (0.0, 0.0, 0.0)
        frame = CORNERS[EDGES]
        self._server.scene.add_line_segments("/cube", frame, np.full(frame.shape, 120, np.uint8), thickness=0.006)
        gui = self._server.gui
        last = max(len(scenes) - 1, 1)
        self._sample = gui.add_slider("sample", 0, last, 1, 0, disabled=len(scenes) == 1)
        first = ALL if len(chosen) > 1 else list(self._maps)[2 + chosen[0]] if chosen else NOTHING
        self._heat = gui.add_dropdown("heat map", tuple(self._maps), initial_value=first)
        self._size = gui.add_slider("point size", 0.001, 0.02, 0.001, 0.004)
        self._text = gui.add_markdown("")
        for control in (self._sample, self._heat, self._size):
            control.on_update(self._changed)
        self._draw()

    def close(self) -> None:
        """Stop serving."""
        with _silent():
            self._server.stop()

    def __enter__(self) -> SampleViewer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _changed(self, _: Any) -> None:
        self._draw()

    def _draw(self) -> None:
        # Each change is handled by a thread of its own.
        with self._lock, self._server.atomic():
            scene = self._scenes[min(int(self._sample.value), len(self._scenes) - 1)]
            points = scene.inside
            near, far = (points[:, 2].min(), points[:, 2].max()) if len(points) else (-1, 1)
            level = (points[:, 2:] - near) / max(far - near, 1e-3)
            # Blue near, grey far; small, for the joints lie inside.
            shade = np.uint8(255 * ((1 - level) * (0.2, 0.65, 1.0) + level * (0.45, 0.45, 0.5)))
            self._points("/points", points, shade, float(self._size.value))
            colors = np.uint8(255 * joint_colors(len(scene.joints)))
            self._joints("/joints", scene.joints, colors)
            if scene.predicted is not None:
                self._joints("/predicted", scene.predicted, np.full(colors.shape, MAGENTA, np.uint8))
            heat_points, heat_colors = heat_cloud(scene.joints, self._maps[self._heat.value])
            self._points("/heat", heat_points, heat_colors, 0.008)
            error = scene.error_mm
            self._text.content = f"**{scene.title}**" + (f"\n\nerror {error:.1f} mm" if error is not None else "")

    def _points(self, name: str, points: NDArray[np.float32], colors: NDArray[np.uint8], size: float) -> None:
        """Replace a cloud; viser has no empty ones."""
        visible = len(points) > 0
        if not visible:
            points, colors = np.zeros((1, 3), np.float32), np.zeros((1, 3), np.uint8)
        self._server.scene.add_point_cloud(name, points, colors, point_size=size, point_shape="circle", visible=visible)

    def _joints(self, name: str, joints: NDArray[np.float32], colors: NDArray[np.uint8]) -> None:
        """Replace joints, and their bones, or their numbers where there is no telling what is a bone."""
        known: NDArray[np.bool_] = np.asarray(np.isfinite(joints).all(axis=1))
        self._points(name, joints[known], colors[known], 0.045)
        scene = self._server.scene
        if len(joints) != JOINT_COUNT:
            for i, joint in enumerate(np.nan_to_num(joints)):
                scene.add_label(f"{name}/{i}", str(i), position=joint, visible=bool(known[i]))
            return
        bones = np.array([bone for bone in BONES if known[list(bone)].all()], np.int64).reshape(-1, 2)
        ends, shade = np.zeros((1, 2, 3), np.float32), np.zeros((1, 2, 3), np.uint8)
        if len(bones):
            ends, shade = joints[bones], colors[bones[:, [1, 1]]]
        scene.add_line_segments(f"{name}/bones", ends, shade, thickness=0.02, visible=len(bones) > 0)


def heat_cloud(joints: NDArray[np.float32], chosen: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The voxels of the chosen joints' target maps that are not cold, (n, 3) cube coordinates, and their colours."""
    if not chosen:
        return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8)
    heat = target_map(joints, chosen)
    where = np.nonzero(heat > FAINTEST)
    points = axis_centers(MAPS).numpy()[np.stack(where, axis=1)]
    level = heat[where]
    colors = np.stack([np.full_like(level, 255), 255 * level, np.zeros_like(level)], axis=1)
    return points, colors.astype(np.uint8)


def _silent() -> contextlib.redirect_stdout[io.StringIO]:
    """Viser announces itself on standard output."""
    return contextlib.redirect_stdout(io.StringIO())
