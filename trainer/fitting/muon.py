"""Muon: momentum whose update of each layer is made orthogonal, so that all directions of a layer learn alike fast.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; size of the update after Liu et al.,
"Muon is scalable for LLM training", arXiv 2502.16982, so that learning rates of AdamW fit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

MATCH = 0.2
"""Root mean square of the entries of AdamW's updates, which those of Muon get."""
QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the iteration (Jordan et al.): singular values come to between 0.7 and 1.2 in five rounds."""


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """Roughly the nearest matrix whose singular values are all 1, (rows, columns) float (Newton-Schulz iteration)."""
    a, b, c = QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(rounds):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for the convolutions inside a network, AdamW for its first and last layers, norms and biases."""

    def __init__(
        self,
        module: nn.Module,
        lr: float,
        weight_decay: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        """lr, weight_decay: as for AdamW. momentum: of the convolutions. betas: of the others."""
        inner: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, parameter in module.named_parameters():
            # The names are those of tracker.network.v2v; these layers' rows and columns are no features.
            outer = name.split(".")[0] in ("front", "head", "presence_head")
            (inner if parameter.ndim > 2 and not outer else others).append(parameter)
        groups = [{"params": inner, "muon": True}, {"params": others, "muon": False}]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient. closure: not used."""
        for group in self.param_groups:
            update = _muon if group["muon"] else _adam
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(update(parameter.grad, self.state[parameter], group), alpha=-group["lr"])


def _muon(gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    if not state:
        state["momentum"] = torch.zeros_like(gradient)
    state["momentum"].lerp_(gradient, 1 - group["momentum"])
    ahead = gradient.lerp(state["momentum"], group["momentum"])
    matrix = ahead.reshape(len(ahead), -1)
    scale = MATCH * max(matrix.shape) ** 0.5
    return (orthogonal(matrix) * scale).view(gradient.shape)


def _adam(gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    if not state:
        state["step"] = torch.zeros(())
        state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
    state["step"] += 1
    first, second = group["betas"]
    state["mean"].lerp_(gradient, 1 - first)
    state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
    count = float(state["step"])
    root = (state["square"] / (1 - second**count)).sqrt_().add_(1e-8)
    return state["mean"] / (1 - first**count) / root
