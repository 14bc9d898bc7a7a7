"""Depth images of data sets, checked."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import DepthFrame, Intrinsics
from tracker.errors import DataError

MILLIMETRE = 0.001


def read_bytes(path: Path) -> bytes:
    """The bytes of a file. Raises DataError that names it."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"missing image: {path}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def read_png(path: Path, intrinsics: Intrinsics, dtype: type[np.generic], channels: int) -> NDArray[np.generic]:
    """A PNG of a known size, type and number of channels (blue, green, red). Raises DataError that names it."""
    raw = read_bytes(path)
    # OpenCV gives the upper part of an image that was cut off; a whole PNG ends with an IEND chunk.
    whole = b"IEND" in raw[-16:]
    try:
        image = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED) if whole else None
    except cv2.error:  # it claims to be larger than any image
        image = None
    if image is None:
        raise DataError(f"{path} is broken: it cannot be decoded as PNG; unpack the data set again")
    height, width = image.shape[:2]
    found = 1 if image.ndim == 2 else image.shape[2]
    if image.dtype != dtype or found != channels:
        raise DataError(
            f"{path} must be a PNG of {channels} x {8 * np.dtype(dtype).itemsize} bits a pixel, "
            f"has {found} x {8 * image.itemsize}"
        )
    if (width, height) != (intrinsics.width, intrinsics.height):
        raise DataError(
            f"{path} is {width}x{height}, but the images of this data set are {intrinsics.width}x{intrinsics.height}"
        )
    return image


def read_depth(path: Path, intrinsics: Intrinsics, scale: float = MILLIMETRE) -> DepthFrame:
    """A 16-bit PNG of a single channel as a frame. scale: metres per unit. Raises DataError that names it."""
    return as_frame(read_png(path, intrinsics, np.uint16, 1).astype(np.uint16, copy=False), intrinsics, scale)


def as_frame(depth: NDArray[np.uint16], intrinsics: Intrinsics, scale: float) -> DepthFrame:
    """A depth image that has no time."""
    return DepthFrame(depth, scale, intrinsics, number=0, captured_ns=0, received_ns=0)
