"""How the processes of a run find each other: in a store that process 0 keeps, or torchrun."""

from __future__ import annotations

import os
import queue
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from tracker.errors import DataError
from trainer.parallel.launchers import Launch

T = TypeVar("T")

ANSWER_SECONDS = 1800.0
"""How long one process may keep the others waiting, with an evaluation or a checkpoint, before they give up."""

POLL_SECONDS = 0.05


def kept_by_torchrun(launch: Launch) -> bool:
    """Whether the store is in torchrun's own process, which stays when it starts the others again."""
    return launch.by == "torchrun" and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def meet(launch: Launch, device: torch.device, timeout: float) -> dist.Store:
    """Form torch's process group; one process alone needs none. Returns the store of the launch.

    Raises DataError when not all come in time.
    """
    deadline = time.monotonic() + timeout
    if launch.local_size == launch.size and sys.platform in ("linux", "darwin"):
        # Without a name, Gloo takes what the host's name resolves to, which need not be reachable.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
    try:
        store = _open(launch, timeout, deadline)
        if launch.size > 1:
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                store=common_part(store, launch, deadline),
                rank=launch.rank,
                world_size=launch.size,
                timeout=timedelta(seconds=ANSWER_SECONDS),
            )
        return store
    except (RuntimeError, OSError, ValueError) as error:
        if "EADDRINUSE" in str(error) or "already in use" in str(error):
            raise DataError(f"port {launch.port} is in use on this node: set MASTER_PORT to a free one") from error
        seen = str(error) if isinstance(error, _Missing) else "process 0 is not there or cannot be reached"
        raise DataError(
            f"the processes did not meet at {launch.address}:{launch.port} within {timeout:.0f} s ({seen}): see that "
            f"all of them run, that {launch.by} names the right node, and that no firewall is between (MASTER_ADDR, "
            "GLOO_SOCKET_IFNAME)"
        ) from error


class _Missing(OSError):
    """Not all processes came; the text says how many."""


def _open(launch: Launch, timeout: float, deadline: float) -> dist.Store:
    server = launch.rank == 0 and not kept_by_torchrun(launch)
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
    return dist.PrefixStore("trainer", tcp)


def common_part(store: dist.Store, launch: Launch, deadline: float) -> dist.Store:
    """Wait until all processes are there. Returns their own part of the store, which none has used before.

    deadline: of time.monotonic(). Raises OSError then.

    torchrun's store is the same over restarts, with all that ended processes left there, and nothing that torchrun
    tells is both new after a restart and the same on all nodes. So each process calls with a word that nobody has used,
    and process 0 answers it with the name of the part: an answer to one's own word cannot be an old one.
    """
    own = uuid.uuid4().hex
    store.append("calls", f"{own} ")  # type: ignore[attr-defined]  # torch's stubs lack it
    if launch.rank == 0:
        store.set(own, own)
    answered = {own}
    part: dist.Store | None = None
    came = 0
    while came < launch.size:
        if launch.rank == 0:
            for call in set(store.get("calls").decode().split()) - answered:
                store.set(call, own)
                answered.add(call)
        if part is None and store.check([own]):
            part = dist.PrefixStore(store.get(own).decode(), store)
            part.add("came", 1)
        came = part.add("came", 0) if part is not None else 0
        if came < launch.size:
            if time.monotonic() > deadline:
                raise _Missing(f"{came} of {launch.size} processes") if came else TimeoutError
            time.sleep(POLL_SECONDS)
    assert part is not None
    return part


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
