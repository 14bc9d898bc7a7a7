"""Whole situations: what is drawn, what is labelled, and what training cuts out of them."""

from __future__ import annotations

import numpy as np
import pytest

from tracker.errors import DataError
from tracker.hand.cube import cube_center
from tracker.simulation.arms import palm_rotation, reach
from tracker.simulation.cameras import CAMERAS, scaled
from tracker.simulation.situations import ARM, LEFT, RIGHT, Drawn, Situation, draw
from tracker.simulation.stage import KINDS
from trainer.data.scenes import SceneSamples

SMALL = 0.3


def label_at(shot, joint):
    """The label of the scene at a joint (3,)."""
    u, v = np.rint(shot.frame.intrinsics.project(joint)).astype(int)
    return shot.labels[v, u]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn(kind):
    shots = [Situation(seed, kind).shot(2.0, SMALL) for seed in range(4)]
    assert all((shot.frame.depth > 0).any() for shot in shots)
    assert all(shot.labels.shape == shot.frame.depth.shape for shot in shots)
    assert any((shot.labels == ARM).any() for shot in shots)
    for shot in shots:
        assert len(shot.hidden) == len(shot.frame.truth) <= 2
        sides = [hand.side for hand in (*shot.frame.truth, *shot.partial)]
        assert len(set(sides)) == len(sides)


def test_labels_lie_on_the_hands_of_the_truth():
    right, seen = 0, 0
    for seed in range(40):
        shot = Situation(seed).shot(1.0, SMALL)
        for hand, hidden in zip(shot.frame.truth, shot.hidden):
            own = RIGHT if hand.side == "right" else LEFT
            # Knuckles: a fingertip is on the outline, the wrist on the border of the label.
            for joint in hand.joints[[5, 9, 13]][~hidden[[5, 9, 13]]]:
                right += label_at(shot, joint) == own
                seen += 1
    assert seen > 60
    assert right > 0.9 * seen


def test_the_same_seed_is_the_same_situation():
    one, other, third = (Situation(seed, "front").shot(0.5, SMALL) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.frame.depth, other.frame.depth)
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.frame.depth.shape != third.frame.depth.shape or (one.frame.depth != third.frame.depth).any()


def test_hands_move_steadily_and_the_rest_stays():
    situation = Situation(5, "front", CAMERAS["d435"])
    first, second = (situation.shot(time) for time in (1.0, 1.0 + 1 / 30))
    assert first.frame.intrinsics == CAMERAS["d435"].intrinsics
    way = np.abs(first.frame.truth[0].joints - second.frame.truth[0].joints).max()
    assert 0 < way < 0.08
    both = (first.labels == 0) & (second.labels == 0) & (first.frame.depth > 0) & (second.frame.depth > 0)
    # Stereo noise grows with the distance squared.
    change = np.abs(first.frame.metres() - second.frame.metres())[both] / first.frame.metres()[both] ** 2
    assert np.median(change) < 0.01


def test_an_unknown_kind_is_told():
    with pytest.raises(ValueError, match="take one of front"):
        Situation(0, "nowhere")


def test_an_arm_reaches_what_it_can_and_its_bones_keep_their_lengths():
    shoulder, pole = np.zeros(3), np.array([0.0, 1.0, 0.2])
    for target in ([0.1, 0.2, -0.3], [0.0, 0.1, -2.0], [0.02, 0.01, -0.03]):
        wrist, elbow = reach(shoulder, np.array(target), 0.3, 0.26, pole)
        assert np.linalg.norm(elbow) == pytest.approx(0.3, abs=1e-6)
        assert np.linalg.norm(wrist - elbow) == pytest.approx(0.26, abs=1e-6)
    near, _ = reach(shoulder, np.array([0.1, 0.2, -0.3]), 0.3, 0.26, pole)
    np.testing.assert_allclose(near, [0.1, 0.2, -0.3], atol=1e-9)


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_supinated_palm_looks_to_the_upper_arm(side):
    outwards = -1.0 if side == "right" else 1.0
    # The upper arm hangs, the forearm points ahead.
    shoulder, elbow, wrist = (np.array([outwards * 0.2, y, z]) for y, z in ((0.0, 0.0), (0.3, 0.0), (0.3, -0.26)))
    pose = np.zeros(23)
    back = palm_rotation(side, shoulder, elbow, wrist, np.pi / 2, pose)[:, 2]
    np.testing.assert_allclose(back, [0, 1, 0], atol=1e-9)
    neutral = palm_rotation(side, shoulder, elbow, wrist, 0.0, pose)
    np.testing.assert_allclose(neutral[:, 2], [outwards, 0, 0], atol=1e-9)
    np.testing.assert_allclose(np.cross(neutral[:, 0], neutral[:, 1]), neutral[:, 2], atol=1e-9)


def test_cut_out_samples_hold_their_hands():
    samples = SceneSamples(100, seed=2, plain=0.0, others=0.2)
    made = [samples[index] for index in range(60)]
    hands = [sample for sample in made if sample.presence]
    assert 25 < len(hands) < 60
    assert {sample.mirrored for sample in hands} == {True, False}
    for sample in hands:
        assert np.isfinite(sample.joints).all()
        assert np.abs(cube_center(sample.joints)).max() < 1e-4
        away = np.linalg.norm(sample.points[::5, None] - sample.joints, axis=2).min(axis=0)
        assert (away * sample.edge / 2 < 0.035).mean() >= 0.35
    assert all(np.isnan(sample.joints).all() for sample in made if not sample.presence)
    again = SceneSamples(100, seed=2, plain=0.0, others=0.2)[33]
    np.testing.assert_array_equal(again.points, made[33].points)


def test_training_never_sees_the_test_set():
    for seed in (800, 850, 900):
        with pytest.raises(DataError, match="judged by"):
            SceneSamples(10, seed=seed)


def test_nothing_shows_through_dark_clothes_and_hair():
    hidden = 0
    for seed in range(3000, 3040):
        situation = Situation(seed)
        if not situation.shows_body:
            continue
        k = scaled(situation.camera, 0.25).intrinsics
        background = situation.background(k)
        drawn = draw(situation.at(2.0)[0], k, background)
        alone = draw(situation.at(2.0)[0], k, Drawn(0 * background.depth, background.labels, 0 * background.dull))
        behind = background.dull & (alone.depth > background.depth + 0.02)
        hidden += int(behind.sum())
        assert (drawn.labels[behind] == 0).all()
        assert (drawn.lit[behind] == 0).all()
        np.testing.assert_array_equal(drawn.depth[behind], background.depth[behind])
    assert hidden > 0
