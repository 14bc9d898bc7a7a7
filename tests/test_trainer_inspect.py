"""Figures and pictures of data files: what is told of good and bad ones, and where things are drawn."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch

from tracker.errors import DataError
from tracker.network.hand_network import HandNetwork, HandNetworkConfig
from tracker.network.v2v import V2VConfig
from tracker.network.weights import save_weights
from trainer.cli import main
from trainer.data.sample import Sample
from trainer.showing.inspection import describe, inspect, pick
from trainer.showing.pictures import SIDES, Scene, draw_samples, joint_colors, target_map, write_picture
from trainer.showing.viewer import SampleViewer, heat_cloud

NYU = Path(__file__).resolve().parents[2] / "shared" / "seed_format" / "nyu_10_voxels.h5"


class Source(list):
    """Samples in a list; an exception in it is raised when it is asked for."""

    @property
    def joints(self):
        return 21

    def __getitem__(self, index):
        item = super().__getitem__(index)
        if isinstance(item, Exception):
            raise item
        return item


def hand(seed=0, labels=lambda joints: joints, count=400, **more):
    """Points about joints that lie on a bent line, which no turning or mirroring brings onto itself."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 1, 21)
    joints = np.stack([0.7 * t - 0.2, 0.3 * t**2 - 0.6, 0.8 * t**3 - 0.1], axis=1) + 0.01 * rng.standard_normal(3)
    points = joints[rng.integers(0, 21, count)] + rng.uniform(-0.03, 0.03, (count, 3))
    return Sample(points.astype(np.float32), labels(joints).astype(np.float32), 0.3, **more)


def lines_of(samples):
    return describe(inspect(Source(samples), range(len(samples))))


def warnings_of(samples):
    return [line for line in lines_of(samples) if line.startswith("warning")]


def test_figures_of_a_good_file():
    lines = lines_of([hand(i) for i in range(10)])
    text = "\n".join(lines)
    assert "samples           10 of 21 joints" in text
    assert "cube edge         300 mm" in text
    assert re.search(r"x -0\.2\d to 0\.5\d, y -0\.6\d to -0\.\d+, z -0\.1\d to 0\.\d+", text)
    assert "without a hand    0.0%" in text
    median = float(re.search(r"joint to point +([\d.]+) mm", text)[1])
    assert 0 < median < 3  # a point within 0.03 * 150 mm an axis
    assert not [line for line in lines if line.startswith("warning")]


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (lambda joints: joints[:, [1, 0, 2]], "as y x z it"),
        (lambda joints: joints * (1, -1, 1), "as x -y z it"),
        (lambda joints: (joints + 1) / 2, r"as x y z, scaled from \[0, 1\]"),
        (lambda joints: 10 * joints, "axes and units"),
    ],
)
def test_labels_that_do_not_lie_on_their_points_are_told(labels, told):
    warnings = warnings_of([hand(i, labels) for i in range(5)])
    assert re.search(r"joints lie \d+ mm from their nearest point.*" + told, warnings[0])


def test_what_is_wrong_with_samples_is_told():
    nothing = np.full((21, 3), np.nan, np.float32)
    odd = [
        hand(1),
        hand(1),
        DataError("sample 2 cannot be read"),
        hand(3, lambda joints: joints - np.array([0, 0.6, 0])),
        hand(4, count=50, mirrored=True),
        hand(5, count=0),
        Sample(hand(6).points, nothing, 0.2, presence=False),
        hand(7, lambda joints: np.where(np.arange(21)[:, None] < 7, np.nan, joints)),
    ]
    text = "\n".join(lines_of(odd))
    assert "samples           8 of 21 joints; figures over 7 of them" in text
    assert "cube edge         200 to 300 mm" in text
    assert re.search(r"few voxels +2 \(4, 5\)", text)
    assert "without a hand    14.3%" in text
    assert "left hands        14.3%" in text
    assert "same as others    1\n" in text
    assert "not known         5.56%" in text  # 7 of 6 * 21
    assert "warning: 1 samples cannot be read; the first: sample 2 cannot be read" in text
    assert "without a single point in the cube: 1 (5)" in text
    assert re.search(r"warning: \d+% of the joints lie outside", text)


def test_nothing_to_learn_from():
    nothing = np.full((21, 3), np.nan, np.float32)
    assert "no joint is known" in warnings_of([Sample(hand().points, nothing, 0.3)])[0]
    assert "voxels are empty" in warnings_of([hand(count=0)])[0]
    with pytest.raises(DataError, match="damaged"):
        lines_of([DataError("damaged"), DataError("damaged too")])


def test_large_files_are_judged_by_a_part_that_can_be_drawn_again():
    np.testing.assert_array_equal(pick(5, 10), range(5))
    some = pick(100_000, 50)
    assert len(set(some)) == 50
    assert some.max() > 50_000
    np.testing.assert_array_equal(some, pick(100_000, 50))
    assert set(pick(100_000, 50, seed=1)) != set(some)


@pytest.mark.skipif(not NYU.is_file(), reason="the shared sample of NYU is not here")
def test_a_real_file_has_nothing_wrong(capsys, tmp_path):
    path = tmp_path / "nyu.png"
    assert main(["inspect", str(NYU), "--output", str(path), "--heat-maps", "all", "--samples", "3", "9"]) == 0
    printed = capsys.readouterr().out
    assert "10 of 14 joints" in printed
    assert "warning" not in printed
    assert float(re.search(r"joint to point +([\d.]+) mm", printed)[1]) < 12
    picture = cv2.imread(str(path))
    assert picture.shape[1] == 6 * 3 * 80
    assert picture.shape[0] == 2 * 3.25 * 80


def pixels(figure, number):
    """What is drawn on the axes `number` of a figure, (h, w, 3) 0..255, and a function from data to row and column."""
    figure.canvas.draw()
    image = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)
    axes = figure.axes[number]

    def place(x, y):
        column, row = axes.transData.transform((x, y))
        return round(image.shape[0] - row), round(column)

    return image, place


def near(image, spot, reach=2):
    row, column = spot
    return image[row - reach : row + reach + 1, column - reach : column + reach + 1]


def corner_scene(joints=21):
    """One clump of points at the right, the top and the far end; only the first joint is known, and elsewhere."""
    points = np.array([0.6, -0.6, 0.6]) + np.random.default_rng(0).uniform(-0.2, 0.2, (3000, 3))
    labels = np.full((joints, 3), np.nan)
    labels[0] = (-0.5, 0.4, -0.3)
    return Scene("corner", points.astype(np.float32), labels.astype(np.float32), 0.3)


@pytest.mark.parametrize(
    ("number", "clump", "joint"),
    [(0, (0.6, -0.6), (-0.5, 0.4)), (1, (0.6, -0.6), (-0.3, 0.4)), (2, (0.6, 0.6), (-0.5, -0.3))],
)
def test_voxels_joints_and_heat_are_drawn_where_they_are(number, clump, joint):
    figure = draw_samples([corner_scene()], [0])
    image, place = pixels(figure, number)
    spot = near(image, place(*clump))
    assert (spot < 230).all()
    assert (spot.max(axis=2) == spot.min(axis=2)).all()  # grey
    assert (near(image, place(-clump[0], clump[1])) == 255).all()
    assert near(image, place(*joint), 1).max() < 60  # the wrist is black
    image, place = pixels(figure, number + 3)
    red, green, blue = near(image, place(*joint), 1).reshape(-1, 3).T
    assert red.min() > 200
    assert max(green.max(), blue.max()) < 140
    # In the picture, x is to the right, y is down and z is up from above.
    row, column = place(0.5, 0.5)
    center_row, center_column = place(0, 0)
    assert column > center_column
    assert (row > center_row) == (number != 2)


def test_no_side_shows_a_mirror_image():
    for side in SIDES:
        right, down, away = np.zeros((3, 3))
        right[side.right] = 1
        down[side.vertical] = -1 if side.up else 1
        away[side.depth] = -1 if side.beyond else 1
        np.testing.assert_array_equal(np.cross(right, down), away)


def test_near_voxels_hide_far_ones_and_are_darker():
    far, close = np.mgrid[-0.5:0.5:0.02, -0.5:0.5:0.02].reshape(2, -1).T, None
    close = far[far[:, 0] < 0]
    points = np.concatenate([np.insert(far, 2, 0.8, axis=1), np.insert(close, 2, -0.8, axis=1)]).astype(np.float32)
    scene = Scene("two walls", points, np.full((3, 3), np.nan, np.float32), 0.3)
    image, place = pixels(draw_samples([scene]), 0)
    assert image[place(-0.25, 0)].max() < 60
    assert image[place(0.25, 0)].min() > 180


def test_predictions_and_their_error():
    scene = corner_scene()
    predicted = np.zeros((21, 3), np.float32)
    predicted[0] = scene.joints[0] + (0.2, 0, 0)
    scene = Scene("found", scene.points, scene.joints, 0.3, predicted)
    assert scene.error_mm == pytest.approx(0.2 * 150, abs=1e-3)
    image, place = pixels(draw_samples([scene]), 0)
    assert (near(image, place(-0.3, 0.4)) - (255, 0, 255) == 0).all(axis=2).any()
    assert Scene("unknown", scene.points, np.full((21, 3), np.nan), 0.3, predicted).error_mm is None


def test_heat_maps_are_those_of_training():
    joints = np.array([[0.5, -0.5, 0.0], [np.nan] * 3, [0, 0, 0]], np.float32)
    heat = target_map(joints, [0, 1])
    assert heat.shape == (44, 44, 44)
    peak = np.array(np.unravel_index(heat.argmax(), heat.shape))
    np.testing.assert_allclose((peak + 0.5) / 22 - 1, joints[0], atol=0.5 / 22 + 1e-6)
    points, colors = heat_cloud(joints, [0])
    np.testing.assert_allclose(points.mean(axis=0), joints[0], atol=0.01)
    assert len(points) == len(colors) > 20
    assert len(heat_cloud(joints, [1])[0]) == len(heat_cloud(joints, [])[0]) == 0


def test_colors_tell_fingers_apart():
    assert len({tuple(color) for color in joint_colors(21)}) == 6
    assert len({tuple(color) for color in joint_colors(14)}) == 14


def test_a_picture_is_written_whole_or_not_at_all(tmp_path):
    figure = draw_samples([corner_scene(14)])
    with pytest.raises(OSError, match="No such file"):
        write_picture(figure, tmp_path / "none" / "a.png")
    write_picture(figure, tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(ValueError, match="100"):
        draw_samples([corner_scene()] * 101)


def test_simulated_hands_augmented_and_with_predictions(tmp_path, capsys):
    torch.set_num_threads(1)
    config = V2VConfig(input_size=16, width=4, front_kernel=3, blocks=1, presence=True)
    save_weights(tmp_path / "tiny.safetensors", HandNetwork(HandNetworkConfig(v2v=config)).eval(), {})
    path = tmp_path / "a.png"
    words = ["inspect", "synthetic", "--most", "6", "--count", "2", "--augment", "--heat-maps", "index_tip"]
    assert main([*words, "--output", str(path), "--weights", str(tmp_path / "tiny.safetensors")]) == 0
    assert "6 of 21 joints" in capsys.readouterr().out
    picture = cv2.imread(str(path)).astype(int)
    assert picture.shape[0] == 6 * 3.25 * 80  # each of two, and two versions of it
    rows = np.array_split(picture, 6)
    assert all((np.abs(row - (255, 0, 255)).max(axis=2) < 20).any() for row in rows)  # magenta: predicted
    assert (rows[0] != rows[1]).any()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["none.h5"], "none.h5"),
        (["garbage.h5"], "garbage.h5"),
        (["two.h5", "--samples", "3"], "samples 0 to 2"),
        (["two.h5", "--samples", "-1"], "samples 0 to 2"),
        (["synthetic", "--most", "3", "--heat-maps", "toe"], "index_tip"),
        (["synthetic", "--most", "3", "--heat-maps", "21"], "0 to 20"),
        (["synthetic", "--most", "3", "--output", "a.jpg"], ".png"),
        (["synthetic", "--most", "3", "--output", "none/a.png"], "no folder"),
        (["two.h5", "--output", "folder.png"], "is a folder"),
        (["two.h5", "--view", "--port", "70000"], "65535"),
        (["synthetic", "--most", "3", "--output", "a.png", "--weights", "none.safetensors"], "none.safetensors"),
        (["two.h5", "--output", "a.png", "--weights", "v2v-lite"], "the data have 2"),
        (["two.h5", "--output", "a.png", "--weights", "all.safetensors"], "`python -m trainer evaluate` judges"),
    ],
)
def test_bad_input_is_one_line(words, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("garbage.h5").write_bytes(b"garbage")
    Path("folder.png").mkdir()
    write_two()
    v2v = V2VConfig(joints=1, input_size=16, width=4, front_kernel=3, blocks=1, output_scale=2)
    config = HandNetworkConfig(v2v=v2v, decode="peak", skeleton="global2", global_joints=2)
    save_weights(Path("all.safetensors"), HandNetwork(config), {})
    assert main(["inspect", *words]) == 1
    captured = capsys.readouterr()
    assert told in captured.err
    assert captured.err.count("\n") == 1
    assert not Path("a.png").exists()


def write_two():
    """`two.h5`: three samples of two joints, the second damaged."""
    grid = np.zeros((88, 88, 88), bool)
    grid[30:50, 40:60, 44] = True
    buffer = io.BytesIO()
    np.savez_compressed(buffer, grid)
    with h5py.File("two.h5", "w") as file:
        file["labels"] = np.full((3, 2, 3), 0.1, np.float32)
        file["cube"] = np.full((3, 3), 300.0)
        for i in range(3):
            file[f"real_voxels/{i}"] = np.frombuffer(b"broken" if i == 1 else buffer.getvalue(), np.uint8)


def test_damaged_samples_do_not_hide_the_others(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_two()
    assert main(["inspect", "two.h5", "--samples", "0", "2", "--output", "a.png"]) == 0
    printed = capsys.readouterr().out
    assert "occupied voxels   400 of" in printed
    assert "warning: 1 samples cannot be read" in printed
    assert main(["inspect", "two.h5", "--output", "c.png"]) == 0
    assert "left out: two.h5: sample 1" in capsys.readouterr().err
    assert cv2.imread("c.png").shape[0] == 2 * 3.25 * 80
    assert main(["inspect", "two.h5", "--samples", "1", "--output", "b.png"]) == 1
    assert "sample 1" in capsys.readouterr().err


def test_the_browser_shows_samples_until_it_is_told_to_stop():
    pytest.importorskip("viser")
    words = ["inspect", "synthetic", "--most", "3", "--view", "--heat-maps", "all"]
    run = subprocess.Popen(
        [sys.executable, "-m", "trainer", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    guard = threading.Timer(120, run.kill)
    guard.start()
    try:
        found = None
        while found is None:
            line = run.stdout.readline()
            assert line, run.stderr.read()
            found = re.search(r"(http://127\.0\.0\.1:(\d+));", line)
        assert urllib.request.urlopen(found[1], timeout=10).status == 200
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.2", int(found[2])), timeout=1)
        os.kill(run.pid, signal.SIGINT)
        assert run.wait(20) == 0
        assert "Traceback" not in run.stderr.read()
    finally:
        guard.cancel()
        run.kill()
        run.communicate()


def test_the_slider_changes_what_is_shown():
    pytest.importorskip("viser")
    other = Scene("other", np.zeros((0, 3), np.float32), np.full((21, 3), 0.2, np.float32), 0.3)
    with SampleViewer([corner_scene(), other], [0], port=0) as viewer:
        shown = {}
        add = viewer._server.scene.add_point_cloud
        viewer._server.scene.add_point_cloud = lambda name, points, *a, **k: (
            shown.update({name: points if k["visible"] else None}) or add(name, points, *a, **k)
        )
        viewer._draw()
        assert "corner" in viewer._text.content
        assert len(shown["/points"]) == 3000
        np.testing.assert_allclose(shown["/joints"], [[-0.5, 0.4, -0.3]])
        np.testing.assert_allclose(shown["/heat"].mean(axis=0), [-0.5, 0.4, -0.3], atol=0.02)
        viewer._sample.value = 1
        viewer._heat.value = "none"
        viewer._draw()
        assert "other" in viewer._text.content
        assert shown["/points"] is shown["/heat"] is None
        assert len(shown["/joints"]) == 21


def test_missing_viser_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(DataError, match=r"pip install .*\[view\]"):
        SampleViewer([corner_scene()])


def test_help_enters_no_heavy_room():
    code = (
        "import sys, trainer.commands.inspect; print([m for m in ('torch', 'numpy', 'matplotlib') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout.strip() == "[]", result.stderr
