"""`python -m tracker csv MESSAGES OUT.csv`: the joints of messages as a table for spreadsheets and statistics."""

from __future__ import annotations

import argparse
import csv
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tracker.errors import StreamError

if TYPE_CHECKING:
    from tracker.stream.message import Hand, HandsMessage

FRAME_COLUMNS: Final = ("camera", "frame", "captured_ns", "published_ns", "dropped", "latency_total_ms", "space")
HAND_COLUMNS: Final = ("id", "side", "side_confidence", "confidence")


def joint_columns(names: Iterable[str]) -> list[str]:
    """Five columns a joint: x, y, z in metres, confidence 0..1, tracked 1 (seen) or 0 (inferred)."""
    return [f"{name}_{what}" for name in names for what in ("x", "y", "z", "confidence", "tracked")]


def write_csv(messages: Iterable[HandsMessage], path: Path) -> int:
    """Write one row per frame and hand; a frame without hands is a row whose hand columns are empty.

    A joint without an estimate has empty x, y, z. The file appears when it is complete. Returns the number of rows.
    Raises StreamError if the file is there already or cannot be written, or where the skeleton changes.
    """
    if path.exists():
        raise StreamError(f"{path} is there already and is not overwritten: remove it or choose another file")
    try:
        handle, unfinished = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    except OSError as error:
        raise StreamError(f"{path} cannot be written: {error.strerror}; does its folder exist?") from error
    try:
        os.chmod(unfinished, 0o644)  # the temporary file is for its owner only
        with open(handle, "w", newline="", encoding="utf-8") as file:
            rows = 0
            for row in _rows(messages):
                csv.writer(file).writerow(row)
                rows += 1
        os.replace(unfinished, path)
    except OSError as error:
        raise StreamError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        Path(unfinished).unlink(missing_ok=True)
    return rows - 1


def _rows(messages: Iterable[HandsMessage]) -> Iterator[list[object]]:
    """The heading, then the rows."""
    skeleton = ""
    joints = 0
    for message in messages:
        if not skeleton:
            from tracker.compare import joint_names

            names = joint_names(message)
            skeleton, joints = message.skeleton, len(names)
            yield [*FRAME_COLUMNS, *HAND_COLUMNS, *joint_columns(names)]
        if message.skeleton != skeleton:
            raise StreamError(f"the skeleton changes at frame {message.frame}: a table holds one")
        start: list[object] = [message.camera, message.frame, message.captured_ns, message.published_ns]
        start += [message.dropped, _number(message.latency_ms.total), message.space]
        for hand in message.hands:
            yield start + _hand(hand)
        if not message.hands:
            yield start + [""] * (len(HAND_COLUMNS) + 5 * joints)
    if not skeleton:
        raise StreamError("there are no messages, so there is nothing to write")


def _hand(hand: Hand) -> list[object]:
    row: list[object] = [hand.id, hand.side, _number(hand.side_confidence), _number(hand.confidence)]
    for joint, confidence, tracked in zip(
        hand.joints.tolist(), hand.joint_confidence.tolist(), hand.joint_tracked.tolist()
    ):
        row += [*map(_number, joint), _number(confidence), int(tracked)]
    return row


def _number(value: float) -> float | str:
    """To six decimals, as the messages have it: a micrometre."""
    return round(value, 6) if math.isfinite(value) else ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `csv`."""
    parser.add_argument("messages", metavar="MESSAGES", type=Path, help="FILE.jsonl, or a recording with its messages")
    parser.add_argument("out", metavar="OUT.csv", type=Path, help="the table to write")


def run(options: argparse.Namespace) -> int:
    """Write the table; returns the exit status. Raises StreamError, CameraError."""
    from tracker.kept_messages import read_messages

    rows = write_csv(read_messages(options.messages), options.out)
    print(f"{options.out}: {rows} rows")
    return 0
