"""What `--camera` means."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from camera_samples import SoftwareCamera, frame_of

from tracker.camera import list_cameras, open_camera, open_recorder, realsense
from tracker.errors import CameraError


@pytest.fixture
def nothing_plugged_in(monkeypatch):
    monkeypatch.setattr(realsense.list_realsense, "__defaults__", (list,))


@pytest.fixture
def plugged_in(monkeypatch):
    pytest.importorskip("pyrealsense2")
    camera = SoftwareCamera("0042")
    monkeypatch.setattr(realsense.list_realsense, "__defaults__", (lambda: [camera.device],))
    monkeypatch.setattr(realsense.RealSenseCamera.__init__, "__kwdefaults__", {"devices": lambda: [camera.device]})
    return camera


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("missing", "no camera or recording 'missing'.*simulated"),
        ("missing/walk.bag", "no camera or recording"),
        ("", "no recording folder"),  # the current folder
        ("notes.txt", "no recording that can be played"),
        ("kinect", "no camera or recording"),
    ],
)
def test_what_is_no_camera_is_told(tmp_path, monkeypatch, spec, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    start = time.monotonic()
    with pytest.raises(CameraError, match=message):
        open_camera(spec)
    assert time.monotonic() - start < 1


def test_auto_is_the_camera_that_is_plugged_in(plugged_in, caplog):
    caplog.set_level(logging.INFO)
    with open_camera() as camera:
        assert camera.name == "0042"
    assert "camera: realsense:0042" in caplog.text
    assert str(list_cameras()[0]).startswith("realsense:0042  Software camera")


def test_auto_is_the_simulated_camera_otherwise(nothing_plugged_in, caplog):
    caplog.set_level(logging.INFO)
    with open_camera("auto", realtime=False) as camera:
        assert camera.name == "simulated"
        assert not camera.live
    assert "simulated, as no RealSense is plugged in" in caplog.text
    assert [info.spec for info in list_cameras()] == ["simulated"]


def test_everything_but_realsense_works_without_the_sdk(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    realsense._context.cache_clear()
    assert [info.spec for info in list_cameras()] == ["simulated"]
    assert "pip install pyrealsense2" in caplog.text
    with open_recorder(tmp_path / "walk", "walk") as recorder:
        recorder.write(frame_of(1))
    with open_camera(str(tmp_path / "walk")) as camera:
        assert camera.read().number == 1


def test_a_recording_has_every_frame_unless_real_time_is_asked_for(tmp_path):
    with open_recorder(tmp_path / "walk.h5", "walk") as recorder:
        recorder.write(frame_of(1))
    for realtime, live in ((None, False), (False, False), (True, True)):
        with open_camera(str(tmp_path / "walk.h5"), realtime=realtime) as camera:
            assert camera.live is live


def test_importing_loads_no_sdk():
    code = "import sys, tracker.camera; print(sorted({'pyrealsense2', 'torch', 'cv2', 'h5py'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "[]\n"
