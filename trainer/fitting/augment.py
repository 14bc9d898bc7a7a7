"""Augmentation of batches of points, on whatever device they are."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Literal

import torch
from torch import Tensor

from trainer.data.sample import Batch, SampleSource
from trainer.fitting.counter import normal, split, uniform

OUTSIDE = 9.0
"""Where dropped points are put: outside every cube. Taking them out would make a GPU wait to hear how many stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How far samples are varied; all zero varies nothing.

    roll: in-plane rotation, +- radians. rotation: about an axis of any direction, up to this many radians; a camera
    would see other sides of the hand, so little of it goes a long way. scale: +- share of the size.
    shift: +- cube coordinates, uniform per axis. shift_sd: normal, cube coordinates.
    jitter: standard deviation of noise on each point, metres. drop: share of the points dropped at most.
    holes: balls of points removed at most.
    mirrored: share of samples turned into left hands, which a network that sees right hands only must refuse.
    """

    roll: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    shift_sd: float = 0.0
    jitter: float = 0.0
    drop: float = 0.0
    holes: int = 0
    mirrored: float = 0.0

    def __post_init__(self) -> None:
        amounts = (self.roll, self.rotation, self.scale, self.shift, self.shift_sd, self.jitter, self.drop)
        if not all(math.isfinite(amount) and amount >= 0 for amount in (*amounts, self.holes, self.mirrored)):
            raise ValueError("roll, rotation, scale, shift, jitter, drop and the like must be finite and not negative")
        if self.scale >= 1 or self.drop > 1 or self.mirrored > 1:
            raise ValueError("scale must be below 1, drop and mirrored at most 1")


PAPER = Augmentation(roll=math.radians(40), scale=0.2, shift=8 / 44)
"""V2V-PoseNet, section 5.2: +-40 degrees in the image plane, 0.8 to 1.2, +-8 voxels of 88."""

SIMULATED = Augmentation(roll=math.pi / 6, scale=0.08, shift_sd=0.075, drop=0.5, holes=2, mirrored=0.18)
"""For simulated hands, which come in all rotations and sizes already. The shifts are the errors of a live cube, about
1 cm an axis."""


AUGMENTATIONS: Final = {"paper": PAPER, "simulated": SIMULATED, "none": Augmentation()}


def usual_augmentation(samples: SampleSource) -> Literal["simulated", "paper"]:
    """What is done to data if nobody says: as to simulated hands if some cubes hold none, else as in the paper."""
    return "simulated" if getattr(samples, "others", 0) else "paper"


def augment(batch: Batch, how: Augmentation) -> Batch:
    """Vary a batch. Points and joints move together; what happens to a sample depends on its key alone."""
    key = batch.key
    roll, size, mirror, share = (2 * uniform(split(key, 0), 4) - 1).unbind(1)
    factor = 1 + size * how.scale
    matrix = roll_matrix(roll * how.roll) * factor[:, None, None]
    if how.rotation:
        matrix = _turn(split(key, 1), how.rotation) @ matrix
    mirrored = (mirror + 1) / 2 < how.mirrored
    # Row vectors times these matrices; a mirrored hand's x changes its sign.
    matrix = torch.cat([matrix[:, :, :1] * (1 - 2 * mirrored.float())[:, None, None], matrix[:, :, 1:]], dim=2)
    shift = (2 * uniform(split(key, 2), 3) - 1) * how.shift + normal(split(key, 3), 3) * how.shift_sd

    joints = torch.baddbmm(shift[:, None], batch.joints, matrix)
    ray = torch.nn.functional.normalize(torch.bmm(batch.ray[:, None], matrix)[:, 0], dim=1)
    joints = joints.masked_fill(mirrored[:, None, None], float("nan"))
    points = move(batch.points, batch.sample, matrix, shift)
    if how.jitter:
        noise = normal(_point_keys(split(key, 4), batch), 3)
        points = points + noise * (how.jitter / (batch.edge / 2))[batch.sample, None]
    if how.drop:
        # Mostly few, sometimes many.
        limit = ((share + 1) / 2) ** 3 * how.drop
        dropped = uniform(_point_keys(split(key, 5), batch))[:, 0] < limit[batch.sample]
        points = points.masked_fill(dropped[:, None], OUTSIDE)
    for hole in range(how.holes):
        # A ball around a random point of the cube's middle; most have no radius at all.
        draw = 2 * uniform(split(key, 6 + hole), 4) - 1
        radius = (draw[:, 3] * 0.35 - 0.1).clamp(min=0)
        near = ((points - draw[batch.sample, :3] * 0.7) ** 2).sum(dim=1) < (radius**2)[batch.sample]
        points = points.masked_fill(near[:, None], OUTSIDE)
    return replace(
        batch,
        points=points,
        joints=joints,
        edge=batch.edge / factor,
        presence=batch.presence * (~mirrored).float(),
        ray=ray,
    )


def roll_matrix(angle: Tensor) -> Tensor:
    """Rotations about z, (B, 3, 3) for row vectors."""
    cos, sin, zero = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle)
    return torch.stack([cos, sin, zero, -sin, cos, zero, zero, zero, zero + 1], dim=1).view(-1, 3, 3)


def _turn(key: Tensor, most: float) -> Tensor:
    """Rotations about axes of any direction by up to `most` radians, (B, 3, 3) (Rodrigues' formula)."""
    axis = torch.nn.functional.normalize(normal(key, 3), dim=1)
    angle = uniform(split(key, 0))[:, 0] * most
    x, y, z = axis.unbind(1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).view(-1, 3, 3)
    cos, sin = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    return torch.eye(3, device=key.device) * cos + cross * sin + axis[:, :, None] * axis[:, None, :] * (1 - cos)


def move(points: Tensor, sample: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
    """Every point by the matrix and the shift of its sample, (P, 3)."""
    x, y, z = (points[:, axis, None] for axis in range(3))
    # index_select: plain indexing takes half as long again on the CPU.
    moved, each = shift.index_select(0, sample), matrix.index_select(0, sample)
    for coordinate, row in zip((x, y, z), each.unbind(1)):
        moved.addcmul_(coordinate, row)
    return moved


def _point_keys(key: Tensor, batch: Batch) -> Tensor:
    """A key for every point, from its sample's key and its place among that sample's points."""
    start = torch.searchsorted(batch.sample, torch.arange(len(batch), device=key.device))
    number = torch.arange(len(batch.sample), device=key.device) - start[batch.sample]
    return split(key[batch.sample], number)
