"""Writing a recording folder. See `recording.py` for reading it and for what a kill in the middle leaves."""

from __future__ import annotations

import contextlib
import json
import math
import os
from io import FileIO
from pathlib import Path

import cv2

from tracker.camera.frame import DepthFrame, HandTruth
from tracker.camera.recorder import FrameFile, reason_of
from tracker.camera.recording_header import RecordingHeader
from tracker.errors import CameraError

# The fastest setting of those tried on real depth, 3 ms at 848x480, and smaller than the default, which takes 15 ms.
PNG_OPTIONS = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT]
if hasattr(cv2, "IMWRITE_PNG_FILTER"):
    PNG_OPTIONS += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]


class RecordingFolderWriter(FrameFile):
    """A recording folder that grows frame by frame; every frame that it was given can be read after a kill."""

    def __init__(self, path: Path, header: RecordingHeader) -> None:
        """Start a recording in a folder that is new or empty. Raises CameraError if it is not, or not writable."""
        self._images = path / "depth"
        self._folder = path
        self._texts: dict[str, FileIO] = {}
        self._last_ns = -1
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise CameraError(f"{path} is not empty and is not overwritten: remove it or record to another path")
        try:
            self._images.mkdir(parents=True)
            (path / "camera.json").write_text(json.dumps(header.entries(), indent=1) + "\n", encoding="utf-8")
            self._texts["timestamps.txt"] = FileIO(path / "timestamps.txt", "x")
        except OSError as error:
            raise CameraError(f"cannot record to {path}: {reason_of(error)}") from error

    def append(self, frame: DepthFrame, message: str | None = None) -> None:
        """Write a frame: time, truth and message first, then the image under its final name in one step."""
        image = self._images / f"{frame.number:06d}.png"
        if image.exists() or frame.captured_ns <= self._last_ns:
            raise CameraError(f"frame {frame.number} comes twice or is older than the one before")
        if not (self._folder / "camera.json").exists():  # nobody could read the images without it
            raise CameraError(f"{self._folder} was removed")
        encoded = cv2.imencode(".png", frame.depth, PNG_OPTIONS)[1]
        self._last_ns = frame.captured_ns
        self._add_line("timestamps.txt", f"{frame.captured_ns // 10**9}.{frame.captured_ns % 10**9:09d}")
        if frame.truth is not None:
            hands = [_hand_entry(hand) for hand in frame.truth]
            self._add_line("joints.jsonl", json.dumps({"frame": frame.number, "hands": hands}))
        if message is not None:
            self._add_line("messages.jsonl", message)
        unfinished = image.with_suffix(".part")
        try:
            unfinished.write_bytes(encoded.tobytes())
            os.replace(unfinished, image)
        except OSError:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise

    def close(self) -> None:
        """Finish the text files."""
        for file in self._texts.values():
            file.close()

    def _add_line(self, name: str, line: str) -> None:
        """Append to a text file; it reaches the system at once, so that a kill cannot lose it."""
        if name not in self._texts:
            self._texts[name] = FileIO(self._folder / name, "x")
        rest = memoryview(f"{line}\n".encode())
        while rest:  # an almost full disk takes a part before it reports the error
            rest = rest[self._texts[name].write(rest) :]


def _hand_entry(hand: HandTruth) -> dict[str, object]:
    """A hand as `joints.jsonl` has it: null for a joint that is not known, no side if it is not known."""
    joints = [None if any(map(math.isnan, joint)) else joint for joint in hand.joints.tolist()]
    side: dict[str, object] = {} if hand.side is None else {"side": hand.side}
    return side | {"joints": joints}
