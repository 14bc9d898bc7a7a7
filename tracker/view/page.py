"""The page in the browser that the live view and the viewer of recordings share: a scene, a legend, what is shown."""

from __future__ import annotations

import contextlib
import io
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tracker.camera.frame import DepthFrame
from tracker.errors import TrackerError, missing_package
from tracker.hand.cube import Cube
from tracker.hand.skeleton import WRIST
from tracker.stream.message import Hand
from tracker.view.drawing import (
    FAR_COLOR,
    NEAR_COLOR,
    Cloud,
    bone_segments,
    cube_segments,
    depth_cloud,
    joint_points,
    mirrored,
)

CUBE_GREY: Final = 200
OWN_ORIGIN: Final = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")


def load_viser() -> Any:
    """The package that serves the page; loading it takes most of a second. Raises TrackerError if it is missing."""
    try:
        import viser
    except ImportError as error:
        raise TrackerError(missing_package("viser", "the live view", 'pip install "v2v-hand-tracker[view]"')) from error
    return viser


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """What a page shows of a frame. hands: in the camera's frame of reference. text: Markdown, about the frame."""

    frame: DepthFrame
    hands: Sequence[Hand]
    cubes: Sequence[Cube]
    text: str


class Page:
    """A page that only programs on this machine can open, and that other sites in a browser cannot connect to.

    title: of the browser's tab. url: where it is; if `port` is taken, the next free one is used.
    watched: whether a browser shows it. on_unwatched: called when the last one has gone.
    cubes: whether there are any, for the legend.
    Raises TrackerError if viser is not installed.
    """

    def __init__(
        self, title: str, port: int = 8080, on_unwatched: Callable[[], None] = lambda: None, cubes: bool = True
    ) -> None:
        viser = load_viser()
        with _silent(), _for_own_pages():
            self.server = viser.ViserServer(host="127.0.0.1", port=port, label=title, verbose=False)
        self.url = f"http://127.0.0.1:{self.server.get_port()}"
        self.watched = False
        self._on_unwatched = on_unwatched
        self._has_cubes = cubes
        self._clients: set[int] = set()
        self._lock = threading.Lock()
        self._last: Picture | None = None
        self._add_scene()
        self.gui = self.server.gui
        self.gui.configure_theme(dark_mode=True, control_width="large", show_logo=False, show_share_button=False)
        self.text = self.gui.add_markdown("waiting for frames")
        self._mirror = self.gui.add_checkbox("Mirror", False, hint="show left and right as a mirror does")
        self._mirror.on_update(lambda _: self.redraw())
        self.legend = self.gui.add_html(legend_html(None, cubes))
        self.server.on_client_connect(lambda client: self._count(client.client_id, here=True))
        self.server.on_client_disconnect(lambda client: self._count(client.client_id, here=False))

    def draw(self, picture: Picture) -> None:
        """Show a frame, its hands and where they were looked for."""
        cloud = depth_cloud(picture.frame)
        joints, joint_colors = joint_points(picture.hands)
        bones, bone_colors = bone_segments(picture.hands)
        edges = cube_segments(picture.cubes)
        flip = mirrored if self._mirror.value else np.asarray
        with self._lock, self.server.atomic():
            self._last = picture
            _show(self._cloud, flip(cloud.points), cloud.colors)
            _show(self._joints, flip(joints), joint_colors)
            _show(self._bones, flip(bones), bone_colors)
            _show(self._cubes, flip(edges), np.full(edges.shape, CUBE_GREY, np.uint8))
            self._draw_labels(picture.hands)
            self.text.content = picture.text
            self.legend.content = legend_html(cloud, self._has_cubes)

    def redraw(self) -> None:
        """Show the last picture again, as something about how it is shown has changed."""
        if self._last is not None:
            self.draw(self._last)

    def close(self) -> None:
        """Stop serving."""
        with _silent():
            self.server.stop()

    def _add_scene(self) -> None:
        scene = self.server.scene
        scene.set_up_direction("-y")
        self.server.initial_camera.position = (0.12, -0.16, 0.0)
        self.server.initial_camera.look_at = (0.11, 0.0, 0.6)
        dot, line, black = np.zeros((1, 3), np.float32), np.zeros((1, 2, 3), np.float32), np.zeros((1, 2, 3), np.uint8)
        self._cloud = scene.add_point_cloud("/depth", dot, (0, 0, 0), point_size=0.0015, visible=False)
        self._joints = scene.add_point_cloud(
            "/joints", dot, (0, 0, 0), point_size=0.007, point_shape="circle", precision="float32", visible=False
        )
        self._bones = scene.add_line_segments("/hands", line, black, thickness=0.006, visible=False)
        self._cubes = scene.add_line_segments("/cubes", line, black, thickness=0.0015, visible=False)
        self._labels: list[Any] = []

    def _draw_labels(self, hands: Sequence[Hand]) -> None:
        while len(self._labels) < len(hands):
            self._labels.append(self.server.scene.add_label(f"/labels/{len(self._labels)}", ""))
        for i, label in enumerate(self._labels):
            wrist = hands[i].joints[WRIST] if i < len(hands) else np.full(3, np.nan, np.float32)
            label.visible = bool(np.isfinite(wrist).all())
            if label.visible:
                label.text = f"{hands[i].side} #{hands[i].id}  {hands[i].confidence:.0%}"
                if self._mirror.value:
                    label.text += " (mirrored)"
                label.position = mirrored(wrist) if self._mirror.value else wrist

    def _count(self, client: int, here: bool) -> None:
        if here:
            self._clients.add(client)
        else:
            self._clients.discard(client)
        self.watched = bool(self._clients)
        if not self.watched:
            self._on_unwatched()


def quoted(text: object) -> str:
    """Text of others as Markdown code on one line: viser's Markdown would run what it takes for a program."""
    return f"`{' '.join(str(text).replace('`', chr(39)).split())}`"


def legend_html(cloud: Cloud | None, cubes: bool = True) -> str:
    """What the colours mean; of the cloud with its distances, once there is one; of cubes only if they are shown."""
    near, far = (
        ("near", "far") if cloud is None or not len(cloud.points) else (f"{cloud.near:.2f} m", f"{cloud.far:.2f} m")
    )
    blues = ", ".join(f"rgb{color}".replace(" ", "") for color in (NEAR_COLOR, FAR_COLOR))
    row = "display:flex;align-items:center;gap:6px;margin:3px 0"
    bar = "flex:none;width:90px;height:10px;border-radius:3px;background:linear-gradient(90deg,"
    box = f"flex:none;width:10px;height:10px;margin:0 40px;border:1.5px solid rgb({CUBE_GREY},{CUBE_GREY},{CUBE_GREY})"
    rows = [
        f'<span style="{bar}#f00,#ff0,#0f0)"></span>joint: confidence 0 to 1',
        f'<span style="{bar}#800,#880,#080)"></span>the same, inferred (not seen)',
        f'<span style="{bar}{blues})"></span>depth: {near} to {far}',
        *([f'<span style="{box}"></span>where the network looks'] if cubes else []),
    ]
    lines = "".join(f'<div style="{row}">{text}</div>' for text in rows)
    return f'<div style="font-size:12px;padding:0 12px">{lines}</div>'


def _show(handle: Any, points: np.ndarray, colors: np.ndarray) -> None:
    """Give a cloud or lines of the scene other points; viser cannot show none, so that it is hidden then."""
    handle.visible = len(points) > 0
    if len(points):
        handle.points, handle.colors = points, colors


@contextlib.contextmanager
def _for_own_pages() -> Iterator[None]:
    """Servers that are started meanwhile refuse the pages of other sites.

    A browser lets every site connect to programs on its machine, and viser does not ask who does: any page that is
    open beside this one could watch, and record. (Programs that are no browser do not say where they come from.)
    """
    from websockets.asyncio import server

    before = server.serve

    def serve(handler: Any, *args: Any, process_request: Any = None, **options: Any) -> Any:
        def check(connection: Any, request: Any) -> Any:
            origin = request.headers.get("Origin")
            if origin is not None and not OWN_ORIGIN.fullmatch(origin):
                return connection.respond(403, "this page is for this machine\n")
            return process_request(connection, request) if process_request else None

        return before(handler, *args, process_request=check, **options)

    server.serve = serve  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        server.serve = before  # type: ignore[misc]


def _silent() -> contextlib.redirect_stdout[io.StringIO]:
    """Viser announces itself on standard output, which belongs to the tracker's own data."""
    return contextlib.redirect_stdout(io.StringIO())
