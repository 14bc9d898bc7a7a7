"""Runs shared by several processes: the same training, whoever does it; nobody hangs when one of them cannot go on."""

import os
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import torch
from trainer_samples import write_h5

from trainer.fitting.checkpoint import load_checkpoint
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
    # A run of one process goes on with three, whose parts of a batch are uneven, and the other way round.
    (tmp_path / "mixed").mkdir()
    for epochs, processes in (("4", 1), ("8", 3)):
        resume = ["--resume"] if processes > 1 else []
        done = fit(processes, data, tmp_path / "mixed", "--epochs", epochs, "--schedule", "constant", *resume)
        assert done.returncode == 0, done.stderr
    assert curve(tmp_path / "mixed")[-1][0] == 25


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


def test_a_killed_worker_under_torchrun_is_started_again_and_goes_on(tmp_path, data):
    words = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "2"]
    words += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"]
    words += ["-m", "trainer", "fit", str(data), str(tmp_path / "out"), *SMALL, "--device", "cpu"]
    words += ["--epochs", "24", "--checkpoint-minutes", "0.01"]
    with (tmp_path / "told").open("w") as told:
        run = subprocess.Popen(
            [sys.executable, *words], env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=told, stderr=told
        )
        try:
            checkpoint = tmp_path / "out" / "checkpoint.pt"
            deadline = time.monotonic() + 120
            while not checkpoint.exists() and run.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            assert checkpoint.exists(), (tmp_path / "told").read_text()
            workers = children(run.pid)
            assert len(workers) == 2
            os.kill(workers[1], 9)
            assert run.wait(timeout=200) == 0, (tmp_path / "told").read_text()
        finally:
            if run.poll() is None:
                run.kill()
                run.wait(timeout=20)
    assert load_checkpoint(tmp_path / "out", torch.device("cpu"))["state"]["position"] >= 24 * 50
    steps = [step for step, _ in curve(tmp_path / "out")]
    assert steps == sorted(set(steps))
    assert steps[-1] == 75


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
