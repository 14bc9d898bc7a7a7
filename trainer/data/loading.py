"""Batches of a source, made ready in the background while the network works."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from torch.utils.data import DataLoader, Dataset

from tracker.errors import DataError, TrackerError
from trainer.data.packed import PackedSamples
from trainer.data.sample import Batch, Sample, SampleSource, collate
from trainer.fitting.counter import sample_keys
from trainer.fitting.order import Order, share
from trainer.interrupts import interrupts_ignored, serve_parent

AHEAD = 4
"""Batches that wait ready, for each process that makes them."""


class Plan:
    """What each step of this process takes: (indices, keys), from a position of the stream on, without end."""

    def __init__(self, order: Order, position: int, batch_size: int, rank: int = 0, size: int = 1) -> None:
        self.order, self.position, self.batch_size, self.rank, self.size = order, position, batch_size, rank, size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        position = self.position
        while True:
            start, count = share(position, self.batch_size, self.rank, self.size)
            yield list(zip(self.order.samples(start, count), sample_keys(self.order.seed, start, count)))
            position += self.batch_size


def batches(source: SampleSource, plan: Plan, workers: int, pinned: bool = False) -> Generator[Batch, None, None]:
    """The batches of a plan, without end.

    workers: processes that prepare samples; 0: none. Compact files are decoded by a thread of this process instead, on
    the device where they are.
    pinned: in memory that a GPU can read by itself. Raises DataError for samples that cannot be read.
    """
    if isinstance(source, PackedSamples):
        yield from _decoded_ahead(source, plan, pinned)
        return
    # A worker that dies of Ctrl-C would break the checkpoint that is then written.
    with interrupts_ignored():
        loader = DataLoader(
            _Keyed(source),
            batch_sampler=plan,  # type: ignore[arg-type]
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=pinned,
            prefetch_factor=AHEAD if workers else None,
            multiprocessing_context="spawn" if workers else None,
            worker_init_fn=serve_parent,
        )
        ready = iter(loader)
    while True:
        try:
            batch = next(ready)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise DataError(
                "a process that prepares samples was ended from outside (out of memory?); try fewer --workers"
            ) from error
        if isinstance(batch, TrackerError):
            raise batch
        yield batch


class _Keyed(Dataset[Any]):
    """A source addressed by (index, key). Errors travel as values: raised, they would come with a traceback as text."""

    def __init__(self, source: SampleSource) -> None:
        self.source = source

    def __getitem__(self, item: tuple[int, int]) -> tuple[Sample, int] | TrackerError:
        index, key = item
        try:
            return self.source[index], key
        except TrackerError as error:
            return error
        except OSError as error:
            return DataError(f"sample {index} cannot be read: {error}")


def _collate(items: Sequence[tuple[Sample, int] | TrackerError]) -> Batch | TrackerError:
    pairs = []
    for item in items:
        if isinstance(item, TrackerError):
            return item
        pairs.append(item)
    return collate([sample for sample, _ in pairs], [key for _, key in pairs])


def _decoded_ahead(source: PackedSamples, plan: Plan, pinned: bool) -> Generator[Batch, None, None]:
    ready: queue.Queue[Batch | Exception] = queue.Queue(AHEAD)
    stopped = threading.Event()

    def work() -> None:
        for chosen in plan:
            try:
                batch: Batch | Exception = source.batch([index for index, _ in chosen], [key for _, key in chosen])
                if pinned and isinstance(batch, Batch) and not batch.points.is_cuda:
                    batch = batch.pin_memory()
            except Exception as error:  # whatever it is, it belongs to the thread that waits for the batch
                batch = error
            while not stopped.is_set():
                try:
                    ready.put(batch, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if stopped.is_set() or isinstance(batch, Exception):
                return

    thread = threading.Thread(target=work, name="decode", daemon=True)
    thread.start()
    try:
        while True:
            batch = ready.get()
            if isinstance(batch, Exception):
                raise batch
            yield batch
    finally:
        stopped.set()
        thread.join()
