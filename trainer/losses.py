"""What a network is trained to minimise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from tracker.hand.heatmaps import Decode, expectation, gaussian_maps

LossName = Literal["heatmap", "integral"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """Which loss.

    heatmap: mean squared error to Gaussians, as in V2V-PoseNet. integral: cross-entropy to a Gaussian plus the distance
    of the mean of the map (Sun et al., "Integral Human Pose Regression", ECCV 2018).
    sigma: of the Gaussians, heat-map voxels. distance: weight of the distance (cube coordinates). presence: weight of
    the presence head's cross-entropy.
    """

    name: LossName = "integral"
    sigma: float = 0.8
    distance: float = 20.0
    presence: float = 2.0

    @property
    def decode(self) -> Decode:
        """How maps trained with this loss are decoded."""
        return "softmax" if self.name == "integral" else "peak"


def loss(maps: Tensor, presence_logit: Tensor, joints: Tensor, presence: Tensor, config: LossConfig) -> Tensor:
    """Scalar loss of a batch.

    maps: (B, J, G, G, G). joints: (B, J, 3) cube coordinates; joints that are NaN or outside the cube teach nothing.
    presence_logit, presence: (B,).
    """
    known = (joints.abs() < 1).all(dim=2)
    targets = gaussian_maps(joints.nan_to_num(), maps.shape[-1], config.sigma)
    maps = maps.float()
    if config.name == "heatmap":
        error = ((maps - targets) ** 2).mean(dim=(2, 3, 4))
        total = (error * known).sum() / known.sum().clamp(min=1)
    else:
        flat = functional.log_softmax(maps.flatten(2), dim=2)
        target = targets.flatten(2)
        target = target / target.sum(dim=2, keepdim=True).clamp(min=1e-12)
        cross_entropy = -(target * flat).sum(dim=2)
        distance = torch.linalg.vector_norm(expectation(flat.exp().view(maps.shape)) - joints.nan_to_num(), dim=2)
        total = ((cross_entropy + config.distance * distance) * known).sum() / known.sum().clamp(min=1)
    return total + config.presence * functional.binary_cross_entropy_with_logits(presence_logit.float(), presence)
