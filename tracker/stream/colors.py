"""Colours of the terminal, where they are wanted: on a terminal that has them, and not if NO_COLOR is set."""

from __future__ import annotations

import os
from typing import Final, TextIO

RED: Final = 31
GREEN: Final = 32
YELLOW: Final = 33
"""Codes of the eight colours that every terminal lets its user choose, so that they are readable on any background."""


def has_colors(stream: TextIO) -> bool:
    """Whether to write colours to a stream (see no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return False
    return os.name != "nt" or "WT_SESSION" in os.environ  # the old console of Windows shows the codes themselves


def paint(text: str, color: int) -> str:
    """The text in a colour, whatever it is written to."""
    return f"\x1b[{color}m{text}\x1b[0m"
