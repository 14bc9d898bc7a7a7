"""Named ways to train: optimiser, schedule and what goes with them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from tracker.hand.heatmaps import PAPER_SIGMA
from tracker.network.v2v import V2VConfig
from trainer.fitting.losses import LossConfig, LossName
from trainer.fitting.muon import Muon

MOST_BATCH = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """One training run.

    epochs: passes over the data. minutes: if given, the schedule follows the clock instead, and the run ends
    when it is over. batch_size: samples of a step, of all processes together.
    learning_rate: the highest; it warms up over `warmup` steps, then stays or falls to nothing as a cosine (schedule).
    ema: decay of the averaged weights, which are what is evaluated and kept; 0 keeps the weights themselves.
    clip: longest gradient; 0 lets any pass. bf16: mixed precision. checkpoint_minutes: at most this much work is lost.
    dev_epochs: epochs between evaluations on the dev data.
    """

    optimizer: Literal["adamw", "muon", "rmsprop"] = "adamw"
    schedule: Literal["cosine", "constant"] = "cosine"
    epochs: int = 10
    minutes: float | None = None
    batch_size: int = 8
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-2
    warmup: int = 100
    ema: float = 0.998
    clip: float = 5.0
    bf16: bool = True
    seed: int = 0
    workers: int = 1
    checkpoint_minutes: float = 5.0
    dev_epochs: int = 1

    def __post_init__(self) -> None:
        if self.optimizer not in ("adamw", "muon", "rmsprop") or self.schedule not in ("cosine", "constant"):
            raise ValueError(f"optimizer is adamw, muon or rmsprop, schedule cosine or constant: {self}")
        if self.epochs < 1 or self.batch_size < 1 or not 0 < self.learning_rate < 1e3:
            raise ValueError("epochs and batch size must be at least 1, the learning rate above 0 and below 1000")
        if self.batch_size > MOST_BATCH:
            raise ValueError(f"the batch size must be at most {MOST_BATCH}, is {self.batch_size}")
        if self.minutes is not None and not 0 < self.minutes < 1e7:
            raise ValueError(f"minutes must be above 0, is {self.minutes}")
        if not 0 <= self.ema < 1 or self.workers < 0 or self.warmup < 0 or self.dev_epochs < 1:
            raise ValueError("ema must be in [0, 1), workers and warmup not negative, dev epochs at least 1")
        if not all(0 <= v < math.inf for v in (self.checkpoint_minutes, self.weight_decay, self.clip)):
            raise ValueError("checkpoint minutes, weight decay and clip must be finite and not negative")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"the seed must be from 0 to {2**31 - 1}, is {self.seed}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A FitConfig and the loss that it is for."""

    fit: FitConfig = field(default_factory=FitConfig)
    loss: LossName = "integral"


RECIPES: dict[str, Recipe] = {
    "modern": Recipe(),
    "paper": Recipe(
        fit=FitConfig(
            optimizer="rmsprop",
            schedule="constant",
            learning_rate=2.5e-4,
            weight_decay=0.0,
            warmup=0,
            ema=0.0,
            clip=0.0,
            bf16=False,
        ),
        loss="heatmap",
    ),
}
"""`paper`: V2V-PoseNet, section 5.1: RMSprop, 2.5e-4, batches of 8, 10 epochs, squared error of the heat maps, plain
32-bit arithmetic. `modern`: AdamW, warm-up and cosine, mixed precision, averaged weights, integral regression."""


def optimizer_for(module: nn.Module, config: FitConfig) -> torch.optim.Optimizer:
    """A new optimiser of a network's parameters."""
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimizer == "muon":
        return Muon(module, lr=rate, weight_decay=decay)
    kind = torch.optim.RMSprop if config.optimizer == "rmsprop" else torch.optim.AdamW
    return kind(module.parameters(), lr=rate, weight_decay=decay)


def computes_bf16(device: torch.device) -> bool:
    """Whether mixed precision in bfloat16 pays on a device: processors that imitate it are many times slower."""
    return device.type == "cuda" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def loss_config(name: LossName, network: V2VConfig, global_joints: bool = False) -> LossConfig:
    """The loss for a network: Gaussians of the paper's size in the cube, whatever the resolution of the heat maps."""
    if name == "heatmap":
        # The paper's maps have 44 voxels along an edge.
        sigma = PAPER_SIGMA * network.output_size / 44
        # Squared errors are small numbers: as a share of what maps of nothing would cost, presence weighs as much as
        # it does beside the integral loss.
        nothing = math.pi**1.5 * (sigma / network.output_size) ** 3
        presence = 0.15 * nothing if network.presence else 0.0
        return LossConfig(name=name, sigma=sigma, presence=presence, global_joints=global_joints)
    presence = LossConfig().presence if network.presence else 0.0
    return LossConfig(name=name, presence=presence, global_joints=global_joints)
