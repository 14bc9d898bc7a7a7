"""Recording folders: `camera.json`, `depth/*.png`; optionally `timestamps.txt`, `joints.jsonl`, `messages.jsonl`.

`joints.jsonl` is the truth, where somebody knows it; `messages.jsonl` is what was tracked while recording. A recorder
that is killed leaves a folder that can be read: it writes the lines of a frame before its image, so that only the last
line of the text files can be one too many, or cut off, and that line is let go.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from tracker.camera.frame import DepthFrame, HandTruth
from tracker.camera.playback import PlaybackCamera, RecordedFrame
from tracker.camera.recording_header import RecordingHeader, parse_header
from tracker.errors import CameraError
from tracker.hand.skeleton import JOINT_COUNT

logger = logging.getLogger(__name__)

FRAME_NS = 1_000_000_000 / 30
"""Nanoseconds between frames where a folder has no `timestamps.txt`."""

Truth = Mapping[int, tuple[HandTruth, ...]]


def open_recording_folder(path: Path, realtime: bool = False) -> PlaybackCamera:
    """A recording folder as a camera, named by its `camera.json`.

    The text files are checked at once, an image when it is read. Frame numbers are those of the file names; capture
    times start at 0 where the folder has no `timestamps.txt`. Raises CameraError.
    """
    header = read_header(path / "camera.json")
    images = numbered_images(path / "depth")
    numbers = list(images)
    times = _read_times(path / "timestamps.txt", numbers)
    truth = read_truth(path / "joints.jsonl", numbers)
    frames = _frames(images, times, truth, header)
    return PlaybackCamera(header.name, frames, len(images), realtime, release=lambda: None)


def read_folder_messages(path: Path) -> list[str]:
    """The messages in a recording folder, a line of JSON each; none if it was not tracked. Raises CameraError.

    The last line is let go if it is cut off, or if the image of its frame was not written any more.
    """
    read_header(path / "camera.json")  # a folder that is no recording is told as such
    images = numbered_images(path / "depth")
    lines = _lines(path / "messages.jsonl") or []
    if lines and _frame_number(lines[-1]) not in images:
        lines.pop()
    return lines


def _frame_number(line: str) -> int | None:
    try:
        return int(json.loads(line)["frame"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def read_header(path: Path) -> RecordingHeader:
    """The header in a `camera.json`. Raises CameraError."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CameraError(f"{path.parent} is no recording folder: it has no {path.name}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CameraError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(entries, dict):
        raise CameraError(f"{path}: expected an object with name, width, height, fx, fy, cx, cy, depth_scale")
    return parse_header(entries, str(path))


def numbered_images(folder: Path) -> dict[int, Path]:
    """The PNG files of a folder by their number, in order. Raises CameraError if there are none."""
    images: dict[int, Path] = {}
    for path in sorted(folder.glob("*.png")):
        if not (path.stem.isascii() and path.stem.isdigit()):
            raise CameraError(f"{path}: an image is named by its frame number, such as 000007.png; rename or remove it")
        if int(path.stem) in images:
            raise CameraError(f"{path} and {images[int(path.stem)].name} have the same frame number: remove one")
        images[int(path.stem)] = path
    if not images:
        raise CameraError(f"{folder} has no images: a recording has depth/000000.png and so on")
    return dict(sorted(images.items()))


def _frames(
    images: Mapping[int, Path], times: list[int], truth: Truth | None, header: RecordingHeader
) -> Iterator[RecordedFrame]:
    for (number, path), captured_ns in zip(images.items(), times, strict=True):
        hands = None if truth is None else truth.get(number)
        yield RecordedFrame(number, captured_ns, partial(_load, path, header, number, captured_ns, hands))


def _load(
    path: Path, header: RecordingHeader, number: int, captured_ns: int, truth: tuple[HandTruth, ...] | None
) -> DepthFrame:
    k = header.intrinsics
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise CameraError(f"{path} cannot be read: {error}") from error
    depth = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if depth is None:
        raise CameraError(
            f"{path} is broken: it cannot be decoded as PNG; "
            "to do without it, remove it and its line in timestamps.txt and joints.jsonl, if they are there"
        )
    if depth.dtype != np.uint16 or depth.ndim != 2:
        channels = 1 if depth.ndim == 2 else depth.shape[2]
        raise CameraError(
            f"{path} must be a 16-bit PNG of a single channel, has {8 * depth.itemsize} bits and {channels} channels"
        )
    if depth.shape != (k.height, k.width):
        height, width = depth.shape
        raise CameraError(f"{path} is {width}x{height}, but camera.json says {k.width}x{k.height}")
    return DepthFrame(depth.view(np.uint16), header.depth_scale, k, number, captured_ns, time.time_ns(), truth)


def _read_times(path: Path, numbers: list[int]) -> list[int]:
    """Capture times of the frames in nanoseconds, one per frame."""
    lines = _lines(path)
    if lines is None:
        return [round((number - numbers[0]) * FRAME_NS) for number in numbers]
    if len(lines) == len(numbers) + 1:
        logger.warning("%s has one line more than there are images: the recorder was stopped in between", path)
        lines.pop()
    if len(lines) != len(numbers):
        raise CameraError(f"{path} has {len(lines)} lines for {len(numbers)} images: it needs one per image")
    times: list[int] = []
    for row, line in enumerate(lines, start=1):
        try:
            nanoseconds = round(Decimal(line.strip()) * 1_000_000_000)
        except (InvalidOperation, ValueError, OverflowError) as error:
            raise CameraError(f"{path}, line {row}: {line!r} is not a time in seconds") from error
        if nanoseconds < 0 or nanoseconds >= 2**63:
            raise CameraError(f"{path}, line {row}: {line!r} is not a time in seconds since 1970")
        if times and nanoseconds <= times[-1]:
            raise CameraError(f"{path}, line {row}: {line!r} is not later than the line before")
        times.append(nanoseconds)
    return times


def read_truth(path: Path, numbers: list[int]) -> Truth | None:
    """The true hands of a `joints.jsonl`, by frame number; None if there is no such file.

    numbers: of the frames that have images. Raises CameraError for a line that says something else.
    """
    lines = _lines(path)
    if lines is None:
        return None
    known = set(numbers)
    truth: dict[int, tuple[HandTruth, ...]] = {}
    if lines and _frame_number(lines[-1]) not in known:
        logger.warning("%s, line %d: there is no image of its frame; the line is let go", path, len(lines))
        lines.pop()
    for row, line in enumerate(lines, start=1):
        number, hands = _parse_truth(line, f"{path}, line {row}")
        if number not in known:
            raise CameraError(f"{path}, line {row}: there is no image of frame {number}")
        if number in truth:
            raise CameraError(f"{path}, line {row}: frame {number} was there before")
        truth[number] = hands
    return truth


def _parse_truth(line: str, where: str) -> tuple[int, tuple[HandTruth, ...]]:
    try:
        entry = json.loads(line)
        number, hands = entry["frame"], entry["hands"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CameraError(f'{where}: expected {{"frame": 0, "hands": [...]}}, found {line[:60]!r}') from error
    if isinstance(number, bool) or not isinstance(number, int) or not isinstance(hands, list):
        raise CameraError(f'{where}: "frame" must be a whole number and "hands" a list')
    return number, tuple(_parse_hand(hand, where) for hand in hands)


def _parse_hand(hand: object, where: str) -> HandTruth:
    joints = hand.get("joints") if isinstance(hand, dict) else None
    if not isinstance(joints, list) or len(joints) != JOINT_COUNT:
        raise CameraError(f'{where}: a hand needs "joints", a list of {JOINT_COUNT} points')
    try:
        points = np.array([(np.nan,) * 3 if joint is None else joint for joint in joints], np.float32)
    except (ValueError, TypeError, OverflowError):
        points = np.empty(0, np.float32)
    if points.shape != (JOINT_COUNT, 3) or np.isinf(points).any():
        raise CameraError(f"{where}: a joint is [x, y, z] in metres, or null where it is not known")
    side = hand.get("side") if isinstance(hand, dict) else None
    if side not in ("left", "right", None):
        raise CameraError(f'{where}: "side" must be "left" or "right", is {side!r}; leave it out if not known')
    return HandTruth(points, side)


def _lines(path: Path) -> list[str] | None:
    """The lines of a text file that are not empty; None if there is no such file."""
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CameraError(f"{path} cannot be read as text: {error}") from error
