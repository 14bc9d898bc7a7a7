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
    the presence head's cross-entropy, 0 for a network without that head.
    global_joints: one map shows all joints, without telling which is which; heatmap only.
    """

    name: LossName = "integral"
    sigma: float = 0.8
    distance: float = 20.0
    presence: float = 2.0
    global_joints: bool = False

    def __post_init__(self) -> None:
        if self.name not in ("heatmap", "integral"):
            raise ValueError(f"loss must be 'heatmap' or 'integral', is {self.name!r}")
        if self.global_joints and self.name == "integral":
            raise ValueError("one map for all joints has no single mean: the loss must be 'heatmap', not 'integral'")
        for what, weight in (("distance", self.distance), ("presence", self.presence)):
            if not 0 <= weight < 1e6:
                raise ValueError(f"the weight of {what} must be from 0 to below a million, is {weight}")

    @property
    def decode(self) -> Decode:
        """How maps trained with this loss are decoded."""
        return "softmax" if self.name == "integral" else "peak"


def counts(joints: Tensor, presence: Tensor) -> Tensor:
    """(2,) float: how many maps of a batch teach something, and how many samples it has.

    The losses of the processes that share a batch are means over the sums of these.
    """
    return torch.stack([_known(joints).sum().float(), presence.new_tensor(float(len(presence)))])


def loss(
    maps: Tensor,
    presence_logit: Tensor,
    joints: Tensor,
    presence: Tensor,
    config: LossConfig,
    over: Tensor | None = None,
) -> Tensor:
    """Scalar loss of a batch, or of this process's part of one.

    maps: (B, J, G, G, G); (B, 1, G, G, G) with global_joints. joints: (B, J, 3) cube coordinates; joints that are NaN
    or outside the cube teach nothing. presence_logit, presence: (B,).
    over: the `counts` of the whole batch; of this one if None. The parts' losses then add up to the whole's.
    """
    known = _known(joints)
    maps = maps.float()
    taught, samples = (counts(joints, presence) if over is None else over).clamp(min=1)
    if config.global_joints:
        # Weighted by the joints that are known: a sample without any teaches nothing.
        error = ((maps[:, 0] - _all_in_one(joints, maps.shape[-1], config.sigma)) ** 2).mean(dim=(1, 2, 3))
        total = (error * known.sum(dim=1)).sum() / taught
    elif config.name == "heatmap":
        targets = gaussian_maps(joints.nan_to_num(), maps.shape[-1], config.sigma)
        error = ((maps - targets) ** 2).mean(dim=(2, 3, 4))
        total = (error * known).sum() / taught
    else:
        target = gaussian_maps(joints.nan_to_num(), maps.shape[-1], config.sigma).flatten(2)
        flat = functional.log_softmax(maps.flatten(2), dim=2)
        target = target / target.sum(dim=2, keepdim=True).clamp(min=1e-12)
        cross_entropy = -(target * flat).sum(dim=2)
        distance = torch.linalg.vector_norm(expectation(flat.exp().view(maps.shape)) - joints.nan_to_num(), dim=2)
        total = ((cross_entropy + config.distance * distance) * known).sum() / taught
    if config.presence:
        told = functional.binary_cross_entropy_with_logits(presence_logit.float(), presence, reduction="sum")
        total = total + config.presence * told / samples
    return total


def _known(joints: Tensor) -> Tensor:
    return (joints.abs() < 1).all(dim=2)


def _all_in_one(joints: Tensor, size: int, sigma: float) -> Tensor:
    """(B, size, size, size): the greatest of the joints' Gaussians at each voxel."""
    target = gaussian_maps(joints[:, :1], size, sigma)[:, 0]
    # One joint at a time: all their maps at 88^3 would be 57 MB a sample.
    for number in range(1, joints.shape[1]):
        torch.maximum(target, gaussian_maps(joints[:, number : number + 1], size, sigma)[:, 0], out=target)
    return target
