"""The text files of data sets: labels, centres and boxes, one line per frame."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tracker.errors import DataError


def read_labels(path: Path, count: int, what: str) -> tuple[list[str], NDArray[np.float32]]:
    """Lines of a name and `count` numbers, separated by spaces or tabs (with tabs, a name may hold spaces).

    what: the numbers, in words, for the errors. Returns the names and (n, count) float32. Raises DataError, which
    names file and line.
    """
    names: list[str] = []
    values = array("f")
    for number, line in _lines(path):
        name, _, rest = line.partition("\t" if "\t" in line else " ")
        values.extend(_numbers(rest, count, f"{path}:{number}", f"a name and {what}"))
        names.append(name.strip())
    if not names:
        raise DataError(f"{path} is empty: expected lines of a name and {what}")
    return names, np.frombuffer(values, np.float32).reshape(-1, count)


def read_numbers(path: Path, count: int, what: str, lines: int) -> NDArray[np.float32]:
    """`lines` lines of `count` numbers after a first line that says how many there are: (lines, count) float32."""
    values = array("f")
    rows = 0
    for number, line in _lines(path):
        if number == 1:
            continue
        values.extend(_numbers(line, count, f"{path}:{number}", what))
        rows += 1
    if rows != lines:
        raise DataError(f"{path} promises {lines} frames in its first line but has {rows}: it is not complete")
    return np.frombuffer(values, np.float32).reshape(-1, count)


def read_centers(path: Path, frames: int) -> NDArray[np.float64]:
    """A file of centres, `x y z` in millimetres or `invalid` per frame: (frames, 3) metres, NaN where invalid.

    The axes are those of the file. Raises DataError if there is not one line per frame.
    """
    values = array("d")
    for number, line in _lines(path):
        if line.split()[0] == "invalid":
            values.extend((np.nan,) * 3)
        else:
            values.extend(_numbers(line, 3, f"{path}:{number}", "x y z in mm, or the word invalid"))
    if len(values) != 3 * frames:
        raise DataError(
            f"{path} has {len(values) // 3} centres for {frames} frames: it is of another data set, split or subject"
        )
    return np.frombuffer(values, np.float64).reshape(-1, 3) / 1000


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not empty, with their numbers from 1."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line := line.strip():
                    yield number, line
    except FileNotFoundError as error:
        raise DataError(f"no such file: {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}") from error


def _numbers(text: str, count: int, where: str, what: str) -> list[float]:
    fields = text.split()
    if len(fields) != count:
        raise DataError(f"{where}: expected {what}, that is {count} numbers, found {len(fields)}")
    try:
        numbers = [float(field) for field in fields]
    except ValueError as error:
        raise DataError(f"{where}: expected {what}; {error}") from error
    if not isfinite(sum(numbers)):  # one test for all of them: files have a million lines
        raise DataError(f"{where}: expected {what}; a number is not finite")
    return numbers
