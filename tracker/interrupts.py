"""Ctrl-C between two frames: what is written of a frame is written everywhere, in messages, recording and output."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any


class Interrupts:
    """Holds SIGINT and SIGTERM back while a frame is worked on. Use it in a `with` block.

    A second signal is not held back: KeyboardInterrupt is raised where the program is. Outside the main thread, and
    for signals that do not raise KeyboardInterrupt in the first place, nothing is changed.
    """

    def __init__(self) -> None:
        self._came = False
        self._free = False
        self._before: dict[int, Any] = {}

    @contextmanager
    def let_through(self) -> Iterator[None]:
        """A block in which KeyboardInterrupt is raised at once, and at its start if a signal came before."""
        self._free = True
        try:
            if self._came:
                raise KeyboardInterrupt
            yield
        finally:
            self._free = False

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self._free or self._came:
            raise KeyboardInterrupt
        self._came = True

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is signal.default_int_handler:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
