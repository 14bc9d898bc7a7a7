"""Pictures of what is tracked: skeletons over colour-mapped depth."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import DepthFrame
from tracker.errors import CameraError, TrackerError
from tracker.hand.cube import Cube
from tracker.hand.skeleton import BONES
from tracker.stream.message import HandsMessage

if TYPE_CHECKING:
    from tracker.tracking.config import TrackerConfig

PICTURES = 12
"""As many frames are drawn unless more or fewer are asked for."""
FINGER_COLORS = ((80, 80, 255), (60, 200, 255), (90, 255, 90), (255, 190, 70), (255, 110, 220))
"""Blue, green, red of thumb to little finger."""


def depth_picture(frame: DepthFrame, near: float = 0.2, far: float = 1.5) -> NDArray[np.uint8]:
    """Depth as a picture, (height, width, 3) uint8 BGR: near is bright, no reading is black. near, far: metres."""
    metres = frame.metres()
    shade = np.clip((far - metres) / (far - near), 0, 1)
    picture = cv2.applyColorMap((shade * 255).astype(np.uint8), cv2.COLORMAP_BONE)
    picture[metres == 0] = 0
    return np.asarray(picture, np.uint8)


def draw_hands(
    picture: NDArray[np.uint8], frame: DepthFrame, message: HandsMessage, cubes: tuple[Cube, ...] = ()
) -> None:
    """Draw skeletons, sides, ids and cubes into a picture of the frame. Inferred joints are hollow."""
    for cube in cubes:
        rows, columns = cube.window(frame.intrinsics)
        cv2.rectangle(picture, (columns.start, rows.start), (columns.stop, rows.stop), (110, 110, 110), 1)
    for hand in message.hands:
        if not np.isfinite(hand.joints).all():
            continue
        pixels = np.rint(frame.intrinsics.project(hand.joints) * 16).astype(int)
        for number, (parent, child) in enumerate(BONES):
            ends = [(int(u), int(v)) for u, v in (pixels[parent], pixels[child])]
            cv2.line(picture, ends[0], ends[1], FINGER_COLORS[number // 4], 2, cv2.LINE_AA, shift=4)
        for (u, v), tracked in zip(pixels, hand.joint_tracked):
            cv2.circle(picture, (int(u), int(v)), 40, (255, 255, 255), -1 if tracked else 1, cv2.LINE_AA, shift=4)
        u, v = pixels.max(axis=0) // 16
        text = f"{hand.side} #{hand.id}  {hand.confidence:.2f}"
        cv2.putText(picture, text, (int(u) - 60, int(v) + 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, 16)


def draw_sheet(options: argparse.Namespace, config: TrackerConfig) -> None:
    """`tracker draw`: track a source and write one picture of its frames side by side.

    Of a source that breaks in between, those before are drawn first. Raises TrackerError.
    """
    from tracker.camera import open_camera
    from tracker.hand_tracker import Tracker

    path = Path(options.output)
    if path.suffix.lower() != ".png":
        raise TrackerError(f"--output must end in .png, is {path}")
    if path.is_dir() or not path.parent.is_dir():
        raise TrackerError(f"{path} cannot be written: give a file in a folder that is there")
    broken: CameraError | None = None
    tiles: list[NDArray[np.uint8]] = []
    with (
        Tracker(options.model, options.engine, options.device, config) as tracker,
        open_camera(options.camera, realtime=False) as camera,
    ):
        for number in range(options.frames or PICTURES * options.every):
            try:
                frame = camera.read()
            except CameraError as error:
                broken = error
                break
            if frame is None:
                break
            message = tracker.track(frame, camera.name)
            if number % options.every == 0:
                picture = depth_picture(frame)
                draw_hands(picture, frame, message, tracker.cubes)
                tiles.append(picture)
    if not tiles:
        raise broken or TrackerError(f"{options.camera} has no frames")
    drawn = len(tiles)
    blank = np.zeros_like(tiles[0])
    columns = min(options.columns, len(tiles))
    tiles += [blank] * (-len(tiles) % columns)
    sheet = np.vstack([np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)])
    try:
        written = cv2.imwrite(str(path), sheet)
    except cv2.error:
        written = False
    if not written:
        raise TrackerError(f"{path} cannot be written: is there room, and may you write there?")
    print(f"{path}: {drawn} frames of {camera.name}")
    if broken:
        raise broken
