"""Coarse depth images with a label a pixel, from simulated situations: what the segmentation network learns from."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from tracker.errors import DataError
from tracker.simulation.situations import Shot, Situation
from tracker.tracking.coarse import coarse_depth, coarse_grid, pick
from trainer.interrupts import interrupts_ignored, serve_parent

SHOTS: Final = 6
"""Images of one situation: to set it up costs as much as some images."""
SECONDS: Final = 60.0
"""Images are taken at random times up to here."""
RUN_SEEDS: Final = 10_000_000
"""Situations that a run may use: those of run 1 begin here."""
RUNS: Final = 80
DEV_SEEDS: Final = range(850_000_000, 850_001_000)
"""Situations to judge on while training; the frozen test set has others still."""
FINER: Final = 0.2
"""Share of images that are rendered finer and thinned out as the live tracker does, instead of rendered coarse."""


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """depth: (H, W) float32, metres, 0 = no reading. labels: (H, W) uint8, 0 else, 1 right, 2 left, 3 arm.
    focal: in pixels of this image.
    """

    depth: NDArray[np.float32]
    labels: NDArray[np.uint8]
    focal: float


def labelled(shot: Shot, width: int, height: int) -> Labelled:
    """A shot as the network sees it."""
    grid = coarse_grid(shot.frame.intrinsics, width, height)
    depth = coarse_depth(shot.frame, grid)
    labels = pick(shot.labels, grid)
    return Labelled(depth, labels.astype(np.uint8), grid.intrinsics.fx)


def shots(seed: int, count: int, finest: float, finer: float = FINER) -> list[Shot]:
    """`count` shots of the situation of a seed, rendered at most `finest` pixels wide or high in proportion 4 : 3.

    finer: share of them that are rendered at twice that size.
    """
    situation = Situation(seed)
    rng = np.random.default_rng([seed, 77])
    k = situation.camera.intrinsics
    coarse = min(finest / k.width, finest * 3 / 4 / k.height, 1.0)
    taken = []
    for _ in range(count):
        scale = min(2 * coarse, 1.0) if rng.random() < finer else coarse
        taken.append(situation.shot(float(rng.uniform(0, SECONDS)), scale))
    return taken


class SituationSamples(Dataset[Any]):
    """Item i: the images of the i-th situation of a run, as tensors (n, H, W) depth, (n, H, W) labels, (n,) focal."""

    def __init__(self, seed: int, width: int, height: int) -> None:
        if not 0 <= seed < RUNS:
            raise DataError(f"--seed must be from 0 to {RUNS - 1}, is {seed}")
        self.first, self.width, self.height = seed * RUN_SEEDS, width, height

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        found = [labelled(shot, self.width, self.height) for shot in shots(self.first + index, SHOTS, self.width)]
        return (
            torch.from_numpy(np.stack([one.depth for one in found])),
            torch.from_numpy(np.stack([one.labels for one in found])),
            torch.tensor([one.focal for one in found]),
        )


class _From:
    """0, 1, 2, ... from a number on, without end."""

    def __init__(self, first: int) -> None:
        self.first = first

    def __iter__(self) -> Generator[int, None, None]:
        number = self.first
        while True:
            yield number
            number += 1


def stream(
    samples: SituationSamples, first: int, workers: int
) -> Generator[tuple[torch.Tensor, torch.Tensor, torch.Tensor], None, None]:
    """The items of a run from number `first` on, made by `workers` other processes (0: by this one), in order."""
    # A worker that dies of Ctrl-C would break the checkpoint that is then written.
    with interrupts_ignored():
        loader = DataLoader(
            samples,
            batch_size=None,
            sampler=_From(first),  # type: ignore[arg-type]
            num_workers=workers,
            prefetch_factor=8 if workers else None,
            multiprocessing_context="spawn" if workers else None,
            worker_init_fn=serve_parent,
        )
        ready = iter(loader)
    while True:
        try:
            yield next(ready)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise DataError(
                "a process that prepares samples was ended from outside (out of memory?); try fewer --workers"
            ) from error
