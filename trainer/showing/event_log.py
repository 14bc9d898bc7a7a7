"""The log of a training run: a line of JSON an event, and the same numbers for TensorBoard on request."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TextIO

from tracker.errors import DataError, missing_package

FILE: Final = "log.jsonl"
BOARD: Final = "tensorboard"


class EventLog:
    """`log.jsonl` in the folder of a run, open for more events; with `tensorboard`, event files beside it.

    An event is a mapping with the keys "event" (its kind) and "step", and numbers. One process writes, nobody else.
    A last line that a killed run left half written is removed.
    Raises DataError if the package tensorboard is missing, or the folder cannot be written.
    """

    def __init__(self, folder: Path, *, tensorboard: bool) -> None:
        self.folder, self.path, self._tensorboard = folder, folder / FILE, tensorboard
        self._board: Any = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _mend_end(self.path)
            self._file: TextIO = self.path.open("a", encoding="utf-8")
            if tensorboard:
                self._board = _open_board(folder / BOARD, None)
        except OSError as error:
            raise self._cannot_write(error) from error

    def write(self, event: Mapping[str, Any]) -> None:
        """Append an event. Numbers that are not finite are written as null, for JSON has none.

        Raises DataError if the disk does not take it.
        """
        plain = {key: _plain(value) for key, value in event.items()}
        try:
            self._file.write(json.dumps(plain, allow_nan=False) + "\n")
            self._file.flush()
            if self._board is not None:
                self._write_board(plain)
        except OSError as error:
            raise self._cannot_write(error) from error

    def truncate(self, step: int) -> None:
        """Forget the events after `step`: a run that resumes from a checkpoint of that step makes them again.

        Raises DataError if the log is damaged or cannot be written.
        """
        self._file.close()
        try:
            kept = [event for event in read_log(self.path) if event.get("step", 0) <= step]
            partial = self.path.with_suffix(".partial")
            with partial.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(event) + "\n" for event in kept)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
            if self._board is not None:
                self._board.close()
                self._board = _open_board(self.folder / BOARD, step + 1)
        except OSError as error:
            raise self._cannot_write(error) from error
        finally:
            self._file = self.path.open("a", encoding="utf-8")

    def close(self) -> None:
        """Close the files. Safe to call twice."""
        # Every event is flushed when it is written: what fails here has failed, and been told, before.
        with contextlib.suppress(OSError):
            self._file.close()
        if self._board is not None:
            with contextlib.suppress(OSError):
                self._board.close()
            self._board = None

    def __enter__(self) -> EventLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write_board(self, event: Mapping[str, Any]) -> None:
        kind, step = event.get("event", "event"), event.get("step")
        for key, value in event.items():
            if key != "step" and isinstance(value, int | float) and not isinstance(value, bool):
                self._board.add_scalar(f"{kind}/{key}", value, step)
        # Events come every few seconds at most; a viewer is to see them at once.
        self._board.flush()

    def _cannot_write(self, error: OSError) -> DataError:
        reason = error.strerror or str(error)
        return DataError(f"cannot write the log {self.path}: {reason}. Make room or mend it, then go on with --resume")


def read_log(path: Path) -> list[dict[str, Any]]:
    """The events of a log, oldest first; a last line that is half written is left out.

    Raises DataError if the file is missing, or holds anything but JSON objects.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(f"no log to read at {path}: {error.strerror or error}") from error
    events = []
    for number, line in enumerate(lines, start=1):
        event = _parse(line)
        if event is not None:
            events.append(event)
        elif line.strip() and number < len(lines):
            raise DataError(f"{path}, line {number}, is not an event of a training log; mend or remove the file")
    return events


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    right = isinstance(event, dict) and isinstance(event.get("step", 0), int)
    return event if right else None


def _mend_end(path: Path) -> None:
    """Remove what stands after the last line feed, unless it is an event that only lacks its line feed."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        data = file.read()
        end = data.rfind(b"\n") + 1
        if _parse(data[end:]) is not None:
            file.write(b"\n")
        else:
            file.truncate(end)


def _plain(value: Any) -> Any:
    """NumPy and torch scalars as Python numbers, numbers that are not finite as None."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _open_board(folder: Path, purge_step: int | None) -> Any:
    """A writer of TensorBoard events; what earlier ones hold from `purge_step` on is no longer shown."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        install = 'pip install "v2v-hand-tracker[tensorboard]"'
        raise DataError(missing_package("tensorboard", "--tensorboard", install)) from error
    return SummaryWriter(str(folder), purge_step=purge_step)  # type: ignore[no-untyped-call]
