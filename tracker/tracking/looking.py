"""A look into cubes of a frame: their points, voxels of these, and what the network says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Final

import numpy as np
import torch

from tracker.camera.frame import DepthFrame
from tracker.engine import Engine
from tracker.hand.cube import crop
from tracker.hand.voxels import voxelise
from tracker.tracking.hypotheses import Candidate, Estimate, Pair, pairs

FEWEST_POINTS: Final = 80
"""A cube with fewer points than this holds nothing."""


class Looker:
    """Runs a network on candidates."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        shape = (engine.max_batch, *(engine.size,) * 3)
        self._grids = torch.zeros(shape, dtype=torch.uint8, device=engine.voxel_device)

    def __call__(
        self, frame: DepthFrame, candidates: Sequence[Candidate], timed: Callable[[str], AbstractContextManager[None]]
    ) -> list[Pair]:
        """The estimates of candidates that hold enough points. timed: takes the time of a stage, by its name."""
        with timed("voxelise"):
            clouds = [(candidate, crop(frame, candidate.cube, candidate.mask)) for candidate in candidates]
        clouds = [(candidate, cloud) for candidate, cloud in clouds if len(cloud) >= FEWEST_POINTS]
        estimates = []
        for start in range(0, len(clouds), self._engine.max_batch):
            several = clouds[start : start + self._engine.max_batch]
            with timed("voxelise"), _one_thread():
                sample = torch.repeat_interleave(torch.tensor([len(cloud) for _, cloud in several]))
                points = torch.from_numpy(np.concatenate([cloud for _, cloud in several]))
                grids = self._grids[: len(several)]
                voxelise(points.to(grids.device), sample.to(grids.device), len(several), self._engine.size, out=grids)
            with timed("network"):
                joints, presence = self._engine.run(grids)
            for (candidate, _), values, present in zip(several, joints, presence):
                metres = candidate.cube.to_camera(values[:, :3])
                estimates.append(Estimate(candidate, metres, values[:, 3], float(present)))
        return pairs(estimates)


@contextmanager
def _one_thread() -> Iterator[None]:
    """PyTorch on one thread: waking others takes longer than a hand's voxels, and they get in the engine's way."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
