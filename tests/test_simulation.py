"""The simulated hand: its mesh, its poses, its depth images."""

import numpy as np
import pytest

from tracker.camera.frame import Intrinsics
from tracker.hand.skeleton import BONES, TIPS
from tracker.simulation.collision import penetration
from tracker.simulation.gestures import GESTURES, random_pose
from tracker.simulation.hand import ANGLES, LOWER, PIP, UPPER, HandModel, HandShape, limited, random_shape
from tracker.simulation.noise import cheap_noise
from tracker.simulation.render import Mesh, render
from tracker.simulation.rotations import random_rotation, turn

K = Intrinsics(640, 480, 385.0, 385.0, 319.5, 239.5)


@pytest.fixture(scope="module")
def model() -> HandModel:
    return HandModel.load()


def sphere(center: np.ndarray, radius: float, stacks: int = 60, slices: int = 90) -> Mesh:
    theta = np.linspace(0, np.pi, stacks + 1)[:, None]
    phi = np.linspace(0, 2 * np.pi, slices, endpoint=False)[None]
    points = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta) + 0 * phi], -1)
    i, j = np.meshgrid(np.arange(stacks), np.arange(slices), indexing="ij")
    a, b = i * slices + j, i * slices + (j + 1) % slices
    c, d = a + slices, b + slices
    faces = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
    return Mesh(points.reshape(-1, 3) * radius + center, faces)


def test_render_of_a_sphere_is_the_sphere() -> None:
    center, radius = np.array([0.03, -0.02, 0.5]), 0.08
    depth = render([sphere(center, radius)], K)
    u, v = np.meshgrid(np.arange(K.width), np.arange(K.height))
    ray = np.stack([(u - K.cx) / K.fx, (v - K.cy) / K.fy, np.ones(u.shape)], -1)
    a, b, c = (ray * ray).sum(-1), ray @ center, center @ center - radius**2
    inside = b * b - a * c
    expected = np.where(inside > 0, (b - np.sqrt(np.maximum(inside, 0))) / a, 0)
    clear = eroded(expected > 0)
    assert (depth[clear] > 0).all(), "holes in a closed surface"
    assert np.abs(depth - expected)[clear].max() < 1e-3
    assert (depth[expected == 0] > 0).sum() == 0


def eroded(mask: np.ndarray) -> np.ndarray:
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return inner


def test_a_window_is_a_part_of_the_whole_and_labels_name_the_nearest_mesh() -> None:
    meshes = [sphere(np.array([0.0, 0, 0.6]), 0.1), sphere(np.array([0.05, 0, 0.4]), 0.04)]
    labels = np.empty((K.height, K.width), np.uint8)
    whole = render(meshes, K, labels=labels)
    rows, columns = slice(200, 300), slice(290, 420)
    # Up to rounding: a few pixels of the outlines may fall to the other side.
    assert (np.abs(render(meshes, K, rows, columns) - whole[rows, columns]) > 1e-4).mean() < 1e-3
    assert np.array_equal(labels > 0, whole > 0)
    assert set(np.unique(labels)) == {0, 1, 2}
    assert whole[labels == 2].max() < whole[labels == 1].min() + 0.05


def test_mesh_is_closed_and_wound_outwards(model: HandModel) -> None:
    edges = np.concatenate([model.faces[:, [0, 1]], model.faces[:, [1, 2]], model.faces[:, [2, 0]]]).tolist()
    present = {tuple(edge) for edge in edges}
    assert len(present) == len(edges)
    assert all((b, a) in present for a, b in present)
    for side in ("right", "left"):
        hand = model.rig(side=side)
        vertices, _ = hand.pose(GESTURES["open"])
        a, b, c = (vertices[hand.faces[:, i]] for i in range(3))
        assert np.einsum("ij,ij->i", a, np.cross(b, c)).sum() > 0


@pytest.mark.parametrize("length", [0.145, 0.185, 0.215])
def test_hand_length_and_bones(model: HandModel, length: float) -> None:
    _, joints = model.rig(HandShape(hand_length=length)).pose(GESTURES["fist"])
    bones = {bone: np.linalg.norm(joints[bone[1]] - joints[bone[0]]) / length for bone in BONES}
    assert sum(bones[bone] for bone in ((0, 9), (9, 10), (10, 11), (11, 12))) == pytest.approx(1, abs=0.01)
    # Shares of the hand length, after Buchholz 1992 and An 1979, within what people vary.
    for bone, share in {(9, 10): 0.265, (10, 11): 0.17, (5, 6): 0.22, (17, 18): 0.19, (1, 2): 0.25}.items():
        assert bones[bone] == pytest.approx(share, abs=0.05), bone


def test_joints_lie_in_the_flesh_and_tips_on_the_skin(model: HandModel) -> None:
    rng = np.random.default_rng(1)
    for _ in range(4):
        hand = model.rig(random_shape(rng))
        vertices, joints = hand.pose(GESTURES["relaxed"])
        corners = vertices[hand.faces].astype(np.float64)
        for number, point in enumerate(joints.astype(np.float64)):
            a, b, c = (corners[:, i] - point for i in range(3))
            la, lb, lc = (np.linalg.norm(x, axis=1) for x in (a, b, c))
            solid = np.arctan2(
                np.einsum("ij,ij->i", a, np.cross(b, c)),
                la * lb * lc + (a * b).sum(1) * lc + (b * c).sum(1) * la + (c * a).sum(1) * lb,
            )
            nearest = np.linalg.norm(vertices - point, axis=1).min()
            if number in TIPS:
                assert nearest < 0.005
            else:
                assert solid.sum() / (2 * np.pi) > 0.9, "outside the mesh"
                assert nearest > 0.003


def test_left_is_the_mirror_of_right(model: HandModel) -> None:
    pose = GESTURES["point"]
    right, left = model.rig(), model.rig(side="left")
    (vertices, joints), (other, other_joints) = right.pose(pose), left.pose(pose)
    assert np.allclose(vertices * [-1, 1, 1], other, atol=1e-6)
    assert np.allclose(joints * [-1, 1, 1], other_joints, atol=1e-6)
    here = np.array([0.0, 0.0, 0.4])
    images = [render([Mesh(hand.pose(pose, np.eye(3), here)[0], hand.faces)], K) for hand in (right, left)]
    assert np.abs((images[0] > 0).sum() - (images[1] > 0).sum()) < 20
    assert (images[1][:, ::-1] > 0).sum() > 5000
    assert np.mean((images[1][:, ::-1] > 0) != (images[0] > 0)) < 1e-3


def test_pose_is_turned_and_moved_rigidly(model: HandModel) -> None:
    hand, rng = model.rig(), np.random.default_rng(2)
    rotation, shift = random_rotation(rng), np.array([0.1, -0.05, 0.5])
    vertices, joints = hand.pose(GESTURES["claw"])
    moved, moved_joints = hand.pose(GESTURES["claw"], rotation, shift)
    assert np.allclose(np.linalg.det(rotation), 1)
    assert np.allclose(vertices @ rotation.T + shift, moved, atol=1e-5)
    assert np.allclose(joints @ rotation.T + shift, moved_joints, atol=1e-5)


def test_fingers_flex_towards_the_palm(model: HandModel) -> None:
    hand, flat = model.rig(), np.zeros(len(ANGLES))
    _, straight = hand.pose(flat)
    for name in ANGLES:
        if name.endswith("flexion") and name.startswith(("index", "middle", "ring", "little")):
            bent = flat.copy()
            bent[ANGLES.index(name)] = 0.5
            finger = ("index", "middle", "ring", "little").index(name.split("_")[0]) + 1
            _, joints = hand.pose(bent)
            assert joints[4 + 4 * finger, 2] < straight[4 + 4 * finger, 2] - 0.005, name


def test_gestures_keep_limits_and_their_fingers_apart(model: HandModel) -> None:
    hand = model.rig()
    for name, pose in GESTURES.items():
        assert ((pose >= LOWER - 1e-9) & (pose <= UPPER + 1e-9)).all(), name
        assert penetration(hand, pose) < 0.003, name
    crossed = GESTURES["fist"].copy()
    crossed[ANGLES.index("thumb_cmc_flexion")] = UPPER[ANGLES.index("thumb_cmc_flexion")]
    crossed[ANGLES.index("thumb_cmc_abduction")] = -0.3
    assert penetration(hand, crossed) > 0.003, "a thumb inside the fist is not found"


def test_random_poses_are_legal_varied_and_repeatable() -> None:
    poses = np.stack([random_pose(rng) for rng in [np.random.default_rng(0)] for _ in range(400)])
    again = np.stack([random_pose(rng) for rng in [np.random.default_rng(0)] for _ in range(20)])
    assert np.array_equal(poses[:20], again)
    assert ((poses >= LOWER - 1e-9) & (poses <= UPPER + 1e-9)).all()
    assert np.allclose(limited(poses[0])[PIP], poses[0][PIP])
    closed = np.degrees(poses[:, PIP].mean(axis=1)) > 75
    assert closed.mean() >= 0.08, "rejection killed the closed hands"
    assert (np.degrees(poses[:, PIP].mean(axis=1)) < 25).mean() >= 0.08


def test_cheap_noise_is_small_on_surfaces_and_keeps_the_outline(model: HandModel) -> None:
    hand = model.rig()
    vertices, _ = hand.pose(GESTURES["open"], turn(1, 0.3), np.array([0, 0.05, 0.45]))
    depth = render([Mesh(vertices, hand.faces)], K)
    errors = []
    for seed in range(5):
        image = cheap_noise(depth, K.fx, np.random.default_rng(seed))
        assert image.dtype == np.uint16
        both = (image > 0) & eroded(depth > 0)
        errors.append(np.median(np.abs(image[both] * 0.001 - depth[both])))
        assert 0.85 < (image > 0).sum() / (depth > 0).sum() < 1.25
    assert 0.0002 < np.median(errors) < 0.004
    first, second = (cheap_noise(depth, K.fx, np.random.default_rng(7), depth_scale=scale) for scale in (0.001, 0.0001))
    assert np.abs(first * 0.001 - second * 0.0001).max() < 0.00051
