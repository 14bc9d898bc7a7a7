"""Writing a recording folder. See `recording.py` for reading it and for what a kill in the middle leaves."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TextIO

import cv2

from tracker.camera.frame import DepthFrame, HandTruth
from tracker.camera.recorder import FrameFile
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
        self._joints_path = path / "joints.jsonl"
        self._joints: TextIO | None = None
        self._last_ns = -1
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise CameraError(f"{path} is not empty and is not overwritten: remove it or record to another path")
        try:
            self._images.mkdir(parents=True)
            (path / "camera.json").write_text(json.dumps(header.entries(), indent=1) + "\n", encoding="utf-8")
            self._times = (path / "timestamps.txt").open("w", encoding="utf-8")
        except OSError as error:
            raise CameraError(f"cannot record to {path}: {error}") from error

    def append(self, frame: DepthFrame) -> None:
        """Write a frame: time and truth first, then the image under its final name in one step."""
        image = self._images / f"{frame.number:06d}.png"
        if image.exists() or frame.captured_ns <= self._last_ns:
            raise CameraError(f"frame {frame.number} comes twice or is older than the one before")
        encoded = cv2.imencode(".png", frame.depth, PNG_OPTIONS)[1]
        self._last_ns = frame.captured_ns
        self._times.write(f"{frame.captured_ns // 10**9}.{frame.captured_ns % 10**9:09d}\n")
        self._times.flush()
        if frame.truth is not None:
            self._write_truth(frame.number, frame.truth)
        unfinished = image.with_suffix(".part")
        unfinished.write_bytes(encoded.tobytes())
        os.replace(unfinished, image)

    def close(self) -> None:
        """Finish the text files."""
        self._times.close()
        if self._joints is not None:
            self._joints.close()

    def _write_truth(self, number: int, truth: tuple[HandTruth, ...]) -> None:
        if self._joints is None:
            self._joints = self._joints_path.open("w", encoding="utf-8")
        hands = [_hand_entry(hand) for hand in truth]
        self._joints.write(json.dumps({"frame": number, "hands": hands}) + "\n")
        self._joints.flush()


def _hand_entry(hand: HandTruth) -> dict[str, object]:
    """A hand as `joints.jsonl` has it: null for a joint that is not known, no side if it is not known."""
    joints = [None if any(map(math.isnan, joint)) else joint for joint in hand.joints.tolist()]
    side: dict[str, object] = {} if hand.side is None else {"side": hand.side}
    return side | {"joints": joints}
