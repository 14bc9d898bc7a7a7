"""What ends a process of a training: Ctrl-C and SIGTERM, noted or kept from it, and the end of its parent."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from types import FrameType


@contextmanager
def interrupts_noted() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM set the event, so that a step is finished first; a second Ctrl-C ends at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def note(number: int, frame: FrameType | None) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.set()

    before = [signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield asked
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before):
            signal.signal(number, handler)


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Ctrl-C and SIGTERM do nothing here, and nothing ever in processes that are started here.

    Terminals and launchers send them to whole groups of processes, but only the one that trains knows what to do.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_after(wait: Callable[[], object]) -> None:
    """End this process when `wait`, which runs beside it, comes back: when the process that started it has ended.

    One that is killed tells nobody: those that it started would go on, or wait for work, for ever.
    """

    def end() -> None:
        wait()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()


def end_with_parent(number: int = 0) -> None:
    """In a process of multiprocessing: end it when its parent has ended, be it before this call. number: ignored.

    torch's own processes for data do so, too, but not if the parent ends while they start.
    """
    parent = parent_process()
    assert parent is not None
    end_after(parent.join)
