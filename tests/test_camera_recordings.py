"""Recording folders and `.h5` recordings: what was recorded comes back, all of it or at its own pace."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from camera_samples import PERIOD_NS, assert_same, frame_of, frames_with_truth, record

from tracker.camera import open_camera
from tracker.errors import CameraError, CameraTimeout

REAL = Path(__file__).resolve().parents[2] / "shared" / "real"


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


def test_in_real_time_frames_come_when_they_are_due_and_a_slow_reader_loses_some(tmp_path):
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
