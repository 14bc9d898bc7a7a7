"""What a training run writes of itself: the bar or lines, the log, the curves."""

import io
import json
import os
import select
import struct
import sys
import time

import cv2
import numpy as np
import pytest

from tracker.errors import DataError
from trainer.showing import progress as progress_module
from trainer.showing.curves import draw_curves
from trainer.showing.event_log import EventLog, read_log
from trainer.showing.progress import Progress


class Clock:
    """Time that passes when it is told to."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(progress_module.time, "monotonic", lambda: self.now)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def train(progress, clock, steps, total, done=0, seconds=0.25, **more):
    for i in range(done, done + steps):
        clock.now += seconds
        values = {"samples": 16, "wait_s": seconds / 5, "loss": 0.5, "epoch": 2, "done": (i + 1) / total, **more}
        progress.update(1, **values)


def test_lines_where_there_is_no_terminal(monkeypatch):
    clock, out = Clock(monkeypatch), io.StringIO()
    progress = Progress(1000, initial=0, enabled=True, stream=out)
    train(progress, clock, 300, 1000)
    lines = out.getvalue().splitlines()
    assert len(lines) == 3  # at once, and every thirty seconds of the 75
    assert lines[0].startswith("  0%, epoch 3, step 1/1000, ")
    for word in (" 24%, epoch 3, step 241/1000", "64 samples/s", "data wait 20%", "loss 0.5", "03:10 left"):
        assert word in lines[2]
    progress.dev(12.345, 10.0)
    assert "step 300: error on dev data 12.35 mm mean, 10.00 mm median" in out.getvalue().splitlines()[3]
    train(progress, clock, 200, 1000, done=300)
    assert "dev 12.3 mm" in out.getvalue().splitlines()[-1]
    assert "\r" not in out.getvalue()


def test_the_last_line_is_of_the_last_step(monkeypatch):
    clock = Clock(monkeypatch)
    for dev, last in ((False, "100%, epoch 3, step 6/6, 00:00 left, loss 0.5, "), (True, "epoch 3, step 6: error on")):
        out = io.StringIO()
        progress = Progress(6, initial=0, enabled=True, stream=out)
        train(progress, clock, 6, 6)
        if dev:
            progress.dev(12.345, 10.0)
        clock.now += 100  # the last checkpoint is written
        progress.close()
        progress.close()
        lines = out.getvalue().splitlines()
        assert len(lines) == 2
        assert lines[1].startswith(last)
        assert dev or "64 samples/s" in lines[1]
    out = io.StringIO()
    Progress(6, initial=6, enabled=True, stream=out).close()  # nothing was left to do
    assert out.getvalue() == ""


def test_a_bar_at_a_terminal(monkeypatch):
    clock, out = Clock(monkeypatch), Terminal()
    progress = Progress(1000, initial=0, enabled=True, stream=out)
    train(progress, clock, 100, 1000)
    progress.dev(12.345, 10.0)
    progress.message("checkpoint written")
    train(progress, clock, 100, 1000, done=100)
    progress.close()
    progress.close()
    shown = out.getvalue()
    last = shown.rstrip("\n").split("\r")[-1]
    for word in (
        " 20%|",
        "epoch 3, step 200/1000",
        "03:20 left",
        "64 samples/s",
        "data wait 20%",
        "loss 0.5",
        "dev 12.3 mm",
    ):
        assert word in last, last
    assert shown.endswith("\n")
    # A message stands on a line of its own, not in the middle of the bar.
    assert any(line.split("\r")[-1] == "checkpoint written" for line in shown.split("\n"))
    assert len(shown.split("\n")) == 4  # two messages, the bar, the end


def test_everything_fits_into_eighty_columns(monkeypatch):
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    clock = Clock(monkeypatch)
    with open(slave, "w") as stream:
        progress = Progress(10_000, initial=0, enabled=True, stream=stream)
        train(progress, clock, 3, 10_000)
        progress.dev(12.345, 10.0)
        train(progress, clock, 1, 10_000, done=3, seconds=1.0)
        progress.close()
        shown = ""
        while select.select([master], [], [], 0.5)[0]:  # it comes in pieces
            shown += os.read(master, 100_000).decode()
    os.close(master)
    assert "epoch 3, 4/10000, " in shown
    assert shown.rstrip().endswith("dev 12.3 mm, 32/s, wait 20%")


def test_a_resumed_run_counts_on_and_its_time_left_is_that_of_its_own_speed(monkeypatch):
    clock, out = Clock(monkeypatch), Terminal()
    progress = Progress(1000, initial=900, enabled=True, stream=out)
    train(progress, clock, 41, 1000, done=900)
    progress.close()
    last = out.getvalue().rstrip("\n").split("\r")[-1]
    assert "step 941/1000" in last
    assert "00:15 left" in last


def test_a_run_by_the_clock_counts_minutes(monkeypatch):
    clock, out = Clock(monkeypatch), Terminal()
    progress = Progress(None, initial=50, enabled=True, stream=out, total_minutes=10)
    train(progress, clock, 1200, 2400)
    progress.close()
    assert "5.0/10 min, 05:00 left" in out.getvalue().rstrip("\n").split("\r")[-1]


def test_an_evaluation_is_not_taken_for_slow_training(monkeypatch):
    clock, out = Clock(monkeypatch), io.StringIO()
    progress = Progress(1000, initial=0, enabled=True, stream=out)
    train(progress, clock, 100, 1000)
    clock.now += 300
    progress.dev(20.0, 15.0)
    train(progress, clock, 1, 1000, done=100)
    assert "64 samples/s" in out.getvalue().splitlines()[-1]


def test_speed_is_that_of_the_last_ten_seconds(monkeypatch):
    clock, out = Clock(monkeypatch), Terminal()
    progress = Progress(1000, initial=0, enabled=True, stream=out)
    train(progress, clock, 100, 1000)
    train(progress, clock, 100, 1000, done=100, samples=160, loss=0.25)
    progress.close()
    last = out.getvalue().rstrip("\n").split("\r")[-1]
    assert "640 samples/s" in last
    assert "loss 0.25" in last


def test_other_processes_show_nothing(monkeypatch):
    clock, out = Clock(monkeypatch), Terminal()
    progress = Progress(1000, initial=0, enabled=False, stream=out)
    train(progress, clock, 100, 1000)
    progress.dev(1.0, 1.0)
    progress.message("hello")
    progress.close()
    assert out.getvalue() == ""


def test_losses_that_are_not_read_or_not_finite_do_not_stay(monkeypatch):
    clock, out = Clock(monkeypatch), Terminal()
    progress = Progress(1000, initial=0, enabled=True, stream=out)
    train(progress, clock, 10, 1000, loss=float("nan"))
    train(progress, clock, 10, 1000, done=10, loss=None)
    train(progress, clock, 10, 1000, done=20)
    progress.close()
    assert "loss 0.5" in out.getvalue().rstrip("\n").split("\r")[-1]


def test_most_updates_write_nothing():
    out = io.StringIO()
    progress = Progress(10**6, initial=0, enabled=True, stream=out)
    start = time.perf_counter()
    for i in range(20_000):
        progress.update(1, 16, 0.0, 0.5, 0, i / 10**6)
    assert len(out.getvalue().splitlines()) < 5 + 20 * (time.perf_counter() - start)


def event(step, **more):
    numbers = {"loss": 1.0, "learning_rate": 1e-3, "samples_per_second": 99.0, "data_wait": 0.01, "minutes": 0.5}
    return {"event": "train", "step": step, "epoch": 0, **numbers, **more}


def test_log_is_json_lines_at_once(tmp_path):
    log = EventLog(tmp_path / "run", tensorboard=False)
    log.write(event(1, loss=np.float32(0.5), dev=np.int64(3)))
    log.write(event(2, loss=float("nan")))
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()  # the file is still open
    assert json.loads(lines[0]) == event(1, loss=0.5, dev=3)
    assert "NaN" not in lines[1]
    assert json.loads(lines[1])["loss"] is None
    log.close()
    log.close()
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_a_log_goes_on_after_a_kill_in_the_middle_of_a_line(tmp_path):
    with EventLog(tmp_path, tensorboard=False) as log:
        log.write(event(1))
    path = tmp_path / "log.jsonl"
    with path.open("a") as file:
        file.write('{"event": "train", "st')
    assert [e["step"] for e in read_log(path)] == [1]
    with EventLog(tmp_path, tensorboard=False) as log:
        log.write(event(2))
    assert [e["step"] for e in read_log(path)] == [1, 2]
    path.write_bytes(path.read_bytes()[:-1])  # only the line feed is missing
    with EventLog(tmp_path, tensorboard=False) as log:
        log.write(event(3))
    assert [e["step"] for e in read_log(path)] == [1, 2, 3]


def test_resuming_forgets_what_came_after_the_checkpoint(tmp_path):
    with EventLog(tmp_path, tensorboard=False) as log:
        for step in range(10):
            log.write(event(step))
        log.write({"event": "dev", "step": 9, "epoch": 1, "dev_mean_mm": 12.0})
        log.write({"event": "start", "seed": 1})
        log.truncate(4)
        log.write(event(5, loss=2.0))
    events = read_log(tmp_path / "log.jsonl")
    assert [e.get("step") for e in events] == [0, 1, 2, 3, 4, None, 5]
    assert events[-1]["loss"] == 2.0
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_what_is_no_log_is_told(tmp_path):
    path = tmp_path / "log.jsonl"
    with pytest.raises(DataError, match="no log"):
        read_log(path)
    for garbage in (b"\x93NUMPY\xff\xfe\n\n", b"[1, 2]\n", b'{"step": "x"}\n', b'{"step": 1}\n{"st\n{"step": 2}\n'):
        path.write_bytes(garbage)
        with pytest.raises(DataError, match="line"):
            read_log(path)
    path.write_bytes(b"")
    assert read_log(path) == []


def test_a_full_disk_is_told(tmp_path):
    log = EventLog(tmp_path, tensorboard=False)
    log._file.close()
    log._file = open("/dev/full", "w")  # noqa: SIM115
    with pytest.raises(DataError, match=r"log\.jsonl: No space left.*--resume"):
        log.write(event(1))
    log.close()  # tells nothing twice


def test_a_folder_that_cannot_be_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        EventLog(tmp_path / "file" / "run", tensorboard=False)


def test_tensorboard_shows_the_same_numbers_and_forgets_too(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with EventLog(tmp_path, tensorboard=True) as log:
        for step in range(5):
            log.write(event(step, loss=float(step)))
        log.truncate(2)
        log.write(event(3, loss=30.0))
    board = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert [(e.step, e.value) for e in board.Scalars("train/loss")] == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 30.0)]
    assert board.Scalars("train/samples_per_second")[0].value == 99.0


def test_missing_tensorboard_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(DataError, match=r"pip install .*\[tensorboard\]"):
        EventLog(tmp_path, tensorboard=True)


def test_curves_show_a_run(tmp_path):
    with EventLog(tmp_path, tensorboard=False) as log:
        draw_curves(tmp_path)  # nothing yet
        empty = (tmp_path / "curves.png").read_bytes()
        for step in range(0, 3000, 10):
            loss = None if step == 50 else 2 * np.exp(-step / 1000)
            log.write(event(step, loss=loss, learning_rate=1e-3 * (1 - step / 3000), data_wait=None))
        for step in range(500, 3000, 500):
            log.write({"event": "dev", "step": step, "dev_mean_mm": 5e4 / step, "dev_median_mm": 4e4 / step})
    draw_curves(tmp_path)
    picture = cv2.imread(str(tmp_path / "curves.png"))
    assert picture.shape[0] > 500
    assert (tmp_path / "curves.png").read_bytes() != empty
    # Both error curves are there, in their colours (blue and orange of the default cycle, BGR).
    error = picture[picture.shape[0] // 2 :, : picture.shape[1] // 2]
    for color in ((180, 119, 31), (14, 127, 255)):
        assert (np.abs(error.astype(int) - color).max(axis=2) < 10).sum() > 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "log.jsonl"]


def test_curves_of_no_run(tmp_path):
    with pytest.raises(DataError, match="no log"):
        draw_curves(tmp_path)
