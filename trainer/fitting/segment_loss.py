"""The loss of the segmentation network."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from tracker.network.segmenter import LEFT, RIGHT

CLASS_WEIGHTS: Final = (0.6, 2.0, 2.0, 1.2)
"""Of else, right, left and arm in the loss: hands are small."""
USUAL_SHARE: Final = 400 / (192 * 144)
"""Of the coarse image that a hand has whose pixels count as its class says. Those of another count as its size to minus
the power"""
SIZE_POWER: Final = 0.75
"""of this (with 1 each hand would count as much as any other),"""
SIZE_LIMITS: Final = (0.35, 8.0)
"""within these."""


def loss(logits: Tensor, labels: Tensor, seen: Tensor) -> Tensor:
    """Weighted cross entropy over pixels with a reading, plus a quarter of one minus each side's Dice coefficient.

    logits: (B, 4, H, W) float32. labels: (B, H, W) uint8. seen: (B, H, W) bool. Returns a scalar.
    The Dice term (Milletari et al., "V-Net", 3DV 2016) is over the whole batch, so that images without a hand count for
    the pixels given wrongly. Pixels of a small hand count for more in both: see `hand_weight`.
    """
    target = labels.long()
    size = hand_weight(target, seen)
    weight = torch.tensor(CLASS_WEIGHTS, device=logits.device)[target] * seen * size
    entropy = functional.cross_entropy(logits, target, reduction="none")
    share = logits.softmax(dim=1)
    dice = torch.zeros((), device=logits.device)
    for side in (RIGHT, LEFT):
        given, true = share[:, side] * seen * size, ((target == side) & seen).float() * size
        both = (share[:, side] * true).sum()
        dice = dice + 1 - (2 * both + 1) / (given.sum() + true.sum() + 1)
    return (entropy * weight).sum() / weight.sum().clamp(min=1) + 0.25 * dice


def hand_weight(target: Tensor, seen: Tensor) -> Tensor:
    """What each pixel counts for the size of its hand in the image: (B, H, W) float32, 1 where there is none.

    target: (B, H, W) int64, the classes. A hand far away has a hundredth of the pixels of one nearby; each is one to be
    found.
    """
    weight = torch.ones(target.shape, device=target.device)
    usual = USUAL_SHARE * target.shape[1] * target.shape[2]
    for side in (RIGHT, LEFT):
        own = (target == side) & seen
        pixels = own.sum(dim=(1, 2)).clamp(min=1)
        each = (usual / pixels) ** SIZE_POWER
        weight = torch.where(own, each.clamp(*SIZE_LIMITS)[:, None, None], weight)
    return weight
