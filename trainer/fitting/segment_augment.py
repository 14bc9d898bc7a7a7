"""Coarse depth images varied while they are trained on: what holds for one image holds for its mirror image, for a
larger person further away, for another lens and another roll of the camera, and with worse noise.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from tracker.network.segmenter import LEFT, RIGHT

ZOOM = 1.3
"""The focal length changes by up to this factor."""
ROLL = math.radians(25)
SHIFT = 0.15
"""Of half the image: the principal point moves."""
GROWTH = 1.2
"""Everything becomes larger, and is further away, by up to this factor."""


def augment(depth: Tensor, labels: Tensor, focal: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Varied copies of depth (B, H, W) float32 metres, labels (B, H, W) uint8 and focal (B,) float32 pixels.

    All of them and the generator are on one device.
    """
    count, height, width = depth.shape
    device = depth.device

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator, device=device)

    mirrored = draw(0, 1) < 0.5
    labels = torch.where(mirrored[:, None, None], swapped(labels).flip(2), labels)
    depth = torch.where(mirrored[:, None, None], depth.flip(2), depth)

    zoom = torch.exp(draw(-math.log(ZOOM), math.log(ZOOM)))
    # A rolled camera is rare in life, so most stay nearly level.
    roll = draw(-1, 1) ** 3 * ROLL
    # Coordinates of the grid run from -1 to 1 along both axes, whatever the proportions.
    x, y = draw(-SHIFT, SHIFT), draw(-SHIFT, SHIFT)
    cos, sin, ratio = torch.cos(roll) / zoom, torch.sin(roll) / zoom, height / width
    way = torch.stack([torch.stack([cos, -sin * ratio, x], 1), torch.stack([sin / ratio, cos, y], 1)], 1)
    grid = functional.affine_grid(way, [count, 1, height, width], align_corners=False)
    both = torch.stack([depth, labels.float()], dim=1)
    depth, moved = functional.grid_sample(both, grid, mode="nearest", align_corners=False).unbind(1)
    focal = focal * zoom

    depth = depth * torch.exp(draw(-math.log(GROWTH), math.log(GROWTH)))[:, None, None]
    return _worse(depth, generator), moved.round().to(torch.uint8), focal


def swapped(labels: Tensor) -> Tensor:
    """Labels with right and left exchanged."""
    return torch.where(labels == RIGHT, LEFT, torch.where(labels == LEFT, RIGHT, labels))


def _worse(depth: Tensor, generator: torch.Generator) -> Tensor:
    """Noise in proportion to the distance and single pixels without reading, in most images little of both."""
    device = depth.device
    worst = torch.rand((2, len(depth), 1, 1), generator=generator, device=device) ** 4
    noise = torch.randn(depth.shape, generator=generator, device=device)
    lost = torch.rand(depth.shape, generator=generator, device=device) < 0.15 * worst[1]
    return torch.where(lost, 0, depth * (1 + 0.012 * worst[0] * noise))
