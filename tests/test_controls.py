from __future__ import annotations

import threading
import time
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
from stream_samples import make_message

from tracker.camera import open_camera, open_recorder
from tracker.camera.base import Camera
from tracker.camera.frame import DepthFrame, Intrinsics
from tracker.camera.recorder import FrameFile, Recorder
from tracker.controls import Controls, RecordSwitch
from tracker.errors import CameraError
from tracker.loop import run
from tracker.simulation.hand import HandModel
from tracker.stream.publisher import Publisher
from tracker.tracking.config import TrackerConfig
from tracker.tracking.one_euro import FilterConfig
from tracker.tracking.track import Track

NUMBERS = count()


def make_frame() -> DepthFrame:
    intrinsics = Intrinsics(32, 24, fx=30.0, fy=30.0, cx=16.0, cy=12.0)
    number = next(NUMBERS)
    return DepthFrame(np.full((24, 32), 500, np.uint16), 0.001, intrinsics, number, 10**9 + number * 10**7, 0)


def write(switch: RecordSwitch, frames: int) -> None:
    for _ in range(frames):
        switch.write(make_frame(), make_message(hands=0))


def frames_in(path) -> int:
    with open_camera(str(path)) as camera:
        return len(list(camera))


def recorder_of(path):
    return open_recorder(path, "test", lossless=True)


@pytest.mark.parametrize("name", ["first.h5", "first"])
def test_recording_is_started_and_stopped_while_frames_go_by(tmp_path, name):
    first = tmp_path / name
    switch = RecordSwitch(recorder_of, first)
    write(switch, 3)
    switch.stop()
    assert (switch.path, switch.last, switch.error) == (None, first, "")
    write(switch, 4)  # into nothing
    switch.start()
    second = switch.path
    write(switch, 2)
    switch.start()  # goes on
    write(switch, 3)
    switch.close()
    switch.close()
    assert second.parent == tmp_path
    assert second.suffix == first.suffix
    assert (frames_in(first), frames_in(second)) == (3, 5)


def test_recording_switched_by_another_thread_leaves_whole_files(tmp_path):
    switch = RecordSwitch(recorder_of, folder=tmp_path)
    ended = threading.Event()

    def toggle() -> None:
        while not ended.wait(0.005):
            switch.start()
            time.sleep(0.02)
            switch.stop()

    thread = threading.Thread(target=toggle)
    thread.start()
    for _ in range(200):
        write(switch, 1)
        time.sleep(0.002)
    ended.set()
    thread.join()
    switch.close()
    assert switch.error == ""
    files = list(tmp_path.glob("recording-*.h5"))
    assert len(files) > 2
    assert 2 < sum(map(frames_in, files)) < 200


class Broken:
    written = dropped = 0

    def write(self, frame, message):
        raise CameraError("the disk is full")

    def close(self):
        raise CameraError("the disk is full")


def test_recording_that_was_asked_for_at_the_start_must_go_on(tmp_path):
    switch = RecordSwitch(lambda path: Broken(), tmp_path / "a.h5")
    with pytest.raises(CameraError, match="disk is full"):
        write(switch, 1)
    with pytest.raises(CameraError, match="disk is full"):
        switch.close()


def test_recording_that_was_started_by_a_button_does_not_take_the_tracker_with_it(tmp_path):
    switch = RecordSwitch(lambda path: Broken(), folder=tmp_path)
    switch.start()
    write(switch, 2)
    assert (switch.path, switch.error) == (None, "the disk is full")
    switch.start()
    assert switch.error == ""
    switch.close()
    assert switch.error == "the disk is full"


def test_a_recording_that_fails_leaves_no_thread(tmp_path):
    class Full(FrameFile):
        def append(self, frame, message=None):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    switch = RecordSwitch(lambda path: Recorder("full", lambda header: Full(), lossless=True), folder=tmp_path)
    switch.start()
    for _ in range(200):
        write(switch, 1)
        if switch.error:
            break
        time.sleep(0.01)
    assert "No space left" in switch.error
    assert not [thread for thread in threading.enumerate() if thread.name == "recorder of full"]


def test_lost_frames_of_all_recordings_are_counted(tmp_path):
    recorders = [SimpleNamespace(dropped=2, close=lambda: None), SimpleNamespace(dropped=3, close=lambda: None)]
    switch = RecordSwitch(lambda path: recorders.pop(), folder=tmp_path)
    assert switch.lost == 0
    switch.start()
    assert switch.lost == 3
    switch.stop()
    switch.start()
    assert switch.lost == 5
    switch.close()
    assert switch.lost == 5


def test_place_that_cannot_be_written_to_is_told(tmp_path):
    (tmp_path / "file").touch()
    switch = RecordSwitch(recorder_of, folder=tmp_path / "file")
    switch.start()
    assert switch.path is None
    assert "cannot make the folder" in switch.error


def test_filter_changes_at_once_without_a_jump():
    rng = np.random.default_rng(0)
    hand = HandModel.load().rig().rest_joints[:21] + np.array([0, 0, 0.5])
    noisy = [(hand + rng.normal(0, 0.002, (21, 3))).astype(np.float32) for _ in range(40)]
    track, plain = Track(1, 1.0, FilterConfig(min_cutoff=0.3, beta=0.0)), Track(2, 1.0, None)
    sure = np.ones(21, np.float32)

    def feed(track, numbers):
        return np.array([track.update(noisy[number], sure, int((number + 1) * 33e6)) for number in numbers])

    unfiltered = feed(plain, range(40))
    smooth = feed(track, range(20))
    track.set_filter(FilterConfig(min_cutoff=1e4, beta=0.0))
    rough = feed(track, range(20, 30))
    np.testing.assert_allclose(rough, unfiltered[20:30], atol=3e-4)
    track.set_filter(FilterConfig(min_cutoff=0.3, beta=0.0))
    again = feed(track, [30])
    assert np.abs(again[0] - rough[-1]).max() < np.abs(unfiltered[30] - unfiltered[29]).max()
    assert np.abs(np.diff(smooth[5:], axis=0)).max() < np.abs(np.diff(unfiltered[5:20], axis=0)).max() / 3
    track.set_filter(None)
    np.testing.assert_array_equal(feed(track, range(31, 40)), unfiltered[31:])


class FakeTracker:
    """As much of a tracker as the loop needs."""

    model, cubes, edge = "none", (), 0.26
    engine = SimpleNamespace(name="none", device="cpu", size=8, max_batch=1)

    def __init__(self):
        self.config = TrackerConfig()
        self.filters = []

    def set_filter(self, config):
        self.config = replace(self.config, filter=config)
        self.filters.append(config)

    def track(self, frame, camera, dropped):
        return replace(make_message(hands=0), frame=frame.number)


class Frames(Camera):
    name = "frames"

    def __init__(self, live, most=30):
        self.live, self.read_frames, self._most = live, 0, most

    def read(self, timeout=2.0):
        self.read_frames += 1
        return make_frame() if self.read_frames <= self._most else None

    def close(self):
        pass


@pytest.mark.parametrize("live", [True, False])
def test_pause_holds_a_recording_and_not_a_camera(live):
    camera, tracker = Frames(live), FakeTracker()
    controls = Controls(tracker.config.filter, RecordSwitch(recorder_of))
    controls.paused = True
    with Publisher("none", "frames") as publisher:
        thread = threading.Thread(target=run, args=(camera, tracker, publisher), kwargs={"controls": controls})
        thread.start()
        time.sleep(0.3)
        assert camera.read_frames == (31 if live else 0)
        controls.paused = False
        thread.join(10)
    assert camera.read_frames == 31
    assert tracker.filters == []


def test_loop_gives_the_tracker_another_filter_once_and_records(tmp_path):
    camera, tracker = Frames(live=False), FakeTracker()
    switch = RecordSwitch(recorder_of, tmp_path / "a.h5")
    controls = Controls(tracker.config.filter, switch)
    controls.filter = None
    with Publisher("none", "frames") as publisher:
        assert run(camera, tracker, publisher, controls=controls, recorder=switch).frames == 30
    switch.close()
    assert tracker.filters == [None]
    assert frames_in(tmp_path / "a.h5") == 30
