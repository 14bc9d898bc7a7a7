"""What every inference engine keeps to: occupancy grids in, joints and presence out, as arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from tracker.engine.sample import hand_like_grids
from tracker.errors import EngineError

if TYPE_CHECKING:
    from torch import Tensor

    from tracker.network.hand_network import HandNetworkConfig

EngineName = Literal["torch", "compile", "openvino", "tensorrt"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)

LARGEST_BATCH = 8
"""Every batch size is warmed up, and more hands than this before one camera are a mistake."""

Result = tuple[NDArray[np.float32], NDArray[np.float32]]
EngineT = TypeVar("EngineT", bound="Engine")


class Engine(ABC):
    """A network made ready to run. It is warm when its constructor returns. Use it from one thread at a time.

    name: one of `ENGINES`. device: "cpu" or "cuda:N", where the network runs.
    voxel_device: the torch device on which occupancy grids cost least to hand over.
    max_batch: the most grids in one call.
    """

    name: EngineName

    def __init__(self, config: HandNetworkConfig, device: str, max_batch: int) -> None:
        if not 1 <= max_batch <= LARGEST_BATCH:
            raise ValueError(f"max_batch must be from 1 to {LARGEST_BATCH}, is {max_batch}")
        self.config = config
        self.device = device
        self.max_batch = max_batch

    @property
    def voxel_device(self) -> str:
        """The device itself, unless an engine says otherwise."""
        return self.device

    @property
    def size(self) -> int:
        """Edge N of the occupancy grids in voxels."""
        return self.config.v2v.input_size

    def run(self, occupancy: Tensor | NDArray[np.uint8]) -> Result:
        """The joints in occupancy grids.

        occupancy: (B, N, N, N) uint8, axes x y z, 0 or 1, contiguous, B from 0 to `max_batch`; a tensor on any
        device (`voxel_device` saves a copy) or an array. Returns joints (B, J, 4) float32, x y z in cube coordinates
        and confidence 0..1, and presence (B,) float32, 0..1; both belong to the caller.
        Raises ValueError for a grid of another shape or type.
        """
        import torch

        grids = torch.as_tensor(occupancy)
        if grids.dtype != torch.uint8 or grids.dim() != 4 or grids.shape[1:] != (self.size,) * 3:
            raise ValueError(
                f"want uint8 grids (B, {self.size}, {self.size}, {self.size}), got {grids.dtype} {tuple(grids.shape)}"
            )
        if len(grids) > self.max_batch:
            raise ValueError(
                f"{len(grids)} grids in one call, but the engine was opened with max_batch {self.max_batch}"
            )
        if len(grids) == 0:
            return np.empty((0, self.config.v2v.joints, 4), np.float32), np.empty(0, np.float32)
        return self._infer(grids.contiguous())

    @abstractmethod
    def _infer(self, occupancy: Tensor) -> Result:
        """`run` for checked, contiguous grids with B from 1 to `max_batch`, on any device."""

    def _warm_up(self) -> None:
        """Run every batch size twice, so that nothing is left to be chosen or compiled in the first frame.

        Raises EngineError if the network overflows, as it can where an engine computes in float16.
        """
        import torch

        grids = torch.as_tensor(hand_like_grids(self.max_batch, self.size), device=self.voxel_device)
        for batch in range(1, self.max_batch + 1):
            self._infer(grids[:batch])
            joints, presence = self._infer(grids[:batch])
            if not (np.isfinite(joints).all() and np.isfinite(presence).all()):
                raise EngineError(
                    f"the engine {self.name} on {self.device} gives numbers that are not finite: were the weights "
                    "damaged in training? If --engine torch --device cpu runs them, use that"
                )

    @abstractmethod
    def close(self) -> None:
        """Give memory and device back. Safe to call twice; `run` must not be called afterwards."""

    def __enter__(self: EngineT) -> EngineT:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
