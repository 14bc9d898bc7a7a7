"""Runs shared by several processes: the same training, whoever does it; nobody hangs when one of them cannot go on."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import torch
from trainer_samples import write_h5

from tracker.errors import DataError
from trainer.fitting.checkpoint import load_checkpoint
from trainer.fitting.lock import lock_run
from trainer.showing.event_log import read_log

BATCH = 16
SMALL = ["--input-size", "16", "--precision", "f32", "--batch-size", str(BATCH), "--workers", "0"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """50 samples: a batch of 16 runs across the end of each epoch."""
    path = tmp_path_factory.mktemp("data") / "train.h5"
    write_h5(path, count=50, joints=5)
    return path


def fit(processes, train, output, *more, timeout=200, **variables):
    words = ["-m", "trainer", "fit", str(train), str(output), *SMALL, "--device", "cpu", *more]
    if processes > 1:
        words += ["--processes", str(processes)]
    return subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def curve(folder):
    return [(event["step"], event["loss"]) for event in read_log(folder / "log.jsonl") if event["event"] == "train"]


def dev_errors(folder):
    return [event["dev_mean_mm"] for event in read_log(folder / "log.jsonl") if event["event"] == "dev"]


def test_the_same_batch_is_the_same_training_for_any_number_of_processes(tmp_path, data):
    more = ["--epochs", "13", "--dev", str(data), "--dev-epochs", "13"]
    for processes in (1, 2, 4):
        done = fit(processes, data, tmp_path / str(processes), *more)
        assert done.returncode == 0, done.stderr
    alone = curve(tmp_path / "1")
    assert [step for step, _ in alone] == [20, 40, 41]
    assert alone[-1][1] < 0.97 * alone[0][1]  # it learns
    for processes in (2, 4):
        shared = curve(tmp_path / str(processes))
        assert [step for step, _ in shared] == [step for step, _ in alone]
        # Sums in another order differ by rounding, which grows from step to step.
        np.testing.assert_allclose([loss for _, loss in shared], [loss for _, loss in alone], rtol=2e-3)
        np.testing.assert_allclose(dev_errors(tmp_path / str(processes)), dev_errors(tmp_path / "1"), rtol=0.02)


def test_a_run_goes_on_with_another_number_of_processes(tmp_path, data):
    """From one process to three, whose parts of a batch are uneven; the optimiser's memory goes with it."""
    steady = ["--schedule", "constant", "--warmup", "1"]
    for folder, epochs, processes in (("whole", "8", 1), ("mixed", "4", 1), ("mixed", "8", 3)):
        resume = ["--resume"] if processes > 1 else []
        done = fit(processes, data, tmp_path / folder, "--epochs", epochs, *steady, *resume)
        assert done.returncode == 0, done.stderr
    whole, mixed = curve(tmp_path / "whole"), curve(tmp_path / "mixed")
    assert [step for step, _ in whole] == [20, 25]
    assert [step for step, _ in mixed] == [13, 20, 25]
    np.testing.assert_allclose(mixed[-1][1], whole[-1][1], rtol=1e-3)
    parts = (13 * mixed[0][1] + 7 * mixed[1][1]) / 20
    np.testing.assert_allclose(parts, whole[0][1], rtol=1e-3)


def test_more_processes_than_samples(tmp_path):
    write_h5(tmp_path / "few.h5", count=2, joints=5)
    done = fit(3, tmp_path / "few.h5", tmp_path / "out", "--epochs", "16", "--dev", str(tmp_path / "few.h5"))
    assert done.returncode == 0, done.stderr
    assert load_checkpoint(tmp_path / "out", torch.device("cpu"))["state"]["position"] == 32
    done = fit(3, tmp_path / "few.h5", tmp_path / "no", "--batch-size", "2")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == [
        "error: a batch of 2 cannot be shared by 3 processes: raise --batch-size"
    ]


@pytest.mark.parametrize(
    ("more", "told"), [(["--learning-rate", "-1"], "the learning rate above 0"), (["--init", "none"], "'none'")]
)
def test_what_every_process_finds_is_told_once(tmp_path, data, more, told):
    done = fit(2, data, tmp_path / "out", *more)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stderr.count("error: ") == 1
    assert told in done.stderr


def test_a_sample_that_one_process_cannot_read_ends_them_all(tmp_path):
    path = tmp_path / "broken.h5"
    write_h5(path, count=16, joints=5)
    with h5py.File(path, "r+") as file:
        del file["real_voxels/3"]
        file["real_voxels/3"] = np.frombuffer(b"garbage", np.uint8)
    begun = time.monotonic()
    done = fit(2, path, tmp_path / "out")
    assert done.returncode == 1
    assert time.monotonic() - begun < 90
    told = done.stderr.strip().splitlines()
    assert len(told) == 1, done.stderr
    assert "sample 3" in told[0]
    assert "Traceback" not in done.stderr


SHORT = 24
"""Steps of a short run."""


def short_fit(train, output):
    words = ["-m", "trainer", "fit", str(train), str(output), "--input-size", "16", "--precision", "f32"]
    return [*words, "--batch-size", "4", "--workers", "0", "--device", "cpu", "--epochs", str(SHORT // 2)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A file for short runs, and the losses of one that a process has to itself."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_h5(folder / "train.h5", count=8, joints=5)
    words = [sys.executable, *short_fit(folder / "train.h5", folder / "out")]
    subprocess.run(words, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, timeout=200, capture_output=True)
    return folder / "train.h5", curve(folder / "out")


class Agents:
    """`torchrun` on each of some nodes, all of them this machine, with a short run that saves after each step."""

    def __init__(self, folder, train, nodes, processes):
        self.output = folder / "out"
        with socket.socket() as door:
            door.bind(("127.0.0.1", 0))
            endpoint = f"127.0.0.1:{door.getsockname()[1]}"
        words = ["-m", "torch.distributed.run", "--nnodes", str(nodes), "--nproc-per-node", str(processes)]
        words += ["--max-restarts", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint, "--rdzv-id", "hands"]
        words += ["--local-addr", "127.0.0.1", *short_fit(train, self.output), "--checkpoint-minutes", "0.0001"]
        self.told = [folder / f"told {node}" for node in range(nodes)]
        self.running = []
        for told in self.told:
            with told.open("w") as file:
                environ = {**os.environ, "OMP_NUM_THREADS": "1"}
                self.running.append(subprocess.Popen([sys.executable, *words], env=environ, stdout=file, stderr=file))

    def kill_worker(self, node):
        """Kill the last process of a node with -9, as soon as there is a checkpoint of a step."""
        deadline = time.monotonic() + 200
        while self.step() < 1 and time.monotonic() < deadline:
            assert all(agent.poll() is None for agent in self.running), self.words()
            time.sleep(0.02)
        os.kill(children(self.running[node].pid)[-1], signal.SIGKILL)
        assert self.step() < SHORT, "the run was too quick to be killed"

    def step(self):
        """The step of the checkpoint; -1 without one."""
        there = (self.output / "checkpoint.pt").exists()
        return load_checkpoint(self.output, torch.device("cpu"))["state"]["step"] if there else -1

    def words(self):
        return "\n".join(told.read_text() for told in self.told)

    def wait(self):
        """Until every agent has ended, well."""
        deadline = time.monotonic() + 200
        for agent in self.running:
            assert agent.wait(max(1, deadline - time.monotonic())) == 0, self.words()

    def close(self):
        # First those that train: an agent that is killed leaves them behind.
        for agent in self.running:
            for process in [*children(agent.pid), agent.pid]:
                if agent.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
            agent.wait(timeout=20)


@pytest.mark.timeout(450)
@pytest.mark.parametrize(("nodes", "processes"), [(1, 2), (2, 1)])
def test_a_killed_worker_under_torchrun_is_started_again_and_goes_on(tmp_path, undisturbed, nodes, processes):
    """On two nodes only the one whose worker died counts a restart."""
    train, expected = undisturbed
    with contextlib.closing(Agents(tmp_path, train, nodes, processes)) as agents:
        agents.kill_worker(nodes - 1)
        agents.wait()
        assert agents.step() == SHORT
    found = curve(tmp_path / "out")
    assert [step for step, _ in found] == [step for step, _ in expected] == [20, SHORT]
    np.testing.assert_allclose([loss for _, loss in found], [loss for _, loss in expected], rtol=2e-3)


def test_nothing_watches_for_the_launcher_any_more_when_python_is_taken_down():
    """A thread that wakes then aborts the process, now and then."""
    code = "import atexit, threading; from trainer.parallel.launch import end_with_launcher; "
    code += (
        "atexit.register(lambda: print(threading.active_count())); end_with_launcher(); print(threading.active_count())"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "TORCHELASTIC_RUN_ID": "1"}, capture_output=True, text=True
    )
    assert told.stdout.split() == ["2", "1"], told.stderr


@pytest.mark.parametrize(
    ("variables", "words", "status", "taken_down"),
    [
        ({"RANK": "0"}, ["fit", "--help"], 0, False),
        ({"RANK": "0"}, ["fit", "no.h5", "out", "--optimizer", "none"], 2, False),
        ({"SLURM_STEP_ID": "1"}, ["fit", "no.h5", "out"], 1, False),
        ({}, ["fit", "--help"], 0, True),
        ({}, ["fit", "no.h5", "out"], 1, True),
    ],
)
def test_python_is_not_taken_down_in_processes_that_share_a_run(variables, words, status, taken_down, tmp_path):
    """torch's threads abort it then, now and then."""
    code = "import atexit, runpy, sys; atexit.register(print, 'taken down'); sys.argv[1:] = " + repr(words)
    code += "; runpy.run_module('trainer', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, **variables}, capture_output=True, text=True
    )
    assert done.returncode == status, done.stderr
    assert ("taken down" in done.stdout) == taken_down
    assert "Traceback" not in done.stderr
    assert len(done.stdout + done.stderr) > 20  # nothing that was said is lost


def test_processes_end_with_a_launcher_that_is_killed(tmp_path, data):
    words = ["-m", "trainer", "fit", str(data), str(tmp_path), *SMALL, "--epochs", "100000", "--processes", "2"]
    launcher = subprocess.Popen(
        [sys.executable, *words], env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL
    )
    started = []
    try:
        assert within(150, (tmp_path / "checkpoint.pt").exists)
        started = children(launcher.pid)
        assert len(started) == 2
        launcher.kill()
        launcher.wait(timeout=20)
        assert within(60, lambda: not any(map(runs, started)))
    finally:
        launcher.kill()
        for process in filter(runs, started):
            os.kill(process, signal.SIGKILL)

    def can_be_locked():
        """Files of a process stay open until the last of its threads has ended, some time after the first."""
        try:
            lock_run(tmp_path).close()
        except DataError:
            return False
        return True

    assert within(20, can_be_locked)  # --resume can have the folder
    assert load_checkpoint(tmp_path, torch.device("cpu"))["state"]["step"] >= 0


def within(seconds, condition):
    """Whether the condition holds some time soon."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def runs(process):
    """Whether a process has not ended yet."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def children(process):
    """Process ids of the trainers that a process started."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat") as file:
                    parent = int(file.read().rsplit(")", 1)[1].split()[1])
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
            except OSError:
                continue
            if parent == process and b"trainer" in words and b"fit" in words:
                found.append(int(name))
    return sorted(found)
