"""Bones keep their lengths, and fingers bend as fingers can."""

import numpy as np
import pytest

from tracker.hand.skeleton import MEAN_HAND_LENGTH, PROPORTIONS, joint
from tracker.simulation.gestures import GESTURES, random_pose
from tracker.simulation.hand import ANGLES, LOWER, UPPER, HandModel, HandShape, limited, random_shape
from tracker.simulation.rotations import random_rotation
from tracker.tracking.anatomy import CREEP, BoneLengths, fitted, likely_lengths, measured_lengths

FRAME_NS = 33_333_333
SURE = np.full(21, 0.8, np.float32)


@pytest.fixture(scope="module")
def model():
    return HandModel.load()


def placed(rng, rig, pose):
    """Joints (21, 3) of a posed hand of either side, turned anyhow, half a metre away."""
    joints = rig.bone_transforms(pose)[1][:21] * (1 if rig.side == "right" else np.array([-1, 1, 1]))
    return joints @ random_rotation(rng).T + np.array([0, 0, 0.5])


def bent(rig, **degrees):
    """Joints of the open hand with some angles of its own, also beyond the limits."""
    pose = GESTURES["open"].copy()
    for name, value in degrees.items():
        pose[ANGLES.index(name)] = np.radians(value)
    return rig.bone_transforms(pose)[1][:21]


def test_a_hand_that_can_be_stays_as_it_is(model):
    rng = np.random.default_rng(1)
    worst = 0.0
    for number in range(60):
        rig = model.rig(random_shape(rng), ("right", "left")[number % 2])
        for turn in range(30):
            if turn % 2:
                pose = random_pose(rng) if turn == 1 else GESTURES[rng.choice(list(GESTURES))]
            else:
                pose = limited(rng.uniform(LOWER, UPPER))
            joints = placed(rng, rig, pose)
            out = fitted(joints, SURE, measured_lengths(joints), rig.side)
            worst = max(worst, float(np.abs(out - joints).max()))
    assert worst < 0.0005


@pytest.mark.parametrize(
    ("angles", "least"),
    [
        ({"index_pip_flexion": -60}, 0.015),
        ({"ring_dip_flexion": -80}, 0.010),
        ({"middle_mcp_flexion": -110}, 0.03),
        ({"little_mcp_flexion": 150}, 0.015),
        ({"index_mcp_abduction": 80}, 0.02),
        ({"thumb_ip_flexion": -90}, 0.015),
        ({"middle_pip_flexion": 160}, 0.015),
    ],
)
def test_an_impossible_bend_is_pulled_back(model, angles, least):
    joints = bent(model.rig(), **angles)
    lengths = measured_lengths(joints)
    out = fitted(joints, SURE, lengths, "right")
    assert np.linalg.norm(out - joints, axis=1).max() > least
    np.testing.assert_allclose(measured_lengths(out), lengths, atol=1e-6)
    # What comes out is a hand that can be.
    np.testing.assert_allclose(np.diff(fitted(out, SURE, lengths, "right"), axis=0), np.diff(out, axis=0), atol=3e-3)


def test_a_finger_that_leaves_its_plane_is_pulled_back(model):
    joints = bent(model.rig(), index_pip_flexion=10)
    tip, dip, pip = (joint(f"index_{part}") for part in ("tip", "dip", "pip"))
    joints[[dip, tip]] += np.outer((1, 1.6), (0.025, 0, 0))  # 45 degrees sideways
    lengths = measured_lengths(joints)
    out = fitted(joints, SURE, lengths, "right")

    def sideways(hand):
        return abs(hand[tip] - hand[pip])[0] / np.linalg.norm(hand[tip] - hand[pip])

    assert sideways(out) < 0.75 * sideways(joints)


def test_a_left_hand_is_limited_as_a_right_one(model):
    joints = bent(model.rig(), index_pip_flexion=-60, index_mcp_abduction=70)
    mirror = np.array([-1, 1, 1])
    lengths = measured_lengths(joints)
    right = fitted(joints, SURE, lengths, "right")
    np.testing.assert_allclose(fitted(joints * mirror, SURE, lengths, "left"), right * mirror, atol=1e-6)


def test_the_fit_has_the_lengths_and_brings_noisy_joints_nearer_to_the_truth(model):
    rng = np.random.default_rng(2)
    rig = model.rig(random_shape(rng))
    before, after = [], []
    for _ in range(100):
        truth = placed(rng, rig, random_pose(rng))
        lengths = measured_lengths(truth)
        spread = rng.uniform(0.002, 0.014, (21, 1))
        noisy = truth + spread * rng.standard_normal((21, 3))
        out = fitted(noisy, np.exp(-spread[:, 0] / 0.01).astype(np.float32), lengths, "right")
        np.testing.assert_allclose(measured_lengths(out), lengths, atol=1e-6)
        before.append(np.linalg.norm(noisy - truth, axis=1).mean())
        after.append(np.linalg.norm(out - truth, axis=1).mean())
    assert np.mean(after) < 0.9 * np.mean(before)


def test_a_sure_joint_moves_less_than_an_unsure_one(model):
    joints = bent(model.rig()).astype(np.float64)
    lengths = measured_lengths(joints)
    tip = joint("middle_tip")
    joints[tip] *= 1.1
    doubtful = SURE.copy()
    doubtful[tip] = 0.02
    sure, unsure = (np.linalg.norm(fitted(joints, c, lengths, "right") - joints, axis=1) for c in (SURE, doubtful))
    assert unsure[tip] > sure[tip]
    assert np.delete(unsure, tip).max() < 0.5 * np.delete(sure, tip).max()


def test_joints_without_a_number_are_left_alone():
    joints = np.full((21, 3), np.nan, np.float32)
    lengths = MEAN_HAND_LENGTH * np.array(PROPORTIONS)
    np.testing.assert_array_equal(fitted(joints, SURE, lengths, "left"), joints)
    bones = BoneLengths()
    np.testing.assert_allclose(bones.update(joints, SURE, 0), lengths)
    for flat in (np.zeros((21, 3)), np.tile([0.0, 0.0, 0.5], (21, 1))):  # all in one place
        assert np.isfinite(fitted(flat, SURE, lengths, "right")).all()


@pytest.mark.parametrize("size", [0.155, 0.21])
def test_lengths_settle_within_a_second_and_are_constant_then(model, size):
    rng = np.random.default_rng(3)
    rig = model.rig(HandShape(hand_length=size))
    truth = bent(rig)
    bones = BoneLengths()
    seen = []
    for frame in range(120):
        noisy = truth + 0.006 * rng.standard_normal((21, 3))
        if frame % 9 == 4:
            noisy[rng.integers(21)] += 0.08  # a joint that is nowhere near
        seen.append(bones.update(noisy, SURE, frame * FRAME_NS))
    seen = np.array(seen)
    later = seen[31:]
    assert np.ptp(later, axis=0).max() <= 90 * CREEP / 30 + 1e-9
    assert np.abs(later[-1] - measured_lengths(truth)).mean() < 0.0025
    assert abs(later[-1][8:12].sum() / size - 1) < 0.07


def test_a_mean_hand_is_likely_and_a_short_bone_is_not_believed():
    mean = MEAN_HAND_LENGTH * np.array(PROPORTIONS)
    np.testing.assert_allclose(likely_lengths(mean), mean)
    odd = mean.copy()
    odd[-1] /= 2  # the last bone of the little finger
    assert likely_lengths(odd)[-1] > 0.9 * mean[-1]
