"""Augmentation of batches of points, on whatever device they are."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trainer.data.sample import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How far samples are varied; all zero varies nothing.

    roll: in-plane rotation, +- radians. scale: +- share of the size. shift: +- cube coordinates, uniform per axis.
    shift_sd: normal, cube coordinates. drop: share of the points dropped at most.
    holes: balls of points removed at most.
    mirrored: share of samples turned into left hands, which a network that sees right hands only must refuse.
    """

    roll: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    shift_sd: float = 0.0
    drop: float = 0.0
    holes: int = 0
    mirrored: float = 0.0

    def __post_init__(self) -> None:
        if min(self.roll, self.scale, self.shift, self.shift_sd, self.drop, self.holes, self.mirrored) < 0:
            raise ValueError(f"augmentation amounts must not be negative: {self}")
        if self.scale >= 1 or self.drop > 1 or self.mirrored > 1:
            raise ValueError(f"scale must be below 1, drop and mirrored at most 1: {self}")


PAPER = Augmentation(roll=math.radians(40), scale=0.2, shift=8 / 44)
"""V2V-PoseNet, section 5.2: +-40 degrees in the image plane, 0.8 to 1.2, +-8 voxels of 88."""

SIMULATED = Augmentation(roll=math.pi / 6, scale=0.08, shift_sd=0.075, drop=0.5, holes=2, mirrored=0.18)
"""For simulated hands, which come in all rotations and sizes already. The shifts are the errors of a live cube, about
1 cm an axis."""


def augment(batch: Batch, how: Augmentation, generator: torch.Generator) -> Batch:
    """Vary a batch. Points and joints move together; generator: on the device of the batch."""
    device = batch.points.device
    size = len(batch)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device) * 2 - 1

    angle = uniform(size) * how.roll
    factor = 1 + uniform(size) * how.scale
    cos, sin = torch.cos(angle) * factor, torch.sin(angle) * factor
    zero = torch.zeros_like(cos)
    # Row vectors times this matrix: rotation about z, and the scale.
    matrix = torch.stack([cos, sin, zero, -sin, cos, zero, zero, zero, factor], dim=1).view(size, 3, 3)
    shift = uniform(size, 3) * how.shift
    shift = shift + torch.randn((size, 3), generator=generator, device=device) * how.shift_sd
    mirrored = torch.rand(size, generator=generator, device=device) < how.mirrored
    matrix = torch.cat([matrix[:, :, :1] * (1 - 2 * mirrored.float())[:, None, None], matrix[:, :, 1:]], dim=2)

    joints = torch.baddbmm(shift[:, None], batch.joints, matrix)
    joints = joints.masked_fill(mirrored[:, None, None], float("nan"))
    points = torch.einsum("pi,pij->pj", batch.points, matrix[batch.sample]) + shift[batch.sample]
    keep = torch.ones(len(points), dtype=torch.bool, device=device)
    if how.drop:
        share = torch.rand(size, generator=generator, device=device) ** 3 * how.drop
        keep &= torch.rand(len(points), generator=generator, device=device) >= share[batch.sample]
    for _ in range(how.holes):
        # A ball around a random point of the cube's middle; most have no radius at all.
        center = uniform(size, 3) * 0.7
        radius = (uniform(size) * 0.35 - 0.1).clamp(min=0)
        keep &= ((points - center[batch.sample]) ** 2).sum(dim=1) >= (radius**2)[batch.sample]
    return replace(
        batch,
        points=points[keep],
        sample=batch.sample[keep],
        joints=joints,
        edge=batch.edge / factor,
        presence=batch.presence * (~mirrored).float(),
    )
