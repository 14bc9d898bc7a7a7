"""How many depth images a RealSense recording holds, read from its index without the SDK.

librealsense takes a damaged file for a short one. Counting first is how the damage is told.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tracker.errors import CameraError

# Messages of depth images: compressed ones have a suffix.
DEPTH_TOPIC = re.compile(r"/device_\d+/sensor_\d+/Depth_\d+/image/data(/\w+)?")
BAG_VERSION_LINE = b"#ROSBAG V2.0\n"
BAG_CONNECTION, BAG_CHUNK_INFO = 7, 6


def count_depth_images(path: Path) -> int:
    """Depth images in a `.db3` or `.bag` recording. Raises CameraError if the file is broken."""
    count = _count_db3 if path.suffix == ".db3" else _count_bag
    try:
        return count(path)
    except (sqlite3.Error, OSError, struct.error, ValueError, KeyError) as error:
        raise CameraError(f"{path} is no RealSense recording, or it is damaged: {error}") from error


def _count_db3(path: Path) -> int:
    """A `.db3` is an SQLite data base with the tables topics and messages (rosbag2)."""
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as data_base:
        topics = data_base.execute("SELECT id, name FROM topics").fetchall()
        depth = [number for number, name in topics if DEPTH_TOPIC.fullmatch(name)]
        query = "SELECT COUNT(*) FROM messages WHERE topic_id = ?"
        return sum(data_base.execute(query, (number,)).fetchone()[0] for number in depth)


def _count_bag(path: Path) -> int:
    """A `.bag` (ROS bag format 2.0) ends with its connections and, for each chunk, its messages per connection."""
    with path.open("rb") as file:
        if file.read(len(BAG_VERSION_LINE)) != BAG_VERSION_LINE:
            raise ValueError("it does not begin as a bag does")
        fields, _ = _read_record(file)
        (index,) = struct.unpack("<Q", fields[b"index_pos"])
        if index == 0 or index >= path.stat().st_size:
            raise ValueError("it has no index: it is cut off, or the recording was not finished")
        file.seek(index)
        depth: set[int] = set()
        count = 0
        while file.peek(1):  # type: ignore[attr-defined]
            fields, data = _read_record(file)
            kind = fields[b"op"][0]
            if kind == BAG_CONNECTION and DEPTH_TOPIC.fullmatch(fields[b"topic"].decode()):
                depth.update(struct.unpack("<I", fields[b"conn"]))
            elif kind == BAG_CHUNK_INFO:  # the connections come before the chunks
                count += sum(
                    messages for connection, messages in struct.iter_unpack("<II", data) if connection in depth
                )
    return count


def _read_record(file: BinaryIO) -> tuple[dict[bytes, bytes], bytes]:
    """The fields and the data of the record at the file's position; both are preceded by their length."""
    header, data = (file.read(struct.unpack("<I", file.read(4))[0]) for _ in range(2))
    return dict(_fields(header)), data


def _fields(header: bytes) -> Iterator[tuple[bytes, bytes]]:
    while header:
        (length,) = struct.unpack_from("<I", header)
        name, _, value = header[4 : 4 + length].partition(b"=")
        yield name, value
        header = header[4 + length :]
