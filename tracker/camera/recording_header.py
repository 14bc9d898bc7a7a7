"""What a recording says about its camera; the same eight entries in a folder's `camera.json` and in an `.h5` file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tracker.camera.frame import DepthFrame, Intrinsics
from tracker.errors import CameraError


@dataclass(frozen=True, slots=True)
class RecordingHeader:
    """name: of the camera or of the recording. depth_scale: metres per unit of the depth images."""

    name: str
    intrinsics: Intrinsics
    depth_scale: float

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a recording needs a name: pass the name of the camera")
        if not (math.isfinite(self.depth_scale) and self.depth_scale > 0):
            raise ValueError(f"depth_scale must be a positive number of metres per unit, is {self.depth_scale}")
        k = self.intrinsics
        if not 1e-6 <= self.depth_scale <= 0.1:
            raise ValueError(f"depth_scale is in metres per unit, 0.001 for millimetres; {self.depth_scale} cannot be")
        if not (k.width / 10 <= k.fx <= k.width * 20 and k.width / 10 <= k.fy <= k.width * 20):
            raise ValueError(f"fx and fy are in pixels; {k.fx}, {k.fy} cannot be, at a width of {k.width}")
        if not (-k.width <= k.cx <= 2 * k.width and -k.height <= k.cy <= 2 * k.height):
            raise ValueError(f"cx and cy are in pixels; {k.cx}, {k.cy} cannot be, at {k.width}x{k.height}")

    def entries(self) -> dict[str, str | int | float]:
        """The entries as they are written to files."""
        k = self.intrinsics
        sizes: dict[str, str | int | float] = {"name": self.name, "width": k.width, "height": k.height}
        return sizes | {"fx": k.fx, "fy": k.fy, "cx": k.cx, "cy": k.cy, "depth_scale": self.depth_scale}

    def fits(self, frame: DepthFrame) -> bool:
        """Whether a frame can be part of this recording: same lens, size and scale."""
        return frame.intrinsics == self.intrinsics and frame.depth_scale == self.depth_scale


def parse_header(entries: Mapping[str, object], where: str) -> RecordingHeader:
    """A header from the entries of a file; `where` names it in the errors. Raises CameraError."""
    name = entries.get("name")
    if not isinstance(name, str) or not name:
        raise CameraError(f'{where}: "name" must be a text that is not empty, is {name!r}')
    width, height = (_number(entries, key, where) for key in ("width", "height"))
    if width != int(width) or height != int(height):
        raise CameraError(f'{where}: "width" and "height" must be whole numbers of pixels, are {width}, {height}')
    fx, fy, cx, cy, scale = (_number(entries, key, where) for key in ("fx", "fy", "cx", "cy", "depth_scale"))
    try:
        return RecordingHeader(name, Intrinsics(int(width), int(height), fx, fy, cx, cy), scale)
    except ValueError as error:
        raise CameraError(f"{where}: {error}") from error


def _number(entries: Mapping[str, object], key: str, where: str) -> float:
    value = entries.get(key)
    if value is None:
        raise CameraError(f'{where}: "{key}" is missing')
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
    except OverflowError:  # a whole number of hundreds of digits
        number = math.inf
    if not math.isfinite(number):
        raise CameraError(f'{where}: "{key}" must be a finite number, is {str(value)[:40]!r}')
    return number
