"""Recording folders and `.h5` recordings: round trips, playback, and every kind of broken recording."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from camera_samples import INTRINSICS, PERIOD_NS, START_NS, assert_same, depth_of, frame_of, frames_with_truth

from tracker.camera import open_camera, open_recorder
from tracker.camera.recorder import QUEUE_FRAMES, FrameFile, Recorder
from tracker.errors import CameraError, CameraTimeout

REAL = Path(__file__).resolve().parents[2] / "shared" / "real"


def record(path: Path, frames: list) -> Path:
    with open_recorder(path, "walk", lossless=True) as recorder:
        for frame in frames:
            recorder.write(frame)
    assert recorder.written == len(frames)
    return path


@pytest.fixture(params=["walk", "walk.h5"])
def recording(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Ten frames with truth, as a folder and as an `.h5` file."""
    return record(tmp_path / request.param, frames_with_truth())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return record(tmp_path / "walk", frames_with_truth())


def test_what_was_recorded_comes_back_bit_for_bit(recording):
    with open_camera(str(recording)) as camera:
        assert camera.name == "walk"
        assert not camera.live
        before = time.time_ns()
        frames = list(camera)
        assert camera.read() is None
        assert camera.dropped == 0
    assert_same(frames, frames_with_truth())
    assert all(before <= frame.received_ns <= time.time_ns() for frame in frames)


def test_closing_twice_and_reading_afterwards(recording):
    camera = open_camera(str(recording))
    camera.close()
    camera.close()
    with pytest.raises(CameraError, match="closed"):
        camera.read()


def test_in_real_time_frames_come_when_they_are_due_and_a_slow_reader_loses_some(tmp_path, request):
    for name in ("long", "long.h5"):
        path = record(tmp_path / name, [frame_of(number) for number in range(90)])  # a second
        with open_camera(str(path), realtime=True) as camera:
            assert camera.live
            start, numbers = time.monotonic(), []
            while (frame := camera.read()) is not None:
                numbers.append(frame.number)
                late = time.monotonic() - start - frame.number * PERIOD_NS / 1e9
                assert -0.005 < late < 0.2
                time.sleep(0.05)
        assert len(numbers) + camera.dropped == 90
        assert 10 < len(numbers) < 22
        assert numbers == sorted(set(numbers))


def test_in_real_time_a_long_pause_is_a_timeout(tmp_path):
    path = record(tmp_path / "pause", [frame_of(0), frame_of(90)])
    with open_camera(str(path), realtime=True) as camera:
        assert camera.read().number == 0
        with pytest.raises(CameraTimeout):
            camera.read(timeout=0.2)
        assert camera.read().number == 90
        assert camera.read() is None


def test_a_file_number_is_the_frame_number(folder):
    assert (folder / "depth" / "000007.png").exists()
    with open_camera(str(folder)) as camera:
        assert camera.read().number == 7


def test_without_times_there_are_thirty_frames_a_second(folder):
    (folder / "timestamps.txt").unlink()
    with open_camera(str(folder)) as camera:
        frames = list(camera)
    assert [frame.captured_ns for frame in frames] == [row * 100_000_000 for row in range(10)]  # every third number


@pytest.mark.skipif(not REAL.is_dir(), reason="no real recordings beside the project")
def test_real_recordings_open():
    for path in sorted(path for path in REAL.iterdir() if path.is_dir()):
        with open_camera(str(path)) as camera:
            frames = list(camera)
        assert camera.name == path.name
        assert len(frames) == len(list((path / "depth").glob("*.png")))
        assert all(frame.depth.any() for frame in frames)
    with open_camera(str(REAL / "face_behind_hand")) as camera:
        (hand,) = camera.read().truth
    assert hand.side is None
    assert np.isnan(hand.joints[0]).all()
    assert np.isfinite(hand.joints[1:]).all()


# Broken folders


def change_header(folder: Path, **entries: object) -> None:
    path = folder / "camera.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


HEADERS = [
    ({"width": None}, '"width" is missing'),
    ({"width": -64}, "image size must be positive"),
    ({"height": 47.5}, "whole numbers"),
    ({"width": "64"}, '"width" must be a finite number'),
    ({"fx": -1}, "focal lengths must be positive"),
    ({"fy": float("nan")}, '"fy" must be a finite number'),
    ({"cx": float("inf")}, '"cx" must be a finite number'),
    ({"cy": True}, '"cy" must be a finite number'),
    ({"depth_scale": 0}, "depth_scale must be a positive"),
    ({"depth_scale": -0.001}, "depth_scale must be a positive"),
    ({"depth_scale": None}, '"depth_scale" is missing'),
    ({"name": ""}, '"name" must be a text'),
    ({"name": 7}, '"name" must be a text'),
]


@pytest.mark.parametrize(("entries", "message"), HEADERS)
def test_a_wrong_entry_of_the_header_is_told(folder, entries, message):
    change_header(folder, **entries)
    with pytest.raises(CameraError, match=message):
        open_camera(str(folder))


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", "\udcff"])
def test_a_header_that_is_no_json_object_is_told(folder, text):
    (folder / "camera.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CameraError, match=r"camera\.json"):
        open_camera(str(folder))


def test_missing_parts_are_told(folder, tmp_path):
    for image in (folder / "depth").iterdir():
        image.unlink()
    with pytest.raises(CameraError, match="has no images"):
        open_camera(str(folder))
    (folder / "camera.json").unlink()
    with pytest.raises(CameraError, match=r"no recording folder: it has no camera\.json"):
        open_camera(str(folder))


def test_wrong_names_of_images_are_told(folder):
    odd = folder / "depth" / "seven.png"
    odd.write_bytes(b"")
    with pytest.raises(CameraError, match="named by its frame number"):
        open_camera(str(folder))
    odd.rename(folder / "depth" / "7.png")
    with pytest.raises(CameraError, match="same frame number"):
        open_camera(str(folder))


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


BAD_IMAGES = {
    "8 bits": (png(depth_of(1).astype(np.uint8)), "8 bits and 1 channels"),
    "colour": (png(np.dstack([depth_of(1)] * 3)), "16 bits and 3 channels"),
    "size": (png(depth_of(1, 64, 47)), "is 64x47, but camera.json says 64x48"),
    "empty": (b"", "cannot be decoded"),
    "garbage": (b"garbage" * 99, "cannot be decoded"),
    "cut off": (png(depth_of(1))[:3000], "cannot be decoded"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_a_bad_image_is_told_when_it_is_read_and_the_others_are_good(folder, kind):
    data, message = BAD_IMAGES[kind]
    (folder / "depth" / "000013.png").write_bytes(data)
    with open_camera(str(folder)) as camera:
        assert [camera.read().number, camera.read().number] == [7, 10]
        with pytest.raises(CameraError, match=rf"000013\.png.*{message}"):
            camera.read()


BAD_TIMES = [
    (lambda lines: lines[:-1], "has 9 lines for 10 images"),
    (lambda lines: [*lines, "1e10", "2e10"], "has 12 lines for 10 images"),
    (lambda lines: [*lines[:4], "soon", *lines[5:]], "line 5: 'soon' is not a time"),
    (lambda lines: ["nan", *lines[1:]], "line 1: 'nan' is not a time"),
    (lambda lines: ["-3", *lines[1:]], "line 1: '-3' is not a time"),
    (lambda lines: [*lines[:9], "1e400"], "line 10: '1e400' is not a time"),
    (lambda lines: [*lines[:3], lines[2], *lines[4:]], "line 4: .* is not later"),
    (lambda lines: lines[::-1], "line 2: .* is not later"),
]


@pytest.mark.parametrize(("change", "message"), BAD_TIMES)
def test_bad_times_are_told(folder, change, message):
    path = folder / "timestamps.txt"
    path.write_text("\n".join(change(path.read_text().splitlines())))
    with pytest.raises(CameraError, match=message):
        open_camera(str(folder))


HAND = [[0.0, 0.0, 0.5]] * 21
BAD_TRUTH = [
    "garbage",
    "[]",
    '{"frame": 7}',
    '{"frame": "7", "hands": []}',
    '{"frame": 7, "hands": 3}',
    '{"frame": 7, "hands": [3]}',
    json.dumps({"frame": 7, "hands": [{"joints": HAND[1:]}]}),
    json.dumps({"frame": 7, "hands": [{"joints": [[1, 2], *HAND[1:]]}]}),
    json.dumps({"frame": 7, "hands": [{"joints": [["x", 0, 0], *HAND[1:]]}]}),
    json.dumps({"frame": 7, "hands": [{"joints": HAND, "side": "middle"}]}),
    json.dumps({"frame": 8, "hands": []}),
    json.dumps({"frame": 10, "hands": []}),
]


@pytest.mark.parametrize("line", BAD_TRUTH)
def test_bad_truth_is_told_with_its_line(folder, line):
    lines = [json.dumps({"frame": 10, "hands": []}), line, json.dumps({"frame": 13, "hands": []})]
    (folder / "joints.jsonl").write_text("\n".join(lines))
    with pytest.raises(CameraError, match=r"joints\.jsonl, line 2: "):
        open_camera(str(folder))


# Broken `.h5` files


def h5_with(path: Path, change) -> Path:
    record(path, frames_with_truth())
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def replace_table(name: str, value: np.ndarray):
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = value

    return change


BAD_H5 = [
    (lambda file: file.attrs.__delitem__("format"), "no depth recording"),
    (lambda file: file.attrs.__setitem__("version", 2), "format version 2"),
    (lambda file: file.attrs.__setitem__("fx", -5.0), "focal lengths"),
    (lambda file: file.attrs.__delitem__("depth_scale"), '"depth_scale" is missing'),
    (lambda file: file.__delitem__("number"), "table number is missing"),
    (replace_table("depth", np.zeros((10, 48, 63), np.uint16)), r"table depth is missing, or its entries are not"),
    (replace_table("depth", np.zeros((10, 48, 64), np.uint8)), "table depth is missing, or its entries are not"),
    (replace_table("depth", np.zeros((0, 48, 64), np.uint16)), "has no frames"),
    (replace_table("captured_ns", np.zeros(10, np.int64)), "do not increase"),
    (replace_table("truth_side", np.full(6, 9, np.uint8)), "side 9"),
]


@pytest.mark.parametrize(("change", "message"), BAD_H5)
def test_a_wrong_h5_recording_is_told(tmp_path, change, message):
    path = h5_with(tmp_path / "bad.h5", change)
    with pytest.raises(CameraError, match=message):
        open_camera(str(path))


def test_h5_files_that_are_none_are_told(tmp_path):
    path = tmp_path / "bad.h5"
    good = record(tmp_path / "good.h5", frames_with_truth()).read_bytes()
    cut_off = [good[: len(good) * percent // 100] for percent in (1, 5, 20, 40, 60, 80, 95)]
    for data in (b"", b"garbage" * 1000, *cut_off):
        path.write_bytes(data)
        with pytest.raises(CameraError, match=r"bad\.h5"):
            open_camera(str(path))


def test_an_h5_recording_damaged_in_the_middle_is_told_when_it_is_read(tmp_path):
    path = record(tmp_path / "bad.h5", frames_with_truth())
    with h5py.File(path, "r") as file:
        chunk = file["depth"].id.get_chunk_info(2)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(bytes(100))
    with open_camera(str(path)) as camera:
        assert [camera.read().number, camera.read().number] == [7, 10]
        with pytest.raises(CameraError, match="damaged: frame 13 cannot be read"):
            camera.read()


# Recording


@pytest.mark.parametrize("name", ["walk", "walk.h5"])
def test_nothing_is_overwritten(tmp_path, name):
    path = record(tmp_path / name, frames_with_truth())
    with pytest.raises(CameraError, match="not overwritten"):
        open_recorder(path, "walk")
    with open_camera(str(path)) as camera:
        assert len(list(camera)) == 10


def test_places_that_cannot_be_written_to_are_told_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    for path, message in (("walk.mp4", "give a folder"), ("file/walk", "cannot make"), ("file", "not overwritten")):
        with pytest.raises(CameraError, match=message):
            open_recorder(tmp_path / path, "walk")


def test_an_empty_folder_is_recorded_to_and_no_frames_leave_no_recording(tmp_path):
    (tmp_path / "walk").mkdir()
    open_recorder(tmp_path / "walk", "walk").close()
    with pytest.raises(CameraError, match="no recording folder"):
        open_camera(str(tmp_path / "walk"))
    record(tmp_path / "walk", [frame_of(1)])


class SlowFile(FrameFile):
    """A disk that takes its time; or that is full after `room` frames."""

    def __init__(self, seconds: float = 0.0, room: int = 10**9) -> None:
        self.seconds, self.room, self.numbers, self.closed = seconds, room, [], False

    def append(self, frame) -> None:
        if len(self.numbers) == self.room:
            raise OSError(28, "No space left on device")
        time.sleep(self.seconds)
        self.numbers.append(frame.number)

    def close(self) -> None:
        self.closed = True


def test_a_slow_disk_costs_frames_but_never_makes_the_loop_wait():
    file = SlowFile(seconds=0.01)
    recorder = Recorder("walk", lambda header: file)
    slowest = 0.0
    for number in range(200):
        start = time.monotonic()
        recorder.write(frame_of(number))
        slowest = max(slowest, time.monotonic() - start)
    recorder.close()
    assert slowest < 0.1
    assert recorder.dropped > 0
    assert recorder.written + recorder.dropped == 200
    assert recorder.written >= QUEUE_FRAMES
    assert len(file.numbers) == recorder.written
    assert file.numbers == sorted(set(file.numbers))
    assert file.closed


def test_lossless_recording_waits_instead():
    file = SlowFile(seconds=0.002)
    with Recorder("walk", lambda header: file, lossless=True) as recorder:
        for number in range(150):
            recorder.write(frame_of(number))
    assert file.numbers == list(range(150))
    assert recorder.dropped == 0


def test_a_full_disk_is_one_error_and_lets_the_loop_go_on():
    file = SlowFile(room=3)
    recorder = Recorder("walk", lambda header: file)
    for number in range(5):
        recorder.write(frame_of(number))
    while not file.closed:
        time.sleep(0.01)
    time.sleep(0.05)
    with pytest.raises(CameraError, match=r"ends after 3 frames.*No space left"):
        recorder.write(frame_of(6))
    recorder.write(frame_of(7))
    recorder.close()


def test_frames_of_another_kind_are_refused(tmp_path):
    recorder = open_recorder(tmp_path / "walk", "walk")
    recorder.write(frame_of(1))
    recorder.write(frame_of(1))
    with pytest.raises(CameraError, match="comes twice"):
        recorder.close()
    with open_camera(str(tmp_path / "walk")) as camera:
        assert len(list(camera)) == 1


RECORD_FOREVER = """
import itertools, sys, time
from camera_samples import frame_of, hand_of
from tracker.camera import open_recorder
recorder = open_recorder(sys.argv[1], "walk")
for number in itertools.count():
    recorder.write(frame_of(number, (hand_of(number),)))
    time.sleep(0.005)
    if number == 250:
        print("recorded", flush=True)
"""


@pytest.mark.parametrize("name", ["killed", "killed.h5"])
def test_a_killed_recorder_leaves_a_recording_that_can_be_read(tmp_path, name):
    root = Path(__file__).resolve().parents[1]
    process = subprocess.Popen(
        [sys.executable, "-c", RECORD_FOREVER, str(tmp_path / name)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"},
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"recorded\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    with open_camera(str(tmp_path / name)) as camera:
        frames = list(camera)
    assert len(frames) > 20
    for number, frame in enumerate(frames):
        assert frame.number == number
        assert frame.captured_ns == START_NS + number * PERIOD_NS
        np.testing.assert_array_equal(frame.depth, depth_of(number))
        assert frame.truth is not None
    assert frames[0].intrinsics == INTRINSICS


@pytest.mark.parametrize("surplus", ["1700000009.5\n", "17000"])
def test_the_last_time_of_a_killed_recorder_is_let_go(folder, surplus):
    with (folder / "timestamps.txt").open("a") as file:
        file.write(surplus)
    with (folder / "joints.jsonl").open("a") as file:
        file.write('{"frame": 37, "hands": []}\n')
    with open_camera(str(folder)) as camera:
        assert_same(list(camera), frames_with_truth())
