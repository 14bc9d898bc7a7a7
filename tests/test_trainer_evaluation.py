"""Figures of merit, text files, peaks, and the commands `evaluate` and `predict`."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid

from tracker.camera.frame import DepthFrame, Intrinsics
from tracker.errors import DataError
from tracker.hand.cube import Cube
from tracker.hand.heatmaps import gaussian_maps
from tracker.network.hand_network import HandNetwork, HandNetworkConfig
from tracker.network.v2v import V2VConfig
from tracker.network.weights import save_weights
from trainer.cli import main
from trainer.commands.evaluate import PRESET_NAMES
from trainer.data.sample import Sample
from trainer.fitting.augment import Augmentation
from trainer.judging import metrics
from trainer.judging.evaluate import evaluate, merge
from trainer.judging.peaks import find_peaks, match_peaks
from trainer.judging.text_files import PRESETS, from_mm, read_blocks, text_errors, to_mm

torch.set_num_threads(1)
CPU = torch.device("cpu")
NYU = Path(__file__).resolve().parents[2] / "shared" / "seed_format" / "nyu_10_voxels.h5"
ICVL = Path(__file__).resolve().parents[2] / "shared" / "published" / "icvl"
TINY = V2VConfig(joints=4, input_size=16, width=4, front_kernel=3, blocks=1)


class Source(list):
    """Samples in memory."""

    joints = 4


def make_samples(count=7, centers=True):
    rng = np.random.default_rng(0)
    samples = Source()
    for i in range(count):
        joints = rng.uniform(-0.8, 0.8, (4, 3)).astype(np.float32)
        if i == 2:
            joints[1] = np.nan
        center = (0.02 * i, -0.1, 0.5 + 0.05 * i) if centers else None
        points = rng.uniform(-1, 1, (50, 3)).astype(np.float32)
        samples.append(Sample(points, joints, 0.2 + 0.01 * i, center=center, mirrored=i % 2 == 1, name=f"f {i}.png"))
    return samples


def network_of(v2v=TINY, **more):
    torch.manual_seed(0)
    network = HandNetwork(HandNetworkConfig(v2v=v2v, **{"skeleton": "joints4", **more}))
    torch.nn.init.normal_(network.v2v.head.weight, std=2.0)  # so that its joints are spread
    return network


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Weights in a file, and samples behind the name `data`."""
    save_weights(tmp_path / "net.safetensors", network_of(), {})
    samples = make_samples()
    for command in ("evaluate", "predict"):
        monkeypatch.setattr(f"trainer.commands.{command}.open_samples", lambda *_: samples)
    monkeypatch.chdir(tmp_path)
    return samples


# Figures


def test_figures_by_hand():
    error = np.array([[1.0, 3.0], [5.0, 15.0], [np.nan, 30.0], [np.nan, np.nan]], np.float32)
    assert metrics.mean_error(error) == pytest.approx(54 / 5)
    assert metrics.median_error(error) == 5
    assert metrics.max_error(error) == 30
    np.testing.assert_allclose(metrics.joint_means(error), [3, 16])
    np.testing.assert_allclose(metrics.frames_within(error, [0, 3, 15, 29, 30]), [0, 1 / 3, 2 / 3, 2 / 3, 1])
    np.testing.assert_allclose(metrics.joints_within(error, [0.5, 1, 5, 40]), [0, 0.2, 0.6, 1])
    assert metrics.frames_area(error, 20) == pytest.approx((17 + 5 + 0) / 20 / 3)
    assert metrics.joints_area(error, 20) == pytest.approx((19 + 17 + 15 + 5 + 0) / 20 / 5)


def test_areas_are_those_under_the_curves():
    error = np.random.default_rng(0).gamma(2, 12, (300, 5))
    steps = np.linspace(0, metrics.CURVE_LIMIT, 8001)
    for curve, area in ((metrics.frames_within, metrics.frames_area), (metrics.joints_within, metrics.joints_area)):
        assert area(error) == pytest.approx(trapezoid(curve(error, steps), steps) / 80, abs=1e-4)


def test_what_was_not_found_counts_in_shares_and_not_in_means():
    error = np.array([[1.0, np.inf], [3.0, 5.0], [np.nan, np.nan]])
    assert metrics.mean_error(error) == 3
    assert metrics.missed(error) == 0.25
    np.testing.assert_allclose(metrics.frames_within(error, [50]), [0.5])
    np.testing.assert_allclose(metrics.joints_within(error, [50]), [0.75])


def test_figures_of_nothing_are_none_and_warn_not(recwarn):
    for error in (np.full((3, 2), np.nan), np.empty((0, 2))):
        result = metrics.figures(error, ["a", "b"])
        assert result["mean_mm"] is result["frames_area"] is result["joint_mean_mm"]["a"] is None
        json.dumps(result, allow_nan=False)
    assert not recwarn.list


# Text files


def write(path, text):
    path.write_text(text)
    return path


def test_presets_go_there_and_back():
    assert tuple(PRESETS) == PRESET_NAMES
    points = np.random.default_rng(0).uniform([-100, -100, 300], [100, 100, 600], (5, 4, 3))
    for preset in PRESETS.values():
        np.testing.assert_allclose(to_mm(from_mm(points, preset), preset), points)
    np.testing.assert_allclose(from_mm(np.array([0.0, 10.0, 500.0]), PRESETS["nyu"]), [320, 240 + 11.7414, 500])


@pytest.mark.parametrize("separator", [" ", "\t", ",", ", ", "  "])
@pytest.mark.parametrize("name", [None, "image_D00000001.png", "000017", "my frame.png"])
def test_lines_of_all_kinds(separator, name, tmp_path):
    lead = "" if name is None else name + ("\t" if " " in name else separator)
    line = separator.join(["1", "-2.5", "3e2", "4", "5", "nan"])
    (block,) = read_blocks(write(tmp_path / "a.txt", f"{lead}{line}{separator}\r\n{lead}{line}\n\n"), unknown=True)
    assert block.names == (None if name is None else (name, name))
    np.testing.assert_array_equal(block.values, [[[1, -2.5, 300], [4, 5, np.nan]]] * 2)


def test_long_files_come_in_blocks(tmp_path):
    values = np.arange(60.0).reshape(10, 2, 3) + 1
    lines = "".join(" ".join(map(str, row.ravel())) + "\n" for row in values)
    path = write(tmp_path / "a.txt", lines)
    blocks = list(read_blocks(path, block=4))
    assert [len(block.line) for block in blocks] == [4, 4, 2]
    assert blocks[2].line == (9, 10)
    np.testing.assert_array_equal(np.concatenate([block.values for block in blocks]), values)


@pytest.mark.parametrize(
    ("ours", "truth", "message"),
    [
        ("1 2 3\n", "1 2 3\n1 2 3\n", r"has 1 lines, .* has 2"),
        ("1 2 3 4 5 6\n", "1 2 3\n", "has 2 joints a line, .* has 1"),
        ("1 2 3\n1 2 x3\n", "1 2 3\n1 2 3\n", r"ours.txt:2: 'x3' is not a number"),
        ("1 2 3\n1 2 nan\n", "1 2 3\n1 2 3\n", r"ours.txt:2: nan"),
        ("1 2 3\n", "1 2 inf\n", r"truth.txt:1: inf"),
        ("1 2 3\n1 2 3 4 5 6\n", "1 2 3\n", r"ours.txt:2: 6 where the lines before have 3"),
        ("1 2 3\n\n1 2 3\n", "1 2 3\n", r"ours.txt:2: a blank line"),
        ("1 2 3 4 5\n", "1 2 3\n", r"ours.txt:1: 5 numbers"),
        (
            "a.png 1 2 3\nb.png 1 2 3\n",
            "x\\a.png\t1 2 3\nc.png\t1 2 3\n",
            r"ours.txt:2 is of b.png, .*truth.txt:2 of c.png",
        ),
        ("a.png\n", "1 2 3\n", "ours.txt:1: 0 numbers"),
        ("\n\n", "1 2 3\n", "ours.txt is empty"),
        ("1 2 3\n", "", "truth.txt is empty"),
        ("1 2 3\n", None, "no such file: .*truth.txt"),
        ("\0\1\2" * 50000, "1 2 3\n", "is this a text file"),
        ("-1 2 3\n", "-1 2 3\n", "--preset xyz"),
    ],
)
def test_bad_text_files_are_one_line(ours, truth, message, tmp_path, capsys):
    write(tmp_path / "ours.txt", ours)
    if truth is not None:
        write(tmp_path / "truth.txt", truth)
    words = ["--predictions", str(tmp_path / "ours.txt"), "--truth", str(tmp_path / "truth.txt"), "--preset", "icvl"]
    assert main(["evaluate", *words]) == 1
    printed = capsys.readouterr().err.strip()
    assert re.search(message, printed), printed
    assert "\n" not in printed


def test_unknown_truth_is_left_out(tmp_path):
    ours = write(tmp_path / "ours.txt", "0 0 0 0 3 4\n")
    truth = write(tmp_path / "truth.txt", "nan nan nan 0 0 0\n")
    np.testing.assert_array_equal(text_errors(ours, truth, "xyz"), [[np.nan, 5]])


@pytest.mark.skipif(not ICVL.is_dir(), reason="the shared predictions for ICVL are not here")
def test_published_predictions_give_published_figures(tmp_path, capsys):
    files = [str(ICVL / f"CVPR18_ICVL_{name}.txt") for name in ("V2V_PoseNet", "HandPointNet")]
    words = ["--truth", str(ICVL / "icvl_test_groundtruth_label.txt"), "--preset", "icvl"]
    words += ["--names", "V2V-PoseNet", "HandPointNet", "--output", str(tmp_path / "a" / "b")]
    assert main(["evaluate", "--predictions", *files, *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["V2V-PoseNet", "HandPointNet"]
    assert next(line for line in lines if line.startswith("mean error")).split()[-2:] == ["6.284", "6.935"]
    kept = json.loads((tmp_path / "a" / "b" / "figures.json").read_text())
    assert kept["V2V-PoseNet"]["mean_mm"] == pytest.approx(6.284, abs=5e-4)
    assert len(kept["HandPointNet"]["joint_mean_mm"]) == 16
    for name in ("curves.png", "joints.png"):
        picture = cv2.imread(str(tmp_path / "a" / "b" / name))
        assert picture.shape[1] > 500
        assert picture.std() > 10
    assert len(list((tmp_path / "a" / "b").iterdir())) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give WEIGHTS and DATA"),
        (["v2v-lite"], "give WEIGHTS and DATA"),
        (["--predictions", "a.txt"], "needs --truth"),
        (["--truth", "a.txt"], "needs --predictions"),
        (["--predictions", "a.txt", "--truth", "b.txt"], "need --preset"),
        (["v2v-lite", "--predictions", "a.txt", "--truth", "b.txt", "--preset", "xyz"], "either weights and data"),
        (["v2v-lite", "synthetic", "--preset", "xyz"], "--preset is for text files"),
        (["v2v-lite", "v2v-lite", "synthetic"], "two methods are called v2v-lite"),
        (["v2v-lite", "synthetic", "--names", "a", "b"], "2 names for 1 methods"),
    ],
)
def test_wrong_usage_is_told(words, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", *words])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


# Networks


def test_several_networks_side_by_side(data, tmp_path, capsys):
    other = network_of()
    torch.nn.init.normal_(other.v2v.head.weight, std=0.1)
    save_weights(tmp_path / "other.safetensors", other, {})
    assert main(["evaluate", "net.safetensors", "other.safetensors", "data", "--output", "out", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    kept = json.loads((tmp_path / "out" / "figures.json").read_text())
    for name, network in (("net", network_of()), ("other", other)):
        result = evaluate(network, data, CPU)
        assert kept[name]["mean_mm"] == pytest.approx(result.mean_mm, abs=1e-3)
        assert f"{result.mean_mm:.3f}" in printed
    assert kept["net"]["calibration_error"] > 0
    assert "calibration error" in printed


def test_parts_of_several_processes_are_the_whole():
    samples, network = make_samples(), network_of()
    how = Augmentation(shift_sd=0.1)
    whole = evaluate(network, samples, CPU, how=how)
    for size in (2, 3, 9):
        parts = [evaluate(network, samples, CPU, how=how, batch_size=2, part=(rank, size)) for rank in range(size)]
        merged = merge(parts)
        np.testing.assert_allclose(merged.error_mm, whole.error_mm, rtol=1e-4)
        np.testing.assert_allclose(merged.presence, whole.presence, rtol=1e-4)
        np.testing.assert_array_equal(merged.present, whole.present)
    assert np.abs(whole.error_mm - evaluate(network, samples, CPU).error_mm)[0].max() > 0.1


def test_a_network_and_data_of_other_joints(data, tmp_path, capsys):
    save_weights(tmp_path / "five.safetensors", network_of(replace(TINY, joints=5)), {})
    for words in (["evaluate", "five.safetensors", "data"], ["predict", "five.safetensors", "data", "out.txt"]):
        assert main(words) == 1
        assert "5 joints" in capsys.readouterr().err
    with pytest.raises(DataError, match="finds 5 joints"):
        evaluate(network_of(replace(TINY, joints=5)), data, CPU)


# predict


@pytest.mark.parametrize("more", [[], ["--names-column"], ["--relative"], ["--preset", "nyu"]])
def test_predicted_files_give_the_error_of_the_network(data, more, capsys):
    mean = evaluate(network_of(), data, CPU).mean_mm
    assert main(["predict", "net.safetensors", "data", "ours.txt", "--truth", "truth.txt", *more]) == 0
    preset = more[-1] if "--preset" in more else "xyz"
    errors = text_errors(Path("ours.txt"), Path("truth.txt"), preset)
    assert errors.shape == (7, 4)
    assert metrics.mean_error(errors) == pytest.approx(mean, abs=1e-2 if preset == "nyu" else 1e-3)
    capsys.readouterr()
    assert main(["evaluate", "--predictions", "ours.txt", "--truth", "truth.txt", "--preset", preset]) == 0
    assert main(["evaluate", "net.safetensors", "data"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("mean error")]
    first, second = (float(line.split()[-1]) for line in lines)
    assert first == pytest.approx(second, abs=2e-2 if preset == "nyu" else 2e-3)
    assert sorted(path.name for path in Path().iterdir()) == ["net.json", "net.safetensors", "ours.txt", "truth.txt"]


def test_predicted_joints_lie_where_the_camera_saw_them(data):
    assert main(["predict", "net.safetensors", "data", "ours.txt", "--truth", "truth.txt", "--names-column"]) == 0
    assert main(["predict", "net.safetensors", "data", "uvd.txt", "--truth", "uvd_truth.txt", "--preset", "msra"]) == 0
    (truth,) = read_blocks(Path("truth.txt"), unknown=True)
    (pixels,) = read_blocks(Path("uvd_truth.txt"), unknown=True)
    assert truth.names == tuple(f"f_{i}.png" for i in range(7))
    assert main(["predict", "net.safetensors", "data", "up.txt", "--truth", "up_truth.txt", "--y-up"]) == 0
    (turned,) = read_blocks(Path("up_truth.txt"), unknown=True)
    np.testing.assert_array_equal(turned.values, truth.values * [1, -1, 1])
    camera = Intrinsics(320, 240, 241.42, 241.42, 160, 120)
    for i, sample in enumerate(data):
        expected = Cube(sample.center, sample.edge, "left" if i % 2 else "right").to_camera(sample.joints)
        np.testing.assert_allclose(truth.values[i], expected * 1000, atol=1e-2)
        # A depth image with the true joint at its pixel gives the point back.
        u, v, depth = pixels.values[i, 0]
        frame = DepthFrame(np.full((240, 320), round(depth * 10), np.uint16), 0.0001, camera, 0, 0, 0)
        near = frame.points().reshape(240, 320, 3)[round(v), round(u)] if 0 <= v < 239 and 0 <= u < 319 else None
        if near is not None:
            np.testing.assert_allclose(near * 1000, truth.values[i, 0], atol=3)


@pytest.mark.skipif(not NYU.is_file(), reason="the shared sample of NYU is not here")
def test_real_joints_are_written_where_nyu_has_them(tmp_path, monkeypatch):
    """Truth in NYU's frame is gt3Dcrop + com3D of the file; pixels are those of NYU's own projection of it."""
    monkeypatch.chdir(tmp_path)
    with h5py.File(NYU) as file:
        raw = file["gt3Dcrop"][:].astype(float) + file["com3D"][:].astype(float)[:, None]
    save_weights(Path("net.safetensors"), network_of(replace(TINY, joints=14), skeleton="joints14"), {})
    assert main(["convert", str(NYU), "packed"]) == 0
    assert main(["convert", "packed", "back.h5"]) == 0

    def truth(data, *more):
        assert main(["predict", "net.safetensors", data, "ours.txt", "--truth", "truth.txt", *more]) == 0
        (block,) = read_blocks(Path("truth.txt"))
        return block.values

    x, y, z = np.moveaxis(raw, -1, 0)
    pixels = np.stack([320 + 588.03 * x / z, 240 - 587.07 * y / z, z], axis=-1)
    for data in (str(NYU), "packed", "back.h5"):
        np.testing.assert_allclose(truth(data, "--y-up"), raw, atol=0.01)
        np.testing.assert_allclose(truth(data), raw * [1, -1, 1], atol=0.01)
        np.testing.assert_allclose(truth(data, "--preset", "nyu"), pixels, atol=0.01)
        np.testing.assert_allclose(truth(data, "--preset", "nyu", "--y-up"), pixels, atol=0.01)


def test_data_without_centres_is_refused_and_leaves_nothing(tmp_path, monkeypatch, capsys, data):
    samples = make_samples(centers=False)
    monkeypatch.setattr("trainer.commands.predict.open_samples", lambda *_: samples)
    Path("ours.txt").write_text("of last week")
    assert main(["predict", "net.safetensors", "data", "ours.txt", "--truth", "truth.txt"]) == 1
    assert "--relative" in capsys.readouterr().err
    assert Path("ours.txt").read_text() == "of last week"
    assert not list(tmp_path.glob("truth*")) + list(tmp_path.glob("*.part"))
    assert main(["predict", "net.safetensors", "data", "ours.txt", "--relative", "--names-column"]) == 0
    assert Path("ours.txt").read_text().startswith("f_0.png\t")
    assert main(["predict", "net.safetensors", "data", "nowhere/ours.txt"]) == 1
    assert "nowhere/ours.txt" in capsys.readouterr().err
    assert main(["predict", "net.safetensors", "data", str(tmp_path)]) == 1
    assert "is a folder" in capsys.readouterr().err
    for words in (["ours.txt", "--truth", "ours.txt"], ["ours.txt", "--relative", "--preset", "nyu"]):
        with pytest.raises(SystemExit):
            main(["predict", "net.safetensors", "data", *words])


# One map for all joints


def test_peaks_lie_where_the_joints_are():
    joints = torch.tensor([[[0.11, -0.52, 0.33], [-0.6, 0.1, 0.0], [0.5, 0.5, -0.7]], [[0.0, 0.0, 0.0]] * 3])
    maps = gaussian_maps(joints, 44, 1.7) * torch.tensor([1.0, 0.8, 0.6])[:, None, None, None]
    points, heights = find_peaks(maps.amax(dim=1), 4)
    np.testing.assert_allclose(points[0, :3], joints[0], atol=0.15 * 2 / 44)
    assert (heights[0, :3].diff() < 0).all()
    assert points[0, 3].isnan().all()
    assert heights[0, 3].isnan()
    # Three joints in one place are one peak.
    np.testing.assert_allclose(points[1, 0], [0, 0, 0], atol=1e-3)
    assert points[1, 1:].isnan().all()


def test_peaks_at_the_rim_plateaus_and_empty_maps():
    maps = torch.zeros(3, 6, 6, 6)
    maps[0, 0, 5, 3] = 1
    maps[1, 2:4, 2:4, 2:4] = 1
    points, heights = find_peaks(maps, 300)
    assert heights.isfinite().sum(dim=1).tolist() == [1, 1, 0]
    np.testing.assert_allclose(points[0, 0], [-5 / 6, 5 / 6, 1 / 6], atol=1e-6)
    assert points[1, 0].abs().max() <= 0.5


def test_matching_gives_each_joint_a_peak_of_its_own():
    truth = np.array([[0.0, 0, 0], [10, 0, 0], [np.nan] * 3, [50, 0, 0]])
    peaks = np.array([[8.0, 0, 0], [11, 0, 0], [np.nan] * 3])
    distance, height = match_peaks(peaks, np.array([0.9, 0.5, np.nan]), truth)
    # To take the nearest first would give 10 the peak at 11 and 0 the one at 8: that is least in sum as well.
    np.testing.assert_allclose(distance, [8, 1, np.nan, np.inf])
    np.testing.assert_allclose(height, [0.9, 0.5, 0, 0], rtol=1e-6)
    # Here nearest first (10 with 9) would leave 0 with 60.
    distance, _ = match_peaks(np.array([[9.0, 0, 0], [60, 0, 0]]), np.ones(2), truth[[0, 1]])
    np.testing.assert_allclose(sorted(distance), [9, 50])
    distance, _ = match_peaks(np.empty((0, 3)), np.empty(0), truth)
    np.testing.assert_array_equal(distance, [np.inf, np.inf, np.nan, np.inf])


def test_evaluation_of_one_map_for_all_joints(data, tmp_path, capsys, monkeypatch):
    v2v = replace(TINY, joints=1, output_scale=2)
    network = network_of(v2v, decode="peak", skeleton="global4", global_joints=4)

    class Knowing(torch.nn.Module):
        """Shows the joints of the next samples in any order, one of them missing and one somewhere else."""

        config = v2v
        at = 0

        def forward(self, occupancy):
            joints = torch.from_numpy(np.stack([s.joints for s in data[self.at : self.at + len(occupancy)]]))
            self.at += len(occupancy)
            joints = joints[:, [3, 0, 1]]
            joints[:, 1] += 0.9 * torch.where(joints[:, 1] > 0, -1, 1)
            return gaussian_maps(joints, 64, 1.7).amax(dim=1, keepdim=True), torch.zeros(len(joints))

    network.v2v = Knowing()
    result = evaluate(network, data, CPU, batch_size=3)
    assert result.error_mm.shape == (7, 4)
    assert np.isnan(result.error_mm[2, 1])
    told = np.delete(np.arange(7), 2)
    assert (result.peaks[told] == 3).all()
    assert (np.isinf(result.error_mm[told]).sum(axis=1) == 1).all()
    assert ((result.error_mm[told] < 1).sum(axis=1) >= 2).all()
    assert 0.66 <= result.precision <= 0.8
    assert 0.4 <= result.recall <= 0.7
    assert math.isfinite(result.mean_mm)

    save_weights(tmp_path / "all.safetensors", network_of(v2v, decode="peak", skeleton="global4", global_joints=4), {})
    assert main(["evaluate", "all.safetensors", "data", "--output", "out"]) == 0
    printed = capsys.readouterr().out
    assert "precision at 20 mm" in printed
    assert "recall_20_mm" in (tmp_path / "out" / "figures.json").read_text()
    assert main(["predict", "all.safetensors", "data", "out.txt"]) == 1
    assert "which is which" in capsys.readouterr().err
