"""Cubes, voxels and heat maps."""

import numpy as np
import pytest
import torch

from tracker.camera.frame import DepthFrame, Intrinsics
from tracker.hand.cube import Cube, crop, upright_roll
from tracker.hand.heatmaps import Decoder, ball_mass, expectation, gaussian_maps
from tracker.hand.skeleton import BONES, JOINT_NAMES, joint
from tracker.hand.voxels import voxel_center, voxel_index, voxelise

INTRINSICS = Intrinsics(320, 240, 250.0, 252.0, 158.5, 121.0)


def frame_of(depth: np.ndarray, scale: float = 0.001) -> DepthFrame:
    return DepthFrame(depth, scale, INTRINSICS, 0, 0, 0)


def test_skeleton_is_the_contracts():
    assert JOINT_NAMES[:6] == ("wrist", "thumb_cmc", "thumb_mcp", "thumb_ip", "thumb_tip", "index_mcp")
    assert JOINT_NAMES[20] == "little_tip"
    assert joint("middle_mcp") == 9
    assert len(BONES) == 20
    assert sorted(child for _, child in BONES) == list(range(1, 21))
    assert all(JOINT_NAMES[p].split("_")[0] == JOINT_NAMES[c].split("_")[0] for p, c in BONES if p != 0)


@pytest.mark.parametrize("roll", [None, 0.0, 2.0])
@pytest.mark.parametrize("side", ["right", "left"])
def test_cube_coordinates_round_trip(side, roll):
    cube = Cube((0.1, -0.05, 0.5), 0.26, side, roll)
    points = np.random.default_rng(0).uniform(-0.3, 0.3, (50, 3)) + np.array(cube.center)
    coordinates = cube.normalise(points)
    np.testing.assert_allclose(cube.to_camera(coordinates), points, atol=1e-6)
    shape = np.linalg.norm(coordinates[:, None] - coordinates, axis=2)
    np.testing.assert_allclose(shape * 0.13, np.linalg.norm(points[:, None] - points, axis=2), atol=1e-6)


@pytest.mark.parametrize("side", ["right", "left"])
def test_cube_mirrors_left_hands(side):
    to_the_right = Cube((0.1, -0.05, 0.5), 0.26, side).normalise(np.array([[0.1 + 0.13, -0.05, 0.5]]))
    assert to_the_right[0, 0] == pytest.approx(1 if side == "right" else -1)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("center", [(0.0, 0.0, 0.5), (0.3, -0.2, 0.4), (-0.1, 0.35, 0.3)])
def test_in_an_upright_cube_a_hand_is_seen_straight_on_with_its_fingers_up(center, side):
    joints = (np.random.default_rng(2).normal(0, 0.05, (21, 3)) + center).astype(np.float32)
    cube = Cube(center, 0.26, side, upright_roll(joints, center))
    inside = cube.normalise(joints)
    knuckles = inside[[5, 9, 13, 17]].mean(axis=0)
    assert knuckles[0] == pytest.approx(inside[0, 0], abs=1e-5)
    assert knuckles[1] < inside[0, 1]
    further = cube.normalise(1.1 * np.asarray(center, np.float32))
    np.testing.assert_allclose(further[:2], 0, atol=1e-5)
    assert further[2] > 0
    assert np.linalg.det(cube.axes) == pytest.approx(1, abs=1e-5)


def test_a_cube_of_a_hand_whose_joints_are_not_known_has_no_roll():
    assert upright_roll(np.full((21, 3), np.nan, np.float32), (0.0, 0.0, 0.5)) == 0.0


@pytest.mark.parametrize("roll", [None, 0.7])
@pytest.mark.parametrize("scale", [0.001, 0.000125])
def test_crop_is_every_reading_in_the_cube(scale, roll):
    rng = np.random.default_rng(1)
    metres = rng.uniform(0.2, 0.9, (240, 320)) * (rng.random((240, 320)) < 0.9)
    frame = frame_of(np.rint(metres / scale).astype(np.uint16), scale)
    for center in [(0.0, 0.0, 0.5), (0.3, -0.2, 0.45), (-0.35, 0.2, 0.7)]:
        cube = Cube(center, 0.2, roll=roll)
        everything = frame.points().reshape(-1, 3)
        everything = everything[everything[:, 2] > 0]
        coordinates = cube.normalise(everything)
        expected = coordinates[((coordinates >= -1) & (coordinates < 1)).all(axis=1)]
        found = crop(frame, cube)
        assert len(found) == len(expected) > 20
        np.testing.assert_allclose(np.sort(found, axis=0), np.sort(expected, axis=0), atol=1e-6)


def test_crop_outside_the_image_is_empty():
    frame = frame_of(np.full((240, 320), 500, np.uint16))
    assert crop(frame, Cube((2.0, 0.0, 0.5))).shape == (0, 3)
    assert crop(frame, Cube((0.0, 0.0, -0.5))).shape == (0, 3)


def test_points_back_project_as_they_project():
    frame = frame_of(np.full((240, 320), 700, np.uint16))
    points = frame.points()
    pixels = INTRINSICS.project(points)
    v, u = np.mgrid[:240, :320]
    np.testing.assert_allclose(pixels[..., 0], u, atol=1e-3)
    np.testing.assert_allclose(pixels[..., 1], v, atol=1e-3)


def test_voxel_index_is_the_contracts_formula():
    points = torch.rand(1000, 3) * 2 - 1
    assert torch.equal(voxel_index(points, 88), torch.floor((points + 1) / 2 * 88).long())
    index = torch.randint(0, 88, (100, 3))
    assert torch.equal(voxel_index(voxel_center(index, 88), 88), index)


def test_voxelise_sets_exactly_the_occupied_voxels():
    points = torch.tensor([[-1.0, -1.0, -1.0], [0.999, 0.0, 0.0], [0.0, 0.5, -0.5], [1.0, 0, 0], [0, -1.01, 0]])
    sample = torch.tensor([0, 1, 1, 0, 1])
    grids = voxelise(points, sample, 2, 8)
    assert grids.dtype == torch.uint8
    assert sorted(map(tuple, grids.nonzero().tolist())) == [(0, 0, 0, 0), (1, 4, 6, 2), (1, 7, 4, 4)]
    again = voxelise(points[:1], sample[:1], 2, 8, out=grids)
    assert again is grids
    assert grids.sum() == 1


def test_gaussian_maps_peak_where_the_joint_is():
    joints = torch.tensor([[[0.0227, -0.5, 0.3], [float("nan")] * 3]])
    maps = gaussian_maps(joints, 44, 1.7)
    assert maps.shape == (1, 2, 44, 44, 44)
    assert maps[0, 0].max() > 0.9
    peak = np.unravel_index(int(maps[0, 0].argmax()), (44, 44, 44))
    assert np.abs(voxel_center(torch.tensor(peak), 44).numpy() - joints[0, 0].numpy()).max() <= 1 / 44 + 1e-6
    assert maps[0, 1].abs().max() == 0


@pytest.mark.parametrize(
    ("decode", "size", "tolerance"), [("softmax", 24, 1e-4), ("softmax", 44, 1e-4), ("peak", 44, 0.012)]
)
def test_decoding_inverts_encoding_below_the_voxel(decode, size, tolerance):
    torch.manual_seed(0)
    joints = torch.rand(2, 21, 3) * 0.8 - 0.4
    maps = gaussian_maps(joints, size, 1.7)
    if decode == "softmax":
        maps = torch.log(maps + 1e-30)
    decoded = Decoder(decode, 0.26)(maps)
    assert decoded.shape == (2, 21, 4)
    assert (decoded[..., :3] - joints).abs().max() < tolerance < 2 / size
    assert ((decoded[..., 3] >= 0) & (decoded[..., 3] <= 1)).all()


def test_confidence_falls_with_the_spread_and_follows_its_calibration():
    joints = torch.zeros(1, 1, 3)
    sharp, wide = (torch.log(gaussian_maps(joints, 44, sigma) + 1e-30) for sigma in (0.5, 6.0))
    decoder = Decoder("softmax", 0.26)
    assert decoder(sharp)[0, 0, 3] > 0.8 > 0.2 > decoder(wide)[0, 0, 3]
    assert Decoder("softmax", 0.26, (1.0, -2.0))(sharp)[0, 0, 3] < decoder(sharp)[0, 0, 3]


def test_ball_mass_is_the_share_within_the_radius():
    weights = torch.full((1, 1, 40, 40, 40), 1 / 40**3)
    share = ball_mass(weights, torch.zeros(1, 1, 3), 0.5)
    assert share.item() == pytest.approx(4 / 3 * np.pi * 0.5**3 / 8, rel=0.02)
    assert expectation(weights).abs().max() < 1e-6


@pytest.mark.parametrize(
    "make",
    [
        lambda: Cube((0, 0, 0.5), 0.0),
        lambda: Cube((0, float("nan"), 0.5)),
        lambda: Intrinsics(0, 10, 1, 1, 0, 0),
        lambda: Intrinsics(10, 10, -1, 1, 0, 0),
        lambda: Decoder("middle", 0.26),
    ],
)
def test_nonsense_is_refused(make):
    with pytest.raises(ValueError, match=r".+"):
        make()
