"""A stream of simulated hands: sample i of a seed is always the same, on any number of processes."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import DepthFrame, Intrinsics
from tracker.hand.cube import DEFAULT_EDGE, Cube, cube_center, triple
from tracker.hand.skeleton import JOINT_COUNT
from tracker.simulation.gestures import random_pose
from tracker.simulation.hand import HandModel, RiggedHand, load_asset, random_shape
from tracker.simulation.noise import cheap_noise
from tracker.simulation.render import Mesh, render
from tracker.simulation.rotations import random_rotation, turn
from trainer.data.sample import Sample

IDENTITY_RUN = 64
"""Consecutive samples share a hand: fitting the mesh to a shape costs as much as a sample."""
MOST_POINTS = 6000
FINEST = 700.0
"""Pixels per radian and metre of distance at most: 1.4 mm a pixel."""
REACH = 1.35
"""Points are kept this far out (cube coordinates), so that augmentation can shift the cube."""


class SyntheticSamples:
    """`count` samples of simulated hands; another seed gives others.

    others: share of cubes that hold no hand but a head, a shoulder or a forearm.
    views: how often each comes, one after another; augmentation makes them differ, and rendering costs a share.
    """

    joints = JOINT_COUNT

    def __init__(
        self, count: int, seed: int = 0, edge: float = DEFAULT_EDGE, others: float = 0.05, views: int = 1
    ) -> None:
        self.count, self.seed, self.edge, self.others, self.views = count, seed, edge, others, views
        self._last: tuple[int, Sample] | None = None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        """Any index from 0 up; beyond the length too, for later epochs of a stream that never repeats."""
        number = index // self.views
        if self._last is None or self._last[0] != number:
            self._last = number, self._make(number)
        return self._last[1]

    def _make(self, index: int) -> Sample:
        rng = np.random.default_rng([self.seed, index])
        hand = _identity(self.seed, index // IDENTITY_RUN)
        for _ in range(20):
            sample = self._other(rng) if rng.random() < self.others else self._hand(hand, rng)
            if len(sample.points) >= 150:
                return sample
        raise RuntimeError(f"sample {index} of seed {self.seed} stays empty")

    def _hand(self, hand: RiggedHand, rng: np.random.Generator) -> Sample:
        vertices, joints = hand.pose(random_pose(rng, hand), _view(rng))
        intrinsics, place = _camera(rng)
        shift = place - cube_center(joints)
        vertices, joints = vertices + shift.astype(np.float32), joints + shift.astype(np.float32)
        cube = Cube(triple(cube_center(joints)), self.edge)
        meshes = [Mesh(vertices, hand.faces)]
        if rng.random() < 0.2:
            meshes.append(_body_near(cube.center, rng, behind=float(rng.uniform(0.06, 0.2))))
        points = _seen(meshes, intrinsics, cube, rng)
        if rng.random() < 0.6:
            points = _cut_forearm(points, cube, joints, float(rng.uniform(0.0, 0.1)))
        return Sample(points, cube.normalise(joints), self.edge, center=cube.center)

    def _other(self, rng: np.random.Generator) -> Sample:
        intrinsics, place = _camera(rng)
        cube = Cube(triple(place), self.edge)
        points = _seen([_body_near(cube.center, rng, behind=0.0)], intrinsics, cube, rng)
        return Sample(points, np.full((JOINT_COUNT, 3), np.nan, np.float32), self.edge, False, cube.center)


@lru_cache(maxsize=4)
def _identity(seed: int, number: int) -> RiggedHand:
    rng = np.random.default_rng([seed, number, 1])
    return HandModel.load().rig(random_shape(rng))


def _view(rng: np.random.Generator) -> NDArray[np.float64]:
    """How the hand is turned: half of them held up before the camera, half anyhow."""
    if rng.random() < 0.5:
        return random_rotation(rng)
    azimuth, elevation, roll = np.radians(rng.normal(0, (55, 30, 45)))
    back = np.pi * (rng.random() < 0.35)
    return turn(2, roll) @ turn(0, elevation) @ turn(1, azimuth + back)


def _camera(rng: np.random.Generator) -> tuple[Intrinsics, NDArray[np.float64]]:
    """A pinhole camera and a place before it where a hand may be."""
    focal = float(rng.choice([240.0, 365.0, 385.0, 425.0, 475.0, 610.0]) * rng.uniform(0.95, 1.05))
    distance = float(np.clip(rng.normal(0.5, 0.17), 0.24, 1.0))
    # Pixels much finer than the voxels only cost time.
    focal = min(focal, FINEST * distance)
    slope = rng.uniform(-0.55, 0.55, 2)
    width, height = int(focal * 1.5), int(focal * 1.5)
    intrinsics = Intrinsics(width, height, focal, focal, width / 2, height / 2)
    return intrinsics, np.array([slope[0] * distance, slope[1] * distance, distance])


def _body_near(center: tuple[float, float, float], rng: np.random.Generator, behind: float) -> Mesh:
    """Head and torso, moved so that a random point of their front lies `behind` metres beyond the centre."""
    asset: dict[str, Any] = load_asset()
    vertices = asset["body_vertices"].astype(np.float64) @ turn(1, float(rng.uniform(-1, 1))).T
    vertices = vertices @ turn(2, float(rng.normal(0, 0.3))).T * rng.uniform(0.85, 1.1)
    front = vertices[vertices[:, 2] < np.quantile(vertices[:, 2], 0.4)]
    point = front[rng.integers(len(front))]
    away = np.array([rng.normal(0, 0.03), rng.normal(0, 0.03), behind])
    return Mesh((vertices - point + np.asarray(center) + away).astype(np.float32), asset["body_faces"].astype(np.int32))


def _seen(meshes: list[Mesh], intrinsics: Intrinsics, cube: Cube, rng: np.random.Generator) -> NDArray[np.float32]:
    """The points of a cube that a noisy camera sees, cube coordinates, some way beyond its faces too."""
    rows, columns = Cube(cube.center, cube.edge * REACH).window(intrinsics)
    if rows.stop <= rows.start or columns.stop <= columns.start:
        return np.empty((0, 3), np.float32)
    depth = render(meshes, intrinsics, rows, columns)
    scale = float(rng.choice([0.001, 0.001, 0.000125, 0.0001]))
    baseline = float(rng.uniform(0.018, 0.095))
    counts = cheap_noise(depth, intrinsics.fx, rng, baseline=baseline, depth_scale=scale)
    window = DepthFrame(
        counts,
        scale,
        Intrinsics(
            columns.stop - columns.start,
            rows.stop - rows.start,
            intrinsics.fx,
            intrinsics.fy,
            intrinsics.cx - columns.start,
            intrinsics.cy - rows.start,
        ),
        0,
        0,
        0,
    )
    points = window.points()[counts > 0]
    coordinates = cube.normalise(points)
    coordinates = coordinates[(np.abs(coordinates) < REACH).all(axis=1)]
    if len(coordinates) > MOST_POINTS:
        coordinates = coordinates[rng.choice(len(coordinates), MOST_POINTS, replace=False)]
    return coordinates


def _cut_forearm(
    points: NDArray[np.float32], cube: Cube, joints: NDArray[np.float32], beyond: float
) -> NDArray[np.float32]:
    """Leaves out what lies more than `beyond` metres past the wrist, as a wrist cut in the live tracker does."""
    wrist, knuckle = cube.normalise(joints[[0, 9]])
    along = (wrist - knuckle) / np.linalg.norm(wrist - knuckle)
    return points[(points - wrist) @ along < beyond / (cube.edge / 2)]
