"""RealSense recordings: written by the SDK's recorder, read back frame by frame."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from camera_samples import SoftwareCamera, depth_of, record_db3

from tracker.camera import open_camera
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


def test_a_program_that_forgets_to_close_ends_well():
    code = "import sys; from tracker.camera import open_camera; print(open_camera(sys.argv[1]).read().number)"
    environment = {**os.environ, "PYTHONPATH": str(BAG.parents[1])}
    command = [sys.executable, "-c", code, str(BAG)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment, check=False)
    assert (done.returncode, done.stdout) == (0, "1\n")


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


def numbers_until_damage(path: Path) -> list[int]:
    """The numbers of the frames before the error, which must tell them."""
    numbers: list[int] = []
    with open_camera(str(path)) as camera:
        message = ""
        try:
            while (frame := camera.read()) is not None:
                numbers.append(frame.number)
        except CameraError as error:
            message = str(error)
        assert camera.read() is None
    assert f"damaged after frame {numbers[-1]}: only {len(numbers)} of its 12 frames" in message
    return numbers


def test_a_db3_damaged_in_the_middle_ends_with_an_error_after_its_good_frames(tmp_path):
    path = tmp_path / "damaged.db3"
    record_db3(path, 12, (320, 240), compress=False)
    inside = path.read_bytes().index(depth_of(7, 320, 240)[120].tobytes()[:64])
    with path.open("r+b") as file:
        file.seek(inside // 4096 * 4096)
        file.write(b"\xff" * 4)  # where SQLite's page says which page comes next
    numbers = numbers_until_damage(path)
    assert numbers in ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6])  # the SDK reads ahead


def test_a_bag_damaged_in_the_middle_ends_with_an_error_after_its_good_frames(tmp_path):
    path = tmp_path / "damaged.bag"
    shutil.copy(BAG, path)
    with path.open("r+b") as file:
        file.seek(23255)
        file.write(np.random.default_rng(23255).bytes(200))
    assert numbers_until_damage(path) == [1, 2, 3, 4, 5, 6, 7]
