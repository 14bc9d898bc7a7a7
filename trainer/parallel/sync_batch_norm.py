"""Batch normalisation with the statistics of the samples of all processes."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from trainer.parallel.world import World


def synchronise(module: nn.Module, world: World) -> nn.Module:
    """The module with every BatchNorm3d made one over all processes; alone, the module as it is.

    Parameters and buffers are the same tensors, under the same names. All processes must run the module equally often.
    torch's own SyncBatchNorm does it on GPUs; it refuses CPU tensors, for which `CpuSyncBatchNorm3d` is here.
    """
    if world.size == 1:
        return module
    if world.device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return converted
    for name, child in list(module.named_children()):
        setattr(module, name, synchronise(child, world))
    return CpuSyncBatchNorm3d.of(module) if isinstance(module, nn.BatchNorm3d) else module


class CpuSyncBatchNorm3d(nn.BatchNorm3d):
    """BatchNorm3d over the samples of all processes; some of them may have none."""

    @classmethod
    def of(cls, plain: nn.BatchNorm3d) -> CpuSyncBatchNorm3d:
        """A layer with the settings, parameters and buffers of a plain one."""
        layer = cls(plain.num_features, plain.eps, plain.momentum, plain.affine, plain.track_running_stats)
        layer._parameters, layer._buffers, layer.training = plain._parameters, plain._buffers, plain.training
        return layer

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, X, Y, Z) to the same shape and dtype. Statistics are float32 or better, whatever the dtype."""
        if not self.training:
            return super().forward(features)
        self._check_input_dim(features)
        normalised, mean, variance, count = _Normalise.apply(features, self.weight, self.bias, self.eps)
        if self.track_running_stats:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)  # type: ignore[union-attr, operator]
                share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum  # type: ignore[arg-type]
                self.running_mean.lerp_(mean, share)  # type: ignore[union-attr, operator]
                self.running_var.lerp_(variance * (count / (count - 1)), share)  # type: ignore[union-attr, operator]
        return normalised  # type: ignore[no-any-return]


class _Normalise(torch.autograd.Function):
    """Normalise over all processes, and pass gradients back through the common statistics.

    One all-reduce of 2 C + 1 numbers forward, one of 2 C backward. The sums over a process's own samples are left to
    the functions that torch's own layer is made of: they are ten times as fast here as what can be put together.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normalised features; mean, biased variance (float32, C) and number of values of a channel (float32)."""
        channels = features.shape[1]
        sums = torch.zeros(2 * channels + 1, dtype=torch.float64)
        if features.numel():
            # Given float32 buffers, it computes in float32 whatever the dtype of the features.
            buffers = torch.zeros(2, channels)
            found = torch.ops.aten.batch_norm_update_stats(features, buffers[0], buffers[1], 0.0)
            # Sums of squares lose digits where the mean is large: the local variance is good, the rest is in double.
            mean, variance = (statistic.double() for statistic in found)
            number = features.numel() // channels
            sums[0], sums[1 : channels + 1], sums[channels + 1 :] = 1, mean, variance + mean * mean
            sums *= number
        dist.all_reduce(sums)
        count = sums[0]
        if count <= 1:
            raise ValueError("batch normalisation needs more than one value of each channel over all processes")
        mean, square = (sums[1:] / count).chunk(2)
        variance = (square - mean * mean).clamp(min=0).float()
        mean = mean.float()
        normalised = nn.functional.batch_norm(features, mean, variance, weight, bias, False, 0.0, eps)
        ctx.save_for_backward(features, weight, mean, variance)
        ctx.eps, ctx.count = eps, float(count)
        ctx.mark_non_differentiable(mean, variance, count)
        return normalised, mean, variance, count.float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Of features, weight and bias; the latter two of this process's own samples, as other layers' are."""
        features, weight, mean, variance = ctx.saved_tensors
        # In two memory layouts, sums over bfloat16 values lose most of their digits.
        last = features.is_contiguous(memory_format=torch.channels_last_3d)
        given = gradients[0].contiguous(memory_format=torch.channels_last_3d if last else torch.contiguous_format)
        features = features if last else features.contiguous()
        channels = features.shape[1]
        deviation = torch.rsqrt(variance + ctx.eps)
        scale = torch.ones(channels) if weight is None else weight
        if features.numel():
            passed, *own = torch.ops.aten.native_batch_norm_backward(
                given, features, scale, None, None, mean, deviation, True, ctx.eps, [True, True, True]
            )
        else:
            passed, own = torch.zeros_like(features), [torch.zeros(channels), torch.zeros(channels)]
        # That took the means of the gradient over the own samples off; those over all samples are wanted.
        parts = torch.stack(own).double()
        sums = parts.clone()
        dist.all_reduce(sums)
        if features.numel():
            wrong = (parts * (channels / features.numel()) - sums / ctx.count).float() * scale * deviation
            passed += nn.functional.batch_norm(features, mean, variance, wrong[0], wrong[1], False, 0.0, ctx.eps)
        return passed, *(own if weight is not None else (None, None)), None
