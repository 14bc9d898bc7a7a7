"""Several processes of this command on this node: `--gpus` and `--processes`, by torch's own launcher."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import uuid
from collections.abc import Sequence

from tracker.errors import DataError

STOP_SECONDS = 120
"""How long the processes may take to write a checkpoint after Ctrl-C or SIGTERM."""

LOOK_SECONDS = 1.0
"""How often a process looks whether its launcher is still there."""


def count_gpus(wanted: str) -> int:
    """How many GPUs `--gpus WANTED` means. Raises DataError when there are fewer."""
    import torch

    there = torch.cuda.device_count()
    if wanted == "all" and there:
        return there
    if wanted != "all" and not (wanted.isdecimal() and int(wanted) > 0):
        raise DataError(f"--gpus {wanted!r} should be a number of GPUs or `all`")
    if wanted == "all" or int(wanted) > there:
        raise DataError(f"--gpus {wanted}, but torch finds {there} on this machine; --processes N trains on the CPU")
    return int(wanted)


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run `python -m trainer ARGUMENTS` in several processes until all have ended; returns the exit status.

    The first that fails ends the others. Ctrl-C and SIGTERM go to each of them once, and they have `STOP_SECONDS` to
    end by themselves. Each process has torchrun's variables.
    """
    os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(STOP_SECONDS)
    os.environ["TRAINER_LAUNCHED"] = "1"
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # This process does nothing else; what went wrong is told by the process that it went wrong in.
    logging.disable(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "trainer", *arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode >= 0:
            return int(failure.exitcode)
        name = signal.Signals(-failure.exitcode).name
        raise DataError(
            f"process {rank} was ended by {name}"
            + (", perhaps because memory ran out" if name == "SIGKILL" else "")
            + "; --resume goes on from the last checkpoint"
        ) from error
    except SignalException as error:
        return 128 + error.sigval
    return 0


def end_with_launcher() -> None:
    """Have this process end soon after torch's launcher, if that has started it: `launch`, or torchrun on the node."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    launcher = os.getppid()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_SECONDS):
            if os.getppid() != launcher:
                os._exit(1)

    def stop() -> None:
        over.set()
        watching.join()

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    # A thread that wakes while Python is taken down is ended in the midst of torch's C++, which aborts the process.
    atexit.register(stop)
