"""Cubes that have a roll, in training and judging."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tracker.hand.cube import Cube, upright_roll
from tracker.hand.skeleton import SKELETON
from tracker.hand.voxels import voxelise
from tracker.network.hand_network import HandNetwork, HandNetworkConfig
from tracker.network.v2v import V2VConfig
from tracker.network.weights import load_weights
from trainer.cli import main
from trainer.data.sample import Sample, collate
from trainer.fitting.augment import Augmentation, augment
from trainer.fitting.upright import straight_axes, turn, upright
from trainer.judging.evaluate import estimates

TINY = V2VConfig(input_size=16, width=4, presence=True)


def hand(center: tuple[float, float, float], mirrored: bool) -> Sample:
    rng = np.random.default_rng(3)
    joints = rng.normal(0, 0.3, (21, 3)).astype(np.float32)
    points = rng.uniform(-1, 1, (60, 3)).astype(np.float32)
    return Sample(points, joints, 0.26, center=center, mirrored=mirrored)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("center", [(0.0, 0.0, 0.4), (0.3, -0.2, 0.5), (-0.25, 0.3, 0.6)])
def test_training_turns_cubes_as_the_tracker_does(center, mirrored):
    sample = hand(center, mirrored)
    plain = Cube(center, sample.edge, "left" if mirrored else "right")
    joints, points = plain.to_camera(sample.joints), plain.to_camera(sample.points)
    live = replace(plain, roll=upright_roll(joints, center))
    batch = upright(collate([sample]), 0.0)
    np.testing.assert_allclose(batch.joints[0], live.normalise(joints), atol=1e-5)
    np.testing.assert_allclose(batch.points, live.normalise(points), atol=1e-5)


def turned_by_a_quarter(sample: Sample, size: int):
    """Arguments of `voxelise` for the points of a sample, x to y."""
    x, y, z = torch.from_numpy(sample.points).unbind(1)
    return torch.stack([-y, x, z], dim=1), torch.zeros(len(x), dtype=torch.int64), 1, size


def test_some_cubes_are_only_seen_straight_on():
    sample = hand((0.3, 0.1, 0.5), False)
    batch = collate([sample] * 400, [int(key) for key in np.random.default_rng(0).integers(1 << 60, size=400)])
    straight = turn(batch, straight_axes(batch.ray)).joints
    turned = upright(batch, 0.3).joints
    left = (turned - straight).abs().amax(dim=(1, 2)) < 1e-5
    assert 0.2 < float(left.float().mean()) < 0.4


def test_how_a_cube_is_turned_does_not_tell_that_it_holds_no_hand():
    sample = hand((0.3, 0.1, 0.5), False)
    unknown = Sample(sample.points, np.full((21, 3), np.nan, np.float32), 0.26, False, sample.center)
    batch = collate([unknown] * 200)
    straight, turned = turn(batch, straight_axes(batch.ray)), upright(batch, 0.0)
    first = torch.searchsorted(batch.sample, torch.arange(200))
    before, after = (torch.view_as_complex(one.points[first, :2].contiguous()) for one in (straight, turned))
    turns = torch.exp(1j * (after / before).angle())
    assert float(turns.mean().abs()) < 0.2  # every way alike
    torch.testing.assert_close(turned.points[:, 2], straight.points[:, 2])


def test_the_ray_goes_with_the_points():
    batch = collate([hand((0.3, 0.1, 0.5), False)])
    torch.testing.assert_close(batch.ray[0], torch.nn.functional.normalize(torch.tensor([0.3, 0.1, 0.5]), dim=0))
    assert augment(batch, Augmentation(mirrored=1.0)).ray[0, 0] == pytest.approx(-float(batch.ray[0, 0]))
    torch.testing.assert_close(upright(batch, 0.0).ray[0], torch.tensor([0.0, 0.0, 1.0]))
    for center in (None, (0.0, 0.0, 0.0), (0.1, 0.0, -0.5)):
        nowhere = collate([Sample(batch.points.numpy(), batch.joints[0].numpy(), 0.26, center=center)])
        torch.testing.assert_close(nowhere.ray[0], torch.tensor([0.0, 0.0, 1.0]))


def test_judging_looks_twice_and_gives_joints_in_the_cubes_of_the_data():
    looks = []

    class Middles(torch.nn.Module):
        """Joints at the middle of the voxels, which are the same points however the cube is turned."""

        def forward(self, occupancy):
            looks.append(occupancy)
            size = occupancy.shape[1]
            weight = occupancy.float() / occupancy.sum(dim=(1, 2, 3), keepdim=True)
            places = (torch.arange(size) + 0.5) * 2 / size - 1
            middle = [(weight.sum(dim=other) * places).sum(dim=1) for other in ((2, 3), (1, 3), (1, 2))]
            joints = torch.stack([*middle, torch.ones_like(middle[0])], dim=1)
            joints = joints[:, None].repeat(1, 21, 1)
            joints[:, 0, 0] += 0.3  # so that the second look is turned by a quarter
            return joints, torch.ones(len(occupancy))

    class Source:
        joints = 21

        def __init__(self):
            rng = np.random.default_rng(5)
            points = rng.normal((0.4, -0.3, 0.2), 0.05, (300, 3)).astype(np.float32)
            nothing = np.zeros((21, 3), np.float32)
            centers = ((0.0, 0.0, 0.5), (0.3, 0.2, 0.5), (-0.3, 0.1, 0.4))
            self.samples = [Sample(points, nothing, 0.26, center=c, mirrored=c[0] < 0) for c in centers]

        def __len__(self):
            return len(self.samples)

        def __getitem__(self, index):
            return self.samples[index]

    network = HandNetwork(HandNetworkConfig(v2v=replace(TINY, input_size=64), upright=True))
    network.forward = Middles().forward
    found = next(estimates(network, Source(), torch.device("cpu")))
    first, second = looks
    # The joint of the wrist lay to the right of the knuckles: for the second look it was turned to lie below them.
    expected = voxelise(*turned_by_a_quarter(Source().samples[0], 64))
    assert (second[0] & expected[0]).sum() > 0.4 * second[0].sum()
    assert (second[0] & first[0]).sum() == 0
    for joints in found.points:
        np.testing.assert_allclose(joints[1], (0.4, -0.3, 0.2), atol=0.02)
        assert float(torch.linalg.vector_norm(joints[0] - joints[1])) == pytest.approx(0.3, abs=0.01)


def test_a_run_with_upright_cubes_says_so_and_hands_it_on(tmp_path, capsys):
    small = ["synthetic", "--epoch-samples", "8", "--dev-samples", "8", "--epochs", "1", "--input-size", "16"]
    fit = ["fit", small[0], str(tmp_path / "a"), *small[1:]]
    assert main([*fit, "--upright"]) == 0
    assert load_weights(tmp_path / "a" / "last.safetensors").config.upright
    assert json.loads((tmp_path / "a" / "last.json").read_text())["upright"] is True
    capsys.readouterr()
    assert main([*fit, "--resume", "--epochs", "2", "--no-upright"]) == 1
    assert "--upright" in capsys.readouterr().err
    fit[2] = str(tmp_path / "b")
    assert main([*fit, "--init", str(tmp_path / "a" / "last.safetensors")]) == 0
    assert load_weights(tmp_path / "b" / "last.safetensors").config.upright
    assert main([*fit, "--resume", "--epochs", "2"]) == 0  # without --init
    assert load_weights(tmp_path / "b" / "last.safetensors").config.upright
    fit[2] = str(tmp_path / "c")
    assert main([*fit, "--init", str(tmp_path / "a" / "last.safetensors"), "--no-upright"]) == 0
    assert not load_weights(tmp_path / "c" / "last.safetensors").config.upright
    fit[2] = str(tmp_path / "d")
    assert main([*fit, "--upright", "--global-joints"]) == 1
    assert "--upright needs the 21 joints" in capsys.readouterr().err


def test_only_hand21_can_be_upright():
    with pytest.raises(ValueError, match=SKELETON):
        HandNetworkConfig(v2v=replace(TINY, joints=14), skeleton="joints14", upright=True)
