"""End to end: depth in, messages out, over a real socket, with the shipped weights."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from camera_samples import record

from tracker import Subscriber, Tracker, TrackerConfig, open_camera
from tracker.camera.recorder import Recorder
from tracker.camera.simulated import SimulatedCamera
from tracker.cli import main
from tracker.loop import run
from tracker.stream.publisher import Publisher

SHARED = Path(__file__).resolve().parents[2] / "shared" / "real"


@pytest.fixture(scope="module")
def tracker():
    with Tracker(engine="openvino") as opened:
        yield opened


def test_two_simulated_hands_are_tracked_and_published():
    frames = 90
    with (
        SimulatedCamera(realtime=False, frames=frames, seed=11) as camera,
        Tracker(engine="openvino") as tracker,
        Publisher("tcp://127.0.0.1:*", camera.name) as publisher,
        Subscriber(publisher.endpoint) as subscriber,
    ):
        received = []

        def listen():
            while (message := subscriber.receive(10.0)) is not None:
                received.append(message)
                if message.frame == frames - 1:
                    return

        thread = threading.Thread(target=listen)
        thread.start()
        time.sleep(0.5)  # a subscription needs a moment to arrive
        summary = run(camera, tracker, publisher)
        thread.join(20)
    assert summary.frames == frames
    assert [m.frame for m in received] == list(range(frames))
    whole = [m for m in received if len(m.hands) == 2]
    assert len(whole) >= 0.95 * frames
    assert {m.camera for m in received} == {"simulated"}
    ids = [tuple(sorted(hand.id for hand in m.hands)) for m in whole]
    assert ids.count(max(set(ids), key=ids.count)) >= 0.9 * frames
    assert all(m.latency_ms.total >= m.latency_ms.network > 0 for m in received)


def test_joints_are_near_the_truth_and_sides_are_right(tracker):
    tracker.reset()
    errors, wrong = [], 0
    with SimulatedCamera(realtime=False, frames=60, seed=5) as camera:
        for frame in camera:
            for hand in tracker.track(frame).hands:
                distance = [np.linalg.norm(hand.joints - t.joints, axis=1).mean() for t in frame.truth]
                errors.append(min(distance))
                wrong += frame.truth[int(np.argmin(distance))].side != hand.side
    assert len(errors) >= 118
    assert np.mean(errors) < 0.008
    assert wrong == 0


def test_an_empty_scene_gives_empty_messages(tracker):
    tracker.reset()
    with SimulatedCamera(realtime=False, frames=1) as camera:
        frame = camera.read()
    from dataclasses import replace

    empty = replace(frame, depth=np.zeros_like(frame.depth))
    wall = replace(frame, depth=np.full_like(frame.depth, 700))
    for number in range(6):
        assert tracker.track(replace(empty if number % 2 else wall, number=number)).hands == ()


def test_a_hand_that_leaves_and_returns_gets_another_id(tracker):
    tracker.reset()
    from dataclasses import replace

    with SimulatedCamera(realtime=False, frames=50, seed=3) as camera:
        frames = list(camera)
    first = {hand.id for frame in frames[:10] for hand in tracker.track(frame).hands}
    for frame in frames[10:35]:  # longer than the tracker's patience
        last = tracker.track(replace(frame, depth=np.zeros_like(frame.depth)))
    assert last.hands == ()
    later = {hand.id for frame in frames[35:] for hand in tracker.track(frame).hands}
    assert first
    assert later
    assert not first & later


def test_the_command_writes_a_message_per_frame(tmp_path):
    output = tmp_path / "a.jsonl"
    words = ["run", "--camera", "simulated", "--frames", "20", "--bind", "none", "--output", str(output)]
    result = subprocess.run(
        [sys.executable, "-m", "tracker", *words, "--record", str(tmp_path / "rec.h5")],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(lines) == 20
    assert set(lines[0]) == {
        "version", "camera", "frame", "captured_ns", "published_ns", "space", "unit", "skeleton", "dropped",
        "latency_ms", "hands",
    }  # fmt: skip
    assert re.search(r"20 frames in .* dropped", result.stderr)
    # The recording replays: as many messages as frames.
    replay = tmp_path / "b.jsonl"
    assert main(["run", "--camera", str(tmp_path / "rec.h5"), "--bind", "none", "--output", str(replay)]) == 0
    again = [json.loads(line) for line in replay.read_text().splitlines()]
    assert [m["frame"] for m in again] == [m["frame"] for m in lines]
    assert "\n0 frames lost by the recorder\n" in result.stderr


def test_earlier_results_are_not_overwritten(tmp_path, capsys):
    output = tmp_path / "a.jsonl"
    output.write_text("earlier\n")
    words = ["run", "--camera", "simulated", "--frames", "1", "--bind", "none", "--output"]
    assert main([*words, str(output)]) == 1
    assert "is there already and is not overwritten" in capsys.readouterr().err
    assert output.read_text() == "earlier\n"
    assert main([*words, os.devnull]) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_run_that_fails_ends_with_a_summary_and_then_the_error(capsys):
    assert main(["run", "--camera", "simulated", "--frames", "3", "--bind", "none", "--output", "/dev/full"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert re.match(r"0 frames in .*, 0 dropped", lines[-3])
    assert lines[-1].startswith("error: /dev/full cannot be written any more")


def test_frames_that_the_recorder_lost_are_told_also_when_quiet(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Recorder, "write", lambda self, frame, message=None: setattr(self, "dropped", self.dropped + 1))
    words = ["run", "--camera", "simulated", "--frames", "3", "--bind", "none", "--record"]
    assert main([*words, str(tmp_path / "a.h5"), "--quiet"]) == 0
    assert "warning: 3 frames lost by the recorder" in capsys.readouterr().err


def test_help_is_quick_and_needs_nothing():
    start = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", "import sys; from tracker.cli import main\n"
         "try: main(['--help'])\nexcept SystemExit: pass\n"
         "print(sorted({'torch', 'pyrealsense2', 'openvino'} & set(sys.modules)), file=sys.stderr)"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "listen" in result.stdout
    assert result.stderr.strip() == "[]"
    assert time.monotonic() - start < 10


def folder_with(tmp_path, camera_json, picture=None):
    folder = tmp_path / "recording"
    (folder / "depth").mkdir(parents=True)
    if camera_json is not None:
        (folder / "camera.json").write_text(camera_json)
    picture = np.zeros((48, 64), np.uint16) if picture is None else picture
    cv2.imwrite(str(folder / "depth" / "000000.png"), picture)
    return folder


GOOD = '{"name": "x", "width": 64, "height": 48, "fx": 60, "fy": 60, "cx": 32, "cy": 24, "depth_scale": 0.001}'


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--camera", "realsense"], "simulated"),
        (["--camera", "realsense:123456"], "123456"),
        (["--camera", "nowhere/recording"], "no camera or recording"),
        (["--camera", "broken.bag"], "broken.bag"),
        (["--camera", "broken.db3"], "broken.db3"),
        (["--camera", "broken.h5"], "broken.h5"),
        (["--camera", "notes.txt"], "notes.txt"),
        (["--camera", "bad_json"], "camera.json"),
        (["--camera", "bad_focal"], "f"),
        (["--camera", "bad_scale"], "depth_scale is in metres"),
        (["--camera", "bad_center"], "cx and cy"),
        (["--camera", "simulated", "--output", "notes.txt"], "not overwritten"),
        (["--camera", ""], "--camera is empty"),
        (["--camera", "simulated", "--output", ""], "--output is empty"),
        (["--camera", "simulated", "--record", ""], "--record is empty"),
        (["--camera", "simulated", "--model", "none.safetensors"], "no weights file"),
        (["--camera", "simulated", "--model", "notes.txt"], "safetensors"),
        (["--camera", "simulated", "--model", "v2v"], "v2v"),
        (["--camera", "simulated", "--engine", "onnx"], "onnx"),
        (["--camera", "simulated", "--device", "cuda:0", "--engine", "openvino"], "openvino"),
        (["--camera", "simulated", "--bind", "tcp://127.0.0.1"], "127.0.0.1"),
        (["--camera", "simulated", "--bind", "TAKEN"], "in use"),
        (["--camera", "simulated", "--output", "nowhere/a.jsonl"], "folder"),
        (["--camera", "simulated", "--output", "new/../a.h5", "--record", "a.h5"], "are both"),
    ],
)
def test_bad_input_is_one_clear_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for suffix in ("bag", "db3", "h5"):
        (tmp_path / f"broken.{suffix}").write_bytes(b"not a recording" * 20)
    (tmp_path / "notes.txt").write_text("hello")
    folder_with(tmp_path, "{").rename(tmp_path / "bad_json")
    folder_with(tmp_path, GOOD.replace('"fx": 60', '"fx": -60')).rename(tmp_path / "bad_focal")
    folder_with(tmp_path, GOOD.replace("0.001", "1")).rename(tmp_path / "bad_scale")
    folder_with(tmp_path, GOOD.replace('"cx": 32', '"cx": 1e300')).rename(tmp_path / "bad_center")
    start = time.monotonic()
    with Publisher("tcp://127.0.0.1:*", "other") as other:
        words = [other.endpoint if word == "TAKEN" else word for word in words]
        assert main(["run", "--bind", "none", *words]) == 1
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(error) == 1
    assert message in error[0]
    assert time.monotonic() - start < 14  # the SDK's own wait for a camera is 15 s


def test_tracker_limits_are_checked():
    with pytest.raises(ValueError, match="hands"):
        TrackerConfig(hands=0)
    with pytest.raises(ValueError, match="keep"):
        TrackerConfig(keep=0.9, accept=0.5)


def test_a_picture_of_the_tracking(tmp_path, capsys):
    picture = tmp_path / "hands.png"
    words = ["draw", "--camera", "simulated", "--frames", "3", "--output", str(picture)]
    assert main(words) == 0
    image = cv2.imread(str(picture))
    assert image.shape == (480, 3 * 640, 3)
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 50
    assert main(["draw", "--camera", "simulated", "--output", str(tmp_path / "hands.gif")]) == 1
    assert main([*words, "--segmentation", "geometric"]) == 0
    assert (cv2.imread(str(picture)) != image).any()
    capsys.readouterr()
    assert main([*words, "--segmentation", "nonsense"]) == 1
    assert "give network, geometric" in capsys.readouterr().err
    assert main([*words[:-1], str(tmp_path / "none" / "a.png")]) == 1
    assert "give a file in a folder that is there" in capsys.readouterr().err
    assert main([*words, "--hands", "5"]) == 1
    assert "at most 4" in capsys.readouterr().err
    assert main([*words, "--profile", str(tmp_path / "none.json")]) == 1
    assert "none.json" in capsys.readouterr().err


def test_a_sheet_has_as_many_pictures_however_far_they_are_apart(tmp_path, capsys):
    picture = tmp_path / "hands.png"
    words = ["draw", "--camera", "simulated", "--output", str(picture), "--every", "2", "--segmentation", "geometric"]
    assert main(words) == 0
    assert "12 frames of simulated" in capsys.readouterr().out
    assert cv2.imread(str(picture)).shape == (3 * 480, 4 * 640, 3)
    assert main([*words, "--frames", "5"]) == 0
    assert "3 frames of simulated" in capsys.readouterr().out


def test_what_was_tracked_before_a_broken_frame_is_drawn(tmp_path, capsys):
    with open_camera("simulated", realtime=False) as camera:
        folder = record(tmp_path / "walk", [camera.read() for _ in range(4)])
    (folder / "depth" / "000002.png").write_bytes(b"no picture")
    picture = tmp_path / "hands.png"
    assert main(["draw", "--camera", str(folder), "--output", str(picture), "--segmentation", "geometric"]) == 1
    assert cv2.imread(str(picture)).shape == (480, 2 * 640, 3)
    told = capsys.readouterr()
    assert "2 frames of walk" in told.out
    assert "000002.png is broken" in told.err
    (folder / "depth" / "000000.png").write_bytes(b"no picture")
    picture.unlink()
    assert main(["draw", "--camera", str(folder), "--output", str(picture)]) == 1
    assert "000000.png is broken" in capsys.readouterr().err
    assert not picture.exists()
