"""Figures that tell whether a data file is what it should be, and what looks wrong in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import permutations, product
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from tracker.errors import DataError
from trainer.data.sample import Sample, SampleSource

GRID: Final = 88
"""Voxels along an edge when occupied ones are counted, as in V2V-PoseNet."""
FEW_POINTS: Final = 100
FAR_MM: Final = 15.0
"""A joint inside a hand lies within about a finger's thickness of the surface that the camera sees."""
AXES: Final = "xyz"


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What is kept of one sample.

    voxels: occupied ones of 88^3. joints: (J, 3) cube coordinates. distance_mm: (J,) from each joint to the nearest
    point of the cube, NaN where the joint is not known. digest: equal for equal points and joints.
    """

    index: int
    edge_mm: float
    voxels: int
    joints: NDArray[np.float32]
    distance_mm: NDArray[np.float64]
    presence: bool
    mirrored: bool
    digest: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """What was found in a file: facts of the samples that could be read, and the errors of those that could not.

    total: samples in the file. misplaced: what the labels seem to need to lie on their points, None if they do.
    """

    total: int
    facts: tuple[Facts, ...]
    errors: tuple[str, ...]
    misplaced: str | None

    @property
    def distance_mm(self) -> NDArray[np.float64]:
        """Distances of all known joints from their nearest points, (n,) millimetres."""
        distance = np.concatenate([fact.distance_mm for fact in self.facts])
        return distance[np.isfinite(distance)]


def pick(total: int, most: int, seed: int = 0) -> NDArray[np.int64]:
    """The indices of a random part of a file, ascending; all of them if there are no more than `most`."""
    if total <= most:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, most, replace=False))


def inspect(samples: SampleSource, indices: Iterable[int]) -> Inspection:
    """Read samples and gather what there is to tell. Raises DataError if none of them can be read."""
    facts: list[Facts] = []
    errors: list[str] = []
    some: list[Sample] = []
    for index in indices:
        try:
            sample = samples[int(index)]
        except DataError as error:
            errors.append(str(error))
            continue
        facts.append(_facts(int(index), sample))
        if len(some) < 20 and sample.presence and len(_inside(sample.points)):
            some.append(sample)
    if not facts:
        raise DataError(errors[0] if errors else "there are no samples to inspect")
    found = Inspection(len(samples), tuple(facts), tuple(errors), None)
    distance = found.distance_mm
    if len(distance) and np.median(distance) > FAR_MM:
        return Inspection(found.total, found.facts, found.errors, _better_labels(some))
    return found


def describe(found: Inspection) -> list[str]:
    """The figures as lines of text, and after them a line that begins with "warning: " for all that looks wrong."""
    facts = found.facts
    joints = np.stack([fact.joints for fact in facts])
    hands = np.array([fact.presence for fact in facts])
    known: NDArray[np.bool_] = np.asarray(np.isfinite(joints).all(axis=2))
    outside: NDArray[np.bool_] = np.asarray((np.abs(joints) > 1).any(axis=2))
    voxels = np.array([fact.voxels for fact in facts])
    edges = np.array([fact.edge_mm for fact in facts])
    few = [fact.index for fact in facts if fact.voxels < FEW_POINTS]
    doubles = len(facts) - len({fact.digest for fact in facts})
    lines = [
        f"samples           {found.total} of {joints.shape[1]} joints"
        + (f"; figures over {len(facts)} of them" if len(facts) < found.total else ""),
        f"cube edge         {_range(edges, '.0f')} mm",
        f"occupied voxels   {voxels.mean():.0f} of {GRID}^3 in the mean, {_share(voxels, 5):.0f} and "
        f"{_share(voxels, 95):.0f} at 5 % and 95 %",
        f"few voxels        {_some(few)} with less than {FEW_POINTS}",
        f"without a hand    {1 - hands.mean():.1%}",
        f"left hands        {np.mean([fact.mirrored for fact in facts]):.1%}, given as their mirror images",
        f"same as others    {doubles or 'none'}",
    ]
    if known.any():
        spans = ", ".join(f"{axis} {_range(joints[known][:, i], '.2f')}" for i, axis in enumerate(AXES))
        distance = found.distance_mm
        lines += [
            f"labels            {spans}",
            f"outside the cube  {outside[known].mean():.2%} of the known joints",
            f"not known         {1 - known[hands].mean() if hands.any() else 0:.2%} of the joints of hands",
        ]
        if len(distance):
            lines.append(
                f"joint to point    {np.median(distance):.1f} mm in the median, {_share(distance, 95):.1f} at 95 %, "
                f"{distance.max():.1f} at most"
            )
    return lines + [f"warning: {text}" for text in _warnings(found, known, outside, hands, doubles)]


def _warnings(
    found: Inspection, known: NDArray[np.bool_], outside: NDArray[np.bool_], hands: NDArray[np.bool_], doubles: int
) -> Iterator[str]:
    if found.errors:
        yield f"{len(found.errors)} samples cannot be read; the first: {found.errors[0]}"
    if not known.any():
        yield "no joint is known in any of the samples: nothing can be learned from them"
        return
    distance = found.distance_mm
    if not len(distance):
        yield "no hand has a point in its cube: the voxels are empty"
    elif np.median(distance) > FAR_MM:
        yield (
            f"joints lie {np.median(distance):.0f} mm from their nearest point in the median, where less than "
            f"{FAR_MM:.0f} is usual; " + (found.misplaced or "look at a picture (--output), and at axes and units")
        )
    if outside[known].mean() > 0.02:
        yield f"{outside[known].mean():.0%} of the joints lie outside their cubes: a network cannot find them"
    if (~known[hands]).mean() > 0.5:
        yield "more than half of the joints are not known"
    empty = [fact.index for fact in found.facts if fact.presence and fact.voxels == 0]
    if empty:
        yield f"hands without a single point in the cube: {_some(empty)}"
    if doubles > 0.01 * len(found.facts):
        yield f"{doubles} samples are the same as others"


def _facts(index: int, sample: Sample) -> Facts:
    points = _inside(sample.points)
    voxel = np.floor((points + 1) * (GRID / 2)).astype(np.int64)
    known = np.isfinite(sample.joints).all(axis=1)
    distance = np.full(len(sample.joints), np.nan)
    if len(points) and known.any():
        distance[known] = cKDTree(points).query(sample.joints[known])[0] * sample.edge / 2 * 1000
    digest = hashlib.blake2b(sample.points.tobytes() + sample.joints.tobytes(), digest_size=16).digest()
    return Facts(
        index=index,
        edge_mm=sample.edge * 1000,
        voxels=len(np.unique(voxel @ np.array([GRID * GRID, GRID, 1]))),
        joints=sample.joints,
        distance_mm=distance,
        presence=sample.presence,
        mirrored=sample.mirrored,
        digest=digest,
    )


def _inside(points: NDArray[np.float32]) -> NDArray[np.float32]:
    return points[(np.abs(points) < 1).all(axis=1)]


def _better_labels(some: list[Sample]) -> str | None:
    """What to do to labels far from their points: the change of axes or scale that brings them within reach, if any."""
    trees = [(cKDTree(_inside(sample.points)), sample) for sample in some]

    def median_mm(order: tuple[int, ...], signs: tuple[int, ...], rescale: bool) -> float:
        found = []
        for tree, sample in trees:
            labels = sample.joints[np.isfinite(sample.joints).all(axis=1)]
            labels = (2 * labels - 1 if rescale else labels)[:, order] * np.array(signs)
            found.append(tree.query(labels)[0] * sample.edge / 2 * 1000)
        return float(np.median(np.concatenate(found)))

    if not trees:
        return None
    changes = product(permutations(range(3)), product((1, -1), repeat=3), (False, True))
    distance, order, signs, rescale = min((median_mm(*change), *change) for change in changes)
    if distance > FAR_MM:
        return None
    axes = " ".join(("-" if sign < 0 else "") + AXES[axis] for axis, sign in zip(order, signs))
    scale = ", scaled from [0, 1] to [-1, 1]" if rescale else ""
    return f"as {axes}{scale} it would be {distance:.0f} mm: the labels' axes or scale seem to differ from the voxels'"


def _range(values: NDArray[np.floating], form: str) -> str:
    low, high = format(values.min(), form), format(values.max(), form)
    return low if low == high else f"{low} to {high}"


def _share(values: NDArray[np.floating] | NDArray[np.int64], percent: float) -> float:
    return float(np.percentile(values, percent))


def _some(indices: list[int]) -> str:
    """`none`, or how many and the first of them."""
    if not indices:
        return "none"
    return f"{len(indices)} (" + ", ".join(map(str, indices[:5])) + (", ...)" if len(indices) > 5 else ")")
