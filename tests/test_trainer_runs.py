"""Whole runs from the command line: resumed, and stopped by what goes wrong."""

import io
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import torch
from run_samples import changed, environment, run, train_losses, words
from trainer_samples import write_h5

from tracker.network.weights import find_weights, load_weights
from trainer.cli import main
from trainer.fitting.checkpoint import load_checkpoint

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "train.h5"
    write_h5(path, count=50, joints=5)
    return path


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_saves_and_says_how_to_go_on(tmp_path, data, how):
    process = subprocess.Popen(
        [sys.executable, *words(data, tmp_path / "out", "--epochs", "10000", "--workers", "1")],
        env=environment(), stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert changed(tmp_path / "out" / "log.jsonl", 0, 60), process.communicate()
    deadline = time.monotonic() + 60
    while not train_losses(tmp_path / "out") and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, how)  # as a terminal or Slurm does, the processes that prepare samples too
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in told
    assert "Traceback" not in told
    assert load_checkpoint(tmp_path / "out", CPU)["state"]["step"] >= 20
    assert (tmp_path / "out" / "curves.png").stat().st_size > 1000


def test_a_full_disk_stops_the_run_and_leaves_the_last_checkpoint(tmp_path, data):
    first = run(words(data, tmp_path / "out", "--epochs", "2", "--workers", "0"))
    assert first.returncode == 0, first.stderr
    before = (tmp_path / "out" / "checkpoint.pt").read_bytes()

    def no_room():
        # Nothing longer than this can be written any more: the system refuses it as a full disk would.
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    def no_room_for_best():
        weights = (tmp_path / "out" / "last.safetensors").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (weights - 1000, weights - 1000))

    resumed = words(data, tmp_path / "out", "--epochs", "4", "--workers", "0", "--resume")
    for limit, more, what in (
        (no_room, [], "the checkpoint"),
        (no_room_for_best, ["--dev", str(data)], "best.safetens"),
    ):
        done = run([*resumed, *more], preexec_fn=limit)
        assert done.returncode == 1
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("error: ")
        assert what in last
        assert "could not be written" in last
        assert "Traceback" not in done.stderr
        assert (tmp_path / "out" / "checkpoint.pt").read_bytes() == before
        assert not list((tmp_path / "out").glob("*.part"))
    again = run(words(data, tmp_path / "out", "--epochs", "4", "--workers", "0", "--resume"))
    assert again.returncode == 0, again.stderr
    assert load_checkpoint(tmp_path / "out", CPU)["state"]["position"] == 200


def test_a_run_that_ended_before_its_first_checkpoint_is_started_again(tmp_path, data):
    out = tmp_path / "out"

    def no_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    command = words(data, out, "--epochs", "1", "--workers", "0")
    full = run(command, preexec_fn=no_room)
    assert full.returncode == 1
    assert "make room, then start again" in full.stderr
    # A kill may leave these, too.
    (out / "log.jsonl").touch()
    (out / "checkpoint.pt.part").write_bytes(b"half")
    again = run(command)
    assert again.returncode == 0, again.stderr
    assert load_checkpoint(out, CPU)["state"]["position"] >= 50


def test_a_folder_with_a_log_has_a_checkpoint(tmp_path, monkeypatch):
    write_h5(tmp_path / "a.h5")

    def killed(*_, **__):
        raise MemoryError

    monkeypatch.setattr("trainer.fitting.fit.EventLog", killed)
    assert main(words(tmp_path / "a.h5", tmp_path / "out", "--workers", "0")[2:]) == 1
    assert (tmp_path / "out" / "checkpoint.pt").exists()


@pytest.mark.parametrize(("left", "status"), [([], 0), (["last.safetensors"], 1)])
def test_an_elastic_restart_without_a_checkpoint_starts_afresh(tmp_path, monkeypatch, capsys, left, status):
    write_h5(tmp_path / "a.h5")
    (tmp_path / "out").mkdir()
    for name in ("config.json", *left):
        (tmp_path / "out" / name).write_text("{}")
    (tmp_path / "out" / "log.jsonl").touch()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert main(words(tmp_path / "a.h5", tmp_path / "out", "--epochs", "1", "--workers", "0")[2:]) == status
    assert ("holds a run already" in capsys.readouterr().err) == bool(status)


def test_bad_labels_are_not_trained_on_for_hours(tmp_path, data):
    broken = tmp_path / "broken.h5"
    shutil.copy(data, broken)
    first = run(words(data, tmp_path / "out", "--epochs", "2", "--workers", "0"))
    assert first.returncode == 0, first.stderr
    with h5py.File(broken, "r+") as file:
        file["cube"][:] = np.inf
    done = run(words(broken, tmp_path / "out", "--epochs", "4", "--workers", "0", "--resume"))
    assert done.returncode == 1
    assert "millimetres" in done.stderr


def test_a_run_is_resumed_as_what_it_is(tmp_path, data):
    first = run(words(data, tmp_path / "out", "--epochs", "1", "--workers", "0"))
    assert first.returncode == 0, first.stderr
    for more, named in (
        (["--seed", "5"], "seed"),
        (["--recipe", "paper"], "optimizer"),
        (["--model", "v2v"], "network"),
    ):
        done = run(words(data, tmp_path / "out", "--epochs", "2", "--workers", "0", "--resume", *more))
        assert done.returncode == 1
        assert f"another {named}" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_two_runs_do_not_share_a_folder(tmp_path, data):
    first = subprocess.Popen(
        [sys.executable, *words(data, tmp_path / "out", "--epochs", "10000", "--workers", "0")],
        env=environment(), stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert changed(tmp_path / "out" / "checkpoint.pt", 0, 90)
        done = run(words(data, tmp_path / "out", "--epochs", "10000", "--workers", "0", "--resume"))
        assert done.returncode == 1
        assert "another run is at work" in done.stderr
    finally:
        first.kill()
        first.wait(timeout=30)
    (tmp_path / "out" / "checkpoint.pt").unlink()
    done = run(words(data, tmp_path / "out", "--epochs", "1", "--workers", "0"))
    assert done.returncode == 1
    assert "holds a run already" in done.stderr


def test_labels_that_teach_nothing_are_refused(tmp_path, data):
    for name, factor in (("nan", np.nan), ("millimetres", 150)):
        broken = tmp_path / f"{name}.h5"
        shutil.copy(data, broken)
        with h5py.File(broken, "r+") as file:
            file["labels"][:] = np.sign(file["labels"][:]) * factor
        done = run(words(broken, tmp_path / name, "--epochs", "1", "--workers", "0"))
        assert done.returncode == 1
        assert "no label lies in its cube" in done.stderr


def test_grids_without_a_voxel_are_refused(tmp_path, capsys):
    write_h5(tmp_path / "empty.h5")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, np.zeros((8, 8, 8), bool))
    with h5py.File(tmp_path / "empty.h5", "r+") as file:
        for i in range(6):
            del file[f"real_voxels/{i}"]
            file[f"real_voxels/{i}"] = np.frombuffer(buffer.getvalue(), np.uint8)
    assert main(words(tmp_path / "empty.h5", tmp_path / "out", "--workers", "0")[2:]) == 1
    printed = capsys.readouterr().err
    assert "none of 6 has an occupied voxel" in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_weights_of_other_joints_are_a_start(tmp_path, data):
    done = run(words(data, tmp_path / "out", "--epochs", "1", "--workers", "0", "--init", "v2v-lite"))
    assert done.returncode == 0, done.stderr
    assert "start afresh: head\n" in done.stderr
    shipped = load_weights(find_weights("v2v-lite")).v2v.state_dict()
    trained = load_weights(tmp_path / "out" / "last.safetensors").v2v.state_dict()
    assert (trained["front.0.weight"] - shipped["front.0.weight"]).abs().max() < 0.05
    done = run(words(data, tmp_path / "no", "--init", "v2v-lite", "--model", "v2v"))
    assert done.returncode == 1
    assert "another network" in done.stderr
