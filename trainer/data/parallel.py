"""Work on the samples of a source in several processes, the results in order."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

from tracker.errors import DataError
from trainer.data.sample import Sample, SampleSource
from trainer.interrupts import end_with_parent

Result = TypeVar("Result")

AHEAD = 2
"""Pieces of work that wait for each process."""


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(
    source: SampleSource, ranges: Iterable[range], work: Callable[[list[Sample]], Result], workers: int
) -> Generator[tuple[range, Result], None, None]:
    """`work` done on the samples of each range, in the ranges' order, `workers` processes at a time.

    source and work must be picklable. One worker is this process itself. Errors of the source are raised here;
    DataError too if a process was killed.
    """
    if workers <= 1:
        for piece in ranges:
            yield piece, work([source[index] for index in piece])
        return
    waiting: deque[tuple[range, Future[Result]]] = deque()
    # Spawned: a fork of a process in which torch or HDF5 has threads may hang.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin, (source, work))
    try:
        for piece in ranges:
            with _interrupts_held():
                waiting.append((piece, pool.submit(_work, piece)))
            if len(waiting) >= workers * AHEAD:
                first, result = waiting.popleft()
                yield first, result.result()
        while waiting:
            first, result = waiting.popleft()
            yield first, result.result()
    except BrokenProcessPool as error:
        raise DataError(
            "a process that prepares samples was ended from outside (out of memory?); try fewer --workers"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C comes a moment later here, and never to processes that are started here: it is for this process alone."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_task: tuple[SampleSource, Callable[[list[Sample]], Any]]


def _begin(source: SampleSource, work: Callable[[list[Sample]], Any]) -> None:
    """Once in each process."""
    import torch

    global _task
    _task = source, work
    torch.set_num_threads(1)
    # Where interrupts cannot be held.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def _work(piece: range) -> Any:
    source, work = _task
    return work([source[index] for index in piece])
