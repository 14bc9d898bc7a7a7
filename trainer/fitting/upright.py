"""Batches in cubes that have a roll: see `tracker.hand.cube.Cube`, which does the same for one hand of the tracker."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from tracker.hand.skeleton import PALM, WRIST
from trainer.data.sample import Batch
from trainer.fitting.augment import move, roll_matrix
from trainer.fitting.counter import split, uniform

AS_SEEN: Final = 0.3
"""Share of the training's cubes that have no roll yet, as when the tracker looks at a hand for the first time."""
_KEY: Final = 20
"""Of the random numbers that choose these; augmentation takes those below."""


def upright(batch: Batch, as_seen: float) -> Batch:
    """A batch seen straight on and with every hand's knuckles above its wrist, by its true joints.

    as_seen: share that is only seen straight on. Of the rest, cubes without a hand, or with one whose knuckles or wrist
    are not known, are turned anyhow: how a cube is turned must not tell what is in it.
    """
    straight = straight_axes(batch.ray)
    left, anyhow = uniform(split(batch.key, _KEY), 2).unbind(1)
    known = batch.joints[:, PALM].isfinite().all(dim=(1, 2))
    axes = torch.where(
        known[:, None, None],
        upright_axes(batch.joints, batch.ray),
        torch.bmm(roll_matrix(anyhow * 2 * math.pi), straight),
    )
    return turn(batch, torch.where((left < as_seen)[:, None, None], straight, axes))


def turn(batch: Batch, axes: Tensor) -> Batch:
    """A batch in cubes with other axes, (B, 3, 3), rows."""
    matrix = axes.transpose(1, 2)
    return replace(
        batch,
        points=move(batch.points, batch.sample, matrix, torch.zeros_like(batch.ray)),
        joints=torch.bmm(batch.joints, matrix),
        ray=torch.bmm(batch.ray[:, None], matrix)[:, 0],
    )


def straight_axes(ray: Tensor) -> Tensor:
    """The camera's axes (rows), (B, 3, 3), after the shortest turn of z onto unit vectors (B, 3), with z above 0."""
    x, y, z = ray.unbind(1)
    share = 1 / (1 + z)
    rows = [1 - x * x * share, -x * y * share, -x, -x * y * share, 1 - y * y * share, -y, x, y, z]
    return torch.stack(rows, dim=1).view(-1, 3, 3)


def upright_axes(joints: Tensor, ray: Tensor) -> Tensor:
    """`straight_axes`, turned about the ray so that the knuckles of hands (B, 21, 3) are above their wrists.

    Hands whose knuckles or wrist are not known are left as they are.
    """
    straight = straight_axes(ray)
    knuckles = [number for number in PALM if number != WRIST]
    along = joints[:, knuckles].mean(dim=1) - joints[:, WRIST]
    x, y, _ = torch.bmm(straight, along[:, :, None])[:, :, 0].unbind(1)
    angle = torch.atan2(x, -y)
    known = torch.where(angle.isfinite(), angle, torch.zeros_like(angle))
    return torch.bmm(roll_matrix(known), straight)
