"""Several processes that train one network: how they meet, and what they tell each other.

torch.distributed does the work: Gloo between CPUs, NCCL between GPUs. Small values always go over Gloo, as CPU tensors.
"""

from __future__ import annotations

import os
import queue
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from tracker.errors import DataError, TrackerError
from trainer.parallel.launchers import Launch, detect

__all__ = ["Launch", "World", "detect"]

T = TypeVar("T")

JOIN_SECONDS = 300.0
"""How long processes wait for each other at the start: nodes of a cluster do not load Python at the same time."""

ANSWER_SECONDS = 1800.0
"""How long one process may keep the others waiting, with an evaluation or a checkpoint, before they give up."""

TELLING_SECONDS = 1.0
"""How long the other processes stay, while process 0 tells an error that all have found."""

LAUNCHED = "TRAINER_LAUNCHED"
"""Set by `--gpus` and `--processes`: the process that started this one tells how the run ended."""

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

    def __init__(self, rank: int, local_rank: int, size: int, device: torch.device) -> None:
        self.rank, self.local_rank, self.size, self.device = rank, local_rank, size, device
        self.main = rank == 0

    @classmethod
    def join(cls, launch: Launch | None, device: torch.device, timeout: float = JOIN_SECONDS) -> World:
        """Meet the others. With several processes on GPUs, each takes the GPU of its own local rank.

        timeout: seconds. Raises DataError when the others do not come, or when processes would have to share a GPU.
        """
        if launch is None or launch.size == 1:
            return cls(0, 0, 1, device)
        if device.type == "cuda":
            count = torch.cuda.device_count()
            # Slurm can show each process one GPU, its own; whether it is its own is seen when all have met.
            if count != 1 and launch.local_size > count:
                raise DataError(
                    f"{launch.local_size} processes on this node, but {count} GPUs: start one process for each GPU"
                )
            device = torch.device("cuda", launch.local_rank if count > 1 else 0)
            torch.cuda.set_device(device)
        _meet(launch, device, timeout)
        world = cls(launch.rank, launch.local_rank, launch.size, device)
        try:
            world._settle()
        except BaseException:
            world.close()
            raise
        return world

    def _settle(self) -> None:
        """Give each process its share of the cores, and see that none shares a GPU."""
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


def _meet(launch: Launch, device: torch.device, timeout: float) -> None:
    """Form torch's process group. Raises DataError when not all come in time."""
    where = f"{launch.address}:{launch.port}"
    deadline = time.monotonic() + timeout
    if launch.local_size == launch.size and sys.platform in ("linux", "darwin"):
        # Without a name, Gloo takes what the host's name resolves to, which need not be reachable.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
    # torchrun keeps the store in its own process, and the same one over restarts.
    kept = launch.by == "torchrun" and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    came = 0
    try:
        server = launch.rank == 0 and not kept
        if not server:
            # Torch says on the terminal, in hundreds of lines, that nobody listens yet: look first.
            _knock(launch.address, launch.port, deadline)
        # Somebody else who listens there would never answer: torch's own limit is no limit for that.
        tcp = _within(
            timeout + 5,
            lambda: dist.TCPStore(
                launch.address,
                launch.port,
                is_master=server,
                timeout=timedelta(seconds=timeout),
                wait_for_workers=False,
            ),
        )
        store = dist.PrefixStore(f"trainer/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", tcp)
        store.add("came", 1)
        while (came := store.add("came", 0)) < launch.size:
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.05)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=store,
            rank=launch.rank,
            world_size=launch.size,
            timeout=timedelta(seconds=ANSWER_SECONDS),
        )
    except (RuntimeError, OSError, ValueError) as error:
        if "EADDRINUSE" in str(error) or "already in use" in str(error):
            raise DataError(f"port {launch.port} is in use on this node: set MASTER_PORT to a free one") from error
        seen = f"{came} of {launch.size} processes" if came else "process 0 is not there or cannot be reached"
        raise DataError(
            f"the processes did not meet at {where} within {timeout:.0f} s ({seen}): see that all of them run, that "
            f"{launch.by} names the right node, and that no firewall is between (MASTER_ADDR, GLOO_SOCKET_IFNAME)"
        ) from error


def _knock(address: str, port: int, deadline: float) -> None:
    """Wait until somebody listens there. Raises OSError at the deadline."""
    while True:
        try:
            socket.create_connection((address, port), max(0.1, deadline - time.monotonic())).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _within(seconds: float, action: Callable[[], T]) -> T:
    """The result of an action that may never come back. Raises TimeoutError."""
    outcome: queue.Queue[tuple[list[T], Exception | None]] = queue.Queue()

    def run() -> None:
        try:
            outcome.put(([action()], None))
        except Exception as error:  # handed on
            outcome.put(([], error))

    threading.Thread(target=run, daemon=True).start()
    try:
        result, error = outcome.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return result[0]
