"""`python -m tracker show RECORDING`: the points and hands of a recording in a window of Open3D."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tracker.errors import TrackerError, missing_package

if TYPE_CHECKING:
    from tracker.camera.frame import DepthFrame
    from tracker.stream.message import HandsMessage

SIZE: Final = (960, 720)
MOST_POINTS: Final = 80_000
"""Joints lie below the skin: through a denser cloud they would not be seen."""
JOINT_RADIUS: Final = 0.005
BONE_RADIUS: Final = 0.0025
SPACE_BAR: Final = 32
ARROW_RIGHT: Final = 262


class Window:
    """Points and skeletons in an Open3D window, or in a picture where there is no display. Call `close`.

    Raises TrackerError if Open3D is missing or nothing can be drawn on.
    """

    def __init__(self, title: str, visible: bool) -> None:
        self._o3d = load_open3d()
        # Where there is no display Open3D draws into memory: right for a picture, but a window that nobody sees.
        if visible and not has_display():
            raise TrackerError("there is no display to open a window on: write a picture with --output FILE.png")
        self._window = self._o3d.visualization.VisualizerWithKeyCallback()
        if not self._window.create_window(title, *SIZE, visible=visible):
            raise TrackerError("Open3D cannot open a window here: does OpenGL work on this display?")
        self._window.get_render_option().background_color = (0.05, 0.05, 0.07)
        self._window.get_render_option().point_size = 1.0
        self._shown: list[Any] = []

    def on_key(self, key: int, action: Any) -> None:
        """Call `action()` when a key is pressed. key: a GLFW number."""
        self._window.register_key_callback(key, lambda _: bool(action()))

    def show(self, frame: DepthFrame, message: HandsMessage | None) -> None:
        """Show a frame with its hands instead of the one before."""
        first = not self._shown
        for geometry in self._shown:
            self._window.remove_geometry(geometry, reset_bounding_box=False)
        self._shown = [self._cloud(frame), *self._hands(message)]
        for geometry in self._shown:
            self._window.add_geometry(geometry, reset_bounding_box=first)
        if first:
            self._look(frame, message)

    def refresh(self) -> bool:
        """Draw, and take the keys and the mouse; False once the window was closed."""
        open_still = bool(self._window.poll_events())
        self._window.update_renderer()
        return open_still

    def save(self, path: Path) -> None:
        """Write what is shown as a PNG. Raises TrackerError."""
        import cv2
        import numpy as np

        self.refresh()
        picture = np.asarray(self._window.capture_screen_float_buffer(do_render=True))
        if not cv2.imwrite(str(path), np.uint8(255 * picture[..., ::-1])):
            raise TrackerError(f"{path} cannot be written: does its folder exist?")

    def close(self) -> None:
        """Take the window away."""
        self._window.destroy_window()

    def _cloud(self, frame: DepthFrame) -> Any:
        from tracker.view.drawing import depth_cloud

        cloud = depth_cloud(frame, MOST_POINTS)
        shape = self._o3d.geometry.PointCloud(self._o3d.utility.Vector3dVector(cloud.points))
        shape.colors = self._o3d.utility.Vector3dVector(cloud.colors / 255)
        return shape

    def _hands(self, message: HandsMessage | None) -> list[Any]:
        """Balls for the joints and rods for the bones, coloured by confidence, in one mesh."""
        from tracker.view.drawing import bone_segments, joint_points

        if message is None or not message.hands:
            return []
        mesh = self._o3d.geometry.TriangleMesh()
        for point, color in zip(*joint_points(message.hands)):
            ball = self._o3d.geometry.TriangleMesh.create_sphere(JOINT_RADIUS, resolution=8)
            mesh += ball.translate(point.astype(float)).paint_uniform_color(color / 255)
        for (start, end), colors in zip(*bone_segments(message.hands)):
            mesh += self._rod(start.astype(float), end.astype(float)).paint_uniform_color(colors[1] / 255)
        mesh.compute_vertex_normals()
        return [mesh]

    def _rod(self, start: Any, end: Any) -> Any:
        import numpy as np

        length = float(np.linalg.norm(end - start))
        if length < 1e-6:
            return self._o3d.geometry.TriangleMesh()
        rod = self._o3d.geometry.TriangleMesh.create_cylinder(BONE_RADIUS, length, resolution=8, split=1)
        along = (end - start) / length
        side = np.cross(along, (1.0, 0.0, 0.0) if abs(along[0]) < 0.9 else (0.0, 1.0, 0.0))
        side /= np.linalg.norm(side)
        rod.rotate(np.stack([side, np.cross(along, side), along], axis=1), center=(0, 0, 0))
        return rod.translate((start + end) / 2)

    def _look(self, frame: DepthFrame, message: HandsMessage | None) -> None:
        """From beside the camera towards the hands or, without hands, the middle of the cloud."""
        import numpy as np

        from tracker.view.drawing import depth_cloud, joint_points

        points = depth_cloud(frame).points
        joints = joint_points(message.hands)[0] if message is not None else points[:0]
        target = joints if len(joints) else points
        if not len(target):
            return
        view = self._window.get_view_control()
        view.set_lookat(np.median(target, axis=0).astype(float))
        view.set_front((0.35, -0.25, -1.0))
        view.set_up((0.0, -1.0, 0.0))
        # Open3D's zoom counts in widths of all that is shown.
        width = float(np.ptp(points, axis=0).max())
        view.set_zoom(min(0.7, (0.4 if len(joints) else 1.0) / max(width, 1e-3)))


def load_open3d() -> Any:
    """The package. Raises TrackerError if it, or a library of the system that it needs, is missing."""
    try:
        import open3d
    except ModuleNotFoundError as error:
        raise TrackerError(missing_package("open3d", "the window", 'pip install "v2v-hand-tracker[open3d]"')) from error
    except (ImportError, OSError) as error:
        raise TrackerError(
            f"Open3D cannot be loaded: {error}; on Debian and Ubuntu install libegl1 libgl1 libx11-6 libusb-1.0-0"
        ) from error
    open3d.utility.set_verbosity_level(open3d.utility.VerbosityLevel.Error)
    return open3d


def has_display() -> bool:
    """Whether a window can be seen: on Linux, an X server or Wayland compositor answers."""
    if not sys.platform.startswith("linux"):
        return True
    wayland = os.environ.get("WAYLAND_DISPLAY")
    if wayland and Path(os.environ.get("XDG_RUNTIME_DIR", ""), wayland).exists():
        return True
    if not os.environ.get("DISPLAY"):
        return False
    import ctypes

    try:
        x11 = ctypes.CDLL("libX11.so.6")
    except OSError:
        return False
    x11.XOpenDisplay.restype = ctypes.c_void_p
    display = x11.XOpenDisplay(None)
    if display:
        x11.XCloseDisplay(ctypes.c_void_p(display))
    return bool(display)


def play(window: Window, frames: Iterator[tuple[DepthFrame, HandsMessage | None]]) -> None:
    """Show frames at the pace at which they were captured, until the window is closed; the last one stays.

    The space bar pauses, the right arrow goes on by one frame.
    """
    paused = False
    step = False

    def toggle() -> None:
        nonlocal paused
        paused = not paused

    def advance() -> None:
        nonlocal paused, step
        paused = step = True

    window.on_key(SPACE_BAR, toggle)
    window.on_key(ARROW_RIGHT, advance)
    ahead = next(frames, None)
    captured_ns = 0
    due = time.monotonic()
    while True:
        if ahead is not None and (step or (not paused and time.monotonic() >= due)):
            step = False
            window.show(*ahead)
            captured_ns = ahead[0].captured_ns
            ahead = next(frames, None)
            wait = (ahead[0].captured_ns - captured_ns) * 1e-9 if ahead is not None else 0.0
            due = max(due + wait, time.monotonic())
        if not window.refresh():
            return
        time.sleep(0.005)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `show`."""
    parser.add_argument("recording", metavar="RECORDING", type=Path, help="a folder, .h5, .bag or .db3")
    parser.add_argument("--frame", type=int, metavar="N", help="only the frame of this number (default: play all)")
    parser.add_argument("--messages", type=Path, metavar="FILE", help="hands to draw (default: those of the recording)")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE.png",
        help="write a picture instead, of the first frame or of --frame; needs no display",
    )


def run(options: argparse.Namespace) -> int:
    """Show until the window is closed; returns the exit status. Raises TrackerError."""
    if options.output is not None and options.output.suffix.lower() != ".png":
        raise TrackerError(f"--output must end in .png, is {options.output}")
    from tracker.camera.opening import open_recording
    from tracker.kept_messages import in_step, messages_beside

    with open_recording(options.recording) as camera:
        messages = messages_beside(options.recording, options.messages)
        still = options.frame is not None or options.output is not None
        frames = in_step([camera.find(options.frame)] if still else camera, messages)
        window = Window(f"{camera.name} - space bar: pause, right arrow: one frame", visible=options.output is None)
        try:
            if options.output is not None:
                window.show(*next(frames))
                window.save(options.output)
                print(f"{options.output}: {camera.name}")
            else:
                play(window, frames)
        finally:
            window.close()
    return 0
