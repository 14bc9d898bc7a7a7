"""The One Euro filter, tracks, and which joints are seen."""

import numpy as np
import pytest

from tracker import TrackerConfig
from tracker.camera.frame import DepthFrame, Intrinsics
from tracker.simulation.gestures import GESTURES
from tracker.simulation.hand import HandModel
from tracker.simulation.render import Mesh, render
from tracker.simulation.rotations import random_rotation
from tracker.tracking.one_euro import FilterConfig, OneEuro
from tracker.tracking.track import Track, seen

FRAME_NS = 33_333_333
HAND = np.random.default_rng(0).uniform(-0.08, 0.08, (21, 3)).astype(np.float32) + np.array([0, 0, 0.5], np.float32)


def filtered(positions: np.ndarray, config: FilterConfig | None = None) -> np.ndarray:
    """Feed (frames, 3) positions of all joints alike; returns what the filter makes of the first joint."""
    one_euro = OneEuro(config or FilterConfig())
    return np.stack([one_euro(np.tile(p, (21, 1)), i * FRAME_NS)[0] for i, p in enumerate(positions)])


def test_a_still_joint_trembles_less():
    noise = np.random.default_rng(1).normal(0, 0.001, (300, 3))
    out = filtered(noise + 0.5)
    assert out[60:].std() < 0.5 * noise[60:].std()
    np.testing.assert_allclose(out[60:].mean(axis=0), 0.5, atol=3e-4)


def test_a_moving_joint_lags_little():
    time = np.arange(60)[:, None] * FRAME_NS * 1e-9
    out = filtered(time * np.array([1.0, 0, 0]))  # 1 m/s
    lag = (time[40:, 0] - out[40:, 0]) / 1.0
    assert 0 <= lag.mean() < 0.015


def test_a_pause_in_time_starts_the_filter_anew():
    one_euro = OneEuro(FilterConfig())
    one_euro(HAND, 0)
    np.testing.assert_array_equal(one_euro(HAND + 0.3, 10_000_000_000), HAND + np.float32(0.3))
    np.testing.assert_array_equal(one_euro(HAND, 5_000_000_000), HAND)


def test_a_leap_is_followed_at_once():
    positions = np.zeros((30, 3))
    positions[15:] = (0.2, 0, 0)
    np.testing.assert_allclose(filtered(positions)[15:], positions[15:], atol=1e-6)


def test_a_joint_that_the_network_is_unsure_of_does_not_flicker_but_goes_with_its_hand():
    rng = np.random.default_rng(2)
    confidence = np.full(21, 0.8, np.float32)
    confidence[4] = 0.02
    one_euro, all_sure, out, plain = OneEuro(FilterConfig()), OneEuro(FilterConfig()), [], []
    for number in range(120):
        joints = HAND + np.array([0.6 * max(number - 90, 0) * FRAME_NS * 1e-9, 0, 0], np.float32)
        joints[4, 2] += 0.06 * (rng.random() < 0.5)  # now here, now there
        out.append(one_euro(joints, number * FRAME_NS, confidence))
        plain.append(all_sure(joints, number * FRAME_NS))
    still = np.stack(out)[30:90, 4]
    assert still.std(axis=0).max() < 0.006 < 0.02 < np.stack(plain)[30:90, 4].std(axis=0).max()
    np.testing.assert_allclose(out[-1][:, 0] - HAND[:, 0], 0.6 * 29 / 30, atol=0.02)


def test_a_pose_that_is_mistaken_for_a_frame_is_not_followed_but_one_that_lasts_is():
    """The network is less sure of what it mistakes."""
    sure, unsure = np.full(21, 0.8, np.float32), np.full(21, 0.6, np.float32)
    other = HAND[::-1].copy() - HAND[::-1].mean(axis=0) + HAND.mean(axis=0)
    shown = {40: (other, unsure), 60: (other, unsure), 61: (other, unsure), 80: (HAND, sure)}
    one_euro, out, pose, confidence = OneEuro(FilterConfig()), {}, HAND, sure
    for number in range(90):
        pose, confidence = shown.get(number, (pose, confidence))
        if number == 41:
            pose, confidence = HAND, sure
        out[number] = one_euro(pose, number * FRAME_NS, confidence)
    for number in (39, 40, 41, 60, 80, 89):
        np.testing.assert_allclose(out[number], HAND, atol=1e-4)
    for number in (61, 62, 79):
        np.testing.assert_allclose(out[number], other, atol=1e-4)


@pytest.mark.parametrize("rested", [False, True])
def test_a_hand_whose_pose_changes_in_each_frame_is_not_kept_waiting(rested):
    """As in recordings of which each tenth frame was kept."""
    first, second, third = np.random.default_rng(3).uniform(-0.08, 0.08, (3, 21, 3)).astype(np.float32)
    one_euro = OneEuro(FilterConfig())
    for number, pose in enumerate((second if rested else first, second)):
        one_euro(pose, number * FRAME_NS, np.full(21, 0.8, np.float32))
    out = one_euro(third, 2 * FRAME_NS, np.full(21, 0.6, np.float32))
    shown = second if rested else third
    np.testing.assert_allclose(out - out.mean(axis=0), shown - shown.mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("values", [{"min_cutoff": 0.0}, {"beta": -1.0}, {"derivative_cutoff": -2.0}, {"beta": np.nan}])
def test_filter_nonsense_is_refused(values):
    with pytest.raises(ValueError, match="cut-offs"):
        FilterConfig(**values)


@pytest.mark.parametrize(
    "values", [{"patience": np.nan}, {"patience": -1.0}, {"side_every": 0}, {"search_every": 0}, {"side_frames": -1}]
)
def test_nonsense_about_following_is_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        TrackerConfig(**values)


def test_the_next_cube_is_where_the_hand_is_going():
    track = Track(1, 3.0, FilterConfig())
    for i in range(5):
        track.update(HAND + np.array([0.02 * i, 0, 0], np.float32), np.ones(21, np.float32), i * FRAME_NS)
    ahead = track.cube(5 * FRAME_NS, 0.26).center[0] - HAND[:, 0].mean()
    assert ahead == pytest.approx(0.10, abs=0.005)
    assert track.cube(5 * FRAME_NS, 0.26).side == "right"


def test_a_hidden_thumb_does_not_jump_where_the_network_is_surer_for_a_frame():
    _, fist = HandModel.load().rig().pose(GESTURES["fist"], np.eye(3), np.array([0, 0, 0.45]))
    trembling = []
    for seed in range(4):
        rng, track, out = np.random.default_rng(seed), Track(1, 4.0, FilterConfig()), []
        for number in range(150):
            joints, confidence = fist.astype(np.float32), np.ones(21, np.float32)
            joints[4, 2] += rng.normal(0, 0.02)
            confidence[4] = 0.03 + 0.3 * rng.random() ** 3
            out.append(track.update(joints, confidence, number * FRAME_NS)[4])
        trembling.append(np.stack(out)[30:].std(axis=0).max())
    assert np.mean(trembling) < 0.005


def test_a_joint_that_is_hidden_all_at_once_stays_where_it_was():
    _, fist = HandModel.load().rig().pose(GESTURES["fist"], np.eye(3), np.array([0, 0, 0.45]))
    moved = {}
    for now in (1.0, 0.02):
        track, confidence = Track(1, 4.0, FilterConfig()), np.ones(21, np.float32)
        for number in range(30):
            before = track.update(fist.astype(np.float32), confidence, number * FRAME_NS)
        joints = fist.astype(np.float32)
        joints[4, 2] += 0.03
        confidence[4] = now
        moved[now] = np.linalg.norm(track.update(joints, confidence, 30 * FRAME_NS)[4] - before[4])
    assert moved[0.02] < 0.25 * moved[1.0]


def test_a_clock_that_was_set_back_makes_no_hand_wait_for_ever():
    track = Track(1, 3.0, None)
    track.update(HAND, np.ones(21, np.float32), 10**13)
    assert track.unseen_seconds(10**13 + FRAME_NS) == pytest.approx(1 / 30)
    assert track.unseen_seconds(0) > 1000


def test_one_odd_frame_does_not_turn_a_hand_round_but_many_do():
    track = Track(1, 4.0, FilterConfig())
    sure = track.side_confidence
    track.vote(-4.0)
    assert track.side == "right"
    assert 0.5 < track.side_confidence < sure
    for _ in range(6):
        track.vote(-4.0)
    assert track.side == "left"
    assert track.side_confidence > 0.9


def test_seen_joints_are_behind_a_close_surface():
    intrinsics = Intrinsics(64, 48, 60.0, 60.0, 32.0, 24.0)
    depth = np.full((48, 64), 500, np.uint16)
    depth[:, :20] = 0
    depth[:, 50:] = 300
    frame = DepthFrame(depth, 0.001, intrinsics, 0, 0, 0)
    joints = np.tile(np.array([[0.0, 0.0, 0.51]], np.float32), (21, 1))  # 1 cm behind the surface: seen
    joints[1] = (0.0, 0.0, 0.56)  # behind something 6 cm nearer
    joints[2] = (-0.2, 0.0, 0.51)  # where there is no reading
    joints[3] = (0.25, 0.0, 0.51)  # behind the near thing
    joints[4] = (3.0, 0.0, 0.51)  # outside the image
    joints[5] = np.nan
    confidence = np.ones(21, np.float32)
    confidence[6] = 0.01
    result = seen(frame, joints, confidence)
    assert result.tolist() == [True] + [False] * 6 + [True] * 14


def test_seen_joints_of_a_simulated_hand_are_those_with_nothing_before_them():
    """Against the meshes: a joint is hidden where the first surface is much nearer than the hand's flesh is thick."""
    intrinsics = Intrinsics(320, 240, 190.0, 190.0, 159.5, 119.5)
    rng = np.random.default_rng(3)
    rig = HandModel.load().rig()
    right = wrong = hidden_found = hidden_count = 0
    for gesture in ("open", "fist", "point", "relaxed", "ok", "grab"):
        for _ in range(4):
            vertices, joints = rig.pose(GESTURES[gesture], random_rotation(rng), np.array([0, 0, 0.45]))
            metres = render([Mesh(vertices, rig.faces)], intrinsics)
            frame = DepthFrame(np.rint(metres * 1000).astype(np.uint16), 0.001, intrinsics, 0, 0, 0)
            pixels = np.rint(intrinsics.project(joints)).astype(int)
            before = joints[:, 2] - metres[pixels[:, 1], pixels[:, 0]]
            tracked = seen(frame, joints, np.ones(21, np.float32))
            # Far behind: 45 mm is more than any joint's flesh. Close: 8 mm is less than any.
            hidden, open_ = before > 0.045, (before > 0) & (before < 0.008)
            hidden &= metres[pixels[:, 1], pixels[:, 0]] > 0
            hidden_found += int((hidden & ~tracked).sum())
            hidden_count += int(hidden.sum())
            right += int((open_ & tracked).sum())
            wrong += int((open_ & ~tracked).sum())
    assert hidden_count > 40
    assert hidden_found >= 0.95 * hidden_count
    assert wrong <= 0.02 * right
