"""Recording while tracking: slow and full disks, killed processes, nothing overwritten."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from camera_samples import assert_same, frame_of, frames_with_truth, record

from tracker.camera import open_camera, open_recorder
from tracker.camera.recorder import QUEUE_FRAMES, FrameFile, Recorder
from tracker.errors import CameraError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return record(tmp_path / "walk", frames_with_truth())


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

    def append(self, frame, message=None) -> None:
        if len(self.numbers) == self.room:
            raise OSError(28, "No space left on device")
        time.sleep(self.seconds)
        self.numbers.append(frame.number)

    def close(self) -> None:
        self.closed = True


def test_a_slow_disk_costs_frames_but_never_makes_the_loop_wait():
    file = SlowFile(seconds=0.01)
    recorder = Recorder("walk", lambda header: file)
    for number in range(200):
        recorder.write(frame_of(number))
    recorder.close()
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
    errors = []
    for number in range(200):
        try:
            recorder.write(frame_of(number))
        except CameraError as error:
            errors.append(str(error))
        time.sleep(0.001)
    recorder.close()
    assert len(errors) == 1
    assert (recorder.written, recorder.dropped) == (3, 197)
    assert "ends after 3 frames" in errors[0]
    assert "No space left" in errors[0]
    assert file.closed


def test_frames_that_wait_when_the_disk_is_full_are_counted_as_lost_before_it_is_told():
    file = SlowFile(room=3, seconds=0.05)
    recorder = Recorder("walk", lambda header: file)
    for number in range(20):
        recorder.write(frame_of(number))
    while recorder._error is None:
        time.sleep(0.001)
    assert (recorder.written, recorder.dropped) == (3, 17)
    with pytest.raises(CameraError, match="ends after 3 frames"):
        recorder.write(frame_of(20))
    assert (recorder.written, recorder.dropped) == (3, 18)
    recorder.close()


def test_frames_of_another_kind_are_refused(tmp_path):
    recorder = open_recorder(tmp_path / "walk", "walk")
    recorder.write(frame_of(1))
    recorder.write(frame_of(1))
    with pytest.raises(CameraError, match="comes twice"):
        recorder.close()
    with open_camera(str(tmp_path / "walk")) as camera:
        assert len(list(camera)) == 1


@pytest.mark.parametrize("surplus", ["1700000009.5\n", "17000"])
def test_the_last_time_of_a_killed_recorder_is_let_go(folder, surplus):
    with (folder / "timestamps.txt").open("a") as file:
        file.write(surplus)
    with (folder / "joints.jsonl").open("a") as file:
        file.write('{"frame": 37, "hands": []}\n')
    with open_camera(str(folder)) as camera:
        assert_same(list(camera), frames_with_truth())
