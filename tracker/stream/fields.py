"""The kinds of values that messages are made of: each reads a foreign value, and describes itself as JSON Schema.

Whatever does not fit is a StreamError that names the field; nothing received is evaluated, and sizes are bounded.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, Protocol

import msgpack
import numpy as np
from numpy.typing import NDArray

from tracker.errors import StreamError

MAX_BYTES: Final = 64 * 1024
"""Of one message. Two hands take 1.3 kB, so this is room for far more hands than a camera sees."""
MAX_TEXT: Final = 1024
MAX_INTEGER: Final = 2**63 - 1

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2
_SHORT.maxlist = _SHORT.maxdict = _SHORT.maxstring = _SHORT.maxother = 30


class Kind(Protocol):
    """A kind of value."""

    def read(self, value: Any, key: str) -> Any:
        """The value, checked, as the program uses it; raises StreamError that names the field `key`."""

    def schema(self) -> dict[str, Any]:
        """The same as JSON Schema."""


@dataclass(frozen=True, slots=True)
class Field:
    """A value in a map: its kind and what it means, with its unit; the description goes into the JSON Schema."""

    kind: Kind
    meaning: str


@dataclass(frozen=True, slots=True)
class Text:
    """Text of at most MAX_TEXT characters."""

    def read(self, value: Any, key: str) -> str:
        """See Kind."""
        if not isinstance(value, str) or len(value) > MAX_TEXT:
            raise StreamError(f"field {key!r} must be text of at most {MAX_TEXT} characters, is {shown(value)}")
        return value

    def schema(self) -> dict[str, Any]:
        """See Kind."""
        return {"type": "string", "maxLength": MAX_TEXT}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words."""

    words: tuple[str, ...]

    def read(self, value: Any, key: str) -> Any:
        """See Kind."""
        if not isinstance(value, str) or value not in self.words:
            raise StreamError(f"field {key!r} must be one of {', '.join(self.words)}, is {shown(value)}")
        return value

    def schema(self) -> dict[str, Any]:
        """See Kind."""
        return {"const": self.words[0]} if len(self.words) == 1 else {"enum": list(self.words)}


@dataclass(frozen=True, slots=True)
class Integer:
    """An integer from 0 to `high`."""

    high: int = MAX_INTEGER

    def read(self, value: Any, key: str) -> int:
        """See Kind."""
        if type(value) is not int or not 0 <= value <= self.high:
            raise StreamError(f"field {key!r} must be an integer from 0 to {self.high}, is {shown(value)}")
        return value

    def schema(self) -> dict[str, Any]:
        """See Kind."""
        return {"type": "integer", "minimum": 0, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class Version:
    """The protocol's version: of another one nothing else is read."""

    number: int

    def read(self, value: Any, key: str) -> int:
        """See Kind."""
        if type(value) is not int or value != self.number:
            raise StreamError(
                f"a message of protocol version {shown(value)} arrived, this program reads version {self.number}: "
                "install the same version of the tracker on both sides"
            )
        return value

    def schema(self) -> dict[str, Any]:
        """See Kind."""
        return {"const": self.number}


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number from `low` to `high`; `unknown` allows NaN, null in JSON.

    An integer counts: some languages pack 1.0 as 1.
    """

    low: float = 0.0
    high: float = math.inf
    unknown: bool = False

    def read(self, value: Any, key: str) -> float:
        """See Kind."""
        if type(value) not in (int, float):
            raise StreamError(f"field {key!r} must be a number, is {shown(value)}")
        if not ((math.isfinite(value) and self.low <= value <= self.high) or (self.unknown and math.isnan(value))):
            raise StreamError(f"field {key!r} must be a finite number {self._range()}, is {shown(value)}")
        return float(value)

    def schema(self) -> dict[str, Any]:
        """See Kind."""
        schema: dict[str, Any] = {"type": ["number", "null"] if self.unknown else "number"}
        if math.isfinite(self.low):
            schema["minimum"] = self.low
        if math.isfinite(self.high):
            schema["maximum"] = self.high
        return schema

    def _range(self) -> str:
        return f"from {self.low:g} to {self.high:g}"


@dataclass(frozen=True, slots=True)
class Numbers:
    """An array of numbers of one kind, float32, of the shape (n,) or (n, m)."""

    shape: tuple[int, ...]
    each: Number

    def read(self, value: Any, key: str) -> NDArray[np.float32]:
        """See Kind."""
        rows = _list(value, key, self.shape[0], self.shape[0])
        if len(self.shape) == 2:
            if set(map(type, rows)) != {list} or set(map(len, rows)) != {self.shape[1]}:
                raise StreamError(f"field {key!r} must hold lists of {self.shape[1]} numbers")
            rows = list(chain.from_iterable(rows))
        if not set(map(type, rows)) <= {int, float}:
            raise StreamError(f"field {key!r} must hold numbers only")
        array = np.array(rows, np.float64)
        good = (array >= self.each.low) & (array <= self.each.high)
        if self.each.unknown:
            good |= np.isnan(array)
        if not good.all():
            raise StreamError(f"field {key!r} must hold numbers from {self.each.low:g} to {self.each.high:g}")
        return array.astype(np.float32).reshape(self.shape)

    def schema(self) -> dict[str, Any]:
        """See Kind."""
        schema = self.each.schema()
        for length in reversed(self.shape):
            schema = {"type": "array", "minItems": length, "maxItems": length, "items": schema}
        return schema


@dataclass(frozen=True, slots=True)
class Flags:
    """`count` times true or false, an array (count,) bool."""

    count: int

    def read(self, value: Any, key: str) -> NDArray[np.bool_]:
        """See Kind."""
        flags = _list(value, key, self.count, self.count)
        if set(map(type, flags)) != {bool}:
            raise StreamError(f"field {key!r} must hold true and false only")
        return np.array(flags, np.bool_)

    def schema(self) -> dict[str, Any]:
        """See Kind."""
        return {"type": "array", "minItems": self.count, "maxItems": self.count, "items": {"type": "boolean"}}


@dataclass(frozen=True, slots=True)
class Many:
    """A list of `least` to `most` values of one kind, read as a tuple."""

    each: Kind
    most: int
    least: int = 0

    def read(self, value: Any, key: str) -> tuple[Any, ...]:
        """See Kind."""
        return tuple(self.each.read(item, key) for item in _list(value, key, self.least, self.most))

    def schema(self) -> dict[str, Any]:
        """See Kind."""
        return {"type": "array", "minItems": self.least, "maxItems": self.most, "items": self.each.schema()}


@dataclass(frozen=True)
class Record:
    """A map with these fields, all of them required; read as a dict. Further keys are allowed and ignored."""

    fields: Mapping[str, Field]

    def read(self, value: Any, key: str) -> dict[str, Any]:
        """See Kind."""
        if not isinstance(value, dict):
            raise StreamError(f"field {key!r} must be a map, is {shown(value)}")
        values = {}
        for name, field in self.fields.items():
            if name not in value:
                raise StreamError(f"a message lacks the field {name!r}")
            values[name] = field.kind.read(value[name], name)
        return values

    def schema(self) -> dict[str, Any]:
        """See Kind."""
        properties = {
            name: {"description": field.meaning, **field.kind.schema()} for name, field in self.fields.items()
        }
        return {"type": "object", "required": list(self.fields), "properties": properties}


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
    # Not `repr`: of deeply nested lists it fails, of long ones it takes its time.
    text = value if isinstance(value, str) and value.isprintable() else _SHORT.repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _list(value: Any, key: str, least: int, most: int) -> list[Any]:
    if not isinstance(value, list) or not least <= len(value) <= most:
        wanted = f"{most}" if least == most else f"at most {most}"
        raise StreamError(f"field {key!r} must be a list of {wanted} items, is {shown(value)}")
    return value
