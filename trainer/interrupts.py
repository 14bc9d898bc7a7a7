"""What ends a process of a training: Ctrl-C and SIGTERM, noted or kept from it, and the end of its parent."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import parent_process
from types import FrameType
from typing import Final

TERM_SECONDS: Final = 60.0
"""Time for a training to finish its step and write what it has, after which processes that serve it end."""


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


def end_with_parent() -> None:
    """In a process of multiprocessing: end it when its parent has ended, be it before this call."""
    parent = parent_process()
    assert parent is not None
    end_after(parent.join)


def serve_parent(number: int = 0) -> None:
    """In a process of a torch data loader: outlive a SIGTERM, and end with its parent. number: ignored.

    Slurm and others send SIGTERM to all processes of a run at once. The loader's own would die of it, and that throws
    an error into the middle of whatever its parent does, which is to finish a step and to keep a checkpoint.
    The loader sends it too, to a process that it could not bid to end: hence not for ever. Torch's own processes do end
    with their parent, but not if that ends while they start.
    """
    signal.signal(signal.SIGTERM, lambda *_: end_after(partial(time.sleep, TERM_SECONDS)))
    end_with_parent()
