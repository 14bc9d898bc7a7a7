"""A run that is killed again and again: nothing of it is lost.

In a file of its own, as a worker of the tests takes whole files, and this is by far the longest test.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from run_samples import changed, environment, train_losses, words
from trainer_samples import write_h5

from tracker.network.weights import load_weights
from trainer.fitting.checkpoint import load_checkpoint
from trainer.showing.event_log import read_log

CPU = torch.device("cpu")
KILLS = 20


def dev_errors(folder):
    events = read_log(folder / "log.jsonl")
    return [(event["step"], event["dev_mean_mm"]) for event in events if event["event"] == "dev"]


def best_error(folder):
    return json.loads((folder / "best.json").read_text())["results"]["dev_mean_mm"]


class Nursery:
    """Starts trainers quickly: a process that has imported everything and forks one whenever asked to.

    Importing torch takes seconds, and twenty-odd runs are started.
    """

    CODE = """
import os, sys
import torch._dynamo, torch._inductor  # what torch's optimisers import at their first step
import trainer.fitting.fit, trainer.commands.fit
from trainer.cli import main
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        sys.argv[1:] = line.split()
        status = 1
        try:
            status = main()
        finally:
            sys.stderr.flush()
            os._exit(status)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.CODE], env=environment(), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def start(self, arguments):
        self.process.stdin.write(" ".join(arguments[2:]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def wait(self):
        """The wait status of the trainer that was started last."""
        return int(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()
        self.process.stderr.close()


@pytest.fixture
def nursery():
    made = Nursery()
    yield made
    made.close()


@pytest.mark.timeout(600)
def test_a_run_that_is_killed_twenty_times_ends_as_an_undisturbed_one(tmp_path, nursery):
    data = tmp_path / "train.h5"
    write_h5(data, count=50, joints=5)
    more = ["--epochs", "48", "--workers", "0", "--checkpoint-minutes", "0.0025"]
    more += ["--dev", str(data), "--dev-epochs", "8"]
    nursery.start(words(data, tmp_path / "whole", *more))
    assert nursery.wait() == 0
    assert load_checkpoint(tmp_path / "whole", CPU)["state"]["step"] == 600

    folder = tmp_path / "killed"
    checkpoint = folder / "checkpoint.pt"
    chance = random.Random(0)
    reached = []
    for life in range(KILLS):
        begun = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        trainer = nursery.start(words(data, folder, *more, *(["--resume"] if checkpoint.exists() else [])))
        # Killed at any moment: one in four while it starts, the others while it trains or writes what it has.
        if life % 4 != 3:
            assert changed(checkpoint, begun)
        time.sleep(chance.uniform(0, 0.1))
        os.kill(trainer, signal.SIGKILL)
        assert os.WIFSIGNALED(nursery.wait())
        if checkpoint.exists():
            reached.append(load_checkpoint(folder, CPU)["state"]["step"])  # whole, whenever it was killed
    assert reached == sorted(reached)
    assert len(set(reached)) > KILLS // 2
    assert reached[-1] < 600
    nursery.start(words(data, folder, *more, "--resume"))
    assert nursery.wait() == 0

    assert train_losses(folder) == train_losses(tmp_path / "whole")
    assert dev_errors(folder) == dev_errors(tmp_path / "whole")
    assert [step for step, _ in dev_errors(folder)] == [100 * (i + 1) for i in range(6)]
    assert best_error(folder) == best_error(tmp_path / "whole") == min(error for _, error in dev_errors(folder))
    assert len(train_losses(folder)) == 30
    whole = load_weights(tmp_path / "whole" / "last.safetensors").v2v.state_dict()
    for name, tensor in load_weights(folder / "last.safetensors").v2v.state_dict().items():
        torch.testing.assert_close(tensor, whole[name], rtol=0, atol=0, msg=name)
    card = json.loads((folder / "last.json").read_text())
    assert (card["steps"], card["samples_seen"], card["data"]) == (600, 2400, "train.h5")
    assert card["command"].startswith("python -m trainer fit")
