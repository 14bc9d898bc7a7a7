"""Training data, augmentation, losses, fitting, resuming and judging."""

import argparse
import copy
import io
import math
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from trainer_samples import write_h5

from tracker.errors import DataError
from tracker.hand.heatmaps import expectation, gaussian_maps
from tracker.hand.voxels import voxelise
from tracker.network.hand_network import HandNetworkConfig, follow_curve
from tracker.network.v2v import V2V, V2VConfig
from tracker.network.weights import load_weights
from trainer.cli import main
from trainer.commands.fit_options import losses_of, network_of
from trainer.data.hdf5 import Hdf5Samples
from trainer.data.identity import identity
from trainer.data.packed import PackedSamples
from trainer.data.sample import Sample, collate
from trainer.data.scenes import SceneSamples
from trainer.data.synthetic import SyntheticSamples
from trainer.fitting.augment import PAPER, Augmentation, _turn, augment
from trainer.fitting.checkpoint import load_checkpoint, save_checkpoint
from trainer.fitting.counter import normal, sample_keys, uniform
from trainer.fitting.fit import Fit
from trainer.fitting.losses import LossConfig, counts, loss
from trainer.fitting.muon import Muon, orthogonal
from trainer.fitting.order import Order, share
from trainer.fitting.recipes import FitConfig
from trainer.judging.confidence import PULL, calibrated, calibration_error, fit_confidence, fit_curve
from trainer.judging.evaluate import evaluate
from trainer.parallel.world import World

NYU = Path(__file__).resolve().parents[2] / "shared" / "seed_format" / "nyu_10_voxels.h5"
torch.set_num_threads(1)  # networks this small are slower on more
ALONE = World(0, 0, 1, torch.device("cpu"))
TINY = V2VConfig(input_size=16, width=4, front_kernel=3, blocks=1, presence=True)


@pytest.mark.parametrize("as_bytes", [False, True])
def test_hdf5_axes_and_units(tmp_path, as_bytes):
    path = tmp_path / "a.h5"
    labels = write_h5(path, key="voxels", cubes="boxes", as_bytes=as_bytes)
    samples = Hdf5Samples(path, "voxels", "boxes")
    assert (len(samples), samples.joints) == (6, 21)
    sample = samples[2]
    assert sample.edge == pytest.approx(0.3)
    distance = np.abs(sample.points[:, None] - labels[2][None]).max(axis=2).min(axis=0)
    assert distance.max() <= 1 / 88 + 1e-6  # each label lies in an occupied voxel, axes in their order


@pytest.mark.skipif(not NYU.is_file(), reason="the shared sample of NYU is not here")
def test_real_hdf5_labels_lie_on_their_voxels():
    samples = Hdf5Samples(NYU)
    assert (len(samples), samples.joints) == (10, 14)
    for i in range(10):
        sample = samples[i]
        nearest = np.linalg.norm(sample.points[:, None] - sample.joints[None], axis=2).min(axis=0) * sample.edge / 2
        assert np.median(nearest) < 0.012
        assert nearest.max() < 0.03


def test_broken_hdf5_files_say_what_is_wrong(tmp_path):
    path = tmp_path / "a.h5"
    write_h5(path)
    with pytest.raises(DataError, match="no such file"):
        Hdf5Samples(tmp_path / "none.h5")
    with pytest.raises(DataError, match="other_voxels"):
        Hdf5Samples(path, "other_voxels")
    with pytest.raises(DataError, match="no data set 'boxes'"):
        Hdf5Samples(path, cubes_label="boxes")
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(DataError, match="not a readable HDF5"):
        Hdf5Samples(tmp_path / "text.h5")
    with h5py.File(path, "r+") as file:
        del file["real_voxels/3"]
        file["real_voxels/3"] = np.frombuffer(b"garbage", np.uint8)
    with pytest.raises(DataError, match="sample 3"):
        Hdf5Samples(path)[3]


def test_a_stream_repeats_itself_and_seeds_differ():
    first, again, other = SyntheticSamples(10, 4), SyntheticSamples(99, 4), SyntheticSamples(10, 5)
    np.testing.assert_array_equal(first[7].points, again[7].points)
    np.testing.assert_array_equal(first[7].joints, again[7].joints)
    assert first[7].points.shape != other[7].points.shape or not np.array_equal(first[7].points, other[7].points)


def test_synthetic_joints_lie_in_their_hand():
    samples = SyntheticSamples(200, 8, others=0.0)
    behind = []
    for i in range(0, 200, 10):
        sample = samples[i]
        assert sample.presence
        assert np.abs(sample.joints).max() < 1.2
        nearest = np.linalg.norm(sample.points[:, None] - sample.joints[None], axis=2).min(axis=0) * sample.edge / 2
        assert np.median(nearest) < 0.02
        behind.append(np.median(sample.joints[:, 2]) - np.median(sample.points[:, 2]))
    # Joints are inside, and so mostly behind what a camera sees.
    assert np.mean(behind) > 0


def test_synthetic_cubes_without_a_hand_teach_no_joints():
    sample = SyntheticSamples(50, 3, others=1.0)[0]
    assert not sample.presence
    assert np.isnan(sample.joints).all()
    assert len(sample.points) > 100


def one_batch(count=3):
    rng = np.random.default_rng(0)
    return collate(
        [Sample(p := rng.uniform(-0.7, 0.7, (40 + i, 3)).astype(np.float32), p[:21].copy(), 0.26) for i in range(count)]
    )


def test_augmentation_moves_points_and_joints_together():
    batch = one_batch()
    moved = augment(batch, PAPER)
    for i in range(3):
        np.testing.assert_allclose(moved.points[moved.sample == i][:21], moved.joints[i], atol=1e-6)
    assert not torch.allclose(moved.joints, batch.joints, atol=0.05)
    # A bone keeps its length in metres: the cube's edge tells the scale.
    length = lambda b: torch.linalg.vector_norm(b.joints[:, 1] - b.joints[:, 0], dim=1) * b.edge  # noqa: E731
    torch.testing.assert_close(length(moved), length(batch))


def test_mirroring_makes_a_hand_that_is_not_there():
    batch = one_batch()
    moved = augment(batch, Augmentation(mirrored=1.0))
    torch.testing.assert_close(moved.points, batch.points * torch.tensor([-1.0, 1, 1]))
    assert moved.joints.isnan().all()
    assert (moved.presence == 0).all()


def test_no_augmentation_changes_nothing():
    batch = one_batch()
    same = augment(batch, Augmentation())
    torch.testing.assert_close(same.points, batch.points)
    torch.testing.assert_close(same.joints, batch.joints)


@pytest.mark.parametrize("name", ["integral", "heatmap"])
def test_loss_is_least_at_the_truth_and_ignores_unknown_joints(name):
    joints = torch.rand(2, 5, 3) - 0.5
    config = LossConfig(name=name, sigma=1.5)
    maps = gaussian_maps(joints, 16, 1.5)
    maps = torch.log(maps + 1e-20) if name == "integral" else maps
    logit, presence = torch.full((2,), 20.0), torch.ones(2)
    right = loss(maps, logit, joints, presence, config)
    assert right < loss(maps.flip(2), logit, joints, presence, config)
    unknown = joints.clone()
    unknown[:, 2:] = float("nan")
    broken = maps.clone()
    broken[:, 2:] = 0.3
    assert loss(broken, logit, unknown, presence, config) <= right + 0.05
    nothing = loss(maps, -logit, torch.full_like(joints, float("nan")), torch.zeros(2), config)
    assert 0 <= nothing < 1e-3


def test_a_loss_is_the_sum_of_the_losses_of_its_parts():
    joints, maps = torch.rand(5, 4, 3) * 2.4 - 1.2, torch.randn(5, 4, 8, 8, 8)
    logit, presence = torch.randn(5), torch.tensor([1.0, 0, 1, 1, 0])
    for config in (LossConfig(), LossConfig(name="heatmap"), LossConfig(name="heatmap", global_joints=True)):
        shown = maps[:, :1] if config.global_joints else maps
        whole = loss(shown, logit, joints, presence, config)
        over = counts(joints, presence)
        parts = [
            loss(shown[part], logit[part], joints[part], presence[part], config, over)
            for part in (slice(0, 2), slice(2, 3), slice(3, 5))
        ]
        torch.testing.assert_close(sum(parts), whole)


def test_one_map_for_all_joints_is_least_at_the_truth():
    joints = torch.tensor([[[0.5, 0, 0], [-0.5, 0, 0]]])
    config = LossConfig(name="heatmap", sigma=1.5, presence=0, global_joints=True)
    right = gaussian_maps(joints, 16, 1.5).amax(dim=1, keepdim=True)
    logit, presence = torch.zeros(1), torch.ones(1)
    assert loss(right, logit, joints, presence, config) < 1e-9
    assert loss(right, logit, joints.flip(1), presence, config) < 1e-9  # which is which does not matter
    assert loss(gaussian_maps(joints[:, :1], 16, 1.5), logit, joints, presence, config) > 1e-4
    with pytest.raises(ValueError, match="heatmap"):
        LossConfig(global_joints=True)


def test_epochs_cover_everything_once_in_orders_of_their_own():
    order = Order(50, 1)
    first, second = order.samples(0, 50), order.samples(50, 50)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert order.samples(40, 20) == first[40:] + second[:10]  # a batch runs across the end of an epoch
    assert Order(3, 0).samples(0, 7)[:3] == Order(3, 0).samples(0, 3)  # a batch longer than the data
    assert Order(50, 1, fresh=True).samples(148, 3) == [148, 149, 150]


@pytest.mark.parametrize(("count", "size"), [(16, 1), (16, 3), (5, 4), (4, 4), (17, 8)])
def test_processes_share_a_batch_evenly(count, size):
    parts = [share(100, count, rank, size) for rank in range(size)]
    assert [i for start, number in parts for i in range(start, start + number)] == list(range(100, 100 + count))
    assert max(number for _, number in parts) - min(number for _, number in parts) <= 1


def test_random_numbers_depend_on_nothing_but_their_keys():
    keys = torch.tensor(sample_keys(7, 1000, 4000))
    assert sample_keys(7, 1003, 1) == [int(keys[3])]
    assert sample_keys(8, 1003, 1) != [int(keys[3])]
    numbers = uniform(keys, 3)
    torch.testing.assert_close(uniform(keys[5:6], 3), numbers[5:6], rtol=0, atol=0)
    assert 0 <= numbers.min() < 0.01 < 0.99 < numbers.max() < 1
    assert abs(float(numbers.mean()) - 0.5) < 0.01
    assert abs(np.corrcoef(numbers.numpy().T) - np.eye(3)).max() < 0.05
    bell = normal(keys, 2)
    assert abs(float(bell.mean())) < 0.03
    assert abs(float(bell.std()) - 1) < 0.03


def test_augmentation_of_a_sample_does_not_depend_on_its_batch():
    how = Augmentation(roll=1, rotation=1, scale=0.2, shift=0.1, shift_sd=0.1, jitter=0.002, drop=0.5, holes=2)
    batch = one_batch()
    batch = replace(batch, key=torch.tensor(sample_keys(1, 0, 3)))
    together = augment(batch, how)
    mine = batch.sample == 1
    alone = replace(
        batch, points=batch.points[mine], sample=batch.sample[mine] - 1, joints=batch.joints[1:2],
        edge=batch.edge[1:2], presence=batch.presence[1:2], ray=batch.ray[1:2], key=batch.key[1:2],
    )  # fmt: skip
    alone = augment(alone, how)
    torch.testing.assert_close(alone.points, together.points[mine])
    torch.testing.assert_close(alone.joints, together.joints[1:2])
    assert not torch.allclose(together.joints[0], together.joints[2], atol=0.1)
    assert (together.points > 2).any()  # dropped ones are put outside


def test_a_turn_keeps_distances():
    batch = one_batch()
    moved = augment(batch, Augmentation(rotation=math.pi))
    torch.testing.assert_close(torch.cdist(moved.joints, moved.joints), torch.cdist(batch.joints, batch.joints))
    assert (moved.joints - batch.joints).abs().amax(dim=(1, 2)).max() > 0.5
    torch.testing.assert_close(torch.linalg.det(_turn(batch.key, 3.0)), torch.ones(3))


def fit_of(folder, samples, epochs, **more):
    config = FitConfig(epochs=epochs, batch_size=2, bf16=False, workers=0, **more)
    return Fit(
        samples, None, folder, TINY, name="tiny", config=config,
        loss_config=LossConfig(), augmentation=PAPER, world=ALONE, edge=0.3, origin={"data": "test"},
    )  # fmt: skip


def stop_at(fit, step):
    """Ctrl-C in the middle of a step."""
    plain = fit._step

    def interrupted(network, batch):
        if fit.state.step == step - 1:
            signal.raise_signal(signal.SIGINT)
        plain(network, batch)

    fit._step = interrupted


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_resuming_is_the_same_as_never_stopping(optimizer, tmp_path):
    write_h5(tmp_path / "a.h5", count=8)
    samples = Hdf5Samples(tmp_path / "a.h5")
    whole = fit_of(tmp_path / "whole", samples, 3, optimizer=optimizer)
    whole.run()

    first = fit_of(tmp_path / "parts", samples, 3, optimizer=optimizer)
    stop_at(first, 7)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    assert first.state.step == 7
    second = fit_of(tmp_path / "parts", samples, 3, optimizer=optimizer)
    second.resume()
    assert second.state.step == 7
    second.run()
    for name, tensor in whole.module.state_dict().items():
        torch.testing.assert_close(second.module.state_dict()[name], tensor, rtol=0, atol=0, msg=name)
    assert load_weights(tmp_path / "parts" / "last.safetensors").config.name == "tiny"


def test_ctrl_c_in_the_last_evaluation_is_heard_and_nothing_is_lost(tmp_path):
    write_h5(tmp_path / "a.h5", count=4)
    samples = Hdf5Samples(tmp_path / "a.h5")
    fit = fit_of(tmp_path / "out", samples, 1)
    plain = fit._judge

    def interrupted(chores):
        if fit.progress >= 1:
            signal.raise_signal(signal.SIGINT)
        plain(chores)

    fit._judge = interrupted
    with pytest.raises(KeyboardInterrupt):
        fit.run()
    again = fit_of(tmp_path / "out", samples, 1)
    again.resume()
    assert again.state.step == 2
    again.run()
    assert load_weights(tmp_path / "out" / "last.safetensors").config.name == "tiny"


@pytest.mark.parametrize("shape", [(8, 8), (4, 30), (30, 4)])
def test_updates_of_muon_are_nearly_orthogonal(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    values = left.T @ orthogonal(matrix) @ right.T  # the same singular vectors
    assert torch.diag(values).min() > 0.5
    assert torch.diag(values).max() < 1.3
    assert (values - torch.diag(torch.diag(values))).abs().max() < 1e-4


def test_muon_steps_as_far_as_adamw_and_lets_outer_layers_be_adamw():
    torch.manual_seed(0)
    network = V2V(V2VConfig(joints=2, input_size=16, width=4, blocks=1, presence=True))
    twin = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(1)
    for mine, other in zip(network.parameters(), twin.parameters()):
        mine.grad = other.grad = torch.randn(mine.shape, generator=generator)
    before = {name: value.clone() for name, value in network.named_parameters()}
    Muon(network, lr=0.01, weight_decay=0.1).step()
    torch.optim.AdamW(twin.parameters(), lr=0.01, weight_decay=0.1).step()
    others = dict(twin.named_parameters())
    for name, value in network.named_parameters():
        if name.startswith(("front", "head", "presence")) or value.ndim < 5:
            torch.testing.assert_close(value, others[name], msg=name)
        else:
            step = float((value - before[name]).detach().square().mean().sqrt())
            assert 0.0005 < step < 0.003, name
            assert not torch.allclose(value, others[name])


def test_a_resumed_run_takes_the_new_weight_decay(tmp_path):
    write_h5(tmp_path / "a.h5")
    samples = Hdf5Samples(tmp_path / "a.h5")
    fit_of(tmp_path / "out", samples, 1).run()
    fit = fit_of(tmp_path / "out", samples, 2, weight_decay=0.3)
    fit.resume()
    fit.run()
    assert [group["weight_decay"] for group in fit.optimizer.param_groups] == [0.3]
    saved = load_checkpoint(tmp_path / "out", torch.device("cpu"))["optimizer"]["param_groups"]
    assert saved[0]["weight_decay"] == fit.settings()["fit"]["weight_decay"] == 0.3


def test_other_data_are_not_gone_on_with(tmp_path):
    write_h5(tmp_path / "a.h5")
    fit_of(tmp_path / "out", Hdf5Samples(tmp_path / "a.h5"), 1).run()
    assert main(["convert", str(tmp_path / "a.h5"), str(tmp_path / "packed")]) == 0
    fit_of(tmp_path / "out", PackedSamples(tmp_path / "packed"), 2).resume()  # the same, in another form
    shutil.copy(tmp_path / "a.h5", tmp_path / "b.h5")
    with h5py.File(tmp_path / "b.h5", "r+") as file:
        file["labels"][4, 7, 1] += np.float32(0.01)
    other = Hdf5Samples(tmp_path / "b.h5")
    with pytest.raises(DataError, match=r"another set of training data \(checksum \w+, not checksum \w+\)"):
        fit_of(tmp_path / "out", other, 2).resume()
    # Checkpoints of before do not tell.
    found = load_checkpoint(tmp_path / "out", torch.device("cpu"))
    del found["identity"]["set of training data"]
    save_checkpoint(tmp_path / "out", found)
    fit_of(tmp_path / "out", other, 2).resume()


def test_the_identity_of_data_is_cheap_and_stable():
    joints = np.array([[0.5, np.nan, -0.25]], np.float32)

    class Large:
        joints, asked = 1, 0

        def __len__(self):
            return 957_000

        def __getitem__(self, index):
            self.asked += 1
            return Sample(np.zeros((index % 7, 3), np.float32), joints, 0.3)

    large = Large()
    assert identity(large) == "checksum 44651bd571619e9d"  # on any machine
    assert large.asked == 64
    one = SyntheticSamples(100, 4)
    one._make = None  # which nobody may call
    assert (
        identity(one)
        == identity(SyntheticSamples(200, 4))
        == "SyntheticSamples edge 0.26, others 0.05, seed 4, views 1"
    )
    others = [SyntheticSamples(100, 6), SyntheticSamples(100, 4, views=2), SceneSamples(100, 4)]
    assert len({identity(samples) for samples in [one, *others]}) == 4


def test_a_run_that_was_killed_before_its_first_checkpoint_has_left_nothing(tmp_path, monkeypatch):
    """A launcher that starts it again would otherwise be told that the folder holds a run."""
    write_h5(tmp_path / "a.h5", count=4)
    fit = fit_of(tmp_path / "out", Hdf5Samples(tmp_path / "a.h5"), 1)

    def killed():
        raise SystemExit

    monkeypatch.setattr(fit, "save", killed)
    with pytest.raises(SystemExit):
        fit.run()
    assert not list((tmp_path / "out").iterdir())


def test_a_run_is_not_overwritten_by_mistake(tmp_path, capsys):
    write_h5(tmp_path / "a.h5")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "checkpoint.pt").write_bytes(b"hours of work")
    assert main(["fit", str(tmp_path / "a.h5"), str(tmp_path / "out")]) == 1
    assert "--resume" in capsys.readouterr().err
    assert (tmp_path / "out" / "checkpoint.pt").read_bytes() == b"hours of work"


def test_a_damaged_checkpoint_is_told(tmp_path):
    with pytest.raises(DataError, match="nothing to resume"):
        load_checkpoint(tmp_path, torch.device("cpu"))
    (tmp_path / "checkpoint.pt").write_bytes(b"half")
    with pytest.raises(DataError, match="damaged"):
        load_checkpoint(tmp_path, torch.device("cpu"))


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    write_h5(tmp_path / "a.h5")
    fit = fit_of(tmp_path / "out", Hdf5Samples(tmp_path / "a.h5"), 1)
    with torch.no_grad():
        fit.module.head.bias.fill_(float("nan"))
    with pytest.raises(DataError, match="learning-rate"):
        fit.run()


@pytest.mark.skipif(not NYU.is_file(), reason="the shared sample of NYU is not here")
def test_a_network_learns_real_frames_by_heart(tmp_path):
    class Loaded(list):
        joints = 14

    samples = Loaded(Hdf5Samples(NYU)[i] for i in range(10))
    network = V2VConfig(joints=14, input_size=32, width=8, front_kernel=6, front_stride=2, blocks=1)
    config = FitConfig(epochs=240, batch_size=10, bf16=False, workers=0, learning_rate=1e-2, ema=0.9, warmup=10)
    fit = Fit(
        samples, None, tmp_path, network, name="nyu", config=config,
        loss_config=LossConfig(), augmentation=Augmentation(), world=ALONE, edge=0.3,
        origin={"data": "nyu"},
    )  # fmt: skip
    before = evaluate(fit.kept, samples, torch.device("cpu")).mean_mm
    fit.run()
    after = evaluate(fit.kept, samples, torch.device("cpu")).mean_mm
    assert after < 3 < before / 10


def test_evaluation_measures_millimetres():
    class Fixed(torch.nn.Module):
        """Says that every joint is in the middle."""

        config = fit_config = None

        def __init__(self):
            super().__init__()
            from tracker.network.hand_network import HandNetworkConfig

            self.config = HandNetworkConfig(v2v=TINY)

        def forward(self, occupancy):
            joints = torch.zeros(len(occupancy), 21, 4)
            joints[..., 3] = 0.9
            return joints, torch.ones(len(occupancy))

    joints = np.zeros((21, 3), np.float32)
    joints[:, 0] = 0.1
    joints[3] = np.nan
    samples = [Sample(np.zeros((5, 3), np.float32), joints, 0.2) for _ in range(5)]

    class Source(list):
        joints = 21

    result = evaluate(Fixed(), Source(samples), torch.device("cpu"))
    assert result.mean_mm == pytest.approx(10.0, abs=1e-3)
    assert np.isnan(result.error_mm[:, 3]).all()
    assert result.presence_accuracy == 1.0


def test_confidence_is_calibrated_on_what_it_is_fitted_to():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.02, 0.98, (4000,))
    error = np.where(rng.random(4000) < truth, 5.0, 20.0)
    logit = np.log(truth / (1 - truth))
    raw = 1 / (1 + np.exp(-(0.5 * logit - 1.5)))
    assert calibration_error(raw, error) > 0.1
    slope, offset = fit_confidence(raw, error)
    mended = 1 / (1 + np.exp(-(slope * np.log(raw / (1 - raw)) + offset)))
    assert calibration_error(mended, error) < 0.03


def test_a_curve_mends_what_a_slope_and_an_offset_cannot():
    rng = np.random.default_rng(0)
    said = rng.uniform(0, 1, (8000,)) ** 0.5
    true = np.clip(2 * said - 0.7, 0.05, 0.9)  # too sure below, too modest above, and no more than 90 %
    error = np.where(rng.random(8000) < true, 5.0, 20.0)
    held = slice(None, None, 2)
    curve = fit_curve(said[1::2], error[1::2])
    assert calibration_error(calibrated(said[held], *fit_confidence(said[1::2], error[1::2])), error[held]) > 0.04
    assert calibration_error(follow_curve(curve, said[held]), error[held]) < 0.03
    assert HandNetworkConfig(v2v=V2VConfig(), curve=curve).curve == curve
    told = follow_curve(curve, np.linspace(0, 1, 50).reshape(5, 10))
    assert told.shape == (5, 10)
    assert (np.diff(told.ravel()) >= 0).all()


@pytest.mark.parametrize(
    ("said", "error"), [([], []), ([0.0] * 3000, [5.0] * 3000), ([1.0] * 3000, [20.0] * 3000), ([0.7], [np.nan])]
)
def test_curves_of_confidences_that_say_nothing_are_curves(said, error):
    curve = fit_curve(np.array(said), np.array(error))
    assert HandNetworkConfig(v2v=V2VConfig(), curve=curve)
    assert follow_curve((), np.float32([0.3])) == np.float32(0.3)


@pytest.mark.parametrize("right", [0, 2, 7, 133, 140])
@pytest.mark.parametrize(("low", "high"), [(0.0001, 0.002), (0.02, 0.1), (0.3, 0.6)])
def test_confidence_of_networks_that_know_little_or_all_does_not_run_away(right, low, high):
    confidence = np.random.default_rng(right).uniform(low, high, 140)
    slope, offset = fit_confidence(confidence, np.where(np.arange(140) < right, 5.0, 50.0))
    odds = np.log(confidence / (1 - confidence))

    def loss(theta):
        z = theta[0] * odds + theta[1]
        return np.logaddexp(0, z).sum() - z[:right].sum() + PULL / 2 * (theta[0] ** 2 + theta[1] ** 2)

    assert loss((slope, offset)) <= minimize(loss, (1, 0), method="Nelder-Mead").fun + 1e-4
    assert abs(slope) < 20
    assert calibrated(confidence, slope, offset).mean() == pytest.approx(right / 140, abs=0.01)


def test_voxels_of_a_file_are_the_voxels_it_holds(tmp_path):
    write_h5(tmp_path / "a.h5")
    sample = Hdf5Samples(tmp_path / "a.h5")[0]
    batch = collate([sample])
    grid = voxelise(batch.points, batch.sample, 1, 88)[0]
    with h5py.File(tmp_path / "a.h5") as file, np.load(io.BytesIO(file["real_voxels/0"][()].tobytes())) as archive:
        np.testing.assert_array_equal(grid.numpy().astype(bool), archive["arr_0"].transpose(1, 0, 2))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "none.h5", "out"], "no such file"),
        (["evaluate", "none.safetensors", "synthetic"], "no weights file"),
        (["fit", "synthetic", "out", "--resume", "--epoch-samples", "8"], "nothing to resume"),
        (["fit", "synthetic", "out", "--device", "cuda:77"], "cuda:77"),
        (["fit", "synthetic", "out", "--distance", "nan"], "weight of distance"),
        (["fit", "synthetic", "out", "--presence", "-1"], "weight of presence"),
        (["fit", "synthetic", "out", "--presence", "0"], "above 0"),
        (["fit", "synthetic", "out", "--loss", "heatmap", "--distance", "9"], "--distance"),
        (["fit", "synthetic", "out", "--recipe", "paper", "--presence", "9"], "--presence"),
    ],
)
def test_bad_input_is_one_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    printed = capsys.readouterr().err.strip()
    assert message in printed
    assert "\n" not in printed


def test_parts_of_the_loss_weigh_what_is_asked():
    joints = torch.rand(2, 4, 3) - 0.5
    batch = (torch.randn(2, 4, 8, 8, 8), torch.randn(2), joints, torch.tensor([1.0, 0.0]))

    def of(**more: float | None) -> torch.Tensor:
        words = {"loss": None, "global_joints": False, "distance": None, "presence": None} | more
        return loss(*batch, losses_of(argparse.Namespace(**words), "integral", TINY))

    usual = of()
    torch.testing.assert_close(of(distance=20.0, presence=2.0), usual)
    maps = torch.softmax(batch[0].flatten(2), dim=2).view(batch[0].shape)
    off = torch.linalg.vector_norm(expectation(maps) - joints, dim=2).mean()
    torch.testing.assert_close(of(distance=400.0) - usual, 380 * off)
    told = torch.nn.functional.binary_cross_entropy_with_logits(batch[1], batch[3])
    torch.testing.assert_close(of(presence=12.0) - usual, 10 * told)


@pytest.mark.parametrize("model", ["v2v", "v2v-lite"])
def test_every_network_that_can_learn_it_says_whether_there_is_a_hand(model):
    options = argparse.Namespace(model=model, global_joints=False, input_size=None, recipe="modern")
    both, hands_only = SyntheticSamples(9, 1), SyntheticSamples(9, 1, others=0.0)
    assert network_of(options, both).presence
    assert not network_of(options, hands_only).presence
    options.recipe = "paper"
    assert not network_of(options, both).presence
