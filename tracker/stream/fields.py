"""Reading fields of a map that came from the network: whatever is wrong is a StreamError that names the field."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from tracker.errors import StreamError

MAX_BYTES = 64 * 1024
"""Of one message. Two hands take 0.9 kB, so this is room for far more hands than a camera sees."""
MAX_TEXT = 1024
MAX_INTEGER = 2**63 - 1


def unpack_map(data: bytes) -> dict[str, Any]:
    """The MessagePack map in `data`; raises StreamError for anything else, whatever the bytes are."""
    if len(data) > MAX_BYTES:
        raise StreamError(f"a message of {len(data)} bytes is too long: at most {MAX_BYTES} are accepted")
    try:
        fields = msgpack.unpackb(data)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise StreamError(f"a message is not MessagePack: {shown(str(error) or type(error).__name__)}") from error
    if not isinstance(fields, dict):
        raise StreamError(f"a message must be a map, is {type(fields).__name__}")
    return fields


def shown(value: object) -> str:
    """A foreign value as it may stand in an error message: short, and without control characters."""
    text = repr(value) if not (isinstance(value, str) and value.isprintable()) else value
    return text if len(text) <= 60 else text[:57] + "..."


def field(fields: Mapping[str, Any], key: str) -> Any:
    """A field that must be there."""
    if key not in fields:
        raise StreamError(f"a message lacks the field {key!r}")
    return fields[key]


def text(fields: Mapping[str, Any], key: str) -> str:
    """A string of at most MAX_TEXT characters."""
    value = field(fields, key)
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise StreamError(f"field {key!r} must be text of at most {MAX_TEXT} characters, is {shown(value)}")
    return value


def choice(fields: Mapping[str, Any], key: str, allowed: tuple[str, ...]) -> Any:
    """One of the words allowed."""
    value = field(fields, key)
    if not isinstance(value, str) or value not in allowed:
        raise StreamError(f"field {key!r} must be one of {', '.join(allowed)}, is {shown(value)}")
    return value


def integer(fields: Mapping[str, Any], key: str) -> int:
    """An integer from 0 to 2^63 - 1."""
    value = field(fields, key)
    if type(value) is not int or not 0 <= value <= MAX_INTEGER:
        raise StreamError(f"field {key!r} must be an integer from 0 to 2^63 - 1, is {shown(value)}")
    return value


def number(
    fields: Mapping[str, Any], key: str, low: float = 0.0, high: float = math.inf, unknown: bool = False
) -> float:
    """A finite number from `low` to `high`; `unknown` allows NaN. An integer counts: some languages pack 1.0 as 1."""
    value = field(fields, key)
    if type(value) not in (int, float):
        raise StreamError(f"field {key!r} must be a number, is {shown(value)}")
    if not ((math.isfinite(value) and low <= value <= high) or (unknown and math.isnan(value))):
        raise StreamError(f"field {key!r} must be a finite number from {low:g} to {high:g}, is {shown(value)}")
    return float(value)


def sequence(fields: Mapping[str, Any], key: str, length: int | None = None, limit: int = 256) -> list[Any]:
    """A list of exactly `length` items, or of at most `limit`."""
    value = field(fields, key)
    if not isinstance(value, list) or (len(value) != length if length is not None else len(value) > limit):
        wanted = f"{length}" if length is not None else f"at most {limit}"
        raise StreamError(f"field {key!r} must be a list of {wanted} items, is {shown(value)}")
    return value


def mapping(fields: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A nested map."""
    value = field(fields, key)
    if not isinstance(value, dict):
        raise StreamError(f"field {key!r} must be a map, is {shown(value)}")
    return value


def floats(values: list[Any], key: str, low: float, high: float, unknown: bool = False) -> NDArray[np.float32]:
    """A flat list of numbers from `low` to `high`, (n,) float32; `unknown` allows NaN."""
    if not {type(value) for value in values} <= {int, float}:
        raise StreamError(f"field {key!r} must hold numbers only")
    array = np.array(values, np.float64)
    good = (array >= low) & (array <= high)
    if unknown:
        good |= np.isnan(array)
    if not good.all():
        raise StreamError(f"field {key!r} must hold numbers from {low:g} to {high:g}")
    return array.astype(np.float32)
