"""How two runs differ: `python -m tracker compare`."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from camera_samples import frame_of
from stream_samples import make_hand, make_message, with_unknown_joint

from tracker.camera import open_recorder
from tracker.cli import main
from tracker.compare import as_dict, as_table, compare, match_hands
from tracker.errors import CameraError, StreamError
from tracker.hand.skeleton import JOINT_NAMES
from tracker.kept_messages import read_messages
from tracker.stream.message import HandsMessage, to_json_line


def test_a_folder_that_is_no_recording_is_told_as_such(tmp_path):
    with pytest.raises(CameraError, match=r"is no recording folder: it has no camera\.json"):
        next(read_messages(tmp_path))


def moved(message: HandsMessage, metres: float, hand: int = 0) -> HandsMessage:
    hands = list(message.hands)
    hands[hand] = replace(hands[hand], joints=hands[hand].joints + np.array([0, 0, metres], np.float32))
    return replace(message, hands=tuple(hands))


def write(path, messages) -> str:
    path.write_text("".join(to_json_line(message) + "\n" for message in messages))
    return str(path)


RUN = [make_message(frame) for frame in range(10)]


def test_a_run_is_like_itself():
    result = compare(RUN, RUN)
    assert (result.frames_both, result.frames_only_a, result.frames_only_b) == (10, 0, 0)
    assert result.distances.shape == (20, 21)
    assert not result.distances.any()
    assert result.within(0.0)


def test_millimetres_per_joint_are_those_of_the_hand_that_moved():
    result = as_dict(compare(RUN, [moved(RUN[0], 0.003), *RUN[1:]]))
    for name in JOINT_NAMES:
        assert result["joints_mm"][name]["max"] == pytest.approx(3.0, abs=1e-3)
        assert result["joints_mm"][name]["mean"] == pytest.approx(3.0 / 20, abs=1e-3)
        assert result["joints_mm"][name]["median"] == 0
    assert result["joints_mm"]["all"]["max"] == pytest.approx(3.0, abs=1e-3)
    assert result["latency_ms"]["a"] == {"p50": 10.5, "p95": 10.5, "p99": 10.5}


def test_frames_are_matched_by_number():
    result = compare(RUN[:8], [make_message(frame) for frame in (1, 2, 5, 9, 11, 12)])
    assert (result.frames_both, result.frames_only_a, result.frames_only_b) == (3, 5, 3)
    assert not result.within(1000)


def test_misses_and_extra_hands_are_counted():
    fewer = [replace(RUN[0], hands=RUN[0].hands[:1]), *RUN[1:]]
    assert (compare(RUN, fewer).missed, compare(RUN, fewer).extra) == (1, 0)
    assert (compare(fewer, RUN).missed, compare(fewer, RUN).extra) == (0, 1)
    assert not compare(RUN, fewer).within(1000)


def test_a_hand_elsewhere_is_a_miss_and_an_extra_one():
    result = compare(RUN, [moved(RUN[0], 0.2), *RUN[1:]])
    assert (result.missed, result.extra, len(result.distances)) == (1, 1, 19)


def test_hands_are_matched_by_place_and_ids_may_be_counted_otherwise():
    def renamed(message: HandsMessage, ids: tuple[int, int], order: int = 1) -> HandsMessage:
        hands = tuple(replace(hand, id=number) for hand, number in zip(message.hands, ids))
        return replace(message, hands=hands[::order])

    result = compare(RUN, [renamed(message, (2, 1), -1) for message in RUN])
    assert (result.other_id, result.id_changes, result.other_side) == (20, 0, 0)
    assert result.within(0.0)
    result = compare(RUN, [renamed(message, (1, 2) if message.frame < 5 else (1, 7)) for message in RUN])
    assert (result.other_id, result.id_changes) == (5, 1)
    assert not result.within(1000)


def test_sides_that_differ_are_counted():
    other = [replace(RUN[0], hands=(replace(RUN[0].hands[0], side="left"), RUN[0].hands[1])), *RUN[1:]]
    assert compare(RUN, other).other_side == 1
    assert not compare(RUN, other).within(1000)


def test_joints_that_one_run_does_not_know_are_counted_and_not_measured():
    result = compare(RUN, [with_unknown_joint(RUN[0], 4), *RUN[1:]])
    assert result.unknown == 1
    assert np.isnan(result.distances).sum() == 1
    assert not result.within(1000)
    assert "1 with an estimate in one run only" in as_table(result, "a", "b")


def test_hands_without_any_joint_are_matched_by_id():
    unknown = [replace(make_hand(number), joints=np.full((21, 3), np.nan, np.float32)) for number in (1, 2)]
    pairs = match_hands(tuple(unknown), tuple(unknown[::-1]))
    assert [(hand.id, other.id) for hand, other in pairs] == [(1, 1), (2, 2)]


def test_near_hands_are_matched_as_a_whole():
    """The first hand's nearest is the second's partner: only together the distances are least."""
    base = make_hand(1)
    at = [
        replace(base, id=number, joints=base.joints + np.array([x, 0, 0], np.float32))
        for number, x in enumerate((0.0, 0.05, 0.04, 0.12))
    ]
    pairs = match_hands((at[0], at[1]), (at[2], at[3]))
    assert [(hand.id, other.id) for hand, other in pairs] == [(0, 2), (1, 3)]


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        ([make_message(3), make_message(3)], RUN, "A has frame 3 after frame 3"),
        (RUN, [make_message(3), make_message(2)], "B has frame 2 after frame 3"),
        (RUN, [replace(message, space="world") for message in RUN], "the space camera in A and world in B"),
    ],
)
def test_what_cannot_be_compared_is_refused(a, b, reason):
    with pytest.raises(StreamError, match=reason):
        compare(a, b)


def test_runs_that_share_nothing():
    result = compare(RUN, [])
    assert not result.within(1000)
    assert as_dict(result)["joints_mm"]["all"] is None
    assert as_dict(result)["latency_ms"]["b"] is None
    assert "latency - ms" in as_table(result, "a", "b")


def test_command_prints_a_table_or_json_and_its_status_tells(tmp_path, capsys):
    a, b = write(tmp_path / "a.jsonl", RUN), write(tmp_path / "b.jsonl", [moved(RUN[0], 0.002), *RUN[1:]])
    assert main(["compare", a, b]) == 0
    table = capsys.readouterr().out
    assert "10 in both, 0 only in A, 0 only in B" in table
    assert table.splitlines()[-1].split() == ["all", "0.100", "0.000", "2.000"]
    assert main(["compare", a, b, "--tolerance", "2.1"]) == 0
    assert main(["compare", a, b, "--tolerance", "1.9"]) == 1
    assert "differ by more than 1.9 mm" in capsys.readouterr().out
    assert main(["compare", a, b, "--tolerance", "1.9", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["frames"] == {"both": 10, "only_a": 0, "only_b": 0}
    assert main(["compare", a, b, "--tolerance", "-1"]) == 1
    assert "must be 0 or more" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["kept", "kept.h5"])
def test_recordings_are_compared_by_the_messages_in_them(tmp_path, capsys, name):
    with open_recorder(tmp_path / name, "walk", lossless=True) as recorder:
        for message in RUN:
            recorder.write(frame_of(message.frame), message)
    assert main(["compare", str(tmp_path / name), write(tmp_path / "a.jsonl", RUN), "--tolerance", "0.01"]) == 0


def test_a_message_survives_its_line(tmp_path):
    message = with_unknown_joint(make_message(5), 3)
    write(tmp_path / "one.jsonl", [message])
    (back,) = read_messages(tmp_path / "one.jsonl")
    assert (back.frame, back.captured_ns, back.camera) == (5, message.captured_ns, message.camera)
    for hand, original in zip(back.hands, message.hands):
        np.testing.assert_allclose(hand.joints, original.joints, atol=1e-6)
        np.testing.assert_array_equal(hand.joint_tracked, original.joint_tracked)


LINE = to_json_line(make_message(1)).encode()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x00\xff garbage\n" + LINE, "line 1 is not a line of JSON"),
        (LINE + b"\n[1, 2]\n", "line 2: a message must be a map"),
        (LINE + b"\n{}\n", "line 2: .*version"),
        (LINE.replace(b'"version":1', b'"version":2') + b"\n", "version 2"),
        (LINE + b"\n" + b"[" * 100_000 + b"\n", "line 2 is not a line of JSON"),
        (LINE + b"\n" + b"1" * 3_000_000, "line 2 is not a line of JSON"),
        (LINE.replace(b'"frame":1', b'"frame":1e999') + b"\n", "frame"),
    ],
)
def test_broken_lines_are_named(tmp_path, content, reason):
    (tmp_path / "broken.jsonl").write_bytes(content)
    with pytest.raises(StreamError, match=reason):
        list(read_messages(tmp_path / "broken.jsonl"))


def test_a_last_line_that_is_cut_off_is_let_go(tmp_path):
    (tmp_path / "cut.jsonl").write_bytes(LINE + b"\n" + LINE[:-30])
    assert len(list(read_messages(tmp_path / "cut.jsonl"))) == 1


@pytest.mark.parametrize("name", ["missing.jsonl", "missing.h5", "missing", "walk.bag"])
def test_files_that_are_not_there(tmp_path, capsys, name):
    assert main(["compare", str(tmp_path / name), str(tmp_path / name)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
