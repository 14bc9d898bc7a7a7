"""RealSense recordings: written by the SDK's recorder, read back frame by frame."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from camera_samples import SoftwareCamera, depth_of, record_db3

from tracker.camera import open_camera, realsense_recording
from tracker.camera.realsense_index import count_depth_images
from tracker.errors import CameraError

pytest.importorskip("pyrealsense2")

# Written by librealsense 2.57, the last that could: 12 frames of a software device, `bag_image(number)`.
BAG = Path(__file__).parent / "test_camera_twelve_frames.bag"


def bag_image(number: int) -> np.ndarray:
    return (np.arange(16 * 12).reshape(12, 16) + 1000 * number).astype(np.uint16)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recorded") / "walk.db3"
    record_db3(path, 150)
    return path


@pytest.mark.parametrize("pause", [0, 0.005])
def test_every_frame_once_in_order_bit_for_bit(recorded, pause):
    with open_camera(str(recorded)) as camera:
        assert camera.name == "walk"
        assert not camera.live
        for number in range(1, 151):
            frame = camera.read()
            assert frame.number == number
            np.testing.assert_array_equal(frame.depth, depth_of(number))
            assert frame.captured_ns == pytest.approx(1.7e18 + number * 20e6, abs=1000)
            time.sleep(pause)
        assert camera.read() is None
        assert camera.read() is None
        assert frame.depth_scale == pytest.approx(0.000125)
        assert (frame.intrinsics.fx, frame.intrinsics.cy) == (50.5, 23.75)
        assert camera.dropped == 0


def test_frames_may_be_kept(recorded):
    with open_camera(str(recorded)) as camera:
        kept = list(camera)
    assert len(kept) == 150
    assert all((frame.depth == depth_of(frame.number)).all() for frame in kept)


def test_uncompressed_recordings_and_other_sizes(tmp_path):
    record_db3(tmp_path / "raw.db3", 5, (640, 480), compress=False)
    with open_camera(str(tmp_path / "raw.db3")) as camera:
        assert [(frame.depth == depth_of(frame.number, 640, 480)).all() for frame in camera] == [True] * 5


def test_of_a_recording_with_colour_the_depth_is_played(tmp_path):
    import pyrealsense2 as rs

    camera = SoftwareCamera("0042")
    stream = rs.video_stream()
    stream.type, stream.fmt, stream.uid = rs.stream.color, rs.format.rgb8, 9
    stream.width, stream.height, stream.fps, stream.bpp = 64, 48, 30, 3
    colour_sensor = camera.device.add_sensor("Colour")
    colour = colour_sensor.add_video_stream(stream)
    recorder = rs.recorder(str(tmp_path / "colour.db3"), camera.device)
    sensors = recorder.query_sensors()
    for sensor, profile in zip(sensors, (camera.profiles[camera.mode], colour), strict=True):
        sensor.open(profile)
        sensor.start(rs.frame_queue(2))
    for number in range(1, 21):
        camera.push(number, 1.7e12 + 20 * number)
        frame = rs.software_video_frame()
        frame.pixels, frame.stride, frame.bpp = np.zeros((48, 64, 3), np.uint8), 3 * 64, 3
        frame.frame_number, frame.timestamp = 500 + number, 1.7e12 + 20 * number + 5
        frame.domain, frame.profile = rs.timestamp_domain.system_time, colour.as_video_stream_profile()
        colour_sensor.on_video_frame(frame)
        time.sleep(0.002)
    for sensor in sensors:
        sensor.stop()
        sensor.close()
    del recorder, sensors, sensor
    with open_camera(str(tmp_path / "colour.db3")) as played:
        frames = list(played)
    assert [frame.number for frame in frames] == list(range(1, 21))
    assert all((frame.depth == depth_of(frame.number)).all() for frame in frames)


def test_a_bag_of_an_older_sdk():
    with open_camera(str(BAG)) as camera:
        frames = list(camera)
    assert [frame.number for frame in frames] == list(range(1, 13))
    for frame in frames:
        np.testing.assert_array_equal(frame.depth, bag_image(frame.number))
        assert frame.captured_ns == pytest.approx(1.7e18 + frame.number * 20e6, abs=1000)


def test_the_index_tells_the_number_of_frames(recorded):
    assert count_depth_images(recorded) == 150
    assert count_depth_images(BAG) == 12


def test_in_real_time_a_slow_reader_gets_the_newest_frames_and_the_loss_is_counted(recorded):
    with open_camera(str(recorded), realtime=True) as camera:
        assert camera.live
        start = time.monotonic()
        numbers = []
        while (frame := camera.read()) is not None:
            numbers.append(frame.number)
            time.sleep(0.1)
        took = time.monotonic() - start
    assert numbers[0] == 1
    assert numbers == sorted(set(numbers))
    assert len(numbers) + camera.dropped == 150
    assert 20 < len(numbers) < 40
    assert 2.8 < took < 3.8  # 150 frames at 50 a second


def test_closing_in_the_middle_is_quick_and_the_file_opens_again(recorded):
    for _ in range(3):
        camera = open_camera(str(recorded))
        assert camera.read().number == 1
        start = time.monotonic()
        camera.close()
        camera.close()
        assert time.monotonic() - start < 0.5
        with pytest.raises(CameraError, match="closed"):
            camera.read()


@pytest.fixture
def players(monkeypatch) -> list[subprocess.Popen]:
    """The processes that play recordings, as they are started."""
    started: list[subprocess.Popen] = []
    start = realsense_recording._start

    def watched(*arguments):
        started.append(start(*arguments))
        return started[-1]

    monkeypatch.setattr(realsense_recording, "_start", watched)
    return started


def test_a_player_that_dies_is_an_error_after_its_good_frames(recorded, players, capfd):
    with open_camera(str(recorded)) as camera:
        assert camera.read().number == 1
        os.kill(players[0].pid, signal.SIGABRT)
        with pytest.raises(
            CameraError, match=r"damaged after frame \d+: only \d+ of its 150 .*\(librealsense ended with Aborted\)"
        ) as told:
            list(camera)
        assert camera.read() is None
    last, count = map(int, re.findall(r"frame (\d+): only (\d+)", str(told.value))[0])
    assert 1 <= last == count < 150
    assert capfd.readouterr().err == ""


def test_a_player_that_cannot_start_is_an_error(monkeypatch, players, capfd):
    monkeypatch.setattr(realsense_recording, "_search_path", list)  # finds no module
    with pytest.raises(CameraError, match=r"twelve_frames.bag cannot be played.*ModuleNotFoundError"):
        open_camera(str(BAG))
    assert players[0].returncode is not None
    monkeypatch.setattr(sys, "executable", "/missing/python")
    with pytest.raises(CameraError, match=r"no process can be started for it: .*missing/python"):
        open_camera(str(BAG))
    assert capfd.readouterr().err == ""


def test_a_player_that_hangs_is_an_error(recorded, players, monkeypatch):
    with open_camera(str(recorded)) as camera:
        assert camera.read().number == 1
        monkeypatch.setattr(realsense_recording, "PATIENCE_S", 0.5)
        os.kill(players[0].pid, signal.SIGSTOP)
        with pytest.raises(CameraError, match=r"damaged after frame .*silent for 0.5 s"):
            list(camera)
    assert players[0].returncode is not None


def test_what_the_sdk_says_of_a_file_it_cannot_play_is_told(monkeypatch, tmp_path, capfd):
    (tmp_path / "text.bag").write_text("no bag" * 500)
    monkeypatch.setattr(realsense_recording, "count_depth_images", lambda path: 12)  # as if its index were whole
    with pytest.raises(CameraError, match=r"text.bag cannot be played, it is damaged or of another kind \(.+\)"):
        open_camera(str(tmp_path / "text.bag"))
    assert capfd.readouterr() == ("", "")


def test_no_player_is_left(recorded, players):
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    before = open_files()
    for frames in (0, 1, 200):  # closed early; at the end
        with open_camera(str(recorded)) as camera:
            list(itertools.islice(camera, frames))
    forgotten = open_camera(str(recorded))
    forgotten.read()
    del forgotten
    gc.collect()
    assert [player.returncode is not None for player in players] == [True] * 4
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("player")] == []
    assert open_files() <= before


def test_files_in_the_current_folder_are_not_taken_for_modules(recorded, tmp_path, monkeypatch):
    for name in ("numpy", "pyrealsense2", "queue", "struct", "json", "tracker"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the user')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    with open_camera(str(recorded)) as camera:
        assert camera.read().number == 1


def test_without_the_sdk_the_error_names_the_command(monkeypatch, players):
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    with pytest.raises(CameraError, match="pip install pyrealsense2"):
        open_camera(str(BAG))
    assert players == []


ONE_FRAME = """
import sys, time
from tracker.camera import open_camera, realsense_recording
start = realsense_recording._start
def watched(*arguments):
    player = start(*arguments)
    print(player.pid, flush=True)
    return player
realsense_recording._start = watched
camera = open_camera(sys.argv[1])
print(camera.read().number, flush=True)
"""


def program(recording: Path, *lines: str) -> subprocess.Popen[str]:
    """A program that prints the player's process id and the number of the first frame, then runs the lines."""
    environment = {**os.environ, "PYTHONPATH": str(BAG.parents[1])}
    command = [sys.executable, "-c", "\n".join([ONE_FRAME, *lines]), str(recording)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True, cwd=recording.parent
    )


def wait_for_the_end_of(process_id: int) -> None:
    """Of a process that may be nobody's child any more."""
    status = Path(f"/proc/{process_id}/stat")
    deadline = time.monotonic() + 10
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while status.read_text().rpartition(")")[2].split()[0] != "Z":
            assert time.monotonic() < deadline, "the player goes on"
            time.sleep(0.02)


def test_a_program_that_forgets_to_close_ends_well(recorded):
    done = program(recorded)
    out, err = done.communicate(timeout=30)
    assert (done.returncode, out.split()[1], err) == (0, "1", "")
    wait_for_the_end_of(int(out.split()[0]))


def test_ctrl_c_is_for_the_program_only(recorded):
    # It says so when it is ready to be interrupted, not before.
    lines = ("try:", "  print('ready', flush=True)", "  time.sleep(30)", "except KeyboardInterrupt:")
    with program(recorded, *lines, "  print(len(list(camera)))") as interrupted:
        interrupted.stdout.readline()
        assert interrupted.stdout.readline() == "1\n"
        assert interrupted.stdout.readline() == "ready\n"
        os.killpg(interrupted.pid, signal.SIGINT)  # what the terminal does
        assert interrupted.communicate(timeout=30) == ("149\n", "")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes as Linux shows them")
def test_the_player_ends_with_a_program_that_is_killed(recorded):
    with program(recorded, "time.sleep(30)") as killed:
        player = int(killed.stdout.readline())
        killed.stdout.readline()
        killed.kill()
        wait_for_the_end_of(player)
        killed.communicate(timeout=30)


def bad_files(recorded: Path) -> dict[str, bytes]:
    data, bag = recorded.read_bytes(), BAG.read_bytes()
    return {
        "empty.db3": b"",
        "empty.bag": b"",
        "garbage.db3": b"no data base" * 500,
        "garbage.bag": b"no bag" * 500,
        "cut.db3": data[: len(data) // 2],
        "cut.bag": bag[: len(bag) // 2],
        "unfinished.bag": bag[:4000],
        "bag.db3": bag,
        "db3.bag": data,
    }


def test_broken_files_are_one_clear_error_at_once(recorded, tmp_path):
    for name, data in bad_files(recorded).items():
        path = tmp_path / name
        path.write_bytes(data)
        start = time.monotonic()
        with pytest.raises(CameraError, match=rf"{name} (is empty|is no RealSense recording, or it is damaged)"):
            open_camera(str(path))
        assert time.monotonic() - start < 1


def test_a_data_base_of_another_kind_is_told(tmp_path):
    import sqlite3

    for name, statements in {
        "other.db3": ["CREATE TABLE apples (id INTEGER)"],
        "nodepth.db3": ["CREATE TABLE topics (id, name)", "CREATE TABLE messages (topic_id)"],
    }.items():
        connection = sqlite3.connect(tmp_path / name)
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()
        with pytest.raises(CameraError, match=f"{name} (is no RealSense recording|has no depth images)"):
            open_camera(str(tmp_path / name))


def numbers_until_damage(path: Path) -> tuple[list[int], str]:
    """The numbers of the frames before the error, which must tell them, and its message."""
    numbers: list[int] = []
    with open_camera(str(path)) as camera:
        message = ""
        try:
            while (frame := camera.read()) is not None:
                numbers.append(frame.number)
        except CameraError as error:
            message = str(error)
        assert camera.read() is None
    assert f"damaged after frame {numbers[-1]}: only {len(numbers)} of its 12 frames can be read" in message
    return numbers, message


def test_a_db3_damaged_in_the_middle_ends_with_an_error_after_its_good_frames(tmp_path):
    path = tmp_path / "damaged.db3"
    record_db3(path, 12, (320, 240), compress=False)
    inside = path.read_bytes().index(depth_of(7, 320, 240)[120].tobytes()[:64])
    with path.open("r+b") as file:
        file.seek(inside // 4096 * 4096)
        file.write(b"\xff" * 4)  # where SQLite's page says which page comes next
    numbers, _ = numbers_until_damage(path)
    assert numbers in ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6])  # the SDK reads ahead


def test_a_bag_damaged_in_the_middle_ends_with_an_error_after_its_good_frames(tmp_path, capfd):
    path = tmp_path / "damaged.bag"
    shutil.copy(BAG, path)
    with path.open("r+b") as file:
        file.seek(23255)
        file.write(np.random.default_rng(23255).bytes(200))
    numbers, message = numbers_until_damage(path)
    assert numbers == [1, 2, 3, 4, 5, 6, 7]
    assert "(Error: Received an invalid TCPROS header" in message
    assert capfd.readouterr().err == ""
