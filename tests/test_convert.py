"""Recordings written anew: `python -m tracker convert`."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from camera_samples import assert_same, frames_with_truth, record, record_db3
from stream_samples import make_message

from tracker.camera import open_camera, open_recorder
from tracker.cli import main
from tracker.convert import convert
from tracker.errors import CameraError, StreamError
from tracker.kept_messages import recorded_lines

BAG = Path(__file__).with_name("test_camera_twelve_frames.bag")
REAL = Path(__file__).resolve().parents[2] / "shared" / "real"
OUTPUTS = ("out", "out.h5")


def frames_of(path: Path) -> list:
    with open_camera(str(path)) as camera:
        return list(camera)


@pytest.mark.parametrize("out", OUTPUTS)
def test_bag_is_converted_bit_for_bit(tmp_path, out, capsys):
    pytest.importorskip("pyrealsense2")
    assert main(["convert", str(BAG), str(tmp_path / out)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / out}: 12 frames of {BAG}\n"
    assert_same(frames_of(tmp_path / out), frames_of(BAG))
    with open_camera(str(tmp_path / out)) as camera, open_camera(str(BAG)) as original:
        assert camera.name == original.name
        assert camera.count == original.count == 12


@pytest.mark.parametrize("out", OUTPUTS)
def test_db3_is_converted_bit_for_bit(tmp_path, out):
    pytest.importorskip("pyrealsense2")
    record_db3(tmp_path / "walk.db3", 15)
    assert convert(tmp_path / "walk.db3", tmp_path / out) == 15
    assert_same(frames_of(tmp_path / out), frames_of(tmp_path / "walk.db3"))


@pytest.mark.parametrize("out", OUTPUTS)
@pytest.mark.parametrize("source", ["walk", "walk.h5"])
def test_truth_and_messages_go_along(tmp_path, source, out):
    with open_recorder(tmp_path / source, "walk", lossless=True) as recorder:
        for frame in frames_with_truth():
            recorder.write(frame, replace(make_message(frame.number), captured_ns=frame.captured_ns))
    convert(tmp_path / source, tmp_path / out)
    assert_same(frames_of(tmp_path / out), frames_with_truth())
    assert recorded_lines(tmp_path / out) == recorded_lines(tmp_path / source)
    assert len(recorded_lines(tmp_path / out)) == 10


@pytest.mark.parametrize("folder", ["sr305_230536", "face_behind_hand"])
def test_real_recordings_are_the_same_in_one_file(tmp_path, folder):
    if not (REAL / folder).is_dir():
        pytest.skip("the shared real recordings are not here")
    convert(REAL / folder, tmp_path / "out.h5")
    assert_same(frames_of(tmp_path / "out.h5"), frames_of(REAL / folder))
    convert(tmp_path / "out.h5", tmp_path / "out")
    assert_same(frames_of(tmp_path / "out"), frames_of(REAL / folder))


@pytest.mark.parametrize("out", OUTPUTS)
def test_nothing_is_overwritten(tmp_path, out, capsys):
    source = record(tmp_path / "walk", frames_with_truth())
    record(tmp_path / out, frames_with_truth()[:3])
    assert main(["convert", str(source), str(tmp_path / out)]) == 1
    assert "not overwritten" in capsys.readouterr().err
    assert len(frames_of(tmp_path / out)) == 3
    with pytest.raises(CameraError, match="not overwritten"):
        convert(source, source)


@pytest.mark.parametrize("out", OUTPUTS)
def test_a_source_that_breaks_off_leaves_nothing(tmp_path, out):
    source = record(tmp_path / "walk", frames_with_truth())
    last = sorted((source / "depth").iterdir())[-1]
    last.write_bytes(last.read_bytes()[:100])
    with pytest.raises(CameraError, match="broken"):
        convert(source, tmp_path / "new" / out)
    assert list((tmp_path / "new").iterdir()) == []


def test_ctrl_c_leaves_nothing(tmp_path, monkeypatch):
    source = record(tmp_path / "walk", frames_with_truth())
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return encode(*arguments)

    encode = cv2.imencode
    monkeypatch.setattr("cv2.imencode", interrupted)
    assert main(["convert", str(source), str(tmp_path / "new" / "out")]) == 130
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize(
    ("source", "out", "reason"),
    [
        ("missing.bag", "out", "there is no"),
        ("simulated", "out", "there is no"),
        ("walk", "out.bag", "a file that ends in .h5"),
        ("walk", "walk/camera.json/out", "cannot make the folder"),
        ("text.txt", "out", "no recording that can be played"),
    ],
)
def test_mistakes_are_told(tmp_path, capsys, source, out, reason):
    record(tmp_path / "walk", frames_with_truth())
    (tmp_path / "text.txt").write_text("hello")
    assert main(["convert", str(tmp_path / source), str(tmp_path / out)]) == 1
    told = capsys.readouterr().err
    assert reason in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("out", ["out", "out.h5"])
def test_what_cannot_be_written_is_named(tmp_path, monkeypatch, out):
    source = record(tmp_path / "walk", frames_with_truth())

    def full(self, frame, message=None):
        raise CameraError("no room")

    monkeypatch.setattr("tracker.camera.h5_recording.H5RecordingWriter.append", full)
    monkeypatch.setattr("tracker.camera.recording_writer.RecordingFolderWriter.append", full)
    with pytest.raises(CameraError, match=f"{tmp_path / out} cannot be written: no room"):
        convert(source, tmp_path / out)
    assert not (tmp_path / out).exists()


def test_messages_that_are_none_are_told(tmp_path):
    source = record(tmp_path / "walk", frames_with_truth())
    (source / "messages.jsonl").write_text('garbage\n{"frame": 7}\n')
    with pytest.raises(StreamError, match="message 1 is not a line of JSON"):
        convert(source, tmp_path / "out")


@pytest.mark.skipif(os.name == "nt" or os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_must_not_be_written_to(tmp_path):
    source = record(tmp_path / "walk", frames_with_truth())
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(CameraError, match="cannot be written"):
        convert(source, tmp_path / "locked" / "out")


def test_a_recording_that_was_killed_becomes_whole(tmp_path):
    source = record(tmp_path / "walk", frames_with_truth())
    with (source / "timestamps.txt").open("a") as file:
        file.write("17000")
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    convert(source, tmp_path / "out")
    assert len((tmp_path / "out" / "timestamps.txt").read_text().splitlines()) == 10
    np.testing.assert_array_equal(frames_of(tmp_path / "out")[3].depth, frames_with_truth()[3].depth)
