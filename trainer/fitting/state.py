"""How far a training run is, and what is compared and averaged on the way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(slots=True)
class State:
    """How far a run is; with the weights and the optimiser, all that a checkpoint needs.

    position: samples taken from the stream. elapsed: seconds of training. ended: epochs whose end was seen to, with an
    evaluation if one was due. judged: the step of the last evaluation.
    loss_sum, loss_steps: the steps that no line of the log has told yet.
    """

    position: int = 0
    step: int = 0
    elapsed: float = 0.0
    ended: int = 0
    judged: int = 0
    best_mm: float = math.inf
    loss_sum: float = 0.0
    loss_steps: int = 0


def average_into(average: torch.nn.Module, network: torch.nn.Module, decay: float, step: int) -> None:
    """Move the averaged network towards the current one, batch-norm statistics too; faster in the first steps."""
    share = 1 - min(decay, (1 + step) / (10 + step)) if decay else 1.0
    with torch.no_grad():
        for kept, new in zip(average.state_dict().values(), network.state_dict().values()):
            if kept.dtype.is_floating_point:
                kept.lerp_(new, share)
            else:
                kept.copy_(new)


def differences(there: Any, now: Any) -> str:
    """What differs between two settings, for people."""
    if isinstance(there, dict) and isinstance(now, dict):
        return ", ".join(f"{key} {there[key]}, not {now[key]}" for key in now if there[key] != now[key])
    return f"{there}, not {now}"
