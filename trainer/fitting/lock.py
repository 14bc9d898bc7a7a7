"""The folder of a run is one process's own while it works there."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from tracker.errors import DataError


def lock_run(output: Path) -> IO[bytes] | None:
    """Hold the folder of a run, which is made, for this process until the file is closed. Raises DataError if another
    process holds it, or it cannot be made.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{output} cannot be made ({error.strerror}): give a folder where you may write") from error
    try:
        import fcntl
    except ImportError:  # Windows; two runs in one folder are then not noticed
        return None
    file = (output / ".lock").open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise DataError(f"another run is at work in {output}: wait for it, or give another folder") from error
    return file
