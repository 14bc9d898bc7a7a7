"""Depth recordings in one HDF5 file, `.h5`: smaller and quicker to copy than a folder of images.

attributes       format = "depth-recording", version = 1, and the entries of a folder's `camera.json`
depth            (n, height, width) uint16, one chunk per frame, shuffle + gzip 1 (lossless)
captured_ns      (n,) int64, capture time, Unix epoch, nanoseconds
number           (n,) int64, frame number of the source
truth_known      (n,) bool, false where nobody knows the hands of a frame
truth_row        (m,) int64, one entry per known hand: the index (not the number) of its frame
truth_side       (m,) uint8, 0 not known, 1 left, 2 right
truth_joints     (m, 21, 3) float32, metres, camera frame, NaN where not known
messages         (k,) uint8, what was tracked while recording: the lines of a folder's `messages.jsonl`, UTF-8
message_end      (n,) int64, where in `messages` the line of a frame ends; where the one before ends if it has none

The file is written in HDF5's single-writer-multiple-reader mode and flushed after every frame: a process that is killed
leaves a file that opens, and a recording can be read while it grows. (That mode has no texts of variable length, hence
the two tables for the messages. Files of older programs lack them.)
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import shutil
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tracker.camera.frame import DepthFrame, HandTruth, Side
from tracker.camera.playback import PlaybackCamera, RecordedFrame
from tracker.camera.recorder import FrameFile, reason_of
from tracker.camera.recording_header import RecordingHeader, parse_header
from tracker.errors import CameraError
from tracker.hand.skeleton import JOINT_COUNT

logger = logging.getLogger(__name__)

FORMAT = "depth-recording"
VERSION = 1
RESERVE_BYTES = 16 << 20
"""Free on the disk when a recording ends: HDF5 damages a file, and its process, when it cannot write."""
DAMAGE = (OSError, ValueError, RuntimeError, KeyError)
"""What h5py raises for broken files."""
SIDES: tuple[Side | None, ...] = (None, "left", "right")

# Name, shape of one entry (None: the depth image), type and entries per chunk of each table.
_FRAME_TABLES = ("depth", "captured_ns", "number", "truth_known")
_TABLES: dict[str, tuple[tuple[int, ...] | None, str, int]] = {
    "depth": (None, "<u2", 1),
    "captured_ns": ((), "int64", 1024),
    "number": ((), "int64", 1024),
    "truth_known": ((), "bool", 1024),
    "truth_row": ((), "int64", 1024),
    "truth_side": ((), "uint8", 1024),
    "truth_joints": ((JOINT_COUNT, 3), "float32", 64),
}
_MESSAGE_TABLES: dict[str, tuple[tuple[int, ...] | None, str, int]] = {
    "messages": ((), "uint8", 65536),
    "message_end": ((), "int64", 1024),
}


def open_h5_recording(path: Path, realtime: bool = False) -> PlaybackCamera:
    """An `.h5` recording as a camera, named by its attribute `name`. Raises CameraError."""
    file = _open(path)
    try:
        header = _read_header(file, path)
        count, frames = _frames(file, path, header)
        return PlaybackCamera(header.name, frames, count, realtime, release=file.close)
    except CameraError:
        file.close()
        raise
    except DAMAGE as error:
        file.close()
        raise CameraError(f"{path} is damaged: {error}") from error


def read_h5_messages(path: Path) -> list[str]:
    """The messages in an `.h5` recording, a line of JSON each; none if it was not tracked. Raises CameraError."""
    with _open(path) as file:
        try:
            header = _read_header(file, path)
            count, _ = _frames(file, path, header)
            if any(name not in file for name in _MESSAGE_TABLES):
                return []
            ends = file["message_end"][:count].tolist()
            if ends[-1] > len(file["messages"]) and not _is_unfinished(file, path):
                raise ValueError("its messages are cut off")
            text = file["messages"][: ends[-1]].tobytes()
            lines = [text[start:end] for start, end in pairwise([0, *ends]) if end > start]
            if _is_unfinished(file, path):
                whole = sum(1 for _ in takewhile(_is_whole, lines))
                if whole < len(lines):
                    logger.warning("%s: message %d is cut off: it and those after it are let go", path, whole + 1)
                lines = lines[:whole]
            return [line.decode().rstrip("\n") for line in lines]
        except DAMAGE as error:
            raise CameraError(f"{path} is damaged: {error}") from error


def _open(path: Path) -> h5py.File:
    if not path.is_file():
        raise CameraError(f"there is no file {path}: check the path")
    if path.stat().st_size == 0:
        raise CameraError(f"{path} is empty")
    try:
        # Only in this mode does a file open that its writer has not closed: it was killed, or is still recording. For
        # others it is not used: in a file that is cut off, HDF5 would then wait long for what is missing.
        options = {"libver": "latest", "swmr": True} if _has_writer(path) else {}
        return h5py.File(path, "r", **options)
    except DAMAGE as error:
        size = re.search(r"truncated file: .*stored_eof = (\d+)", str(error))
        if size is not None:
            try:
                file = h5py.File(_PaddedFile(path, int(size[1])), "r")
            except DAMAGE:
                pass  # the first error tells more
            else:
                logger.warning("%s is cut off: what was written is read", path)
                return file
        raise CameraError(f"{path} cannot be opened as HDF5, it is damaged or of another kind: {error}") from error


class _PaddedFile(io.FileIO):
    """A file that is cut off, with zeros for what is missing: HDF5 refuses shorter files, whatever is in them.

    A recorder leaves one when a write fails, on a full disk for example. What HDF5 finds in the zeros fails its checks
    at once; in the mode for files with a writer it would wait for better.
    """

    def __init__(self, path: Path, size: int) -> None:
        super().__init__(path)
        self._size = size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            return super().seek(self._size + offset)
        return super().seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = super().readinto(view) or 0
        view[count:] = bytes(len(view) - count)
        super().seek(len(view) - count, os.SEEK_CUR)
        return len(view)


def _is_unfinished(file: h5py.File, path: Path) -> bool:
    """Whether the end may be missing: the file is cut off, or its writer was killed or is still at work."""
    return _is_padded(file) or _has_writer(path)


def _is_padded(file: h5py.File) -> bool:
    return bool(file.driver == "fileobj")


def _is_whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _has_writer(path: Path) -> bool:
    """Whether HDF5's superblock (version 3) has the mark of a writer at work."""
    with path.open("rb") as file:
        start = file.read(12)
    return len(start) == 12 and start.startswith(b"\x89HDF\r\n\x1a\n\x03") and bool(start[11] & 1)


def _read_header(file: h5py.File, path: Path) -> RecordingHeader:
    if file.attrs.get("format") != FORMAT:
        raise CameraError(f"{path} is an HDF5 file, but no depth recording (those are written by --record FILE.h5)")
    if file.attrs.get("version") != VERSION:
        raise CameraError(
            f"{path} has format version {file.attrs.get('version')}, this program reads {VERSION}: update it"
        )
    entries = {key: value.item() if isinstance(value, np.generic) else value for key, value in file.attrs.items()}
    return parse_header(entries, str(path))


def _frames(file: h5py.File, path: Path, header: RecordingHeader) -> tuple[int, Iterator[RecordedFrame]]:
    """How many frames there are. Checks the tables at once; the frames come later, one by one."""
    k = header.intrinsics
    messages = {name: table for name, table in _MESSAGE_TABLES.items() if name in file}
    for name, (shape, kind, _) in (_TABLES | messages).items():
        entry = (k.height, k.width) if shape is None else shape
        table = file.get(name)
        if not isinstance(table, h5py.Dataset) or table.shape[1:] != entry or table.dtype != np.dtype(kind):
            raise CameraError(f"{path}: the table {name} is missing, or its entries are not {entry} {kind}")
    count = _count_frames(file, path)
    captured_ns, numbers, known = (file[name][:count].tolist() for name in _FRAME_TABLES[1:])
    hands = _read_truth(file)
    depth = file["depth"]
    return count, (
        RecordedFrame(
            numbers[row],
            captured_ns[row],
            partial(_load, depth, row, path, header, numbers[row], captured_ns[row], truth),
        )
        for row, truth in enumerate(hands[row] if known[row] else None for row in range(count))
    )


def _count_frames(file: h5py.File, path: Path) -> int:
    """How many frames are in every table."""
    # A recorder that was killed may have written one table and not the next; one on a full disk, zeros.
    tables = [*_FRAME_TABLES, *(["message_end"] if "message_end" in file else [])]
    count = min(len(file[name]) for name in tables)
    good = np.diff(file["captured_ns"][:count], prepend=-1) > 0
    if "message_end" in file:
        good &= np.diff(file["message_end"][:count], prepend=0) >= 0
    unfinished = _is_unfinished(file, path)
    if unfinished:
        good &= np.diff(file["number"][:count], prepend=-1) > 0
    if not good.all():
        if not unfinished:
            raise CameraError(f"{path} is damaged: its capture times, or the ends of its messages, do not increase")
        count = int(np.argmin(good))
    if _is_padded(file):  # not where a writer may be at work: HDF5 would wait for it
        while count and not _has_image(file["depth"], count - 1, path.stat().st_size):
            count -= 1
    if count == 0:
        raise CameraError(f"{path} has no frames: nothing was recorded, or the recorder was killed at its start")
    return count


def _has_image(depth: h5py.Dataset, row: int, size: int) -> bool:
    """Whether the image of a row lies within the file's size."""
    try:
        chunk = depth.id.get_chunk_info_by_coord((row, 0, 0))
    except DAMAGE:
        return False
    return chunk.byte_offset is not None and chunk.byte_offset + chunk.size <= size


def _load(
    table: h5py.Dataset,
    row: int,
    path: Path,
    header: RecordingHeader,
    number: int,
    captured_ns: int,
    truth: tuple[HandTruth, ...] | None,
) -> DepthFrame:
    try:
        depth = table[row]
    except DAMAGE as error:
        raise CameraError(f"{path} is damaged: frame {number} cannot be read: {error}") from error
    return DepthFrame(depth, header.depth_scale, header.intrinsics, number, captured_ns, time.time_ns(), truth)


def _read_truth(file: h5py.File) -> dict[int, tuple[HandTruth, ...]]:
    tables = [file[name] for name in ("truth_row", "truth_side", "truth_joints")]
    count = min(map(len, tables))
    ordered = np.diff(tables[0][:count], prepend=0) >= 0
    count = count if ordered.all() else int(np.argmin(ordered))
    truth: defaultdict[int, tuple[HandTruth, ...]] = defaultdict(tuple)
    for row, side, joints in zip(*(table[:count] for table in tables)):
        if side >= len(SIDES):
            raise ValueError(f"side {side} of a hand is none of 0, 1, 2")
        truth[int(row)] += (HandTruth(joints, SIDES[side]),)
    return truth


def _compress(depth: NDArray[np.uint16]) -> bytes:
    """What HDF5's filters shuffle + gzip 1 make of an image; done here because h5py compresses with the GIL held."""
    low_then_high = depth.astype("<u2", copy=False).view(np.uint8).reshape(-1, 2).T
    return zlib.compress(low_then_high.tobytes(), 1)


class H5RecordingWriter(FrameFile):
    """An `.h5` recording that grows frame by frame; a kill loses no more than the frame that is being written."""

    def __init__(self, path: Path, header: RecordingHeader) -> None:
        """Start a new file. Raises CameraError if it is there already or cannot be written."""
        k = header.intrinsics
        self._path = path
        try:
            self._file = h5py.File(path, "x", libver="latest")
        except OSError as error:
            raise CameraError(f"cannot record to {path}: {reason_of(error)}") from error
        for key, value in ({"format": FORMAT, "version": VERSION} | header.entries()).items():
            self._file.attrs[key] = value
        # Kept open: a table that is opened for each entry also loses its cache each time.
        self._tables: dict[str, h5py.Dataset] = {}
        for name, (shape, kind, chunk) in (_TABLES | _MESSAGE_TABLES).items():
            entry = (k.height, k.width) if shape is None else shape
            options = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if shape is None else {}
            self._tables[name] = self._file.create_dataset(
                name, (0, *entry), kind, maxshape=(None, *entry), chunks=(chunk, *entry), **options
            )
        self._file.swmr_mode = True
        self._length = dict.fromkeys(self._tables, 0)
        self._count = 0
        self._last_ns = -1

    def append(self, frame: DepthFrame, message: str | None = None) -> None:
        """Add a frame to every table, and flush, which takes a tenth of a millisecond."""
        if not self._path.exists():  # writing to a file that has been removed succeeds, and nobody would be told
            raise CameraError(f"{self._path} was removed")
        if frame.captured_ns <= self._last_ns:
            raise CameraError(f"frame {frame.number} is not later than the one before")
        if shutil.disk_usage(self._path.parent).free < RESERVE_BYTES:
            raise CameraError(f"less than {RESERVE_BYTES >> 20} MB are free on the disk")
        self._last_ns = frame.captured_ns
        # The image first: where the disk is full after it, the frame is in no other table and does not count.
        depth = self._tables["depth"].id
        depth.set_extent((self._count + 1, *frame.depth.shape))
        depth.write_direct_chunk((self._count, 0, 0), _compress(frame.depth))
        for hand in frame.truth or ():
            self._add("truth_row", [self._count])
            self._add("truth_side", [SIDES.index(hand.side)])
            self._add("truth_joints", [hand.joints])
        self._add("truth_known", [frame.truth is not None])
        if message is not None:
            self._add("messages", np.frombuffer(f"{message}\n".encode(), np.uint8))
        self._add("message_end", [self._length["messages"]])
        self._add("captured_ns", [frame.captured_ns])
        self._add("number", [frame.number])
        self._count += 1
        self._file.flush()

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    def _add(self, table: str, entries: ArrayLike) -> None:
        """Append entries to a table, by HDF5's own calls: h5py's indexing takes ten times as long."""
        dataset = self._tables[table].id
        values = np.ascontiguousarray(entries, dataset.dtype)
        start, self._length[table] = self._length[table], self._length[table] + len(values)
        rest = values.shape[1:]
        dataset.set_extent((self._length[table], *rest))
        place = dataset.get_space()
        place.select_hyperslab((start, *(0,) * len(rest)), values.shape)
        dataset.write(h5py.h5s.create_simple(values.shape), place, values)
