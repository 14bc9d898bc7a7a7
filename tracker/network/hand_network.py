"""The network together with its decoding: the one graph that engines run and exports contain."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import Final

import torch
from torch import Tensor, nn

from tracker.hand.cube import DEFAULT_EDGE
from tracker.hand.heatmaps import Decode, Decoder
from tracker.hand.skeleton import SKELETON
from tracker.network.v2v import V2V, V2VConfig

LARGEST_CALIBRATION: Final = 1e6
"""Slope and offset beyond which the arithmetic of the network would overflow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandNetworkConfig:
    """Everything needed to run a weights file.

    name: what the status message calls the model. edge: cube edge in metres it was trained for.
    upright: its cubes have a roll (see `Cube`): the hand's knuckles are above its wrist, as far as that is known.
    decode, calibration: see `Decoder`. skeleton: the joint set, `hand21` where `tracker run` is to use it.
    global_joints: 0 for one map a joint; otherwise the one map shows this many joints without telling which is which
    (`trainer.judging.peaks` finds them), and the skeleton is `global{n}`.
    """

    v2v: V2VConfig
    name: str = "v2v"
    decode: Decode = "softmax"
    edge: float = DEFAULT_EDGE
    calibration: tuple[float, float] = (1.0, 0.0)
    skeleton: str = field(default=SKELETON)
    global_joints: int = 0
    upright: bool = False

    def __post_init__(self) -> None:
        if not 0.05 <= self.edge <= 1.0:
            raise ValueError(f"edge must be a cube edge in metres between 0.05 and 1, is {self.edge}")
        if not isinstance(self.name, str) or not isinstance(self.upright, bool):
            raise ValueError(f"name must be a text and upright true or false, are {self.name!r} and {self.upright!r}")
        if len(self.calibration) != 2 or not all(
            isinstance(v, int | float) and isfinite(v) and abs(v) <= LARGEST_CALIBRATION for v in self.calibration
        ):
            raise ValueError(f"calibration must be a slope and an offset, is {self.calibration}")
        if self.upright and self.skeleton != SKELETON:
            raise ValueError(f"upright cubes need the joints of {SKELETON}, not {self.skeleton!r}")
        if self.global_joints:
            if self.global_joints < 0 or self.v2v.joints != 1 or self.decode != "peak":
                raise ValueError(
                    "global_joints must be 0, or at least 1 with a network of one heat map (v2v.joints 1, decode "
                    f"'peak'); is {self.global_joints} with {self.v2v.joints} maps and {self.decode!r}"
                )
            if self.skeleton != f"global{self.global_joints}":
                raise ValueError(
                    f"skeleton must be 'global{self.global_joints}' with global_joints, is {self.skeleton!r}"
                )


class HandNetwork(nn.Module):
    """Occupancy in, joints out: `V2V` followed by `Decoder`."""

    def __init__(self, config: HandNetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.v2v = V2V(config.v2v)
        self.decoder = Decoder(config.decode, config.edge, config.calibration)

    def forward(self, occupancy: Tensor) -> tuple[Tensor, Tensor]:
        """Occupancy grids to joints.

        occupancy: (B, N, N, N) uint8, axes x y z. Returns joints (B, J, 4) float32, x y z in cube coordinates and
        confidence 0..1, and presence (B,) float32, 0..1: how surely the cube holds a right hand (without a presence
        head: the mean joint confidence).
        """
        maps, logit = self.v2v(occupancy)
        joints = self.decoder(maps)
        presence = torch.sigmoid(logit.float()) if self.config.v2v.presence else joints[..., 3].mean(dim=1)
        return joints, presence
