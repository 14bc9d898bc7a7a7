from __future__ import annotations

import msgpack
import numpy as np
import pytest
from stream_samples import ANY_PORT, connect, make_hand, make_message, make_status

from tracker.errors import StreamError
from tracker.hand.skeleton import JOINT_NAMES, joint
from tracker.simulation.hand import HandModel
from tracker.stream.message import pack, unpack, unpack_status
from tracker.stream.openxr import (
    METACARPALS,
    OPENXR_BONES,
    OPENXR_NAMES,
    PALM,
    SAME,
    TIPS,
    from_openxr,
    openxr_joints,
    to_openxr,
    to_openxr_hand,
)
from tracker.stream.publisher import Publisher


@pytest.fixture(scope="module")
def joints() -> np.ndarray:
    rigged = HandModel.load().rig()
    return rigged.pose(np.zeros(23))[1].astype(np.float32)


def test_order_is_that_of_the_extension():
    assert len(OPENXR_NAMES) == 26
    assert OPENXR_NAMES[:6] == ("palm", "wrist", "thumb_metacarpal", "thumb_proximal", "thumb_distal", "thumb_tip")
    assert OPENXR_NAMES[6:11] == (
        "index_metacarpal", "index_proximal", "index_intermediate", "index_distal", "index_tip",
    )  # fmt: skip
    assert OPENXR_NAMES[25] == "little_tip"
    assert [JOINT_NAMES[SAME.index(place)] for place in (1, 2, 5, 7, 10, 22)] == [
        "wrist", "thumb_cmc", "thumb_tip", "index_mcp", "index_tip", "little_mcp",
    ]  # fmt: skip


def test_bones_are_a_tree_from_the_wrist():
    children = [child for _, child in OPENXR_BONES]
    assert sorted([0, 1, *children]) == list(range(26))
    assert all(parent == 1 or parent == child - 1 for parent, child in OPENXR_BONES)


def test_inferred_joints_lie_where_a_hand_has_them(joints):
    result, radii = openxr_joints(joints, "right")
    wrist, middle = joints[0], joints[joint("middle_mcp")]
    length = np.linalg.norm(middle - wrist)
    for place, finger in zip(METACARPALS, ("index", "middle", "ring", "little")):
        knuckle = joints[joint(f"{finger}_mcp")]
        along = (result[place] - wrist) @ (middle - wrist) / length**2
        assert 0.2 < along < 0.5
        # Near the line from wrist to knuckle: within a centimetre and a half.
        bone = (knuckle - wrist) / np.linalg.norm(knuckle - wrist)
        off = (result[place] - wrist) - (result[place] - wrist) @ bone * bone
        assert np.linalg.norm(off) < 0.015
    np.testing.assert_allclose(result[PALM], (result[11] + middle) / 2, atol=1e-6)
    assert (radii > 0.003).all()
    assert (radii < 0.03).all()


def test_a_left_hand_is_the_mirror_image(joints):
    right, radii = openxr_joints(joints, "right")
    left, left_radii = openxr_joints(joints * np.float32([-1, 1, 1]), "left")
    np.testing.assert_allclose(left * [-1, 1, 1], right, atol=1e-6)
    np.testing.assert_allclose(left_radii, radii)


def test_it_scales_moves_and_turns_with_the_hand(joints):
    right, radii = openxr_joints(joints, "right")
    turn = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]], np.float32)
    assert np.isclose(np.linalg.det(turn), 1)
    other, other_radii = openxr_joints((1.25 * joints @ turn.T + np.float32([0.1, 0.2, 0.5])), "right")
    np.testing.assert_allclose(other, 1.25 * right @ turn.T + [0.1, 0.2, 0.5], atol=1e-6)
    np.testing.assert_allclose(other_radii, 1.25 * radii, rtol=1e-4)


def test_fingertips_are_a_radius_below_the_skin(joints):
    result, radii = openxr_joints(joints, "right")
    tips = joints[[4, 8, 12, 16, 20]]
    np.testing.assert_allclose(np.linalg.norm(result[list(TIPS)] - tips, axis=1), radii[list(TIPS)], atol=1e-6)


def test_inferred_joints_are_flagged_and_others_keep_their_flags():
    hand = make_hand()
    result = to_openxr_hand(hand)
    inferred = [PALM, *METACARPALS]
    assert not result.joint_tracked[inferred].any()
    np.testing.assert_array_equal(result.joint_tracked[list(SAME)], hand.joint_tracked)
    np.testing.assert_array_equal(result.joint_confidence[list(SAME)], hand.joint_confidence)
    assert (result.joint_confidence[inferred] <= hand.joint_confidence[[0, 5, 9, 13, 17]].min()).all()


def test_what_needs_an_unknown_joint_is_unknown():
    joints = make_hand().joints.copy()
    joints[joint("middle_mcp")] = np.nan
    result, radii = openxr_joints(joints, "right")
    assert np.isnan(result[[PALM, *METACARPALS]]).all()
    assert np.isfinite(np.delete(result, [PALM, *METACARPALS, 12], axis=0)).all()
    assert np.isfinite(radii).all()


def test_message_goes_over_the_wire_and_back_to_our_joints():
    message = make_message()
    received = unpack(pack(to_openxr(message)))
    assert received.skeleton == "openxr26"
    assert received.hands[0].joints.shape == (26, 3)
    assert received.hands[0].joint_radii.shape == (26,)
    for hand, original in zip(from_openxr(received).hands, message.hands):
        np.testing.assert_allclose(hand.joints, original.joints, atol=1e-6)
        np.testing.assert_array_equal(hand.joint_tracked, original.joint_tracked)


@pytest.mark.parametrize("change", [{"joints": [[0.0] * 3] * 21}, {"joint_radii": None}, {"joint_radii": [-1.0] * 26}])
def test_openxr_hand_must_be_whole(change):
    fields = msgpack.unpackb(pack(to_openxr(make_message())))
    fields["hands"][0].update(change)
    with pytest.raises(StreamError, match=next(iter(change))):
        unpack(msgpack.packb(fields))


def test_publisher_translates_hands_and_status():
    with Publisher(ANY_PORT, "simulated", skeleton="openxr26") as publisher, connect(publisher) as subscriber:
        publisher.status(make_status())
        publisher.publish(make_message(frame=8))
        message = subscriber.receive(2.0)
    assert (message.frame, message.skeleton, len(message.hands[0].joints)) == (8, "openxr26", 26)
    assert subscriber.status.joint_names == OPENXR_NAMES
    assert subscriber.status.skeleton == "openxr26"
    assert unpack_status(pack(subscriber.status)).bones == OPENXR_BONES


def test_unknown_skeleton_is_refused():
    with pytest.raises(StreamError, match="hand21, openxr26"):
        Publisher("none", "simulated", skeleton="nyu14")


def test_the_default_message_has_no_key_more():
    assert "joint_radii" not in msgpack.unpackb(pack(make_message()))["hands"][0]
