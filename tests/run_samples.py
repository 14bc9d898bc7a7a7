"""Short trainings from the command line, and what they leave."""

import os
import subprocess
import sys
import time

from trainer.showing.event_log import read_log


def words(train, output, *more):
    """A command that trains a small network, without anything that is not the same each time."""
    return [
        *("-m", "trainer", "fit", str(train), str(output), "--input-size", "16", "--precision", "f32"),
        *("--device", "cpu", "--batch-size", "4", "--learning-rate", "0.003", *more),
    ]


def environment(**more):
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def run(arguments, **more):
    return subprocess.run(
        [sys.executable, *arguments], env=environment(), capture_output=True, text=True, timeout=250, **more
    )


def train_losses(folder):
    return {event["step"]: event["loss"] for event in read_log(folder / "log.jsonl") if event["event"] == "train"}


def changed(path, begun, seconds=30):
    """Wait until a file is newer than it was; False if it stays as it is."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if path.exists() and path.stat().st_mtime_ns > begun:
            return True
        time.sleep(0.002)
    return False
