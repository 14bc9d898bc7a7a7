"""Joints as CSV, clouds as PLY, and the Open3D window."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from camera_samples import frame_of, frames_with_truth, record
from stream_samples import make_hand, make_message, with_unknown_joint

from tracker.camera import open_recorder
from tracker.cli import main
from tracker.cloud_ply import BEAD, ply_bytes
from tracker.errors import StreamError, TrackerError
from tracker.hand.skeleton import BONES, JOINT_NAMES
from tracker.joints_csv import write_csv
from tracker.kept_messages import in_step
from tracker.show import ARROW_RIGHT, SPACE_BAR, has_display, load_open3d, play
from tracker.stream.message import HandsMessage, to_json_line

ROOT = Path(__file__).resolve().parents[1]


def write(path: Path, messages: list[HandsMessage]) -> Path:
    path.write_text("".join(to_json_line(message) + "\n" for message in messages))
    return path


def tracked(path: Path) -> Path:
    """A recording with its messages: frames 7, 10, 13, ..., with 0, 1 or 2 hands."""
    with open_recorder(path, "walk", lossless=True) as recorder:
        for row, frame in enumerate(frames_with_truth()):
            recorder.write(frame, make_message(frame.number, hands=row % 3))
    return path


# CSV


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_has_a_row_per_frame_and_hand(tmp_path, capsys):
    messages = [make_message(1), make_message(2, hands=0), with_unknown_joint(make_message(3, hands=1), 8)]
    source = write(tmp_path / "run.jsonl", messages)
    assert main(["csv", str(source), str(tmp_path / "run.csv")]) == 0
    assert capsys.readouterr().out.endswith("4 rows\n")
    rows = rows_of(tmp_path / "run.csv")
    assert [(row["frame"], row["id"], row["side"]) for row in rows] == [
        ("1", "1", "right"), ("1", "2", "left"), ("2", "", ""), ("3", "1", "right"),
    ]  # fmt: skip
    assert rows[0]["captured_ns"] == str(messages[0].captured_ns)
    assert rows[0]["latency_total_ms"] == "10.5"
    for name, joint, sure, seen in zip(
        JOINT_NAMES,
        messages[0].hands[0].joints,
        messages[0].hands[0].joint_confidence,
        messages[0].hands[0].joint_tracked,
    ):
        assert [float(rows[0][f"{name}_{axis}"]) for axis in "xyz"] == pytest.approx(joint, abs=1e-6)
        assert float(rows[0][f"{name}_confidence"]) == pytest.approx(sure, abs=1e-6)
        assert rows[0][f"{name}_tracked"] == str(int(seen))
    assert rows[3]["index_tip_x"] == ""
    assert rows[3]["index_tip_confidence"] != ""


@pytest.mark.parametrize("name", ["walk", "walk.h5"])
def test_csv_of_a_recording(tmp_path, name):
    assert main(["csv", str(tracked(tmp_path / name)), str(tmp_path / "out.csv")]) == 0
    assert sorted({int(row["frame"]) for row in rows_of(tmp_path / "out.csv")}) == list(range(7, 37, 3))


def test_csv_overwrites_nothing_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "out.csv").write_text("mine")
    with pytest.raises(StreamError, match="not overwritten"):
        write_csv([make_message(1)], tmp_path / "out.csv")
    with pytest.raises(StreamError, match="no messages"):
        write_csv([], tmp_path / "empty.csv")
    with pytest.raises(StreamError, match="does its folder exist"):
        write_csv([make_message(1)], tmp_path / "missing" / "out.csv")
    source = write(tmp_path / "run.jsonl", [make_message(1)])
    source.write_text(source.read_text() + "garbage\n")
    assert main(["csv", str(source), str(tmp_path / "broken.csv")]) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "run.jsonl"]


# PLY


def read_ply(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and edges."""
    heading, _, body = data.partition(b"end_header\n")
    lines = heading.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    counts = {line.split()[1]: int(line.split()[2]) for line in lines if line.startswith("element")}
    vertices = np.frombuffer(body, [("xyz", "<f4", 3), ("rgb", "u1", 3)], counts["vertex"])
    edges = np.frombuffer(body, "<i4", offset=vertices.nbytes).reshape(-1, 2)
    assert len(edges) == counts.get("edge", 0)
    return vertices, edges


def test_ply_has_every_reading_of_the_frame():
    frame = frame_of(5)
    depth = frame.depth.copy()
    depth[:10] = 0
    frame = replace(frame, depth=depth)
    vertices, edges = read_ply(ply_bytes(frame))
    assert len(edges) == 0
    points = frame.points().reshape(-1, 3)
    np.testing.assert_array_equal(vertices["xyz"], points[points[:, 2] > 0])


def test_ply_has_the_skeleton_as_edges_and_beads():
    frame, hand = frame_of(5), make_hand()
    vertices, edges = read_ply(ply_bytes(frame, [hand, make_hand(2)]))
    cloud = frame.depth.size - int((frame.depth == 0).sum())
    np.testing.assert_array_equal(vertices["xyz"][cloud : cloud + 21], hand.joints)
    np.testing.assert_array_equal(edges[:20] - cloud, BONES)
    np.testing.assert_array_equal(edges[20:] - cloud - 21, BONES)
    start, end = hand.joints[[0, 1]]
    beads = vertices["xyz"][cloud + 42 :]
    np.testing.assert_allclose(beads[0], start + BEAD * (end - start) / np.linalg.norm(end - start), atol=1e-5)
    lengths = [np.linalg.norm(h.joints[a] - h.joints[b]) for h in (hand, make_hand(2)) for a, b in BONES]
    assert len(beads) == pytest.approx(sum(lengths) / BEAD, abs=40)


def test_ply_leaves_out_joints_without_an_estimate():
    message = with_unknown_joint(make_message(5, hands=1), 2)
    vertices, edges = read_ply(ply_bytes(frame_of(5), message.hands))
    assert len(edges) == 18
    assert np.isfinite(vertices["xyz"]).all()
    assert edges.max() < len(vertices)


def test_ply_command(tmp_path, capsys):
    recording = str(tracked(tmp_path / "walk.h5"))
    assert main(["ply", recording, str(tmp_path / "a.ply"), "--frame", "13"]) == 0
    assert "frame 13 with 2 hands" in capsys.readouterr().out
    assert len(read_ply((tmp_path / "a.ply").read_bytes())[1]) == 40
    assert main(["ply", recording, str(tmp_path / "b.ply"), "--frame", "13", "--no-hands"]) == 0
    assert len(read_ply((tmp_path / "b.ply").read_bytes())[1]) == 0
    other = write(tmp_path / "other.jsonl", [make_message(7, hands=1)])
    assert main(["ply", recording, str(tmp_path / "c.ply"), "--messages", str(other)]) == 0
    assert "frame 7 with 1 hands" in capsys.readouterr().out
    for arguments, reason in (
        (["a.ply", "--frame", "13"], "not overwritten"),
        (["d.ply", "--frame", "14"], "has no frame 14: its frames are numbered 7 to 34"),
        (["missing/d.ply"], "does its folder exist"),
    ):
        assert main(["ply", recording, str(tmp_path / arguments[0]), *arguments[1:]]) == 1
        assert reason in capsys.readouterr().err
    world = write(tmp_path / "world.jsonl", [replace(make_message(7), space="world")])
    assert main(["ply", recording, str(tmp_path / "e.ply"), "--messages", str(world)]) == 1
    assert "unlike the depth" in capsys.readouterr().err


def test_frames_and_messages_go_in_step():
    frames = [frame_of(number) for number in (2, 3, 5, 8)]
    messages = [make_message(number) for number in (1, 3, 4, 8, 9)]
    pairs = [(frame.number, message and message.frame) for frame, message in in_step(frames, messages)]
    assert pairs == [(2, None), (3, 3), (5, None), (8, 8)]


# The window


def test_missing_open3d_names_the_command_to_install_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(TrackerError, match=r'pip install "v2v-hand-tracker\[open3d\]"'):
        load_open3d()
    recording = record(tmp_path / "walk", frames_with_truth())
    assert main(["show", str(recording)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_display_that_does_not_answer_is_none(monkeypatch):
    if not sys.platform.startswith("linux"):
        pytest.skip("asks X11")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    assert not has_display()
    monkeypatch.setenv("DISPLAY", ":4711")
    assert not has_display()


def show(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: software OpenGL may hang, and abort."""
    environment = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return subprocess.run(
        [sys.executable, "-m", "tracker", "show", *arguments],
        capture_output=True, text=True, timeout=60, env=environment, cwd=ROOT,
    )  # fmt: skip


@pytest.fixture
def open3d():
    try:
        result = subprocess.run([sys.executable, "-c", "import open3d"], capture_output=True, timeout=60)
    except subprocess.TimeoutExpired:
        pytest.skip("Open3D does not load here")
    if result.returncode:
        pytest.skip("Open3D, or a library that it needs, is not installed")


@pytest.mark.usefixtures("open3d")
def test_show_without_a_display_is_an_error_and_a_picture_needs_none(tmp_path):
    recording = str(tracked(tmp_path / "walk.h5"))
    told = show(recording)
    assert (told.returncode, told.stdout) == (1, "")
    assert "no display" in told.stderr
    try:
        result = show(recording, "--frame", "13", "--output", str(tmp_path / "a.png"))
    except subprocess.TimeoutExpired:
        pytest.skip("software OpenGL hangs here")
    if result.returncode < 0 or "cannot open a window" in result.stderr:
        pytest.skip("OpenGL does not work here")
    assert result.returncode == 0, result.stderr
    picture = cv2.imread(str(tmp_path / "a.png"))
    # The skeletons' red to green; the cloud is blue, the background nearly black.
    assert (picture[..., 1:].max(axis=2).astype(int) - picture[..., 0] > 60).sum() > 50
    assert main(["show", recording, "--output", str(tmp_path / "a.jpg")]) == 1


class FakeWindow:
    """Keeps what it is shown; is closed after so many looks, and presses keys on the way."""

    def __init__(self, looks: int, presses: dict[int, int]) -> None:
        self.looks, self.presses = looks, presses
        self.shown: list[tuple[int, int]] = []
        self.actions: dict[int, Callable[[], None]] = {}
        self.look = 0

    def on_key(self, key, action) -> None:
        self.actions[key] = action

    def show(self, frame, message) -> None:
        self.shown.append((frame.number, self.look))

    def refresh(self) -> bool:
        self.look += 1
        if self.look in self.presses:
            self.actions[self.presses[self.look]]()
        return self.look < self.looks


def test_playing_shows_every_frame_at_its_time_and_stays_at_the_last():
    frames = [replace(frame_of(number), captured_ns=number * 30_000_000) for number in range(5)]
    window = FakeWindow(looks=60, presses={})
    start = time.monotonic()
    play(window, iter([(frame, None) for frame in frames]))
    assert [number for number, _ in window.shown] == [0, 1, 2, 3, 4]
    assert time.monotonic() - start > 4 * 0.03
    looks = [look for _, look in window.shown]
    assert min(np.diff(looks)) >= 1


def test_space_bar_holds_and_the_arrow_goes_on_by_one():
    frames = [replace(frame_of(number), captured_ns=number * 1_000_000) for number in range(5)]
    window = FakeWindow(looks=40, presses={1: SPACE_BAR, 10: ARROW_RIGHT, 20: ARROW_RIGHT})
    play(window, iter([(frame, None) for frame in frames]))
    assert window.shown == [(0, 0), (1, 10), (2, 20)]
