"""How far a network's joints lie from the truth, in millimetres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tracker.hand.voxels import voxelise
from tracker.network.hand_network import HandNetwork
from trainer.augment import Augmentation, augment
from trainer.data.sample import SampleSource, collate


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Results over n samples.

    error_mm: (n, J) float32, NaN where the truth is not known. confidence: (n, J). presence, present: (n,), what the
    network says and what is true.
    """

    error_mm: NDArray[np.float32]
    confidence: NDArray[np.float32]
    presence: NDArray[np.float32]
    present: NDArray[np.bool_]

    @property
    def mean_mm(self) -> float:
        """Mean joint error, the field's figure of merit."""
        return float(np.nanmean(self.error_mm))

    @property
    def median_mm(self) -> float:
        """Median joint error."""
        return float(np.nanmedian(self.error_mm))

    @property
    def presence_accuracy(self) -> float:
        """Share of cubes whose content, a right hand or not, is told rightly."""
        return float(((self.presence > 0.5) == self.present).mean())


@torch.inference_mode()
def evaluate(
    network: HandNetwork,
    samples: SampleSource,
    device: torch.device,
    *,
    how: Augmentation | None = None,
    batch_size: int = 16,
) -> Evaluation:
    """Run a network over all samples.

    how: an augmentation (always the same one), e.g. the shifts of a live cube; None takes the cubes as they are.
    The network is put into evaluation mode.
    """
    network.eval().to(device)
    size = network.config.v2v.input_size
    errors, confidences, presences, present = [], [], [], []
    for start in range(0, len(samples), batch_size):
        chosen = range(start, min(start + batch_size, len(samples)))
        batch = collate([samples[i] for i in chosen], chosen).to(device)
        if how is not None:
            batch = augment(batch, how)
        joints, presence = network(voxelise(batch.points, batch.sample, len(batch), size))
        distance = torch.linalg.vector_norm(joints[..., :3] - batch.joints, dim=2) * batch.edge[:, None] / 2
        errors.append((distance * 1000).cpu().numpy())
        confidences.append(joints[..., 3].cpu().numpy())
        presences.append(presence.cpu().numpy())
        present.append(batch.presence.cpu().numpy() > 0.5)
    return Evaluation(
        np.concatenate(errors), np.concatenate(confidences), np.concatenate(presences), np.concatenate(present)
    )


def fit_confidence(confidence: NDArray[np.floating], error_mm: NDArray[np.floating]) -> tuple[float, float]:
    """Slope and offset that turn uncalibrated confidences into the share of joints within 10 mm (Platt 1999).

    confidence, error_mm: any equal shapes; joints without truth are left out. Newton's method on the logistic loss.
    """
    known = np.isfinite(error_mm)
    raw = np.clip(confidence[known].astype(np.float64), 1e-4, 1 - 1e-4)
    x = np.stack([np.log(raw / (1 - raw)), np.ones(len(raw))], axis=1)
    y = (error_mm[known] <= 10).astype(np.float64)
    theta = np.array([1.0, 0.0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-(x @ theta)))
        hessian = (x * (p * (1 - p))[:, None]).T @ x + 1e-6 * np.eye(2)
        step = np.linalg.solve(hessian, x.T @ (y - p))
        theta += step
        if np.abs(step).max() < 1e-8:
            break
    return float(theta[0]), float(theta[1])


def calibration_error(confidence: NDArray[np.floating], error_mm: NDArray[np.floating], bins: int = 10) -> float:
    """Expected calibration error: mean gap, over bins of confidence, to the share of joints within 10 mm."""
    known = np.isfinite(error_mm)
    p, right = confidence[known], error_mm[known] <= 10
    which = np.minimum((p * bins).astype(int), bins - 1)
    gaps = [abs(p[which == b].mean() - right[which == b].mean()) * (which == b).mean() for b in np.unique(which)]
    return float(np.sum(gaps))
