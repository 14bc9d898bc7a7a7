"""A small U-Net that says of each pixel of a coarse depth image: right hand, left hand, arm, or anything else.

The shape is that of Ronneberger, Fischer and Brox, "U-Net", MICCAI 2015, with sums in place of concatenations and with
blocks of pixels folded into channels at both ends (Shi et al., "Efficient sub-pixel convolution", CVPR 2016), so that
no convolution runs at full resolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

ELSE, RIGHT, LEFT, ARM = 0, 1, 2, 3
CLASSES: Final = 4
"""What a pixel may be: anything else (no reading, too), a right hand, a left hand, an arm from the wrist up."""
NEAREST: Final = 0.12
"""Metres; what is nearer looks as if it were here."""


@dataclass(frozen=True, slots=True)
class SegmenterConfig:
    """width, height: of the coarse image in pixels. channels: of each level, the finest (half resolution) first.
    deep: convolutions of the deepest level, which sees the whole image.
    """

    width: int = 192
    height: int = 144
    channels: tuple[int, ...] = (24, 40, 64, 96)
    deep: int = 4

    def __post_init__(self) -> None:
        step = 2 ** len(self.channels)
        if len(self.channels) < 2 or min(self.channels) < 1 or self.deep < 1:
            raise ValueError(f"want two levels or more of one channel or more, got {self.channels} and {self.deep}")
        if self.width <= 0 or self.height <= 0 or self.width % step or self.height % step:
            raise ValueError(f"width and height must be multiples of {step}, are {self.width} and {self.height}")


class Segmenter(nn.Module):
    """Depth in, a score per pixel and class out."""

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.stem = _conv(12, channels[0])
        self.down = nn.ModuleList(
            nn.Sequential(_conv(fine, coarse, stride=2), Residual(coarse)) for fine, coarse in pairwise(channels)
        )
        self.deep = nn.Sequential(*(Residual(channels[-1], dilation=1 + number % 2) for number in range(config.deep)))
        self.up = nn.ModuleList(_conv(coarse, fine, kernel=1) for fine, coarse in pairwise(channels))
        self.merge = nn.ModuleList(Residual(fine) for fine in channels[:-1])
        self.head = nn.Conv2d(channels[0], 4 * CLASSES, 1)

    def forward(self, depth: Tensor, focal: Tensor) -> Tensor:
        """Logits (B, 4, H, W) of the classes else, right, left, arm.

        depth: (B, H, W) float32, metres along the optical axis, 0 = no reading. focal: (B,) float32, focal length in
        pixels of this coarse image.
        """
        level = self.stem(functional.pixel_unshuffle(look(depth, focal), 2))
        levels = [level]
        for down in self.down:
            level = down(level)
            levels.append(level)
        level = self.deep(level)
        for up, merge, fine in zip(reversed(self.up), reversed(self.merge), reversed(levels[:-1])):
            level = merge(fine + functional.interpolate(up(level), scale_factor=2.0, mode="nearest"))
        return functional.pixel_shuffle(self.head(level), 2)


def look(depth: Tensor, focal: Tensor) -> Tensor:
    """What the network looks at, (B, 3, H, W): nearness, whether there is a reading, and the logarithm of a pixel's
    width in metres, by which it knows how large things are whatever the camera.
    """
    seen = (depth > 0).to(depth.dtype)
    z = torch.clamp(depth, min=NEAREST)
    width = torch.log(z / focal[:, None, None]) + 5.5  # 4 mm a pixel is 0
    return torch.stack([seen * 0.5 / z, seen, seen * width], dim=1)


class Residual(nn.Module):
    """A 3 x 3 convolution that adds to what it is given."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = _conv(channels, channels, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        added: Tensor = x + self.conv(x)
        return added


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
