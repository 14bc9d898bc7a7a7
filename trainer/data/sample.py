"""One training sample, and a batch of them: points in a cube with the joints that belong to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The points of one cube.

    points: (n, 3) float32, cube coordinates x y z; points a little outside [-1, 1] are welcome, augmentation may bring
    them in. joints: (J, 3) float32, cube coordinates, NaN where not known. edge: cube edge in metres.
    presence: False where the cube holds no hand (its joints are all NaN).
    """

    points: NDArray[np.float32]
    joints: NDArray[np.float32]
    edge: float
    presence: bool = True


class SampleSource(Protocol):
    """Where samples come from: anything with a length, the number of joints, and samples by index."""

    joints: int

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """B samples: points (P, 3), sample (P,) int64 telling whose; joints (B, J, 3); edge (B,); presence (B,) float."""

    points: Tensor
    sample: Tensor
    joints: Tensor
    edge: Tensor
    presence: Tensor

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        parts = (self.points, self.sample, self.joints, self.edge, self.presence)
        return Batch(*(part.to(device, non_blocking=True) for part in parts))

    def __len__(self) -> int:
        return len(self.edge)


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples of any number of points to one batch."""
    counts = torch.tensor([len(sample.points) for sample in samples])
    return Batch(
        points=torch.from_numpy(np.concatenate([sample.points for sample in samples]).astype(np.float32, copy=False)),
        sample=torch.repeat_interleave(torch.arange(len(samples)), counts),
        joints=torch.from_numpy(np.stack([sample.joints for sample in samples]).astype(np.float32, copy=False)),
        edge=torch.tensor([sample.edge for sample in samples], dtype=torch.float32),
        presence=torch.tensor([float(sample.presence) for sample in samples]),
    )
