"""`python -m trainer`: finds the command, and turns errors into one line."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import NoReturn

from tracker.errors import TrackerError

COMMANDS = {
    "fit": "train a network",
    "segment": "train the network that tells hands from the rest of the image",
    "weights": "make all weights that the tracker needs, by one command",
    "average": "the mean of the weights of several runs",
    "calibrate": "make the confidence of weights mean something in the whole tracker",
    "evaluate": "mean joint error of weights on data, or of text files of predictions",
    "predict": "write the joints that weights find in data, as a text file",
    "convert": "data sets and files to the compact format or to HDF5; old checkpoints to safetensors",
    "synthesize": "simulated hands to a file",
    "inspect": "pictures and figures of a data file",
}


SEVERAL = ("RANK", "OMPI_COMM_WORLD_RANK", "SLURM_STEP_ID")
"""Variables of which one says that this process may have shared a run with others."""


def run() -> NoReturn:
    """The command as a program: ends the process with its exit status."""
    try:
        status = main()
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else int(left.code is not None)
    if any(name in os.environ for name in SEVERAL):
        # All is written and the group is left. torch's threads may still be letting go of tensors, which aborts the
        # process now and then while Python is taken down around them: so it is not taken down.
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(status)
    sys.exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, or 1 after an error that is told in one line."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m trainer", description="Train and judge hand networks.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, purpose in COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
        if words[:1] == [name]:
            # Only the room that is asked for is entered: help needs no torch.
            room = import_module(f"trainer.commands.{name}")
            room.add_arguments(command)
            command.set_defaults(run=room.run)
    options = parser.parse_args(words)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # What OpenCV warns of (a damaged image) is told by our own errors.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    try:
        return int(options.run(options))
    except (TrackerError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
    except BrokenPipeError:
        # The reader (`head`, say) has seen enough. Python flushes at exit and would complain once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"error: {error.strerror or error}: {error.filename or 'standard output'}", file=sys.stderr)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 1
