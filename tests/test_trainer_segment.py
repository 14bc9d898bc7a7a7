"""Training the segmentation network: its samples, its augmentation, its loss, its figures, and the command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tracker.camera.frame import DepthFrame, HandTruth, Intrinsics
from tracker.errors import DataError
from tracker.network.segmenter import ARM, LEFT, RIGHT, SegmenterConfig
from tracker.network.weights import load_segmenter
from tracker.simulation.situations import TEST_SEEDS, Shot
from tracker.tracking.coarse import coarse_grid, pick
from trainer.cli import main
from trainer.data.segmentation import DEV_SEEDS, RUN_SEEDS, RUNS, SHOTS, SituationSamples, labelled, shots
from trainer.fitting import segment as segment_fit
from trainer.fitting.segment import SegmentConfig, SegmentFit
from trainer.fitting.segment_augment import GROWTH, augment, swapped
from trainer.fitting.segment_loss import SIZE_LIMITS, hand_weight, loss
from trainer.judging.segmentation import Tally, judge_geometry, judge_network, judge_scores, table

TINY = SegmenterConfig(width=32, height=24, channels=(4, 8), deep=1)
SHORT = SegmentConfig(minutes=0.003, batch_size=4, pool=24, workers=0, dev_situations=1, learning_rate=0.01, bf16=False)


def test_seeds_of_training_dev_and_test_are_apart() -> None:
    assert min(DEV_SEEDS) >= RUNS * RUN_SEEDS
    assert max(DEV_SEEDS) < min(TEST_SEEDS)
    with pytest.raises(DataError, match="--seed"):
        SituationSamples(RUNS, 32, 24)


def test_samples_are_a_function_of_their_number_and_fit_the_network() -> None:
    depth, labels, focal = SituationSamples(3, 48, 36)[5]
    assert depth.shape == labels.shape == (SHOTS, 36, 48)
    assert focal.shape == (SHOTS,)
    again = SituationSamples(3, 48, 36)[5]
    assert torch.equal(depth, again[0])
    assert torch.equal(labels, again[1])
    other = SituationSamples(3, 48, 36)[6]
    assert not torch.equal(depth, other[0])


def test_the_smaller_rendering_is_the_larger_one_thinned_out() -> None:
    seed = DEV_SEEDS[1]
    small, large = (labelled(shots(seed, 1, width, 0.0)[0], 48, 36) for width in (48, 640))
    assert small.focal == pytest.approx(large.focal, rel=0.02)
    assert np.mean(small.labels == large.labels) > 0.9


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    depth = torch.full((40, 24, 32), 1.0)
    labels = torch.zeros(40, 24, 32, dtype=torch.uint8)
    labels[:, 8:16, 4:10], labels[:, 8:16, 20:26], labels[:, 16:, 4:10] = RIGHT, LEFT, ARM
    return depth, labels, torch.full((40,), 30.0)


def test_a_mirror_image_has_its_sides_swapped() -> None:
    labels = torch.tensor([[0, RIGHT, LEFT, ARM]], dtype=torch.uint8)
    assert swapped(labels).tolist() == [[0, LEFT, RIGHT, ARM]]
    _, varied, focal = augment(*batch(), torch.Generator().manual_seed(1))
    # Mirrored or not, the right hand stays on the left of the image here, and only the empty rim is new.
    columns = torch.arange(32.0)
    for image in varied:
        right, left = (((image == side) * columns).sum() / (image == side).sum() for side in (RIGHT, LEFT))
        assert right < left
    assert set(varied.unique().tolist()) == {0, RIGHT, LEFT, ARM}
    assert focal.min() < 29
    assert focal.max() > 31


def test_augmented_surfaces_stay_where_they_are_but_for_growth_and_noise() -> None:
    depth, labels, _ = augment(*batch(), torch.Generator().manual_seed(2))
    seen = depth[depth > 0]
    assert seen.min() > 0.9 / GROWTH
    assert seen.max() < 1.1 * GROWTH
    assert (depth > 0).float().mean() > 0.7
    assert labels.dtype == torch.uint8


def test_the_loss_falls_with_right_answers_and_looks_at_readings_only() -> None:
    _, labels, _ = batch()
    right = 8 * torch.nn.functional.one_hot(labels.long(), 4).permute(0, 3, 1, 2).float()
    wrong = 8 * torch.nn.functional.one_hot(swapped(labels).long(), 4).permute(0, 3, 1, 2).float()
    everywhere = torch.ones(labels.shape, dtype=torch.bool)
    hands = (labels == RIGHT) | (labels == LEFT)
    assert loss(right, labels, everywhere) < 0.05
    assert loss(wrong, labels, everywhere) > 1
    assert float(loss(wrong, labels, ~hands)) == pytest.approx(float(loss(right, labels, ~hands)), abs=1e-3)


def test_pixels_of_small_hands_count_for_more() -> None:
    target = torch.zeros(2, 144, 192, dtype=torch.int64)
    target[0, :20, :20], target[0, 30:35, :20], target[0, 40:, 40:] = RIGHT, LEFT, ARM
    target[1, 0, 0], target[1, :, 30:] = RIGHT, LEFT
    seen = torch.ones(target.shape, dtype=torch.bool)
    seen[0, 30:32, 10:] = False
    weight = hand_weight(target, seen)
    assert weight[0, 5, 5] == 1  # of the usual size
    assert weight[0, 32, 5] == pytest.approx((400 / 80) ** 0.75)  # of 80 with a reading
    assert weight[0, 30, 15] == weight[0, 50, 50] == weight[0, 25, 70] == 1
    assert (weight[1, 0, 0], weight[1, 5, 40]) == (SIZE_LIMITS[1], pytest.approx(SIZE_LIMITS[0]))
    # To miss the small hand costs more than as many pixels of the large one.
    labels, logits = target.to(torch.uint8), 8 * torch.nn.functional.one_hot(target, 4).permute(0, 3, 1, 2).float()
    losses = []
    for rows, columns in ((slice(32, 35), slice(20)), (slice(3), slice(20))):
        missed = logits.clone()
        missed[0, :, rows, columns] = torch.tensor([8.0, 0, 0, 0])[:, None, None]
        losses.append(float(loss(missed[:1], labels[:1], seen[:1])))
    assert losses[0] > 1.5 * losses[1]


def test_a_tally_counts_hands_sides_and_what_is_none() -> None:
    def hand(x: float, side: str) -> HandTruth:
        return HandTruth(np.full((21, 3), (x, 0, 0.5), np.float32), "right" if side == "right" else "left")

    k = Intrinsics(32, 24, 30, 30, 16, 12)
    truth = (hand(-0.2, "right"), hand(0.2, "left"))
    frame = DepthFrame(np.zeros((24, 32), np.uint16), 0.001, k, 0, 0, 0, truth)
    hidden = (np.zeros(21, np.bool_), np.zeros(21, np.bool_))
    shot = Shot(frame, np.zeros((24, 32), np.uint8), hidden, (hand(0.6, "left"),))
    tally = Tally()
    tally.take(
        shot,
        [
            (np.array([-0.17, 0, 0.5]), 2.0),  # the right hand
            (np.array([0.22, 0, 0.5]), 1.0),  # the left hand, taken for a right one
            (np.array([-0.2, 0, 0.52]), 1.0),  # the right hand once more
            (np.array([0.61, 0, 0.5]), -1.0),  # half outside the image: neither right nor wrong
        ],
    )
    scores = tally.scores()
    assert (scores.recall, scores.side_of_hands, scores.false_regions) == (1.0, 0.5, 1.0)


def test_a_perfect_network_and_the_geometric_finder_share_a_table() -> None:
    found = [shots(seed, 1, 320, 0.0)[0] for seed in DEV_SEEDS[:3]]
    config = SegmenterConfig()
    answers = iter([pick(shot.labels, coarse_grid(shot.frame.intrinsics, 192, 144)) for shot in found])
    scores = judge_network(found, lambda depth, focal: np.eye(4, dtype=np.float32)[:, next(answers)], config)
    assert all(np.isnan(value) or value == 1 for value in scores.iou.values())
    assert scores.side_of_hands == 1
    text = table({"network": scores, "geometric": judge_geometry(found)})
    assert len(text.splitlines()) == 3
    assert text.splitlines()[2].split()[3:] == ["-"] * 6


def test_hands_are_counted_by_the_score_that_they_must_have() -> None:
    found = [shots(seed, 1, 320, 0.0)[0] for seed in DEV_SEEDS[:3]]
    answers = iter([pick(shot.labels, coarse_grid(shot.frame.intrinsics, 192, 144)) for shot in found])

    def fairly_sure(depth: np.ndarray, focal: float) -> np.ndarray:
        return (0.8 * np.eye(4, dtype=np.float32) + 0.05)[:, next(answers)]

    scores = judge_scores(found, fairly_sure, SegmenterConfig(), (0.5, 0.85, 0.95))
    assert list(scores) == [0.5, 0.85, 0.95]
    assert scores[0.5].recall == scores[0.85].recall > 0.5  # of its pixels it is sure by 0.9
    assert (scores[0.95].recall, scores[0.95].false_regions) == (0, 0)


def test_a_run_is_stopped_and_goes_on(tmp_path: Path) -> None:
    fit = SegmentFit(tmp_path, TINY, SHORT, {"command": "test"})
    fit.run()
    steps, situations = fit.state.step, fit.state.situations
    assert steps > 0
    assert load_segmenter(tmp_path / "last.safetensors").config == TINY
    assert json.loads((tmp_path / "best.json").read_text())["results"]["images"] == 2

    longer = SegmentFit(tmp_path, TINY, replace(SHORT, minutes=fit.state.elapsed / 60 + 0.005), {})
    longer.resume()
    assert (longer.state.step, longer.state.situations) == (steps, situations)
    for name, value in fit.kept.state_dict().items():
        assert torch.equal(longer.kept.state_dict()[name], value)
    longer.run()
    assert longer.state.step > steps
    assert longer.state.situations >= situations

    with pytest.raises(DataError, match="another network"):
        SegmentFit(tmp_path, replace(TINY, deep=2), SHORT, {}).resume()


def test_an_interrupt_while_weights_are_judged_stops_the_run_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []

    def interrupted(shots, network, config):
        for shot in shots:
            taken.append(shot)
            signal.raise_signal(signal.SIGINT)
        return judge_network([], network, config)

    monkeypatch.setattr(segment_fit, "judge_network", interrupted)
    fit = SegmentFit(tmp_path, TINY, SHORT, {})
    with pytest.raises(KeyboardInterrupt):
        fit.run()
    assert len(taken) == 1  # of the two images to judge on
    assert (tmp_path / "last.safetensors").exists()
    assert not (tmp_path / "best.safetensors").exists()
    monkeypatch.undo()
    again = SegmentFit(tmp_path, TINY, SHORT, {})
    again.resume()
    assert again.run().images == 2


@pytest.mark.parametrize("asked", [(), ("--precision", "bf16")])
def test_mixed_precision_is_for_processors_that_have_it(
    asked: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[SegmentConfig] = []

    def note(output: Path, network: SegmenterConfig, config: SegmentConfig, *more: object) -> None:
        taken.append(config)
        raise DataError("far enough")

    monkeypatch.setattr("trainer.fitting.segment.SegmentFit", note)
    monkeypatch.setattr("trainer.fitting.recipes.computes_bf16", lambda device: device.type == "cuda")
    assert main(["segment", str(tmp_path / "run"), "--device", "cpu", *asked]) == 1
    assert [config.bf16 for config in taken] == [bool(asked)]


def test_weights_of_small_images_are_a_start_for_large_ones(tmp_path: Path) -> None:
    SegmentFit(tmp_path / "a", TINY, SHORT, {}).save()
    larger = SegmentFit(tmp_path / "b", replace(TINY, width=64, height=48), SHORT, {}, tmp_path / "a/last.safetensors")
    assert larger.network_config == replace(TINY, width=64, height=48)


def test_the_card_of_a_resumed_run_tells_its_beginning(tmp_path: Path) -> None:
    first = SegmentFit(tmp_path, TINY, SHORT, {"command": "begin", "commit": "a", "init": "w"})
    first.state.step, first.state.elapsed = 7, 60.0
    first.save()
    slower = replace(SHORT, learning_rate=0.001)
    for command in ("again", "and again"):
        fit = SegmentFit(tmp_path, TINY, slower, {"command": command, "commit": "b", "init": None})
        fit.resume()
        fit.save()
    card = json.loads((tmp_path / "last.json").read_text())
    assert (card["command"], card["commit"], card["init"]) == ("begin", "a", "w")
    assert [(one["command"], one["step"], one["minutes"]) for one in card["resumes"]] == [
        ("again", 7, 1.0),
        ("and again", 7, 1.0),
    ]
    assert card["resumes"][0]["changed"] == {"learning_rate": {"before": 0.01, "now": 0.001}}
    assert card["resumes"][1]["changed"] == {}


@pytest.mark.parametrize(
    ("name", "value", "option"),
    [("seed", 1, "--seed 0"), ("batch_size", 8, "--batch-size 4"), ("reuse", 2, "--reuse 3")],
)
@pytest.mark.parametrize("old", [False, True], ids=["now", "as it was"])
def test_a_run_is_not_resumed_as_another(tmp_path: Path, name: str, value: int, option: str, old: bool) -> None:
    SegmentFit(tmp_path, TINY, SHORT, {"command": "begin"}).save()
    if old:
        as_it_was(tmp_path)
    with pytest.raises(DataError, match=f"resume it with {option}"):
        SegmentFit(tmp_path, TINY, replace(SHORT, **{name: value}), {}).resume()  # type: ignore[arg-type]


def as_it_was(folder: Path) -> None:
    """Make the checkpoint one of a version that told settings and origin in the card only."""
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    for name in ("config", "origin", "resumes"):
        del state[name]
    torch.save(state, folder / "checkpoint.pt")


@pytest.mark.parametrize("card", [True, False])
def test_checkpoints_without_settings_are_resumed(tmp_path: Path, card: bool) -> None:
    SegmentFit(tmp_path, TINY, SHORT, {"command": "begin", "commit": None, "init": None}).save()
    as_it_was(tmp_path)
    if not card:
        (tmp_path / "last.json").unlink()
    fit = SegmentFit(tmp_path, TINY, SHORT, {"command": "again"})
    fit.resume()
    assert fit.origin["command"] == ("begin" if card else None)
    assert [one["command"] for one in fit.resumes] == ["again"]


def test_the_command_tells_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log.jsonl").write_text("{}\n")  # an empty one is no run: see `run_in`
    assert main(["segment", str(tmp_path)]) == 1
    assert "give another folder" in capsys.readouterr().err
    assert main(["segment", str(tmp_path / "new"), "--resume"]) == 1
    assert "nothing to resume" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    torch.save({"identity": {}}, tmp_path / "checkpoint.pt")
    assert main(["segment", str(tmp_path), "--resume"]) == 1
    assert "another command" in capsys.readouterr().err
    SegmentFit(tmp_path, TINY, SHORT, {}).save()
    assert main(["segment", str(tmp_path), "--resume", "--size", "64x48"]) == 1
    assert "--size 32x24" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--judge-minutes", "-1"),
        ("--compare", "-1"),
        ("--minutes", "0"),
        ("--minutes", "nan"),
        ("--minutes", "inf"),
        ("--workers", "-1"),
        ("--learning-rate", "nan"),
    ],
)
def test_nonsense_is_refused(option: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["segment", str(tmp_path / "new"), option, value])
    assert f"{option}: must be a" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def appears(path: Path, running: subprocess.Popen[str]) -> bool:
    """Wait for a file, and for what a program does just after it makes it."""
    limit = time.monotonic() + 90
    while not path.exists() and running.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
    time.sleep(0.5)
    return path.exists()


def test_weights_that_are_not_there_are_told_with_what_may_be_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["segment", str(tmp_path / "new"), "--init", "v2v-lite"]) == 1
    assert "no weights file v2v-lite for --init: give one of a segmentation network, or `shipped`" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "new").exists()
    assert main(["segment", str(tmp_path / "new"), "--dev-situations", "950"]) == 1
    assert "more than 1000 together" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main(["segment", str(tmp_path / "file/new"), "--dev-situations", "1"]) == 1
    assert "new cannot be made (Not a directory)" in capsys.readouterr().err


def test_a_run_has_its_folder_for_itself_and_an_interrupt_stops_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = SegmentFit(tmp_path / "start", TINY, SHORT, {})
    start.save()
    folder = tmp_path / "run"
    words = ["segment", str(folder), "--init", str(tmp_path / "start/last.safetensors"), "--size", "32x32"]
    words += ["--workers", "0", "--batch-size", "1", "--dev-situations", "1", "--device", "cpu"]
    with subprocess.Popen(
        [sys.executable, "-m", "trainer", *words, "--minutes", "5"],
        cwd=Path(__file__).resolve().parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            assert appears(folder / ".lock", running)
            # Also before there is any other file of the run.
            assert main(words) == 1
            told = capsys.readouterr().err
            assert "another run is at work" in told or "holds a run already" in told
            assert appears(folder / "log.jsonl", running)
            running.send_signal(signal.SIGINT)
            out, told = running.communicate(timeout=60)
        finally:
            running.kill()
    assert (running.returncode, out) == (130, ""), told
    assert told.splitlines()[-1] == "stopped; go on with --resume"
    assert (folder / "checkpoint.pt").exists()
    # Nor has the table been made: the size of the images is that of the checkpoint.
    again = ["segment", str(folder), "--resume", "--workers", "0", "--dev-situations", "1", "--compare", "0"]
    assert main([*again, "--batch-size", "1", "--minutes", "0.0001"]) == 0
    assert json.loads((folder / "last.json").read_text())["init"] == words[3]
