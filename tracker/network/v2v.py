"""V2V-PoseNet: an occupancy grid in, a heat map per joint out.

Moon, Chang, Lee: "V2V-PoseNet: Voxel-to-Voxel Prediction Network for Accurate 3D Hand and Human Pose Estimation from a
Single Depth Map", CVPR 2018, arXiv 1711.07399, section 4 and figure 3. Volumes have the axes x, y, z throughout.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class V2VConfig:
    """The numbers of one network; they travel in the weights file.

    width: channels at the resolution of the heat maps. front_kernel: of the first convolution.
    front_stride: 1 convolves the full grid and pools it (the paper); 2 halves it at once, which is a third faster.
    blocks: residual blocks before the hourglass. middle_blocks: at its coarsest resolution, where they cost little (the
    paper has one); all but the first start as a small change (`SMALL`), so that a trained network can be given more and
    go on nearly from where it was.
    output_scale: heat map edge / (input edge / 2): 1 for the paper's network, 2 for heat maps as fine as the input.
    presence: also say whether the cube holds a right hand at all (not in the paper).
    """

    joints: int = 21
    input_size: int = 88
    width: int = 32
    front_kernel: int = 7
    front_stride: int = 1
    blocks: int = 3
    middle_blocks: int = 1
    output_scale: int = 1
    presence: bool = False

    def __post_init__(self) -> None:
        if self.joints < 1 or self.width < 2 or self.width % 2:
            raise ValueError(f"a network needs joints >= 1 and an even width, got {self.joints} and {self.width}")
        if self.blocks < 1 or self.middle_blocks < 1 or self.front_kernel < 1:
            raise ValueError(
                "blocks, middle_blocks and front_kernel must be at least 1, "
                f"are {self.blocks}, {self.middle_blocks} and {self.front_kernel}"
            )
        if (
            self.joints > 1024
            or self.width > 1024
            or max(self.blocks, self.middle_blocks) > 64
            or self.front_kernel > 16
        ):
            raise ValueError(f"no network is so large: {self}")
        if not isinstance(self.presence, bool):
            raise ValueError(f"presence must be true or false, is {self.presence!r}")
        if not 16 <= self.input_size <= 512 or self.input_size % 8:
            raise ValueError(f"input_size must be a multiple of 8 from 16 to 512, is {self.input_size}")
        if self.output_scale not in (1, 2):
            raise ValueError(f"output_scale must be 1 or 2, is {self.output_scale}")
        if self.front_stride not in (1, 2) or (self.front_kernel + self.front_stride) % 2:
            raise ValueError(
                "front_kernel must be odd with front_stride 1 and even with 2, "
                f"got {self.front_kernel} and {self.front_stride}"
            )
        if self.output_scale == 2 and self.front_stride == 2:
            raise ValueError("output_scale 2 needs the full-resolution features of front_stride 1")

    @property
    def output_size(self) -> int:
        """Edge of a heat map in voxels."""
        return self.input_size // 2 * self.output_scale


SMALL = 0.2
"""Scale of a further block to start with. Zero (Goyal et al., arXiv 1706.02677, section 5.1) leaves it out for long
under Muon, whose updates of convolutions are as large however little these matter."""

PRESETS: dict[str, V2VConfig] = {
    "v2v": V2VConfig(),
    "v2v-88": V2VConfig(output_scale=2),
    "v2v-lite": V2VConfig(
        input_size=48, width=16, front_kernel=6, front_stride=2, blocks=1, middle_blocks=6, presence=True
    ),
}
"""`v2v` is the paper's network, `v2v-88` has heat maps as fine as its input, `v2v-lite` is made small for a CPU."""


class Basic(nn.Sequential):
    """Convolution, batch norm, ReLU (the paper's volumetric basic block)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv3d(inputs, outputs, kernel, stride=stride, padding=(kernel - stride + 1) // 2, bias=False),
            nn.BatchNorm3d(outputs),
            nn.ReLU(inplace=True),
        )


class Residual(nn.Module):
    """Two 3^3 convolutions beside a shortcut (the paper's volumetric residual block)."""

    def __init__(self, inputs: int, outputs: int, scale: float = 1.0) -> None:
        """scale: of what the convolutions add, to start with."""
        super().__init__()
        norm = nn.BatchNorm3d(outputs)
        nn.init.constant_(norm.weight, scale)
        self.body = nn.Sequential(
            Basic(inputs, outputs, 3), nn.Conv3d(outputs, outputs, 3, padding=1, bias=False), norm
        )
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv3d(inputs, outputs, 1, bias=False), nn.BatchNorm3d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, X, Y, Z) to (B, outputs, X, Y, Z)."""
        return torch.relu(self.body(x) + self.shortcut(x))


class Upsample(nn.Sequential):
    """Doubles the resolution (the paper's volumetric up-sampling block)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.ConvTranspose3d(inputs, outputs, 2, stride=2, bias=False),
            nn.BatchNorm3d(outputs),
            nn.ReLU(inplace=True),
        )


class V2V(nn.Module):
    """The network. Raw maps leave it: heat maps if trained by squared error, logits if trained by cross-entropy."""

    def __init__(self, config: V2VConfig) -> None:
        super().__init__()
        self.config = config
        w = config.width
        self.front = Basic(1, w // 2, config.front_kernel, config.front_stride)
        self.enter = nn.Sequential(*(Residual(w if block else w // 2, w) for block in range(config.blocks)))
        self.skip1 = Residual(w, w)
        self.down1 = Residual(w, 2 * w)
        self.skip2 = Residual(2 * w, 2 * w)
        self.down2 = Residual(2 * w, 4 * w)
        self.middle = Residual(4 * w, 4 * w)
        more = (Residual(4 * w, 4 * w, SMALL) for _ in range(config.middle_blocks - 1))
        self.middle_more = nn.Sequential(*more)
        self.up2 = nn.Sequential(Residual(4 * w, 4 * w), Upsample(4 * w, 2 * w))
        self.up1 = nn.Sequential(Residual(2 * w, 2 * w), Upsample(2 * w, w))
        self.leave = nn.Sequential(Residual(w, w), Basic(w, w, 1), Basic(w, w, 1))
        if config.output_scale == 2:
            self.fine_up = Upsample(w, w // 2)
            self.fine = Residual(w // 2, w // 2)
        self.head = nn.Conv3d(w if config.output_scale == 1 else w // 2, config.joints, 1)
        if config.presence:
            self.presence_head = nn.Linear(4 * w, 1)
        self.pool = nn.MaxPool3d(2)
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.normal_(self.head.weight, std=1e-3)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, occupancy: Tensor) -> tuple[Tensor, Tensor]:
        """Occupancy to maps.

        occupancy: (B, N, N, N), any real dtype, 0 or 1. Returns the maps (B, joints, G, G, G) and the presence logit
        (B,), which is zero for a network without that head.
        """
        x = occupancy.to(self.head.weight.dtype).unsqueeze(1)
        fine = self.front(x)
        x = self.enter(self.pool(fine) if self.config.front_stride == 1 else fine)
        skip1 = self.skip1(x)
        x = self.down1(self.pool(x))
        skip2 = self.skip2(x)
        x = self.middle_more(self.middle(self.down2(self.pool(x))))
        presence = self.presence_head(x.mean(dim=(2, 3, 4)))[:, 0] if self.config.presence else x.new_zeros(x.shape[0])
        x = self.up2(x) + skip2
        x = self.leave(self.up1(x) + skip1)
        if self.config.output_scale == 2:
            x = self.fine(self.fine_up(x) + fine)
        return self.head(x), presence
