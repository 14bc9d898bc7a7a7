"""Networks and grids for the tests of the engines."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tracker.engine.sample import hand_like_grids
from tracker.network.hand_network import HandNetwork, HandNetworkConfig
from tracker.network.v2v import PRESETS, V2VConfig

TINY = V2VConfig(input_size=24, width=4, presence=True)
LITE = PRESETS["v2v-lite"]

TOLERANCE_MM = 0.01
"""Between float32 engines, which sum in different orders: ten times what was seen, a thousandth of a tracking error."""

PEAKED = 3.0
"""Standard deviation of the maps: as logits, those 3 sigma above the mean weigh 8000 times what the mean weighs."""


def network(v2v: V2VConfig = TINY, **config: Any) -> HandNetwork:
    """A network of random weights whose batch norms and maps are as far from trivial as trained ones."""
    torch.manual_seed(1)
    made = HandNetwork(HandNetworkConfig(v2v=v2v, **config))
    for module in made.modules():
        if isinstance(module, nn.BatchNorm3d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    nn.init.normal_(made.v2v.head.weight)
    made.eval()
    with torch.no_grad():
        maps, _ = made.v2v(torch.from_numpy(grids_of(made)))
        made.v2v.head.weight *= PEAKED / maps.std(dim=(0, 2, 3, 4))[:, None, None, None, None]
    return made


def answer(made: HandNetwork, grids: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What plain PyTorch says: joints and presence."""
    with torch.inference_mode():
        joints, presence = made(torch.from_numpy(grids))
    return joints.numpy(), presence.numpy()


def distances_mm(one: NDArray[np.float32], other: NDArray[np.float32], edge: float = 0.26) -> NDArray[np.float32]:
    """(B, J) distances between joints (B, J, 4)."""
    distances: NDArray[np.float32] = np.linalg.norm((one - other)[..., :3], axis=-1) * edge / 2 * 1000
    return distances


def grids_of(made: HandNetwork, batch: int = 4) -> NDArray[np.uint8]:
    """Hands, but not those that engines warm up with."""
    return hand_like_grids(batch, made.config.v2v.input_size, seed=5)
