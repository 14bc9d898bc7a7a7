"""Ids and sides of two hands that cross, touch, or are gone for a moment; and no hand is followed twice."""

from dataclasses import replace

import numpy as np
import pytest
from crossing_samples import apart, crossing, frames, touching

from tracker import Tracker, TrackerConfig, hand_tracker
from tracker.camera.frame import DepthFrame, Intrinsics
from tracker.hand.cube import Cube
from tracker.simulation.cameras import CAMERAS
from tracker.simulation.situations import Situation
from tracker.tracking import search
from tracker.tracking.association import OTHER_HAND, TOUCHING_HAND, by_other_hand, continued, owners
from tracker.tracking.belief import FURTHER, LONE, SAME_SIDE, beside_others, real_odds, without_doubtful
from tracker.tracking.hypotheses import Candidate, Estimate, Pair, same_hand, without_doubles
from tracker.tracking.one_euro import FilterConfig
from tracker.tracking.refusals import FIRST_REST, LONGEST_REST, Refusals
from tracker.tracking.sight import Place
from tracker.tracking.touching import divided
from tracker.tracking.track import MOST_SURE, Track

FRAME_NS = 33_333_333
SAME_PLACE = 0.06
"""Metres, mean joint error up to which a hand is that hand."""


@pytest.fixture(scope="module")
def tracker():
    """By geometry: there are no people in these scenes, and the segmentation network tells sides by the arms."""
    with Tracker(engine="openvino", config=TrackerConfig(segmentation="geometric")) as opened:
        yield opened


def followed(tracker, source):
    """Per side: the ids it was published with; how often under the wrong side, twice, and in how many frames at all."""
    tracker.reset()
    ids = {"right": [], "left": []}
    wrong = twice = 0
    for frame in source:
        used = []
        for hand in tracker.track(frame).hands:
            errors = [np.linalg.norm(hand.joints - truth.joints, axis=1).mean() for truth in frame.truth]
            if min(errors) > SAME_PLACE:
                continue
            side = frame.truth[int(np.argmin(errors))].side
            twice += side in used
            used.append(side)
            wrong += hand.side != side
            ids[side].append(hand.id)
    return ids, wrong, twice


def test_hands_that_cross_keep_their_ids_and_sides(tracker):
    ids, wrong, twice = followed(tracker, frames(crossing, 44))
    assert [len(set(numbers)) for numbers in ids.values()] == [1, 1]
    assert ids["right"][0] != ids["left"][0]
    assert (wrong, twice) == (0, 0)
    assert len(ids["right"]) >= 40  # it passes in front
    assert len(ids["left"]) >= 34


def test_hands_that_touch_keep_their_ids_and_sides(tracker):
    ids, wrong, twice = followed(tracker, frames(touching, 48))
    assert [len(set(numbers)) for numbers in ids.values()] == [1, 1]
    assert (wrong, twice) == (0, 0)
    assert min(map(len, ids.values())) >= 44


def test_a_hand_that_is_gone_for_half_a_second_returns_as_itself(tracker):
    gone = {"right": range(12, 26), "left": range(18, 31)}
    ids, wrong, twice = followed(tracker, frames(apart, 40, without=gone))
    assert [len(set(numbers)) for numbers in ids.values()] == [1, 1]
    assert (wrong, twice) == (0, 0)
    assert len(ids["right"]) >= 22


def test_a_segmentation_that_is_a_little_wrong_in_every_frame_does_not_outvote_the_network(tracker, monkeypatch):
    """The network tries both sides now and then only; what it said must not be forgotten in between."""
    plain = tracker._sight.follow

    def misled(frame, hands):
        return [replace(place, side_odds=np.sign(place.center[0]) * 0.7) for place in plain(frame, hands)]

    source = list(frames(apart, 40))
    assert all((truth.side == "left") == (truth.joints[:, 0].mean() > 0) for truth in source[0].truth or ())
    monkeypatch.setattr(tracker._sight, "follow", misled)
    ids, wrong, _ = followed(tracker, source)
    assert wrong == 0
    assert min(map(len, ids.values())) >= 36


def test_a_hand_that_is_only_waited_for_says_nothing_of_another(tracker, monkeypatch):
    asked = []

    def note(hand, joints, tracks, now):
        asked.append({track.id for track in tracks} - {hand.id if hand else 0})
        return 0.0

    def leap(time):
        return (-0.25 if time < 0.15 else 0.25, 0.08, 0.5), (0, 0, 9)

    for module in (hand_tracker, search):
        monkeypatch.setattr(module, "by_other_hand", note)
    tracker.reset()
    ids = []
    for frame in frames(leap, 12, without={"left": range(12)}):
        ids += [hand.id for hand in tracker.track(frame).hands]
        tracker_ids = {track.id for track in tracker.tracks}
    assert len(set(ids)) == len(tracker_ids) == 2  # it is a new hand there, and the old one is waited for
    assert asked
    assert not any(asked)


def test_a_hand_whose_side_was_just_voted_otherwise_is_published_all_the_same(tracker, monkeypatch):
    tracker.reset()
    source = list(frames(apart, 20, without={"left": range(20)}))
    for frame in source[:12]:
        tracker.track(frame)
    (track,) = tracker.tracks
    assert track.side == "right"
    plain = tracker._sight.follow
    monkeypatch.setattr(
        tracker._sight, "follow", lambda *words: [replace(place, side_odds=-4.0) for place in plain(*words)]
    )
    monkeypatch.setattr(tracker._sight, "search", lambda *words: [])
    track.side_vote, track.compared = 0.3, 0.0
    (hand,) = tracker.track(source[12]).hands
    assert (hand.id, hand.side) == (track.id, "left")
    assert np.linalg.norm(hand.joints - source[12].truth[0].joints, axis=1).mean() < SAME_PLACE


def test_of_too_many_hands_the_surest_are_published(tracker):
    tracker.reset()
    tracks = [track_at(number, 0.2 * number, 6.0) for number in (1, 2, 3)]
    for track, sureness in zip(tracks, (0.3, 0.9, 0.6)):
        track.sureness = sureness
    chosen = [(track, looked(track, 0.2 * track.id, 0.9, 0.1).best) for track in tracks]
    (frame,) = frames(apart, 1)
    assert [hand.id for hand in tracker._settle(frame, chosen)] == [2, 3]
    tracker.reset()


HAND = np.random.default_rng(0).uniform(-0.06, 0.06, (21, 3)).astype(np.float32) + np.array([0, 0, 0.5], np.float32)
SURE = np.ones(21, np.float32)


def track_at(number, x, side_vote):
    track = Track(number, side_vote, FilterConfig())
    track.update(HAND + np.array([x, 0, 0], np.float32), SURE, 0)
    return track


def looked(track, x, right, left, mask=None):
    """A place at x that was tried as both sides, with these presences."""
    mask = np.ones((4, 4), np.bool_) if mask is None else mask
    estimates = [
        Estimate(Candidate(Cube((x, 0, 0.5), side=side), mask, track, 0), HAND + np.float32([x, 0, 0]), SURE, presence)
        for side, presence in (("right", right), ("left", left))
    ]
    return Pair(tuple(estimates))


def test_a_further_hand_that_is_mostly_doubtful_is_none_and_the_surest_needs_less():
    sure, doubtful = track_at(1, -0.1, 6.0), track_at(2, 0.1, -6.0)
    estimate = looked(sure, -0.1, 0.9, 0.1).best
    chosen = [(sure, estimate), (doubtful, estimate)]

    def kept():
        return [track.id for track, _ in without_doubtful(chosen)]

    sure.sureness, doubtful.sureness = 4.0, FURTHER + 0.5
    assert kept() == [1, 2]
    doubtful.believe(FURTHER - 1.0)
    assert kept() == [1, 2], "one bad frame is none too many"
    for _ in range(5):
        doubtful.believe(FURTHER - 1.0)
    assert kept() == [1]
    sure.sureness, doubtful.sureness = LONE - 0.1, LONE - 0.5
    assert kept() == []
    doubtful.sureness = 0.5 * (LONE + FURTHER)
    assert kept() == [2], "the surest may be less sure than a further one"
    assert without_doubtful([]) == []


def test_no_single_frame_decides_whether_there_is_a_hand():
    track = Track(1, 6.0, None)
    track.believe(50.0)
    assert track.sureness == MOST_SURE
    track.update(HAND, SURE, 0)
    track.believe(-50.0)
    assert FURTHER < track.sureness < MOST_SURE
    for number in range(1, 12):
        track.believe(-50.0)
        track.update(HAND, SURE, number * FRAME_NS)
    assert track.sureness < LONE


def test_all_that_the_networks_say_speaks_for_a_hand():
    track = track_at(1, 0.0, 6.0)
    clear = looked(track, 0.0, 0.99, 0.1).best
    odds = real_odds(clear, 0.9)
    assert odds > 4
    assert real_odds(clear, 0.2) < odds
    assert real_odds(replace(clear, presence=0.6), 0.9) < odds
    assert real_odds(replace(clear, confidence=0.1 * SURE), 0.9) < odds - 5
    puzzling = replace(clear, presence=0.8, confidence=0.2 * SURE)
    assert real_odds(puzzling, 0.5) < LONE, "an arm"
    assert np.isfinite([real_odds(replace(clear, presence=p), 0.0) for p in (0.0, 1.0)]).all()


def test_nobody_has_two_right_hands():
    first, second = looked(None, -0.2, 0.9, 0.1).of_side("right"), looked(None, 0.2, 0.8, 0.1).of_side("right")
    left = looked(None, 0.2, 0.1, 0.8).of_side("left")
    both = [(first, 5.0), (second, 3.0), (left, 2.0)]
    assert [beside_others(one, odds, both) for one, odds in both] == [5.0, 3.0 - SAME_SIDE, 2.0]
    assert beside_others(first, 5.0, []) == 5.0


@pytest.mark.parametrize("clear", [True, False])
def test_of_what_is_unclear_everything_is_looked_at(tracker, monkeypatch, clear):
    tracker.reset()
    for owner, name in ((tracker, "_real_odds"), (tracker._search, "_odds")):
        monkeypatch.setattr(owner, name, lambda frame, estimate: 5.0 if clear else -5.0)
    plain, whole = tracker._looker, []

    def note(frame, candidates, timed):
        whole.append({candidate.number for candidate in candidates if candidate.mask.all()})
        return plain(frame, candidates, timed)

    for owner in (tracker, tracker._search):
        monkeypatch.setattr(owner, "_looker", note)
    (frame,) = frames(apart, 1)
    hands = tracker.track(frame).hands
    assert whole[1:] == [set(), set() if clear else {0, 1}], "followed; searched, and again"
    assert len(hands) == (2 if clear else 0)


def test_what_was_looked_at_in_vain_rests_longer_each_time():
    refusals, place, beside, away = Refusals(), *(np.array([x, 0.0, 0.6]) for x in (0.1, 0.15, 0.3))
    assert not refusals.rests(place, 0)
    rests, frame = [], 0
    for _ in range(4):
        refusals.note(place, frame)
        start = frame
        while refusals.rests(beside, frame):
            assert refusals.resting(frame) == 1
            assert not refusals.rests(away, frame)
            frame += 1
        rests.append(frame - start)
    assert rests == [FIRST_REST, 2 * FIRST_REST, LONGEST_REST, LONGEST_REST]
    frame += LONGEST_REST
    refusals.note(place, frame)  # what was long ago is forgotten
    assert refusals.rests(place, frame + FIRST_REST - 1)
    assert not refusals.rests(place, frame + FIRST_REST)


def test_a_refused_place_is_looked_at_again_later_or_where_a_hand_was_lost(tracker, monkeypatch):
    tracker.reset()
    source = list(frames(apart, 2 + FIRST_REST))
    believed = [False]
    for owner, name in ((tracker, "_real_odds"), (tracker._search, "_odds")):
        monkeypatch.setattr(owner, name, lambda frame, estimate: 5.0 if believed[0] else -5.0)
    assert tracker.track(source[0]).hands == ()
    believed[0] = True
    found = [len(tracker.track(frame).hands) for frame in source[1:]]
    assert found == [0] * (FIRST_REST - 1) + [2, 2]
    lost = tracker.tracks
    places = [Place(track.joints.mean(axis=0), np.ones((4, 4), np.bool_), 0.0) for track in lost]
    now = source[-1].captured_ns
    for place in places:
        tracker._search._refusals.note(place.center, tracker._frames)
    assert all(tracker._search._rests(place, tracker._frames, [], now) for place in places)
    assert not any(tracker._search._rests(place, tracker._frames, lost, now) for place in places)


def test_the_tracker_forgets_what_is_too_doubtful(tracker):
    tracker.reset()
    sure, doubtful = track_at(1, -0.1, 6.0), track_at(2, 0.1, -6.0)
    pair = looked(sure, -0.1, 0.9, 0.1).best
    unsure = replace(pair, confidence=np.full(21, 0.02, np.float32))
    tracker._tracks = [sure, doubtful]
    sure.sureness, doubtful.sureness = 4.0, 0.1
    (frame,) = frames(apart, 1)
    assert [track.id for track, _ in tracker._believed(frame, [(sure, pair), (doubtful, unsure)])] == [1]
    assert [track.id for track in tracker.tracks] == [1]
    tracker.reset()


def test_hands_that_changed_places_get_their_tracks_back():
    right, left = track_at(1, -0.03, 6.0), track_at(2, 0.03, -6.0)
    swapped = [looked(right, -0.03, 0.1, 0.9), looked(left, 0.03, 0.9, 0.1)]
    assert owners(swapped, [0.0, 0.0], FRAME_NS) == [left, right]
    kept = [looked(right, -0.03, 0.9, 0.1), looked(left, 0.03, 0.1, 0.9)]
    assert owners(kept, [0.0, 0.0], FRAME_NS) == [right, left]
    unclear = [looked(right, -0.03, 0.6, 0.65), looked(left, 0.03, 0.6, 0.6)]
    assert owners(unclear, [0.0, 0.0], FRAME_NS) == [right, left]


def test_far_hands_do_not_change_places():
    right, left = track_at(1, -0.3, 6.0), track_at(2, 0.3, -6.0)
    swapped = [looked(right, -0.3, 0.1, 0.9), looked(left, 0.3, 0.9, 0.1)]
    assert owners(swapped, [0.0, 0.0], FRAME_NS) == [right, left]


def test_lost_hands_are_paired_with_found_ones_all_together():
    # Each found hand is nearest to the first track; that way the second would get a hand that is too far for it.
    first, second = track_at(1, 0.0, 6.0), track_at(2, 0.20, 6.0)
    found = [looked(None, -0.2, 0.9, 0.5), looked(None, 0.05, 0.9, 0.5)]
    assert continued(found, [0.0, 0.0], [first, second], FRAME_NS, {}) == [first, second]
    assert continued(found, [0.0, 0.0], [], FRAME_NS, {}) == [None, None]
    assert continued([looked(None, 1.0, 0.9, 0.5)], [0.0], [first], FRAME_NS, {}) == [None]
    # The side decides between two that are as near.
    lefty = track_at(3, 0.0, -6.0)
    assert continued([looked(None, 0.0, 0.1, 0.9)], [0.0], [first, lefty], FRAME_NS, {}) == [lefty]
    # But not of one that was followed in this frame, elsewhere: what is where it is may look like the other side.
    held = {3: HAND}
    of_its_side, at_its_place = looked(None, 0.15, 0.1, 0.9), looked(None, 0.02, 0.9, 0.1)
    assert continued([of_its_side, at_its_place], [0.0, 0.0], [lefty], FRAME_NS, {}) == [lefty, None]
    assert continued([of_its_side, at_its_place], [0.0, 0.0], [lefty], FRAME_NS, held) == [None, lefty]


def test_a_hand_is_mostly_of_the_other_side_than_one_that_is_known_and_more_so_if_they_touch():
    right, unclear = track_at(1, 0.0, 6.0), track_at(2, 0.0, 1.0)
    near, far = HAND + np.float32([0.08, 0, 0]), HAND + np.float32([0.3, 0, 0])
    assert by_other_hand(None, near, [right], FRAME_NS) == -TOUCHING_HAND
    assert by_other_hand(None, far, [right], FRAME_NS) == -OTHER_HAND
    left = track_at(3, 0.3, -6.0)
    assert by_other_hand(right, right.predicted_joints(FRAME_NS), [right, left], FRAME_NS) == OTHER_HAND
    # A side that is not clear says nothing, nor do more than two hands.
    assert by_other_hand(None, near, [unclear], FRAME_NS) == 0
    assert by_other_hand(None, near, [right, left], FRAME_NS) == 0
    assert by_other_hand(None, near, [], FRAME_NS) == 0


def test_one_hand_under_two_masks_is_one_hand_and_hands_that_touch_are_two():
    whole = np.ones((4, 4), np.bool_)
    halves = np.zeros((4, 4), np.bool_), np.zeros((4, 4), np.bool_)
    halves[0][:2], halves[1][2:] = True, True

    def pair(shift, masks):
        return [looked(None, x, 0.9, 0.1, mask).best for x, mask in zip((0.0, shift), masks)]

    assert same_hand(*pair(0.02, halves))
    assert same_hand(*pair(0.045, (whole, whole)))
    assert not same_hand(*pair(0.045, halves))
    assert not same_hand(*pair(0.09, (whole, whole)))
    # Squeezed onto the fingers of the first: no hand fits there, whatever pixels it rests on.
    squeezed, mask = looked(None, 0.0, 0.9, 0.1, halves[1]).best, halves[0]
    fingers = HAND[5:].mean(axis=0) + 0.4 * (HAND - HAND.mean(axis=0))
    squeezed = replace(squeezed, joints=fingers.astype(np.float32))
    assert float(np.linalg.norm(squeezed.joints - HAND, axis=1).mean()) > 0.03
    assert same_hand(squeezed, looked(None, 0.0, 0.9, 0.1, mask).best)


def test_of_two_tracks_on_one_hand_the_one_that_expected_it_stays():
    away, there = track_at(1, 0.08, 6.0), track_at(2, 0.0, 6.0)
    estimate = looked(None, 0.0, 0.9, 0.1).best
    assert without_doubles([(away, estimate), (there, estimate)], FRAME_NS) == [(there, estimate)]
    new = Track(3, 1.0, None)
    assert without_doubles([(new, estimate), (there, estimate)], FRAME_NS) == [(there, estimate)]


def test_pixels_that_two_hands_claim_go_to_the_nearer():
    intrinsics = Intrinsics(64, 48, 60.0, 60.0, 32.0, 24.0)
    frame = DepthFrame(np.full((48, 64), 500, np.uint16), 0.001, intrinsics, 0, 0, 0)
    masks = [np.zeros((48, 64), np.bool_) for _ in range(2)]
    masks[0][:, :40], masks[1][:, 24:] = True, True
    hands = [np.tile(np.float32([x, 0, 0.5]), (21, 1)) for x in (-0.1, 0.1)]
    left, right = divided(frame, masks, hands)
    assert left[:, :32].all()
    assert not left[:, 33:].any()
    assert right[:, 33:].all()
    assert not right[:, :32].any()
    assert masks[0][:, 39].all()  # what came in is as it was
    apart = [masks[0] & ~masks[1], masks[1] & ~masks[0]]
    assert all(after is before for after, before in zip(divided(frame, apart, hands), apart))


def test_true_hands_that_touch_are_mostly_two():
    masks = np.eye(4, dtype=np.bool_), ~np.eye(4, dtype=np.bool_)
    apart, same = [], 0
    for seed, camera in enumerate(("d435", "d405", "l515", "kinect2", "sr305", "d455"), start=871_000_000):
        situation = Situation(seed, "touching", CAMERAS[camera])
        for second in range(4):
            truth = situation.shot(float(second), 0.1).frame.truth
            if len(truth) == 2:
                one, other = (
                    replace(looked(None, 0.0, 0.9, 0.1, mask).best, joints=np.float32(known.joints))
                    for mask, known in zip(masks, truth)
                )
                same += same_hand(one, other)
                apart.append(np.linalg.norm(one.joints[:, None] - other.joints, axis=2).min())
    assert len(apart) > 10
    assert min(apart) < 0.03  # they do touch
    assert same <= len(apart) // 20  # fingers between fingers are taken for one hand
