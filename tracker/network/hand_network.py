"""The network together with its decoding: the one graph that engines run and exports contain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import isfinite
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
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
    decode, calibration: see `Decoder`. curve: from the decoder's confidence to the one that the tracker publishes:
    points (from, to), both 0..1 and rising, with straight lines between them; none where both are the same.
    skeleton: the joint set, `hand21` where `tracker run` is to use it.
    global_joints: 0 for one map a joint; otherwise the one map shows this many joints without telling which is which
    (`trainer.judging.peaks` finds them), and the skeleton is `global{n}`.
    """

    v2v: V2VConfig
    name: str = "v2v"
    decode: Decode = "softmax"
    edge: float = DEFAULT_EDGE
    calibration: tuple[float, float] = (1.0, 0.0)
    curve: tuple[tuple[float, float], ...] = ()
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
        if not _is_curve(self.curve):
            raise ValueError(f"curve must be points (from, to) between 0 and 1 that rise, is {self.curve}")
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


def follow_curve(points: Sequence[tuple[float, float]], confidence: NDArray[np.floating]) -> NDArray[np.float32]:
    """Confidences, any shape, by the points of a `HandNetworkConfig.curve`."""
    if not points:
        return confidence.astype(np.float32, copy=False)
    return np.interp(confidence, [x for x, _ in points], [y for _, y in points]).astype(np.float32)


def _is_curve(points: tuple[tuple[float, float], ...]) -> bool:
    if not all(len(point) == 2 and all(isinstance(v, int | float) and 0 <= v <= 1 for v in point) for point in points):
        return False
    return all(one[0] < other[0] and one[1] <= other[1] for one, other in pairwise(points))


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
