"""Runs that are recorded with their messages: replayed, interrupted, killed, on full disks."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from camera_samples import START_NS, depth_of, frame_of
from stream_samples import make_message

from tracker import Tracker
from tracker.camera import open_camera, open_recorder
from tracker.camera.h5_recording import RESERVE_BYTES
from tracker.camera.simulated import SimulatedCamera
from tracker.compare import compare
from tracker.errors import CameraError, TrackerError
from tracker.kept_messages import read_messages, recorded_lines
from tracker.loop import run
from tracker.stream.output import JsonLines
from tracker.stream.publisher import Publisher

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
KILLS = int(os.environ.get("TRACKER_TEST_KILLS", "5"))
"""How often a recording process is killed, for each kind of recording."""


@pytest.fixture(scope="module")
def tracker():
    with Tracker(engine="openvino") as opened:
        yield opened


class Both:
    """A recorder that writes a folder and a file."""

    def __init__(self, *recorders) -> None:
        self.recorders = recorders

    def write(self, frame, message) -> None:
        for recorder in self.recorders:
            recorder.write(frame, message)


def as_in_a_new_process(tracker: Tracker) -> Tracker:
    tracker.reset()
    tracker._search._next_id = 1
    return tracker


def test_replay_gives_the_joints_that_live_gave(tracker, tmp_path):
    with (
        SimulatedCamera(seed=4) as camera,
        Publisher("none", camera.name) as publisher,
        open_recorder(tmp_path / "live", camera.name) as folder,
        open_recorder(tmp_path / "live.h5", camera.name) as file,
    ):
        run(camera, as_in_a_new_process(tracker), publisher, recorder=Both(folder, file), frames=20)
    assert (folder.dropped, file.dropped) == (0, 0)
    for name in ("live", "live.h5"):
        with (
            open_camera(str(tmp_path / name)) as camera,
            Publisher("none", camera.name) as publisher,
            JsonLines(tmp_path / "replay.jsonl") as output,
        ):
            run(camera, as_in_a_new_process(tracker), publisher, output=output)
        result = compare(read_messages(tmp_path / name), read_messages(tmp_path / "replay.jsonl"))
        assert result.frames_both == 20
        assert len(result.distances) >= 30
        assert result.within(millimetres=0.01)
        assert result.other_id == 0


class Interrupting:
    """A view that presses Ctrl-C in the middle of a frame."""

    def __init__(self, frame: int) -> None:
        self.frame = frame

    def update(self, frame, message, cubes) -> None:
        if frame.number == self.frame:
            signal.raise_signal(signal.SIGINT)

    def close(self) -> None:
        pass


class Idle:
    """Stands for the tracker where only the loop is of interest."""

    cubes = ()
    model = name = device = "none"
    edge = size = max_batch = 1

    def __init__(self, interrupt_at: int | None = None) -> None:
        self.engine = self
        self._interrupt_at = interrupt_at

    def track(self, frame, camera="", dropped=0):
        if frame.number == self._interrupt_at:
            signal.raise_signal(signal.SIGINT)
        return replace(make_message(frame.number, camera=camera), captured_ns=frame.captured_ns)


@pytest.mark.parametrize("name", ["run", "run.h5"])
@pytest.mark.parametrize("while_tracking", [True, False])
def test_after_ctrl_c_frames_messages_and_output_agree(tmp_path, name, while_tracking):
    tracker = Idle(interrupt_at=7 if while_tracking else None)
    view = None if while_tracking else Interrupting(7)
    with (
        SimulatedCamera(realtime=False, frames=20) as camera,
        Publisher("none", camera.name) as publisher,
        open_recorder(tmp_path / name, camera.name, lossless=True) as recorder,
        JsonLines(tmp_path / "run.jsonl") as output,
    ):
        summary = run(camera, tracker, publisher, recorder=recorder, output=output, view=view)
    assert summary.frames == 8
    assert frame_numbers(tmp_path / name) == list(range(8))
    assert (tmp_path / "run.jsonl").read_text().splitlines() == recorded_lines(tmp_path / name)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_is_not_held_back(tmp_path):
    class Stuck(Idle):
        def track(self, frame, camera="", dropped=0):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("went on")

    with SimulatedCamera(realtime=False) as camera, Publisher("none", camera.name) as publisher:
        assert run(camera, Stuck(), publisher).frames == 0


def test_ctrl_c_ends_the_wait_for_a_silent_camera():
    class Silent(SimulatedCamera):
        def read(self, timeout=2.0):
            time.sleep(30)

    with Silent(realtime=False) as camera, Publisher("none", camera.name) as publisher:
        timer = threading.Timer(0.2, partial(os.kill, os.getpid(), signal.SIGINT))
        timer.start()
        start = time.monotonic()
        assert run(camera, Idle(), publisher).frames == 0
        assert time.monotonic() - start < 10


def frame_numbers(path: Path) -> list[int]:
    with open_camera(str(path)) as camera:
        return [frame.number for frame in camera]


RECORD_FOREVER = """
import itertools, sys, time
from dataclasses import replace
from camera_samples import frame_of, hand_of
from stream_samples import make_message
from tracker.camera import open_recorder
recorder = open_recorder(sys.argv[1], "walk")
for number in itertools.count():
    frame = frame_of(number, (hand_of(number),))
    recorder.write(frame, replace(make_message(number), captured_ns=frame.captured_ns))
    print(number, time.monotonic(), flush=True)
    time.sleep(0.01)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
@pytest.mark.parametrize("name", ["killed", "killed.h5"])
def test_a_kill_at_any_moment_leaves_all_but_the_last_second(tmp_path, name):
    choose = random.Random(len(name))
    for kill in range(KILLS):
        path = tmp_path / str(kill) / name
        path.parent.mkdir()
        process = subprocess.Popen(
            [sys.executable, "-c", RECORD_FOREVER, str(path)], stdout=subprocess.PIPE, env=ENVIRONMENT
        )
        assert process.stdout is not None
        with process.stdout as stdout:
            written = [stdout.readline()]
            time.sleep(choose.uniform(0.3, 1.5))
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed = time.monotonic()
            written += stdout.readlines()
        times = {int(line.split()[0]): float(line.split()[1]) for line in written if line.endswith(b"\n")}
        with open_camera(str(path)) as camera:
            frames = list(camera)
        messages = list(read_messages(path))
        assert [message.frame for message in messages] == [frame.number for frame in frames] == list(range(len(frames)))
        for frame, message in zip(frames, messages):
            np.testing.assert_array_equal(frame.depth, depth_of(frame.number))
            assert frame.captured_ns == message.captured_ns == frame_of(frame.number).captured_ns
            assert len(frame.truth) == 1
        lost = [number for number in times if number >= len(frames)]
        assert all(killed - times[number] < 1 for number in lost), f"kill {kill} lost {len(lost)} frames"
        print(f"{name}, kill {kill}: {len(times)} written, {len(frames)} read, {len(lost)} lost")


FILL_THE_DISK = """
import sys
from pathlib import Path
import numpy as np
from camera_samples import depth_of, frame_of, hand_of
from stream_samples import make_message
from tracker.camera import open_camera, open_recorder
from tracker.errors import CameraError
from tracker.kept_messages import read_messages
recorder = open_recorder(sys.argv[1], "walk", lossless=True)
try:
    for number in range(500):
        recorder.write(frame_of(number, (hand_of(number),)), make_message(number))
    recorder.close()
except CameraError as error:
    print(error)
with open_camera(sys.argv[1]) as camera:
    frames = list(camera)
assert all(np.array_equal(frame.depth, depth_of(number)) for number, frame in enumerate(frames))
assert [message.frame for message in read_messages(Path(sys.argv[1]))] == [frame.number for frame in frames]
print(len(frames))
"""


@pytest.mark.parametrize(
    ("name", "kilobytes", "reason"),
    [
        ("full", 333, "No space left on device; make room, or record to another disk"),
        ("full", 777, "No space left on device; make room, or record to another disk"),
        ("full.h5", (RESERVE_BYTES >> 10) + 777, "less than 16 MB are free on the disk"),
    ],
)
def test_a_full_disk_is_told_and_what_is_written_can_be_read(tmp_path, name, kilobytes, reason):
    """On a disk of its own, as small as that."""
    disk = 'mount -t tmpfs -o size="$1"k none "$2" && exec "$3" -c "$4" "$2/$5"'
    alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    try:
        subprocess.run([*alone, disk, "sh", "99", tmp_path, sys.executable, "pass", "-"], check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a disk of one's own cannot be mounted here")
    result = subprocess.run(
        [*alone, disk, "sh", str(kilobytes), tmp_path, sys.executable, FILL_THE_DISK, name],
        capture_output=True, text=True, timeout=60, env=ENVIRONMENT,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    told, count = result.stdout.splitlines()
    assert told == f"the recording {tmp_path / name} ends after {count} frames, it cannot be written: {reason}"
    assert int(count) >= 20


@pytest.mark.skipif(os.name == "nt", reason="needs limits of processes")
@pytest.mark.parametrize("name", ["large", "large.h5"])
def test_a_write_that_fails_is_told_and_what_is_written_can_be_read(tmp_path, name):
    """For another reason than a full disk: files may not be so large."""
    limited = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", limited + FILL_THE_DISK, str(tmp_path / name)],
        capture_output=True, text=True, timeout=60, env=ENVIRONMENT,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    told, count = result.stdout.splitlines()
    assert told == (
        f"the recording {tmp_path / name} ends after {count} frames, it cannot be written: "
        "File too large; make room, or record to another disk"
    )
    assert int(count) >= 10


def test_messages_of_a_killed_recording_that_was_cut_off_are_read_up_to_there(tmp_path, caplog):
    path = tmp_path / "killed.h5"
    process = subprocess.Popen(
        [sys.executable, "-c", RECORD_FOREVER, str(path)], stdout=subprocess.PIPE, env=ENVIRONMENT
    )
    assert process.stdout is not None
    with process.stdout as stdout:
        for _ in range(60):
            stdout.readline()
        process.kill()
        process.wait()
    os.truncate(path, path.stat().st_size * 7 // 10)
    frames = [message.frame for message in read_messages(path)]
    assert frames == list(range(len(frames)))
    assert 0 < len(frames) < 60
    assert "is cut off: it and those after it are let go" in caplog.text


@pytest.mark.parametrize("name", ["gone", "gone.h5"])
def test_a_recording_that_is_removed_is_told(tmp_path, name):
    path = tmp_path / "place" / name

    def record_and_remove() -> None:
        with open_recorder(path, "walk", lossless=True) as recorder:
            for number in range(200):
                recorder.write(frame_of(number), make_message(number))
                if number == 20:
                    while not recorder.written:  # before its first frame it would make the folder anew
                        time.sleep(0.001)
                    shutil.rmtree(path.parent, ignore_errors=True)  # as far as the writer lets it

    with pytest.raises(CameraError, match=r"the recording .* ends after \d+ frames, it cannot be written: "):
        record_and_remove()


def test_a_recording_without_messages_says_so(tmp_path):
    for name in ("plain", "plain.h5"):
        with open_recorder(tmp_path / name, "walk", lossless=True) as recorder:
            recorder.write(frame_of(1))
        assert recorded_lines(tmp_path / name) == []
        with pytest.raises(TrackerError, match="has no messages"):
            next(read_messages(tmp_path / name))


def test_messages_are_the_lines_of_output(tmp_path):
    messages = [replace(make_message(number, hands=number % 3), captured_ns=START_NS + number) for number in range(5)]
    for name in ("kept", "kept.h5"):
        with open_recorder(tmp_path / name, "walk", lossless=True) as recorder:
            for message in messages:
                recorder.write(frame_of(message.frame), message)
        with JsonLines(tmp_path / "kept.jsonl") as output:
            for message in messages:
                output.write(message)
        assert recorded_lines(tmp_path / name) == (tmp_path / "kept.jsonl").read_text().splitlines()
        assert [json.loads(line)["frame"] for line in recorded_lines(tmp_path / name)] == list(range(5))
