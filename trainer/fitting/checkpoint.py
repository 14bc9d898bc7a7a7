"""Checkpoints of a training run, written so that a kill at any moment leaves the last one whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from tracker.errors import DataError

NAME = "checkpoint.pt"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write `folder`/checkpoint.pt: first beside it, flushed to the disk, then renamed over the old one.

    Raises DataError if it cannot be written (a full disk); the old one stays.
    """
    part = folder / (NAME + ".part")
    try:
        with part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / NAME)
    except (OSError, RuntimeError) as error:  # torch's own writer raises the latter
        part.unlink(missing_ok=True)
        left = "make room, then start again"
        if (folder / NAME).is_file():
            left = f"the one before it stays in {folder}. Make room, then go on with --resume"
        raise DataError(f"the checkpoint could not be written ({_reason(error)}); {left}") from error


def _reason(error: BaseException) -> str:
    """What the system said, also where torch hides it behind an error of its own."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError):
            return seen.strerror or str(seen)
        seen = seen.__cause__ or seen.__context__
    return str(error).splitlines()[0]


def load_checkpoint(folder: Path, device: torch.device) -> dict[str, Any]:
    """The last checkpoint of a run. Loads tensors and plain values only, never code. Raises DataError."""
    path = folder / NAME
    if not path.is_file():
        raise DataError(f"nothing to resume: there is no {path}; start without --resume")
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # damaged bytes fail in as many ways as there are bytes
        raise DataError(
            f"{path} is damaged, or was not written by this program; start again in another folder"
        ) from error
    return state
