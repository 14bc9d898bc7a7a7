"""The occupied voxels of a grid in an .npz, from bytes that may be anything: sizes are bounded, nothing is unpickled.

The grid is searched while it is unpacked, piece by piece: it is never in memory whole, and a few kilobytes that claim
to be gigabytes cost nothing.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_BYTES = 1 << 27
"""Of a grid when unpacked: 512^3 voxels."""
PIECE = 1 << 16
MEMBER = b"arr_0.npy"
LOCAL_HEADER = struct.Struct("<4s5H3I2H")


def occupied(data: bytes) -> tuple[NDArray[np.int64], tuple[int, ...]]:
    """The entries of `arr_0` of an .npz that are not zero.

    Returns their indices (n, dimensions), in the order of np.argwhere if it is stored in C order, and the array's
    shape. Raises ValueError, saying what is wrong, for bytes that are no .npz, damaged, or a grid beyond MOST_BYTES.
    """
    pieces = _first_member(data) or _member(data)
    try:
        head = next(pieces, b"")
        shape, fortran, dtype, start = _header(head)
        total = math.prod(shape) * dtype.itemsize
        if total > MOST_BYTES:
            raise ValueError(f"'arr_0' is said to be of shape {shape}: more than {MOST_BYTES >> 20} MiB")
        rest = head[start:]
        found, before = [], 0
        for piece in _whole(rest, pieces, dtype.itemsize):
            before += len(piece)
            if before > total:
                break
            values = np.frombuffer(piece, dtype)
            found.append(np.flatnonzero(values) + (before - len(piece)) // dtype.itemsize)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"not a whole .npz: {error}") from error
    if before != total:
        raise ValueError(f"'arr_0' is said to be of shape {shape} but holds {before} bytes or more")
    flat = np.concatenate(found) if found else np.empty(0, np.int64)
    return np.stack(np.unravel_index(flat, shape, order="F" if fortran else "C"), axis=1), shape


def _first_member(data: bytes) -> Iterator[bytes] | None:
    """The unpacked pieces of a zip's first member, if it is what np.savez_compressed writes; None if it is not."""
    if len(data) < LOCAL_HEADER.size:
        return None
    magic, _, flags, method, _, _, crc, _, _, name_length, extra_length = LOCAL_HEADER.unpack_from(data)
    start = LOCAL_HEADER.size + name_length
    # With any flag (encrypted, sizes that follow the data, ...) the long way is taken: zipfile knows them all.
    if magic != b"PK\x03\x04" or flags or method != zipfile.ZIP_DEFLATED or data[LOCAL_HEADER.size : start] != MEMBER:
        return None
    return _inflated(data[start + extra_length :], crc)


def _inflated(packed: bytes, crc: int) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    seen = 0
    while piece := unpacker.decompress(packed, PIECE):
        seen = zlib.crc32(piece, seen)
        yield piece
        packed = unpacker.unconsumed_tail
    if not unpacker.eof or seen != crc:
        raise zlib.error("cut short, or its checksum is another")


def _member(data: bytes) -> Iterator[bytes]:
    """The same for any zip: stored, not the first, or with other flags."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if MEMBER.decode() not in archive.namelist():
            raise ValueError("an .npz without 'arr_0'")
        with archive.open(MEMBER.decode()) as file:
            while piece := file.read(PIECE):
                yield piece


def _whole(rest: bytes, pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The pieces again, each of whole items of `size` bytes; what is left over at the end is given as it is."""
    for piece in pieces:
        joined = rest + piece
        end = len(joined) // size * size
        rest = joined[end:]
        yield joined[:end]
    if rest:
        yield rest


def _header(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, Fortran order and type of an .npy, and where its data begin."""
    if head[:6] != b"\x93NUMPY" or len(head) < 12:
        raise ValueError("'arr_0' is not an array")
    wide = head[6] > 1
    start = int.from_bytes(head[8 : 12 if wide else 10], "little") + (12 if wide else 10)
    if start > min(len(head), 4096):
        raise ValueError("the header of 'arr_0' is damaged")
    shape, fortran, dtype = _parse(head[:start])
    if dtype.hasobject or not dtype.itemsize or min(shape, default=0) < 0:
        raise ValueError(f"'arr_0' is of type {dtype} and shape {shape}, not a grid")
    return shape, fortran, dtype, start


@lru_cache(maxsize=64)
def _parse(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    file = io.BytesIO(header)
    try:
        if np.lib.format.read_magic(file) == (1, 0):
            return np.lib.format.read_array_header_1_0(file)
        return np.lib.format.read_array_header_2_0(file)
    except Exception as error:  # of a damaged header NumPy's parser raises much besides ValueError
        raise ValueError(f"the header of 'arr_0' is damaged ({type(error).__name__})") from error
