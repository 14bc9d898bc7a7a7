"""Benchmarks on changed recordings, and of what tells hands from others."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import belief as belief_benchmark  # noqa: E402
import changed  # noqa: E402
from camera_samples import record  # noqa: E402

from tracker.camera.frame import DepthFrame, Intrinsics  # noqa: E402
from tracker.stream.message import Hand  # noqa: E402

CAMERA = Intrinsics(320, 240, 287.0, 280.0, 162.0, 119.0)
PLACE = np.array([0.06, -0.04, 0.6])
ELSEWHERE = [
    name for name, change in changed.CHANGES.items() if (change.turned != np.eye(3)).any() or change.moved.any()
]


def frame():
    """A disc of 4 cm at `PLACE`, which faces the camera, before a wall at 1.5 m."""
    row, column = np.mgrid[:240, :320]
    u, v = CAMERA.project(PLACE)
    depth = np.full((240, 320), 1500, np.uint16)
    depth[(column - u) ** 2 + (row - v) ** 2 < (0.04 * CAMERA.fx / PLACE[2]) ** 2] = 1000 * PLACE[2]
    return DepthFrame(depth, 0.001, CAMERA, 0, 0, 0)


def hand(joints):
    return Hand(1, "right", 0.9, 0.9, joints.astype(np.float32), np.ones(21, np.float32), np.ones(21, bool))


def test_there_are_changes_of_all_sorts():
    assert len(ELSEWHERE) == 10
    assert len(changed.CHANGES) == 18


@pytest.mark.parametrize("name", ELSEWHERE)
def test_the_world_is_seen_where_it_was_moved_to(name):
    change = changed.CHANGES[name]
    seen = change.seen(frame())
    points = seen.points().reshape(-1, 3)
    there = change.turned @ PLACE + change.moved
    disc = points[(points[:, 2] > 0) & (np.linalg.norm(points - there, axis=1) < 0.06)]
    assert len(disc) > 300
    assert disc.mean(axis=0) == pytest.approx(there, abs=0.004)
    row, column = np.rint(seen.intrinsics.project(there)[::-1]).astype(int)
    window = seen.metres()[row - 5 : row + 6, column - 5 : column + 6]
    assert (np.abs(window - there[2]) < 0.02).mean() > 0.95, "gaps between points are closed"


@pytest.mark.parametrize("name", list(changed.CHANGES))
def test_a_published_hand_is_mapped_back(name):
    change = changed.CHANGES[name]
    joints = PLACE + np.random.default_rng(0).normal(0, 0.04, (21, 3))
    back = change.back(hand(joints @ change.turned.T + change.moved))
    assert back.joints == pytest.approx(joints, abs=1e-5)
    assert back.side == ("left" if name == "mirrored" else "right")


def test_worse_images_are_worse_in_their_way():
    plain = frame()
    readings = {name: change.seen(plain).metres() for name, change in changed.CHANGES.items()}
    assert readings["every other pixel"].shape == (120, 160)
    assert (readings["15 % in holes"] == 0).mean() == pytest.approx(0.15, abs=0.01)
    assert (readings["30 % of the pixels gone"] == 0).mean() == pytest.approx(0.3, abs=0.01)
    assert readings["10 mm of noise at 1 m"][plain.depth == 1500].std() == pytest.approx(0.0225, rel=0.05)
    assert np.unique(readings["nothing beyond 0.8 m"]) == pytest.approx([0, 0.6])
    assert np.unique(readings["a wall at 1.2 m, nothing from 0.9 m on"]) == pytest.approx([0.6, 1.2])
    assert np.unique(readings["in steps of 6 mm"]) == pytest.approx([0.6, 1.5])
    again = changed.CHANGES["15 % in holes"].seen(replace(plain, number=0)).metres()
    assert (again == readings["15 % in holes"]).all()


def test_the_command_says_what_came_of_recordings(tmp_path, monkeypatch, capsys):
    words = ["changed.py", "--real", str(tmp_path), "--segmentation", "geometric", "--only", "as it is", "mirrored"]
    monkeypatch.setattr(sys, "argv", words)
    assert changed.main() == 1
    assert "no recording folders" in capsys.readouterr().err
    record(tmp_path / "clip", [frame()])
    assert changed.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "| | clip |"
    assert [line.split(" | ")[0] for line in lines[4:]] == ["| as it is", "| mirrored"]
    assert all(line.endswith(" published in 1 |") for line in lines[4:])
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- begin changed -->\nold\n<!-- end changed -->\nafter\n")
    monkeypatch.setattr(sys, "argv", [*words, "--write", str(page)])
    with pytest.raises(SystemExit):
        changed.main()
    assert "leave --only out" in capsys.readouterr().err
    assert "old" in page.read_text()
    some = {name: changed.CHANGES[name] for name in ("as it is", "mirrored")}
    monkeypatch.setattr(changed, "CHANGES", some)
    monkeypatch.setattr(sys, "argv", [*words[:5], "--write", str(page)])
    assert changed.main() == 0
    told = page.read_text()
    assert "old" not in told
    assert "\n".join(lines[2:]) in told
    assert told.startswith("before\n")
    assert told.endswith("after\n")
    monkeypatch.setattr(sys, "argv", [*words[:5], "--write", str(tmp_path / "none.md")])
    assert changed.main() == 1
    assert "none.md cannot be rewritten" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", words)
    (tmp_path / "clip" / "camera.json").write_text("{")
    assert changed.main() == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_the_fit_finds_the_weights_that_the_data_were_made_with():
    rng = np.random.default_rng(1)
    weights = np.array([0.5, 8.0, 5.0])
    values = rng.normal([2.0, 0.5, 0.7], [3.0, 0.2, 0.2], (40_000, 3))
    real = rng.random(len(values)) < expit(values @ weights - 7.0)
    assert belief_benchmark.fitted(values, real) == pytest.approx([0.5, 8.0, 5.0, -7.0], rel=0.05)
