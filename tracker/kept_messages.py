"""Messages that were kept: in a `.jsonl` file of `--output` or `listen --json`, or in a recording beside the depth."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgpack

from tracker.camera.frame import DepthFrame
from tracker.errors import StreamError
from tracker.hand.skeleton import SKELETON
from tracker.stream.fields import MAX_BYTES
from tracker.stream.message import HandsMessage, unpack

log = logging.getLogger(__name__)

MAX_LINE = 16 * MAX_BYTES
"""Bytes. Text is longer than MessagePack, but not so much."""


def read_messages(path: Path) -> Iterator[HandsMessage]:
    """The messages in a `.jsonl` file, a recording folder or an `.h5` recording, in order.

    A last line that was cut off when its writer was killed is let go. Raises StreamError for what is no message,
    CameraError for a broken recording.
    """
    if path.is_dir() or path.suffix == ".h5":
        lines = recorded_lines(path)
        if not lines:
            raise StreamError(
                f"{path} has no messages: it was recorded without tracking; give a .jsonl file of --output"
            )
        return (parse_line(line, f"{path}, message {row}") for row, line in enumerate(lines, start=1))
    if path.suffix in (".bag", ".db3"):
        raise StreamError(f"{path} is a RealSense recording, which has no messages: give a .jsonl file of --output")
    return _read_file(path)


def messages_beside(recording: Path, given: Path | None = None) -> Iterator[HandsMessage]:
    """What was tracked in a recording: the messages of `given` or, without it, its own; nothing where it has none.

    Raises StreamError, also where joints are not in the camera's frame of reference, as the depth is; CameraError.
    """
    if given is None and (recording.suffix in (".bag", ".db3") or not recorded_lines(recording)):
        return
    for message in read_messages(given or recording):
        if message.space != "camera":
            raise StreamError(
                f"the joints of frame {message.frame} are in the space {message.space!r}, unlike the depth: "
                "give messages that were made without extrinsics"
            )
        if message.skeleton != SKELETON:
            raise StreamError(
                f"skeletons of {SKELETON} are drawn, those of frame {message.frame} are {message.skeleton}"
            )
        yield message


def in_step(
    frames: Iterable[DepthFrame], messages: Iterable[HandsMessage]
) -> Iterator[tuple[DepthFrame, HandsMessage | None]]:
    """Every frame with its message, None where it has none. Both in the order of their frame numbers."""
    rest = iter(messages)
    message = next(rest, None)
    for frame in frames:
        while message is not None and message.frame < frame.number:
            message = next(rest, None)
        yield frame, message if message is not None and message.frame == frame.number else None


def recorded_lines(path: Path) -> list[str]:
    """The messages in a recording folder or an `.h5` recording as they are, lines of JSON; none if it has none.

    Raises CameraError.
    """
    if path.is_dir():
        from tracker.camera.recording import read_folder_messages

        return read_folder_messages(path)
    from tracker.camera.h5_recording import read_h5_messages

    return read_h5_messages(path)


def parse_line(line: str, where: str) -> HandsMessage:
    """The message in a line of JSON, held to the same checks as one from the network; `where` names it in errors.

    Raises StreamError.
    """
    try:
        return unpack(msgpack.packb(_with_nan(json.loads(line))))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise StreamError(f"{where} is not a line of JSON: {line[:40]!r}") from error
    except StreamError as error:
        raise StreamError(f"{where}: {error}") from error


def _read_file(path: Path) -> Iterator[HandsMessage]:
    try:
        with path.open("rb") as file:
            row = 0
            while data := file.readline(MAX_LINE):
                row += 1
                line = data.decode(errors="replace")
                if not line.strip():
                    continue
                try:
                    yield parse_line(line, f"{path}, line {row}")
                except StreamError:
                    if data.endswith(b"\n") or row == 1 or len(data) == MAX_LINE:
                        raise
                    log.warning("%s, line %d is cut off: it is let go", path, row)
    except FileNotFoundError as error:
        raise StreamError(f"there is no file {path}: check the path") from error
    except OSError as error:
        raise StreamError(f"{path} cannot be read: {error.strerror}") from error


def _with_nan(value: Any) -> Any:
    """NaN for null: JSON cannot say it, and in a message null means nothing else."""
    if value is None:
        return math.nan
    if isinstance(value, list):
        return [_with_nan(item) for item in value]
    if isinstance(value, dict):
        return {key: _with_nan(item) for key, item in value.items()}
    return value
