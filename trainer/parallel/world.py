"""Several processes that train one network: how they meet, and what they tell each other.

torch.distributed does the work: Gloo between CPUs, NCCL between GPUs. Small values always go over Gloo, as CPU tensors.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from tracker.errors import DataError, TrackerError
from trainer.parallel.launchers import Launch, detect
from trainer.parallel.meeting import kept_by_torchrun, meet

__all__ = ["Launch", "World", "detect"]

T = TypeVar("T")

JOIN_SECONDS = 300.0
"""How long processes wait for each other at the start: nodes of a cluster do not load Python at the same time."""

TELLING_SECONDS = 1.0
"""How long the other processes stay, while process 0 tells an error that all have found."""

LAUNCHED = "TRAINER_LAUNCHED"
"""Set by `--gpus` and `--processes`: the process that started this one tells how the run ended."""

BEGUN = "begun"
"""What torchrun's store holds when the run has begun."""

LOST = "another process of this run ended; see its message above; --resume goes on from the last checkpoint"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process runs: its node, the cores it may use, and its GPU ("" without)."""

    node: str
    cores: frozenset[int]
    gpu: str


def fair_threads(places: Sequence[Place], rank: int) -> int:
    """Threads for one process, so that the cores of its node are shared evenly by those that may use them."""
    here = [place for place in places if place.node == places[rank].node]
    return max(1, int(sum(1 / sum(core in place.cores for place in here) for core in places[rank].cores) + 1e-6))


class SharedError(DataError):
    """An error that all processes raise together, so that one of them can tell it for all."""


@contextmanager
def peers_watched() -> Iterator[None]:
    """Turns the many errors that the death of another process causes in torch.distributed into one DataError."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or re.search(
            r"gloo|nccl|process ?group|closed by peer|reset by peer|broken pipe|connection (closed|refused)",
            str(error),
            re.IGNORECASE,
        ):
            raise DataError(LOST) from error
        raise


class World:
    """All processes of a run, as one of them sees it. Alone, every method is trivial.

    rank: this process, 0..size-1; main: it is process 0. device: where this process computes. As a context manager it
    leaves the group at the end, also after an error, so that no other process waits for this one.
    """

    def __init__(
        self, rank: int, local_rank: int, size: int, device: torch.device, kept: dist.Store | None = None
    ) -> None:
        """kept: a store that outlives the processes when their launcher starts them again."""
        self.rank, self.local_rank, self.size, self.device = rank, local_rank, size, device
        self.main = rank == 0
        self._kept = kept

    @classmethod
    def join(cls, launch: Launch | None, device: torch.device, timeout: float = JOIN_SECONDS) -> World:
        """Meet the others. With several processes on GPUs, each takes the GPU of its own local rank.

        timeout: seconds. Raises DataError when the others do not come, or when processes would have to share a GPU.
        """
        kept = launch is not None and kept_by_torchrun(launch)
        if launch is None or (launch.size == 1 and not kept):
            return cls(0, 0, 1, device)
        if device.type == "cuda" and launch.size > 1:
            count = torch.cuda.device_count()
            # Slurm can show each process one GPU, its own; whether it is its own is seen when all have met.
            if count != 1 and launch.local_size > count:
                raise DataError(
                    f"{launch.local_size} processes on this node, but {count} GPUs: start one process for each GPU"
                )
            device = torch.device("cuda", launch.local_rank if count > 1 else 0)
            torch.cuda.set_device(device)
        store = meet(launch, device, timeout)
        world = cls(launch.rank, launch.local_rank, launch.size, device, store if kept else None)
        try:
            world._settle()
        except BaseException:
            world.close()
            raise
        return world

    def _settle(self) -> None:
        """Give each process its share of the cores, and see that none shares a GPU."""
        if self.size == 1:
            return
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        gpu = str(torch.cuda.get_device_properties(self.device).uuid) if self.device.type == "cuda" else ""
        places: list[Place] = self.gather(Place(socket.gethostname(), frozenset(cores), gpu))
        if gpu and len({(place.node, place.gpu) for place in places}) < self.size:
            raise SharedError("several processes would share one GPU: start one process for each GPU of a node")
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(fair_threads(places, self.rank))

    def maximum(self, values: Sequence[float]) -> list[float]:
        """The highest of each value over all processes."""
        if self.size == 1:
            return [float(value) for value in values]
        highest = torch.tensor(values, dtype=torch.float64)
        with peers_watched():
            dist.all_reduce(highest, dist.ReduceOp.MAX)
        return highest.tolist()

    def total(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over all processes of a tensor of the same shape, dtype and kind of device in each; a new tensor."""
        tensor = tensor.detach().clone()
        if self.size > 1:
            with peers_watched():
                dist.all_reduce(tensor)
        return tensor

    def gather(self, value: T) -> list[T]:
        """The small object of every process, in the order of their ranks."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            with peers_watched():
                dist.all_gather_object(values, value)
        return values

    def share(self, value: T) -> T:
        """Process 0's small object, in every process."""
        values: list[Any] = [value]
        if self.size > 1:
            with peers_watched():
                dist.broadcast_object_list(values, src=0)
        shared: T = values[0]
        return shared

    def together(self, action: Callable[[], T]) -> T:
        """Run `action` in every process; it must not talk to other processes itself.

        Raises DataError in all of them, with the words of the first that failed, when it raises a TrackerError or an
        OSError in any. Alone, its own error goes through.
        """
        if self.size == 1:
            return action()
        result: list[T] = []
        words = None
        try:
            result.append(action())
        except TrackerError as error:
            words = str(error)
        except OSError as error:
            words = f"{error.strerror or error}: {error.filename}" if error.filename else str(error)
        for rank, told in enumerate(self.gather(words)):
            if told is not None:
                raise SharedError(f"process {rank}: {told}")
        return result[0]

    def begin(self) -> None:
        """Note that the run has begun: it is this launch's own from now on, also when its processes are restarted."""
        if self.main and self._kept is not None:
            with peers_watched():
                self._kept.set(BEGUN, "yes")

    def restarted(self) -> bool:
        """Whether the launcher has started the processes of a run that had begun again; the same on all.

        torchrun's own count is another on each node: only those count where a process failed. And it counts starts that
        were refused. It has to do where torchrun keeps no store.
        """
        with peers_watched():
            if self._kept is not None:
                before = self._kept.check([BEGUN])
            else:
                before = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
        return self.maximum([float(before)])[0] > 0

    def barrier(self) -> None:
        """Wait until every process has come here."""
        self.maximum([0.0])

    def close(self) -> None:
        """Leave the group; a second time does nothing."""
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def __enter__(self) -> World:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            # Process 0 may keep the store that the others still need.
            self.barrier()
        self.close()
        if error is None or self.size == 1:
            return
        launched = LAUNCHED in os.environ
        if isinstance(error, SharedError) and not self.main and launched:
            # The launcher ends all processes when the first has ended; that should be the one that tells why.
            with suppress(KeyboardInterrupt):
                time.sleep(TELLING_SECONDS)
            raise SystemExit(1) from error
        # An interrupted import may come as another error, caused by the interrupt.
        if isinstance(error.__cause__ or error, KeyboardInterrupt) and (launched or not self.main):
            raise SystemExit(130) from error
        try:
            with peers_watched():
                raise error
        except DataError as told:
            if launched and str(told) == LOST:
                raise SystemExit(1) from error
            raise
