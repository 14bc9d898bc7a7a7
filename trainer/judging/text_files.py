"""Text files of joints as the field exchanges them: a line a frame, three numbers a joint, perhaps a name before them.

Numbers are separated by spaces, tabs or commas. They are `u v d` (pixel column, pixel row, depth in mm), as the
collected predictions for ICVL, NYU and MSRA are, or `x y z` in mm, as the labels of HANDS2017 and BigHand2.2M are.
Only distances are computed between them, so whether y points up (NYU, MSRA) or down (elsewhere) does not matter as
long as it is the same in both files; v always counts image rows, downwards.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from tracker.errors import DataError

BLOCK = 2048
"""Lines in memory at a time."""
LONGEST_LINE = 65536


@dataclass(frozen=True, slots=True)
class Pixels:
    """A pinhole camera for `u v d`, in pixels."""

    fx: float
    fy: float
    cx: float
    cy: float


PRESETS: dict[str, Pixels | None] = {
    "nyu": Pixels(588.03, 587.07, 320.0, 240.0),
    "icvl": Pixels(240.99, 240.96, 160.0, 120.0),
    "msra": Pixels(241.42, 241.42, 160.0, 120.0),
    "hands2017": Pixels(475.065948, 475.065857, 315.944855, 245.287079),
    "xyz": None,
}
"""What the numbers of a file are: pixels of a data set's camera and depth, or x y z in mm (`xyz`)."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Some lines of a file. line: number of each, from 1. names: of the frames, None without such a column.

    values: (n, J, 3) float64, NaN where a joint is not known.
    """

    line: tuple[int, ...]
    names: tuple[str, ...] | None
    values: NDArray[np.float64]


def to_mm(values: NDArray[np.float64], preset: Pixels | None) -> NDArray[np.float64]:
    """(..., 3) numbers of a file to x y z in mm, camera frame (y down). None: they are that already."""
    if preset is None:
        return values
    u, v, depth = np.moveaxis(values, -1, 0)
    x = (u - preset.cx) * depth / preset.fx
    y = (v - preset.cy) * depth / preset.fy
    return np.stack([x, y, depth], axis=-1)


def from_mm(points: NDArray[np.float64], preset: Pixels | None) -> NDArray[np.float64]:
    """(..., 3) x y z in mm, camera frame (y down), to the numbers of a file: the inverse of `to_mm`."""
    if preset is None:
        return points
    x, y, depth = np.moveaxis(points, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.stack([x / depth * preset.fx + preset.cx, y / depth * preset.fy + preset.cy, depth], axis=-1)


def read_blocks(path: Path, *, unknown: bool = False, block: int = BLOCK) -> Iterator[Block]:
    """The lines of a file, some at a time, so that files of any length fit in memory.

    unknown: whether `nan` is allowed, for joints whose truth is not known. A first column is a name if there is one
    number too many for triples. Raises DataError, with the line, for anything that is not of this form, and for a file
    without a line.
    """
    if not path.is_file():
        raise DataError(f"no such file: {path}")
    lines: list[int] = []
    names: list[str] = []
    rows: list[list[float]] = []
    width: int | None = None
    named = False
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, text in _text_lines(file, path):
            name, fields = _split(text)
            if width is None:
                named, width = name is not None, len(fields)
            if (name is not None) != named or len(fields) != width:
                expected = f"{'a name and ' if named else ''}{width} numbers"
                found = f"{'a name and ' if name is not None else ''}{len(fields)}"
                raise DataError(f"{path}:{number}: {found} where the lines before have {expected}")
            rows.append(_numbers(fields, unknown, path, number))
            lines.append(number)
            names.append(name or "")
            if len(rows) == block:
                yield Block(tuple(lines), tuple(names) if named else None, np.array(rows).reshape(len(rows), -1, 3))
                lines, names, rows = [], [], []
    if width is None:
        raise DataError(f"{path} is empty; it should have a line for each frame")
    if rows:
        yield Block(tuple(lines), tuple(names) if named else None, np.array(rows).reshape(len(rows), -1, 3))


def _text_lines(file: TextIO, path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines; blank ones may only come last, since a blank line may be a frame that was left out."""
    blank = 0
    for number in range(1, 1 << 62):
        text = file.readline(LONGEST_LINE)
        if not text:
            return
        if len(text) == LONGEST_LINE:
            raise DataError(f"{path}:{number}: more than {LONGEST_LINE} characters; is this a text file of joints?")
        if not text.strip():
            blank = blank or number
        elif blank:
            raise DataError(f"{path}:{blank}: a blank line; each frame needs its numbers")
        else:
            yield number, text.strip("\ufeff \t\r\n,")


def _split(text: str) -> tuple[str | None, list[str]]:
    first, tab, rest = text.partition("\t")
    if tab and not _is_number(first):
        return first.strip(), rest.replace(",", " ").split()
    fields = text.replace(",", " ").split()
    if len(fields) % 3 == 1:
        return fields[0], fields[1:]
    return None, fields


def _is_number(text: str) -> bool:
    # Several numbers may stand before the first tab.
    try:
        return bool([float(field) for field in text.replace(",", " ").split()])
    except ValueError:
        return False


def _numbers(fields: list[str], unknown: bool, path: Path, number: int) -> list[float]:
    try:
        row = list(map(float, fields))
    except ValueError:
        bad = next(field for field in fields if not _is_number(field))
        raise DataError(f"{path}:{number}: {bad[:40]!r} is not a number") from None
    if not row or len(row) % 3:
        raise DataError(f"{path}:{number}: {len(row)} numbers; each joint needs three")
    # One sum tells of nearly every line that all is well.
    for value in () if math.isfinite(sum(row)) else row:
        if not (math.isfinite(value) or (unknown and math.isnan(value))):
            raise DataError(f"{path}:{number}: {value} in it; every joint needs finite numbers")
    return row


def text_errors(predictions: Path, truth: Path, preset: str) -> NDArray[np.float32]:
    """Distances between two files, (n, J) in mm, NaN where the truth is not known.

    preset: a name in `PRESETS`. Raises DataError if the files differ in frames, joints or names, or if pixels are
    expected and the truth holds millimetres.
    """
    camera = PRESETS[preset]
    errors: list[NDArray[np.float32]] = []
    outside = known = 0
    for ours, right in zip_longest(read_blocks(predictions), read_blocks(truth, unknown=True)):
        if ours is None or right is None or len(ours.line) != len(right.line):
            raise DataError(
                f"{predictions} has {_count(predictions)} lines, {truth} has {_count(truth)}; both need one for each "
                "frame, in the same order"
            )
        if ours.values.shape != right.values.shape:
            raise DataError(
                f"{predictions} has {ours.values.shape[1]} joints a line, {truth} has {right.values.shape[1]}; "
                "write the same joints to both, in the same order"
            )
        _check_names(ours, right, predictions, truth)
        outside += int((right.values[..., :2] < 0).any(axis=-1).sum())
        known += int(np.isfinite(right.values).all(axis=-1).sum())
        distance = np.linalg.norm(to_mm(ours.values, camera) - to_mm(right.values, camera), axis=-1)
        errors.append(distance.astype(np.float32))
    # Hands that a camera sees lie in its image; of x y z about a half is negative.
    if camera is not None and outside > 0.1 * known:
        raise DataError(
            f"{truth}: {outside} of {known} joints have negative pixels; if it holds x y z in mm, say --preset xyz"
        )
    return np.concatenate(errors)


def _count(path: Path) -> int:
    with path.open("rb") as file:
        return sum(bool(line.strip()) for line in file)


def _check_names(ours: Block, right: Block, predictions: Path, truth: Path) -> None:
    if ours.names is None or right.names is None:
        return
    for place, (a, b) in enumerate(zip(ours.names, right.names)):
        # The folders of a name depend on who wrote the file.
        if a.replace("\\", "/").rpartition("/")[2] != b.replace("\\", "/").rpartition("/")[2]:
            raise DataError(
                f"{predictions}:{ours.line[place]} is of {a}, {truth}:{right.line[place]} of {b}; "
                "both files need the same frames in the same order"
            )


@contextmanager
def written_whole(path: Path) -> Iterator[TextIO]:
    """A text file to write that appears under its name when it is finished, and not at all after an error."""
    if path.is_dir():
        raise DataError(f"{path} is a folder; name a text file to write")
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def format_line(joints: NDArray[np.floating], name: str | None = None) -> str:
    """One line of a file for (J, 3) numbers, with a newline: spaces between, or after a name tabs, as HANDS2017 has."""
    numbers = (f"{value:.4f}" for value in joints.reshape(-1))
    return _joined(numbers, None if name is None else re.sub(r"[\s,]+", "_", name)) + "\n"


def _joined(numbers: Iterable[str], name: str | None) -> str:
    return " ".join(numbers) if name is None else "\t".join([name, *numbers])
