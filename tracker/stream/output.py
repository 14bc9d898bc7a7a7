"""`--output FILE.jsonl`: the messages of a run as JSON lines."""

from __future__ import annotations

from io import FileIO
from pathlib import Path
from types import TracebackType

from tracker.errors import StreamError
from tracker.stream.message import HandsMessage, to_json_line


class JsonLines:
    """Writes one message per line. Use it in a `with` block or call `close`.

    Every line goes to the system as soon as it is written: a run that is killed leaves whole lines behind.
    An existing .jsonl file is replaced, another is not. Raises StreamError if the file cannot be made, or the disk is
    full; what was written until then stays.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.is_file() and self.path.suffix != ".jsonl":
            raise StreamError(
                f"{self.path} is there and does not end in .jsonl: it is not replaced, choose another file"
            )
        try:
            self._file = FileIO(self.path, "w")
        except FileNotFoundError as error:
            raise StreamError(f"{self.path} cannot be written: make the folder {self.path.parent} first") from error
        except OSError as error:
            raise StreamError(
                f"{self.path} cannot be written ({error.strerror}): choose another file for --output"
            ) from error

    def write(self, message: HandsMessage) -> None:
        """Append a message."""
        rest = memoryview(to_json_line(message).encode() + b"\n")
        try:
            while rest:  # An almost full disk takes a part of the line before it reports the error.
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise StreamError(
                f"{self.path} cannot be written any more ({error.strerror}): what was written so far is kept"
            ) from error

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._file.close()

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
