"""Batch normalisation folded into the convolutions before it: the same function with a third fewer operations."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Network = TypeVar("Network", bound=nn.Module)


def folded(network: Network) -> Network:
    """A copy of the network, in evaluation mode, on the CPU, in float32, without batch norms.

    With fixed statistics a batch norm is an affine map per channel, which the weights of the convolution can absorb.
    """
    copied = copy.deepcopy(network).cpu().float().eval().requires_grad_(False)
    for sequence in [module for module in copied.modules() if isinstance(module, nn.Sequential)]:
        for index in range(len(sequence) - 1):
            convolution, norm = sequence[index], sequence[index + 1]
            if not isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d):
                continue
            if isinstance(convolution, nn.Conv2d | nn.Conv3d | nn.ConvTranspose3d):
                transposed = isinstance(convolution, nn.ConvTranspose3d)
                sequence[index] = fuse_conv_bn_eval(convolution, norm, transpose=transposed)
                sequence[index + 1] = nn.Identity()
    return copied
