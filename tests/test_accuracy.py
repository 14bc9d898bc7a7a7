"""The benchmark of accuracy: pairing, figures, the frozen set, tables, the command."""

import json
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import accuracy  # noqa: E402
import accuracy_real  # noqa: E402
import accuracy_set  # noqa: E402
import filtering  # noqa: E402
import sensors  # noqa: E402
from accuracy_figures import figures, side_by_side  # noqa: E402
from accuracy_pictures import choose, judge  # noqa: E402
from accuracy_run import Method, Result  # noqa: E402
from accuracy_tables import check_region, real_tables, replace_region, synthetic_tables  # noqa: E402
from accuracy_tally import Observation, tally  # noqa: E402
from camera_samples import record  # noqa: E402

from tracker.camera import open_camera  # noqa: E402
from tracker.camera.frame import HandTruth  # noqa: E402
from tracker.errors import DataError, TrackerError  # noqa: E402
from tracker.simulation.situations import TEST_SEEDS  # noqa: E402
from tracker.stream.message import Hand  # noqa: E402
from trainer.commands.calibrate import FIRST_SEED  # noqa: E402
from trainer.data.scenes import RESERVED  # noqa: E402
from trainer.judging.pairing import pair  # noqa: E402

RNG = np.random.default_rng(3)
POSE = RNG.normal(0, 0.04, (21, 3)).astype(np.float32)
CLEAR = np.zeros(21, bool)


def truth(x=0.0, side="right", z=0.5):
    return HandTruth(POSE + np.float32([x, 0, z]), side)


def hand(x=0.0, side="right", number=1, confidence=0.8, z=0.5):
    joints = POSE + np.float32([x, 0, z])
    return Hand(number, side, 0.9, 0.9, joints, np.full(21, confidence, np.float32), np.ones(21, bool))


def seen(hands, known, number=0, partial=(), hidden=None, **changes):
    hidden = tuple(CLEAR for _ in known) if hidden is None else hidden
    values = {"sequence": "a", "kind": "front", "camera": "d435"} | changes
    return Observation(
        **values,
        number=number,
        place=number,
        truth=tuple(known),
        hidden=hidden,
        partial=tuple(partial),
        hands=tuple(hands),
        segment_ms=2.0,
    )


def test_pairs_are_as_many_as_possible_and_then_the_nearest():
    # The nearest pair of all (hand at 0.05, truth at 0.06) would leave the two others 13 cm apart.
    assert pair([hand(0.05), hand(0.13)], [truth(0.0), truth(0.06)]) == {0: 0, 1: 1}
    assert pair([hand(0.01), hand(0.06)], [truth(0.0), truth(0.05)]) == {0: 0, 1: 1}
    assert pair([hand(0.11)], [truth(0.0)]) == {}
    assert pair([], [truth()]) == pair([hand()], []) == {}


def test_figures_count_what_was_missed_false_and_of_the_wrong_side():
    observations = [
        seen([hand(0.006, "left", 1), hand(0.5, number=2)], [truth(), truth(0.3, "left", 0.9)], 0),
        seen([hand(0.012, "right", 3)], [truth()], 1, partial=[truth(-0.3)]),
        seen([hand(0.0, "right", 3), hand(-0.3, number=4)], [truth()], 2, partial=[truth(-0.3)]),
    ]
    found = figures(tally(observations))
    assert (found["hands"], found["found"], found["false_hands"]) == (4, 3, 1)
    assert found["recall"] == 0.75
    assert found["whole_frames"] == pytest.approx(2 / 3, abs=1e-4)
    assert found["side_errors"] == pytest.approx(1 / 3, abs=1e-4)
    assert found["id_switches"] == 1
    assert found["mean_mm"] == pytest.approx(6.0, abs=0.01)
    assert found["median_mm"] == pytest.approx(6.0, abs=0.01)
    assert found["centred_mean_mm"] == pytest.approx(0.0, abs=0.01)
    assert found["within_10_mm"] == 0.5  # two of the four true hands
    assert found["calibration_error"] == pytest.approx(0.8 - 2 / 3, abs=1e-4)
    assert found["calibration_error_with_false"] == pytest.approx(0.8 - 2 / 4, abs=1e-4)
    assert [each["joints"] for each in found["reliability"]] == [63]
    assert found["by_distance"]["0.8-1"]["recall"] == 0.0
    assert found["by_distance"]["0.5-0.6"]["hands"] + found["by_distance"].get("0.4-0.5", {"hands": 0})["hands"] == 3


def test_methods_are_compared_on_the_hands_that_all_of_them_found():
    truths = [truth(), truth(0.3, "left", 0.9)]
    all_found = tally([seen([hand(0.004), hand(0.33, "left", 2)], truths)])
    all_found.error[1] = 30.0
    easy = tally([seen([hand(0.006)], truths)])
    measured = side_by_side({"all": all_found, "easy": easy})
    assert measured["all"]["mean_mm"] == pytest.approx(17.0, abs=0.01)
    assert [measured[name]["common_hands"] for name in ("all", "easy")] == [1, 1]
    assert measured["all"]["common_mean_mm"] == pytest.approx(4.0, abs=0.01)
    assert measured["easy"]["common_median_mm"] == pytest.approx(6.0, abs=0.01)
    assert "mean of the hands that all methods found" in synthetic_tables(measured)[0].markdown()
    assert not any(key.startswith("common") for key in side_by_side({"all": all_found})["all"])


def test_tables_tell_weights_apart_that_have_one_name(tmp_path):
    told = {Method("a").described("torch")}
    for number, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        weights = tmp_path / name / "segmenter.safetensors"
        weights.write_bytes(bytes([number]))
        told.add(Method("a", segmentation=str(weights)).described("torch"))
    assert len(told) == 3
    assert all("model v2v-lite " in each and "segmentation segmenter " in each for each in told)
    assert Method("a", segmentation="geometric").described("torch").endswith("segmentation geometric, filtered, torch")


def test_hidden_joints_are_told_from_joints_that_can_be_seen():
    hidden = np.arange(21) < 6
    published = replace(hand(0.0), joint_tracked=np.arange(21) >= 3)  # three hidden joints are published as tracked
    published.joints[hidden] += np.float32([0.02, 0, 0])
    found = figures(tally([seen([published], [truth()], hidden=(hidden,))]))
    assert found["seen_joints_mm"] == pytest.approx(0.0, abs=0.01)
    assert found["hidden_joints_mm"] == pytest.approx(20.0, abs=0.01)
    assert found["tracked_precision"] == pytest.approx(15 / 18, abs=1e-4)
    assert found["tracked_recall"] == 1.0
    assert list(found["by_hidden"]) == ["0.2-0.4"]


def test_joints_that_are_not_known_are_left_out_and_joints_not_published_are_missed():
    known, published = truth(), hand(0.004)
    known.joints[0] = np.nan
    published.joints[1] = np.nan
    found = figures(tally([seen([published], [known])]))
    assert found["mean_mm"] == pytest.approx(4.0, abs=0.01)
    assert found["within_10_mm"] == pytest.approx(19 / 20)
    assert found["joint_mean_mm"]["wrist"] is None


def test_figures_of_nothing_are_nothing():
    for observations in ([], [seen([], [])]):
        found = figures(tally(observations))
        assert found["recall"] is None
        assert found["mean_mm"] is None
        assert synthetic_tables({"none": found})[0].markdown()
        json.dumps(found, allow_nan=False)


def test_the_frozen_set_is_what_the_document_says():
    sequences = accuracy_set.frozen()
    assert len(sequences) * accuracy_set.FRAMES == 2000
    assert all(each.seed in TEST_SEEDS for each in sequences)
    assert len({each.seed for each in sequences}) == 40
    for key in ("kind", "camera"):
        counts = Counter(getattr(each, key) for each in sequences)
        assert max(counts.values()) - min(counts.values()) <= 3
    assert all(len({s.camera for s in sequences if s.kind == kind}) > 1 for kind in {s.kind for s in sequences})


@pytest.mark.parametrize(("name", "count"), [("tuning", 60), ("further", 140), ("fresh", 40)])
def test_other_sets_are_neither_frozen_nor_trained_by(name, count):
    sequences = accuracy_set.plan(accuracy.UNFROZEN[name])
    seeds = {each.seed for each in sequences}
    assert len(seeds) == count
    assert sum(seed in other for other in accuracy.UNFROZEN.values() for seed in seeds) == count
    assert all(seed in RESERVED and (seed in TEST_SEEDS) == (name == "fresh") for seed in seeds)
    assert seeds.isdisjoint(each.seed for each in accuracy_set.frozen())
    assert seeds.isdisjoint(range(FIRST_SEED, FIRST_SEED + 10_000_000))
    assert {each.kind for each in sequences} == {each.kind for each in accuracy_set.frozen()}


def test_the_generator_still_makes_the_frozen_set():
    for sequence in accuracy_set.frozen()[:3]:
        (view,) = accuracy_set.rendered(sequence, [0])
        assert accuracy_set.differs(sequence, 0, view.frame) is None


def test_a_changed_generator_is_noticed():
    sequence = accuracy_set.frozen()[0]
    (view,) = accuracy_set.rendered(sequence, [0])
    frame = view.frame
    sequence = replace(sequence, prints=(accuracy_set.fingerprint(frame),))
    assert accuracy_set.differs(sequence, 0, frame) is None
    rng = np.random.default_rng(0)
    noisy = np.where(frame.depth > 0, frame.depth + rng.integers(-2, 3, frame.depth.shape), 0).astype(np.uint16)
    assert "other noise" in accuracy_set.differs(sequence, 0, replace(frame, depth=noisy))
    holes = np.where(rng.random(frame.depth.shape) < 0.05, 0, frame.depth).astype(np.uint16)
    assert "have readings" in accuracy_set.differs(sequence, 0, replace(frame, depth=holes))
    assert "other hands" in accuracy_set.differs(sequence, 0, replace(frame, truth=()))
    moved = tuple(HandTruth(each.joints + np.float32(0.004), each.side) for each in frame.truth)
    assert "mm away" in accuracy_set.differs(sequence, 0, replace(frame, truth=moved))
    assert accuracy_set.differs(sequence, 7, frame) is None


def test_cached_frames_are_those_that_were_rendered(tmp_path, monkeypatch):
    sequence = accuracy_set.frozen()[6]  # of a camera with few pixels
    monkeypatch.setattr(accuracy_set, "FRAMES", 2)
    frames = [view.frame for view in accuracy_set.rendered(sequence)]
    sequence = replace(sequence, prints=(accuracy_set.fingerprint(frames[0]),))
    first = list(accuracy_set.views(sequence, tmp_path))
    again = list(accuracy_set.views(sequence, tmp_path, [1]))
    assert len(first) == 2
    assert len(again) == 1
    (rendered,) = accuracy_set.rendered(sequence, [1])
    # After the set was frozen anew, what was kept before is made again.
    image = tmp_path / sequence.name / "depth" / "000001.png"
    kept = image.stat().st_mtime_ns
    anew = replace(sequence, prints=(accuracy_set.fingerprint(frames[0]) | {"readings": 0.1},))
    assert len(list(accuracy_set.views(sequence, tmp_path))) == 2
    assert image.stat().st_mtime_ns == kept
    assert len(list(accuracy_set.views(anew, tmp_path))) == 2
    assert image.stat().st_mtime_ns > kept
    for view in (first[1], again[0]):
        np.testing.assert_array_equal(view.frame.depth, rendered.frame.depth)
        np.testing.assert_array_equal(view.hidden, rendered.hidden)
        assert (view.frame.number, view.frame.captured_ns) == (1, rendered.frame.captured_ns)
        for kind in ((view.frame.truth, rendered.frame.truth), (view.partial, rendered.partial)):
            assert [each.side for each in kind[0]] == [each.side for each in kind[1]]
            for one, other in zip(*kind):
                np.testing.assert_allclose(one.joints, other.joints, atol=1e-6)


def test_a_damaged_list_of_the_set_is_told(tmp_path):
    path = tmp_path / "set.json"
    entry = {"seed": 5, "kind": "front", "camera": "d435", "prints": []}
    for text in ("", "{}", json.dumps({"frames": 50, "rate": 30, "sequences": [entry]})):
        path.write_text(text)
        with pytest.raises(DataError, match="--freeze"):
            accuracy_set.frozen(path)


def test_real_recordings_are_judged_by_what_is_known_of_them():
    place = np.float32([0.0, 0.0, 0.55]) - POSE.mean(axis=0)

    def at(offset, side="right"):
        return replace(hand(side=side), joints=(POSE + place + np.float32(offset)).astype(np.float32))

    observations = [
        seen([at(0.0)], [], 0, hidden=()),
        seen([at(0.0, "left"), at([0.3, 0, 0])], [], 1, hidden=()),
        seen([], [], 2, hidden=()),
    ]
    found = accuracy_real.real_figures("sr305_231615", observations)
    assert {key: found[key] for key in ("frames", "found", "found_side", "false_hands", "second")} == {
        "frames": 3,
        "found": 2,
        "found_side": 1,
        "false_hands": 1,
        "second": 1,
    }
    labelled = [seen([hand(0.002 * number)], [truth(side=None)], number) for number in range(5)]
    found = accuracy_real.real_figures("face_behind_hand", labelled)
    assert found["labelled"]["mean_mm"] == pytest.approx(4.0, abs=0.01)
    assert found["trusted"]["mean_mm"] == pytest.approx(3.5, abs=0.01)  # without frame 3
    table = real_tables({"face_behind_hand": {"ours": found}})[0].text()
    assert "hands found, of 5" in table
    assert "3.5 mm" in table


def test_best_median_and_worst_frames_are_chosen():
    observations = [seen([hand(0.001 * n)], [truth()], n, sequence=str(n % 7)) for n in range(21)]
    observations.append(seen([], [truth()], 21, sequence="empty"))
    # What was found of it is exact, but that is not all.
    observations.append(seen([hand(0.0)], [truth(), truth(0.5)], 22, sequence="one missed"))
    rows = choose(judge(observations))
    assert [each.seen.number for each in rows["best"]] == [0, 1, 2, 3, 4]
    assert rows["median"][0].seen.number == 10
    assert [each.seen.number for each in rows["worst"]] == [20, 19, 18, 17, 16]
    assert [each.seen.number for each in rows["missed or false"]] == [21, 22]


def test_tables_are_written_between_their_marks(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- begin real -->\nold\n<!-- end real -->\nafter\n")
    for _ in range(2):
        replace_region(path, "real", "new")
        assert path.read_text() == "before\n<!-- begin real -->\n\nnew\n\n<!-- end real -->\nafter\n"
    with pytest.raises(DataError, match="begin synthetic"):
        replace_region(path, "synthetic", "new")
    for nothing in (tmp_path / "missing.md", tmp_path):
        with pytest.raises(DataError, match="cannot be rewritten"):
            check_region(nothing, "real")


@pytest.mark.parametrize("name", ["synthetic", "tuning", "further"])
def test_the_command_measures_and_draws(name, tmp_path, capsys):
    options = ["--set", name, "--sequences", "1", "--frames", "2", "--pictures", str(tmp_path / "pictures")]
    assert accuracy.main([*options, "--output", str(tmp_path / "all.json")]) == 0
    assert "true hands found" in capsys.readouterr().out
    report = json.loads((tmp_path / "all.json").read_text())
    assert report["figures"]["v2v-lite"]["frames"] == 2
    assert (tmp_path / "pictures" / "accuracy_curves.png").stat().st_size > 1000


def test_documents_get_the_figures_of_the_frozen_set_and_what_they_stand_for(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text("<!-- begin synthetic -->\n<!-- end synthetic -->\n")
    sequence = accuracy_set.frozen()[6]  # of a camera with few pixels
    monkeypatch.setattr(accuracy_set, "FRAMES", 1)
    changed = replace(sequence, prints=(sequence.prints[0] | {"readings": 0.01},))
    options = ["--set", "synthetic", "--segmentation", "geometric", "--write", str(page)]
    monkeypatch.setattr(accuracy_set, "frozen", lambda: [changed])
    assert accuracy.main(options) == 1
    assert "not rewritten" in capsys.readouterr().err
    assert "|" not in page.read_text()
    (view,) = accuracy_set.rendered(sequence)
    monkeypatch.setattr(
        accuracy_set, "frozen", lambda: [replace(sequence, prints=(accuracy_set.fingerprint(view.frame),))]
    )
    assert accuracy.main(options) == 0
    (method,) = re.findall(r"- v2v-lite: model v2v-lite [0-9a-f]{8}, (.*)", page.read_text())
    assert method.startswith("segmentation geometric, filtered, ")
    assert "| true hands found |" in page.read_text()


def test_documents_that_cannot_be_rewritten_are_told_before_anything_is_measured(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text("no marks\n")
    monkeypatch.setattr(accuracy, "follow", None)
    assert accuracy.main(["--set", "synthetic", "--write", str(page)]) == 1
    assert "begin synthetic" in capsys.readouterr().err


def test_places_where_nothing_can_be_written_are_told_before_anything_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(accuracy, "follow", None)
    (tmp_path / "file").touch()
    for option, place in (
        ("--output", tmp_path / "missing" / "a.json"),
        ("--output", tmp_path / "file" / "a.json"),
        ("--output", tmp_path),
        ("--pictures", tmp_path / "file"),
    ):
        assert accuracy.main(["--set", "synthetic", option, str(place)]) == 1
        assert "written" in capsys.readouterr().err


def test_figures_outlive_pictures_that_fail(tmp_path, monkeypatch, capsys):
    import accuracy_pictures

    def fail(path, picture):
        raise DataError("full")

    monkeypatch.setattr(accuracy_pictures, "save", fail)
    options = ["--set", "synthetic", "--sequences", "1", "--frames", "1", "--segmentation", "geometric"]
    assert accuracy.main([*options, "--pictures", str(tmp_path), "--output", str(tmp_path / "all.json")]) == 1
    told = capsys.readouterr()
    assert "true hands found" in told.out
    assert "full" in told.err
    assert json.loads((tmp_path / "all.json").read_text())["figures"]


def test_a_recording_that_is_broken_does_not_end_the_others(tmp_path, capsys):
    with open_camera("simulated", realtime=False) as camera:
        frames = [camera.read() for _ in range(2)]
    for name in ("a", "b", "c"):
        record(tmp_path / "real" / name, frames)
    (tmp_path / "real" / "a" / "depth" / "000001.png").write_bytes(b"no picture")
    (tmp_path / "real" / "c" / "camera.json").write_text("{")
    output = tmp_path / "all.json"
    options = ["--set", "real", "--real", str(tmp_path / "real"), "--output", str(output)]
    assert accuracy.main([*options, "--processes", "1", "--segmentation", "geometric"]) == 1
    told = capsys.readouterr()
    assert "b: hands found, of 4" in told.out
    assert told.err.count("error: ") == 2
    assert "000001.png is broken" in told.err
    assert "cannot be read as JSON" in told.err
    report = json.loads(output.read_text())
    assert list(report["figures"]) == ["b"]
    assert not report["complete"]


def test_frames_without_labels_are_not_frames_without_hands():
    right = hand(0.0)
    frames = [seen([right], [truth()], 0), seen([right], [], 1, labelled=False)]
    found = accuracy_real.real_figures("other", frames)
    assert (found["published"], found["found"], found["false_hands"]) == (2, 1, 0)
    assert "found" not in accuracy_real.real_figures("other", frames[1:])


def test_recordings_are_those_of_a_folder_or_a_folder_that_is_one(tmp_path):
    for name in ("b", "a"):
        with open_camera("simulated") as camera:
            record(tmp_path / name, [camera.read()])
    assert [source.name for source in accuracy_real.sources(tmp_path)] == ["a", "b"]
    assert [source.name for source in accuracy_real.sources(tmp_path / "b")] == ["b"]


def test_a_damaged_cache_costs_only_its_sequence(tmp_path, monkeypatch, capsys):
    sequences = accuracy_set.frozen()[6:8]
    monkeypatch.setattr(accuracy_set, "FRAMES", 2)
    monkeypatch.setattr(accuracy_set, "frozen", lambda: [replace(each, prints=()) for each in sequences])
    options = ["--set", "synthetic", "--segmentation", "geometric", "--cache", str(tmp_path), "--processes", "1"]
    assert accuracy.main(options) == 0
    beside = tmp_path / sequences[0].name / accuracy_set.BESIDE
    whole = json.loads(beside.read_text())
    for damaged in (whole[:1], [*whole, whole[0]], [{"hidden": 3}, {}], {}, []):
        beside.write_text(json.dumps(damaged))
        capsys.readouterr()
        assert accuracy.main(options) == 1
        told = capsys.readouterr()
        assert "is no part of a cache: remove it" in told.err
        assert "2 frames" in told.out


def test_figures_outlive_an_error_of_the_machine(tmp_path, monkeypatch, capsys):
    def follow(*arguments):
        yield from finished
        raise TrackerError("a process of the benchmark was ended from outside")

    finished = []
    monkeypatch.setattr(accuracy, "follow", follow)
    output = tmp_path / "all.json"
    options = ["--set", "synthetic", "--output", str(output)]
    assert accuracy.main(options) == 1
    assert "ended from outside" in capsys.readouterr().err
    assert not output.exists()
    finished.append(Result(0, {"v2v-lite": [seen([hand(0.003)], [truth()])]}, {"v2v-lite": "openvino on cpu"}, None))
    assert accuracy.main(options) == 1
    told = capsys.readouterr()
    assert "ended from outside (after 1 of 40 sequences)" in told.err
    assert "1 frames" in told.out
    report = json.loads(output.read_text())
    assert report["figures"]["v2v-lite"]["mean_mm"] == pytest.approx(3, abs=0.01)
    assert not report["complete"]


def test_a_sequence_that_two_runs_keep_at_once_is_kept(tmp_path, monkeypatch):
    sequence = replace(accuracy_set.frozen()[6], prints=())
    monkeypatch.setattr(accuracy_set, "FRAMES", 2)
    render = accuracy_set.rendered

    def beside(*arguments):
        monkeypatch.setattr(accuracy_set, "rendered", render)
        monkeypatch.setattr(accuracy_set.os, "getpid", lambda: 1)
        assert len(list(accuracy_set.views(sequence, tmp_path))) == 2  # the other run is the first
        monkeypatch.undo()
        monkeypatch.setattr(accuracy_set, "FRAMES", 2)
        return render(*arguments)

    monkeypatch.setattr(accuracy_set, "rendered", beside)
    assert len(list(accuracy_set.views(sequence, tmp_path))) == 2
    assert [path.name for path in tmp_path.iterdir()] == [sequence.name]


@pytest.mark.skipif(not accuracy_real.DEFAULT.is_dir(), reason="the shared real recordings are not here")
def test_shipped_weights_find_real_hands_where_they_are(tmp_path):
    output = tmp_path / "all.json"
    assert accuracy.main(["--set", "real", "--output", str(output)]) == 0
    found = {name: methods["v2v-lite"] for name, methods in json.loads(output.read_text())["figures"].items()}
    for name, frames in (("face_behind_hand", 8), ("sr305_230536", 8), ("sr305_231615", 11), ("kinect2_person", 40)):
        assert (found[name]["found"], found[name]["false_hands"]) == (frames, 0), name
    assert (found["sr305_230536"]["found_side"], found["sr305_231615"]["found_side"]) == (8, 11)
    assert found["face_behind_hand"]["trusted"]["median_mm"] < 10


def test_shipped_weights_are_good_in_situations(tmp_path, monkeypatch):
    # One of each kind that choices are made on; what is there by chance in so few frames is far below.
    sequences = accuracy_set.plan(accuracy_set.TUNING_SEEDS[:12])
    monkeypatch.setattr(accuracy_set, "frozen", lambda: sequences)
    output = tmp_path / "all.json"
    assert accuracy.main(["--set", "synthetic", "--frames", "6", "--output", str(output)]) == 0
    (found,) = json.loads(output.read_text())["figures"].values()
    assert found["recall"] > 0.8
    assert found["false_a_frame"] < 0.1
    assert found["side_errors"] < 0.1
    assert found["median_mm"] < 10


def test_hands_of_people_that_cross_and_touch_keep_their_ids_and_sides(tmp_path, monkeypatch):
    two = [each for each in accuracy_set.plan(accuracy_set.TUNING_SEEDS) if each.kind in ("crossing", "touching")]
    monkeypatch.setattr(accuracy_set, "frozen", lambda: two[1:7])  # both hands of the first are missed
    output = tmp_path / "all.json"
    assert accuracy.main(["--set", "synthetic", "--frames", "20", "--output", str(output)]) == 0
    (found,) = json.loads(output.read_text())["figures"].values()
    assert found["recall"] > 0.8
    assert found["id_switches"] <= 1
    assert found["side_errors"] < 0.02


def test_a_person_is_measured_with_their_own_bones(tmp_path, capsys):
    profile = tmp_path / "profile.json"
    profile.write_text('{"version": 1, "hand_length": 0.14}')
    output = tmp_path / "all.json"
    options = ["--camera", "simulated", "--frames", "3", "--segmentation", "geometric", "--output", str(output)]
    errors = []
    for more in ([], ["--profile", str(profile)]):
        assert accuracy.main([*options, *more]) == 0
        errors.append(json.loads(output.read_text())["figures"]["v2v-lite"]["mean_mm"])
    assert "a person's own bones" in capsys.readouterr().out
    assert errors[1] > errors[0] + 0.5  # the simulated hand is larger
    profile.write_text("{}")
    assert accuracy.main([*options, "--profile", str(profile)]) == 1


def test_a_hand_that_is_not_followed_has_neither_jitter_nor_lag():
    class Blind:
        def reset(self):
            pass

        def track(self, frame):
            return SimpleNamespace(hands=())

    with pytest.raises(TrackerError, match="no hand found"):
        filtering.watch(Blind(), range(1), 2)


def test_sensors_are_measured_on_a_hand():
    rng = np.random.default_rng(2)
    flat = np.full((80, 80), 2.0, np.float32)
    flat[20:60, 20:60] = 0.5
    assert sensors.measure(flat, 0.5) == pytest.approx((0.0, 0.0, 0.0), abs=1e-4)
    rough = flat + rng.normal(0, 0.001, flat.shape).astype(np.float32)
    rough[30:32, 30:32] = 0  # four pixels of the 1600
    rough[5, 5] = 0.7  # flies behind the hand
    found = sensors.measure(rough, 0.5)
    assert found[0] == pytest.approx(1.0, abs=0.1)
    assert found[1] == pytest.approx(0.25, abs=0.01)
    outline = 4 * 39 + 12  # of the hand, and about the hole
    assert found[2] == pytest.approx(100 / outline, abs=0.05)
    assert np.isnan(sensors.measure(flat, 1.0)).all()
    ((_, found),) = sensors.simulated(1)
    assert np.isfinite(found).all()


def test_the_command_says_in_one_line_what_is_wrong(tmp_path, capsys):
    assert accuracy.main(["--set", "real", "--real", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    for wrong in (
        ["--frames", "0"],
        ["--hands", "0"],
        ["--hands", "9"],
        ["--camera", "simulated", "--sequences", "1"],
        ["--set", "real", "--cache", str(tmp_path)],
        ["--set", "synthetic", "--raw", "--write", "x.md"],
        ["--set", "synthetic", "--hands", "1", "--write", "x.md"],
        ["--set", "synthetic", "--sequences", "2", "--write", "x.md"],
        ["--set", "still", "--frames", "45"],
        ["--write", "x.md"],
        ["--set", "real", "--profile", "x.json"],
        ["--camera", "simulated", "--pictures", "x"],
        ["--set", "real", "--pictures", str(BENCHMARKS / "x")],
    ):
        with pytest.raises(SystemExit):
            accuracy.main(wrong)
