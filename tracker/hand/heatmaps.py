"""Heat maps: joints to Gaussian targets for training, maps back to joints and confidences."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Decode = Literal["peak", "softmax"]

PAPER_SIGMA = 1.7
"""Standard deviation of the target Gaussians in heat-map voxels (V2V-PoseNet, section 4.2)."""


def axis_centers(size: int, device: torch.device | None = None) -> Tensor:
    """Cube coordinates of the voxel centres along one axis, (size,) float32."""
    return (torch.arange(size, dtype=torch.float32, device=device) + 0.5) * (2 / size) - 1


def gaussian_maps(joints: Tensor, size: int, sigma: float = PAPER_SIGMA) -> Tensor:
    """Target heat maps with a peak of 1.

    joints: (B, J, 3) cube coordinates; NaN gives a map of zeros. sigma: in heat-map voxels.
    Returns (B, J, size, size, size) float32, axes x y z. V2V-PoseNet, equation 2.
    """
    centers = axis_centers(size, joints.device)
    distance = (centers - joints[..., None]) * (size / 2)
    profile = torch.nan_to_num(torch.exp(-0.5 * (distance / sigma) ** 2))
    x, y, z = profile.unbind(dim=2)
    return x[..., :, None, None] * y[..., None, :, None] * z[..., None, None, :]


def expectation(weights: Tensor) -> Tensor:
    """Mean position of each map: (B, J, G, G, G), summing to 1, to (B, J, 3) cube coordinates (Sun, ECCV 2018)."""
    centers = axis_centers(weights.shape[-1], weights.device).to(weights.dtype)
    x = (weights.sum(dim=(3, 4)) * centers).sum(dim=2)
    y = (weights.sum(dim=(2, 4)) * centers).sum(dim=2)
    z = (weights.sum(dim=(2, 3)) * centers).sum(dim=2)
    return torch.stack([x, y, z], dim=2)


def ball_mass(weights: Tensor, point: Tensor, radius: float) -> Tensor:
    """Share of each map within `radius` (cube coordinates) of a point, the rim soft by half a voxel.

    weights: (B, J, G, G, G), summing to 1. point: (B, J, 3). Returns (B, J).
    """
    centers = axis_centers(weights.shape[-1], weights.device).to(weights.dtype)
    square = (centers - point[..., None]) ** 2
    x, y, z = square.unbind(dim=2)
    distance = torch.sqrt(x[..., :, None, None] + y[..., None, :, None] + z[..., None, None, :])
    voxel = 2 / weights.shape[-1]
    return (weights * ((radius - distance) / voxel + 0.5).clamp(0, 1)).sum(dim=(2, 3, 4))


class Decoder(nn.Module):
    """Maps to coordinates and confidence, as a module so that it is exported in one graph with the network.

    decode: how the network was trained. "softmax": maps are logits of a distribution, the estimate is its mean and the
    confidence comes from the mass within 10 mm of it. "peak": maps are heat maps (squared error), the estimate is the
    mean over the 9^3 voxels around the highest, the confidence comes from its height.
    edge: cube edge in metres that the network was trained for.
    calibration: confidence = sigmoid(slope * logit(raw) + offset), fitted on held-out data (Platt 1999), so that of the
    joints of confidence p a share p lies within 10 mm.
    """

    TOLERANCE = 0.010

    def __init__(self, decode: Decode, edge: float, calibration: tuple[float, float] = (1.0, 0.0)) -> None:
        super().__init__()
        if decode not in ("peak", "softmax"):
            raise ValueError(f"decode must be 'peak' or 'softmax', is {decode!r}")
        self.decode = decode
        self.slope, self.offset = calibration
        self.set_edge(edge)

    def set_edge(self, edge: float) -> None:
        """Cubes of another edge (metres) are looked into, as of a person with larger or smaller hands."""
        self.radius = self.TOLERANCE / (edge / 2)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, J, G, G, G) maps to (B, J, 4) float32: x y z in cube coordinates and confidence 0..1."""
        maps = maps.float()
        if self.decode == "softmax":
            weights = torch.softmax(maps.flatten(2), dim=2).view(maps.shape)
            point = expectation(weights)
            raw = ball_mass(weights, point, self.radius)
        else:
            flat = maps.flatten(2)
            raw, best = flat.max(dim=2)
            near = self._window(best, maps.shape[-1])
            weights = near * maps.clamp(min=0)
            point = expectation(weights / weights.sum(dim=(2, 3, 4), keepdim=True).clamp(min=1e-12))
        raw = raw.clamp(1e-4, 1 - 1e-4)
        confidence = torch.sigmoid(self.slope * torch.log(raw / (1 - raw)) + self.offset)
        return torch.cat([point, confidence[..., None]], dim=2)

    @staticmethod
    def _window(best: Tensor, size: int, reach: int = 4) -> Tensor:
        """1 within `reach` voxels of a flat index along every axis, (B, J, size, size, size)."""
        index = torch.arange(size, device=best.device)
        axes = (best // (size * size), best // size % size, best % size)
        x, y, z = (((index - axis[..., None]).abs() <= reach).float() for axis in axes)
        return x[..., :, None, None] * y[..., None, :, None] * z[..., None, None, :]
