"""How far a network's joints lie from the truth, in millimetres."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from tracker.errors import DataError
from tracker.hand.voxels import voxelise
from tracker.network.hand_network import HandNetwork, HandNetworkConfig
from trainer.data.sample import Batch, Sample, SampleSource, collate
from trainer.fitting.augment import Augmentation, augment
from trainer.fitting.upright import straight_axes, turn, upright_axes
from trainer.judging import metrics
from trainer.judging.peaks import find_peaks, match_peaks

PEAK_TOLERANCE = 20.0
"""Precision and recall of peaks without identity count those within so many mm of a joint."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Results over n samples.

    error_mm: (n, J) float32, NaN where the truth is not known, infinite where nothing was found (only of networks with
    one map for all joints). confidence: (n, J). presence, present: (n,), what the network says and what is true.
    peaks: (n,) how many joints were found; J for networks with a map for each joint.
    """

    error_mm: NDArray[np.float32]
    confidence: NDArray[np.float32]
    presence: NDArray[np.float32]
    present: NDArray[np.bool_]
    peaks: NDArray[np.int64]

    @property
    def mean_mm(self) -> float:
        """Mean joint error, the field's figure of merit; of the joints that were found."""
        return metrics.mean_error(self.error_mm)

    @property
    def median_mm(self) -> float:
        """Median joint error; of the joints that were found."""
        return metrics.median_error(self.error_mm)

    @property
    def presence_accuracy(self) -> float:
        """Share of cubes whose content, a right hand or not, is told rightly."""
        return float(((self.presence > 0.5) == self.present).mean())

    @property
    def precision(self) -> float:
        """Share of the found joints that are within 20 mm of the true joint they were given; NaN if none were found.

        Counted where the truth of all joints is known: elsewhere a peak may be right and nobody can tell.
        """
        told = ~np.isnan(self.error_mm).any(axis=1)
        found = int(self.peaks[told].sum())
        return float((self.error_mm[told] <= PEAK_TOLERANCE).sum() / found) if found else float("nan")

    @property
    def recall(self) -> float:
        """Share of the known joints that were found within 20 mm; NaN if none are known."""
        known = int((~np.isnan(self.error_mm)).sum())
        return float((self.error_mm <= PEAK_TOLERANCE).sum() / known) if known else float("nan")


def joint_count(config: HandNetworkConfig) -> int:
    """How many joints a network finds."""
    return config.global_joints or config.v2v.joints


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """What a network says of a batch.

    indices: numbers of the samples. samples: themselves, as they came; batch: as augmentation left them.
    points: (B, J, 3) cube coordinates; for networks with one map for all joints in the order of their heights, NaN
    where there are fewer. confidence: (B, J), 0..1. presence: (B,).
    """

    indices: range
    samples: list[Sample]
    batch: Batch
    points: Tensor
    confidence: Tensor
    presence: Tensor


@torch.inference_mode()
def estimates(
    network: HandNetwork,
    samples: SampleSource,
    device: torch.device,
    *,
    how: Augmentation | None = None,
    batch_size: int = 16,
    part: tuple[int, int] = (0, 1),
    progress: str | None = None,
) -> Iterator[Estimate]:
    """Run a network over samples, batch by batch; arguments as for `evaluate`."""
    network.eval().to(device)
    mine = range(part[0], len(samples), part[1])
    starts = range(0, len(mine), batch_size)
    for start in tqdm(starts, desc=progress, unit="batch", leave=False, disable=None if progress else True):
        indices = mine[start : start + batch_size]
        raw = [samples[i] for i in indices]
        batch = collate(raw, indices).to(device)
        if how is not None:
            batch = augment(batch, how)
        if network.config.global_joints:
            occupancy = voxelise(batch.points, batch.sample, len(batch), network.config.v2v.input_size)
            points, confidence, presence = _peaks(network, occupancy)
        else:
            points, confidence, presence = find_joints(network, batch)
        yield Estimate(indices, raw, batch, points, confidence, presence)


def find_joints(network: HandNetwork, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """What a network finds in a batch: joints (B, J, 3), cube coordinates, confidence (B, J) and presence (B,).

    Where it wants upright cubes it looks twice, as the tracker does at a hand that is new: to see how it is turned, and
    then turned so.
    """
    if not network.config.upright:
        return _look(network, batch)
    first, _, _ = _look(network, batch, straight_axes(batch.ray))
    return _look(network, batch, upright_axes(first, batch.ray))


def _look(network: HandNetwork, batch: Batch, axes: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Joints in the batch's own cubes, confidence and presence, as seen in cubes with other axes (B, 3, 3)."""
    seen = batch if axes is None else turn(batch, axes)
    joints, presence = network(voxelise(seen.points, seen.sample, len(seen), network.config.v2v.input_size))
    points = joints[..., :3] if axes is None else torch.bmm(joints[..., :3], axes)
    return points, joints[..., 3], presence


def _peaks(network: HandNetwork, occupancy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    maps, logit = network.v2v(occupancy)
    points, heights = find_peaks(maps[:, 0], network.config.global_joints)
    confidence = heights.nan_to_num(0.0).clamp(0, 1)
    presence = torch.sigmoid(logit.float()) if network.config.v2v.presence else confidence.mean(dim=1)
    return points, confidence, presence


def evaluate(
    network: HandNetwork,
    samples: SampleSource,
    device: torch.device,
    *,
    how: Augmentation | None = None,
    batch_size: int = 16,
    part: tuple[int, int] = (0, 1),
    progress: str | None = None,
) -> Evaluation:
    """Run a network over samples and measure the distances to the truth.

    how: an augmentation (fixed random numbers are used), e.g. the shifts of a live cube; None takes the cubes as they
    are. part: (rank, size) judges samples rank, rank + size, ... only; `merge` puts the parts together.
    progress: the label of a progress bar on a terminal, None for none. The network is put into evaluation mode.
    Raises DataError if network and samples do not have the same number of joints.
    """
    joints = joint_count(network.config)
    if samples.joints != joints:
        raise DataError(
            f"the network finds {joints} joints, the data has {samples.joints}; judge it on data like its own"
        )
    errors, confidences = [np.empty((0, joints), np.float32)], [np.empty((0, joints), np.float32)]
    presences, present, peaks = [np.empty(0, np.float32)], [np.empty(0, bool)], [np.empty(0, np.int64)]
    for found in estimates(network, samples, device, how=how, batch_size=batch_size, part=part, progress=progress):
        if network.config.global_joints:
            error, confidence = _matched(found)
        else:
            distance = torch.linalg.vector_norm(found.points - found.batch.joints, dim=2)
            error = (distance * found.batch.edge[:, None] * 500).cpu().numpy()
            confidence = found.confidence.cpu().numpy()
        errors.append(error)
        confidences.append(confidence)
        presences.append(found.presence.cpu().numpy())
        present.append(found.batch.presence.cpu().numpy() > 0.5)
        peaks.append(torch.isfinite(found.points).all(dim=2).sum(dim=1).cpu().numpy())
    return Evaluation(*(np.concatenate(kind) for kind in (errors, confidences, presences, present, peaks)))


def _matched(found: Estimate) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    millimetres = found.batch.edge[:, None, None] * 500
    points = (found.points * millimetres).cpu().numpy()
    truth = (found.batch.joints * millimetres).cpu().numpy()
    pairs = [match_peaks(*one) for one in zip(points, found.confidence.cpu().numpy(), truth)]
    return np.stack([error for error, _ in pairs]), np.stack([confidence for _, confidence in pairs])


def merge(parts: Sequence[Evaluation]) -> Evaluation:
    """The parts that `evaluate(..., part=(0, n))` to `(n - 1, n)` gave, in that order, as one, in sample order."""
    total = sum(len(part.error_mm) for part in parts)

    def woven(name: str) -> NDArray[np.generic]:
        kinds = [getattr(part, name) for part in parts]
        whole = np.empty((total, *kinds[0].shape[1:]), kinds[0].dtype)
        for rank, kind in enumerate(kinds):
            whole[rank :: len(parts)] = kind
        return whole

    return Evaluation(**{field.name: woven(field.name) for field in fields(Evaluation)})  # type: ignore[arg-type]
