"""One training sample, and a batch of them: points in a cube with the joints that belong to them."""

from __future__ import annotations

import math
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
    center: of the cube, metres, camera frame; None where the file does not tell. mirrored: a left hand, whose points
    and joints are given as those of its mirror image in the plane x = center x. name: of the frame in its data set.
    """

    points: NDArray[np.float32]
    joints: NDArray[np.float32]
    edge: float
    presence: bool = True
    center: tuple[float, float, float] | None = None
    mirrored: bool = False
    name: str = ""


class SampleSource(Protocol):
    """Where samples come from: anything with a length, the number of joints, and samples by index."""

    joints: int

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """B samples.

    points: (P, 3) cube coordinates. sample: (P,) int64, which sample a point is of, ascending. joints: (B, J, 3).
    edge: (B,) metres. presence: (B,) float. ray: (B, 3), unit vectors from the camera to the cube's centre, mirrored
    as the sample is; the z axis where that is not known. key: (B,) int64, what the random numbers of each sample's
    augmentation are made from, so that they do not depend on what else is in the batch, nor on the device.
    """

    points: Tensor
    sample: Tensor
    joints: Tensor
    edge: Tensor
    presence: Tensor
    ray: Tensor
    key: Tensor

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        return Batch(*(part.to(device, non_blocking=True) for part in self._parts()))

    def pin_memory(self) -> Batch:
        """The batch in memory that a GPU can read while the processor goes on."""
        return Batch(*(part.pin_memory() for part in self._parts()))

    def _parts(self) -> tuple[Tensor, ...]:
        return (self.points, self.sample, self.joints, self.edge, self.presence, self.ray, self.key)

    def __len__(self) -> int:
        return len(self.edge)


def rays(center: Tensor, mirrored: Tensor) -> Tensor:
    """`Batch.ray` of samples. center: (B, 3) metres, camera frame, NaN where not known. mirrored: (B,), 0 or 1.

    Nothing is seen that is not before the camera: such a centre is not known either.
    """
    away = torch.stack([torch.where(mirrored > 0, -center[:, 0], center[:, 0]), center[:, 1], center[:, 2]], dim=1)
    known = away.isfinite().all(dim=1) & (away[:, 2] > 0)
    ahead = torch.tensor([0.0, 0.0, 1.0], device=center.device)
    return torch.nn.functional.normalize(torch.where(known[:, None], away, ahead), dim=1)


def collate(samples: Sequence[Sample], keys: Sequence[int] | None = None) -> Batch:
    """Samples of any number of points to one batch. keys: see `Batch`; 0, 1, 2, ... if None."""
    counts = torch.tensor([len(sample.points) for sample in samples])
    return Batch(
        points=torch.from_numpy(np.concatenate([sample.points for sample in samples]).astype(np.float32, copy=False)),
        sample=torch.repeat_interleave(torch.arange(len(samples)), counts),
        joints=torch.from_numpy(np.stack([sample.joints for sample in samples]).astype(np.float32, copy=False)),
        edge=torch.tensor([sample.edge for sample in samples], dtype=torch.float32),
        presence=torch.tensor([float(sample.presence) for sample in samples]),
        ray=rays(
            torch.tensor([sample.center or (math.nan,) * 3 for sample in samples]),
            torch.tensor([sample.mirrored for sample in samples]),
        ),
        key=torch.arange(len(samples)) if keys is None else torch.tensor(keys, dtype=torch.int64),
    )
