"""Hands in whole situations, cropped as the live tracker crops them: sample i of a seed is always the same."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import DepthFrame, HandTruth, Intrinsics
from tracker.errors import DataError
from tracker.hand.cube import DEFAULT_EDGE, Cube, cube_center
from tracker.hand.skeleton import JOINT_COUNT
from tracker.simulation.cameras import CameraModel, scaled
from tracker.simulation.sensing import sense
from tracker.simulation.situations import ARM, LEFT, RIGHT, TEST_SEEDS, Part, Situation, draw
from tracker.tracking.regions import isolate
from trainer.data.sample import Sample
from trainer.data.synthetic import FINEST, MOST_POINTS, REACH, SyntheticSamples

SHOTS: Final = 8
"""Samples of one situation, one after another: setting it up costs as much as two of them."""
FIRST_SITUATION: Final = 1_000_000
"""Situations of seed s begin at s times this."""
RESERVED: Final = range(800_000_000, TEST_SEEDS.start + 100_000_000)
"""Situations that training leaves to judging, calibration and the frozen test set."""
FEWEST_POINTS: Final = 150
LEAST_INSIDE: Final = 0.4
"""Share of the joints that must be inside the image."""
LEAST_SEEN: Final = 0.4
"""Share of the joints that must have a visible surface within 3 cm."""


class SceneSamples(SyntheticSamples):
    """`count` samples of hands in situations, right ones and mirrored left ones; another seed gives others.

    plain: share that are hands turned anyhow without a person, as in `SyntheticSamples`: no pose should be new.
    others: share of cubes that hold no hand. views: how often each comes, one after another.
    Raises DataError for a seed whose situations others need: the frozen test set, and what judges and calibrates.
    """

    def __init__(
        self,
        count: int,
        seed: int = 0,
        edge: float = DEFAULT_EDGE,
        others: float = 0.05,
        views: int = 1,
        plain: float = 0.2,
    ) -> None:
        if FIRST_SITUATION * seed in RESERVED:
            raise DataError(
                f"scenes of seed {seed} (twice the --seed of fit) may be those that networks are judged by: take a "
                f"seed below {RESERVED.start // FIRST_SITUATION} or from {RESERVED.stop // FIRST_SITUATION} up"
            )
        super().__init__(count, seed, edge, others, views)
        self.plain = plain

    def _make(self, number: int) -> Sample:
        rng = np.random.default_rng([self.seed, number, 2])
        if rng.random() < self.plain:
            return super()._make(number)
        situation = _situation(FIRST_SITUATION * self.seed + number // SHOTS % FIRST_SITUATION)
        for _ in range(6):
            sample = self._shot(situation, rng)
            if sample is not None:
                return sample
        return super()._make(number)

    def _shot(self, situation: Situation, rng: np.random.Generator) -> Sample | None:
        parts, hands = situation.at(float(rng.uniform(0, 60)))
        if rng.random() < self.others:
            place = _elsewhere(parts, hands, situation, rng)
            return None if place is None else self._cut(situation, parts, None, place, rng)
        acting = [hand for hand, arm in zip(hands, situation.stage.arms) if arm.acts]
        if not acting:
            return None
        hand = acting[int(rng.integers(len(acting)))]
        return self._cut(situation, parts, hand, cube_center(hand.joints), rng)

    def _cut(
        self,
        situation: Situation,
        parts: Sequence[Part],
        hand: HandTruth | None,
        place: NDArray[np.floating],
        rng: np.random.Generator,
    ) -> Sample | None:
        """The sample in a cube at a place, None if too little is seen there."""
        x, y, z = (float(value) for value in place)
        if not situation.camera.near < z < situation.camera.far:
            return None
        camera = situation.camera
        # Pixels much finer than the voxels only cost time.
        factor = FINEST * z / camera.intrinsics.fx
        if factor < 1:
            camera = scaled(camera, factor)
        k = camera.intrinsics
        if hand is not None and _inside(hand, k) < LEAST_INSIDE:
            return None
        side = (hand.side if hand is not None else None) or "right"
        cube = Cube((x, y, z), self.edge, side)
        rows, columns = Cube(cube.center, cube.edge * REACH).window(k)
        if rows.stop - rows.start < 8 or columns.stop - columns.start < 8:
            return None
        frame, labels = _window(situation, parts, camera, rows, columns, rng)
        keep = _mask(frame, labels, cube, hand, rng)
        points = frame.points()[keep & (frame.depth > 0)]
        coordinates = cube.normalise(points)
        coordinates = coordinates[(np.abs(coordinates) < REACH).all(axis=1)]
        if len(coordinates) < FEWEST_POINTS or (hand is not None and not _is_seen(points, hand)):
            return None
        if len(coordinates) > MOST_POINTS:
            coordinates = coordinates[rng.choice(len(coordinates), MOST_POINTS, replace=False)]
        unknown = np.full((JOINT_COUNT, 3), np.nan, np.float32)
        joints = unknown if hand is None else cube.normalise(hand.joints)
        return Sample(coordinates, joints, self.edge, hand is not None, cube.center, side == "left")


@lru_cache(maxsize=2)
def _situation(seed: int) -> Situation:
    return Situation(seed)


def _inside(hand: HandTruth, k: Intrinsics) -> float:
    """Share of the joints that are before the camera and inside the image."""
    ahead = hand.joints[hand.joints[:, 2] > 0.05]
    pixels = k.project(ahead)
    return float(((pixels >= 0) & (pixels < (k.width, k.height))).all(axis=1).sum() / len(hand.joints))


def _is_seen(points: NDArray[np.float32], hand: HandTruth) -> bool:
    """Whether some surface is left at LEAST_SEEN of the joints."""
    few = points[:: max(len(points) // 400, 1)]
    away = np.linalg.norm(few[:, None] - hand.joints, axis=2).min(axis=0)
    return bool((away < 0.03).mean() >= LEAST_SEEN)


def _elsewhere(
    parts: Sequence[Part], hands: Sequence[HandTruth], situation: Situation, rng: np.random.Generator
) -> NDArray[np.floating] | None:
    """A point of a surface that is no hand and far enough from every hand, camera frame; None if none comes up."""
    meshes = [part.mesh for part in parts if part.label not in (RIGHT, LEFT)] + list(situation.still)
    for _ in range(10):
        vertices = meshes[int(rng.integers(len(meshes)))].vertices
        place = np.asarray(vertices[int(rng.integers(len(vertices)))], np.float64)
        place = place + rng.normal(0, 0.03, 3)
        near = [float(np.linalg.norm(cube_center(hand.joints) - place)) for hand in hands]
        if place[2] < situation.camera.far and min(near, default=1.0) > 0.14:
            return place
    return None


def _window(
    situation: Situation,
    parts: Sequence[Part],
    camera: CameraModel,
    rows: slice,
    columns: slice,
    rng: np.random.Generator,
) -> tuple[DepthFrame, NDArray[np.uint8]]:
    """A window of the image as a frame of its own, and the labels of its pixels."""
    k = camera.intrinsics
    drawn = draw(parts, k, situation.background(k, rows, columns), rows, columns)
    counts = sense(camera, drawn.lit, rng)
    height, width = counts.shape
    window = Intrinsics(width, height, k.fx, k.fy, k.cx - columns.start, k.cy - rows.start)
    return DepthFrame(counts, camera.depth_scale, window, 0, 0, 0), drawn.labels


def _mask(
    frame: DepthFrame,
    labels: NDArray[np.uint8],
    cube: Cube,
    hand: HandTruth | None,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """The pixels that the live tracker would keep, with its kinds of errors."""
    way = rng.random()
    if hand is None or way < 0.12:  # nothing was told apart
        return np.ones(labels.shape, np.bool_)
    if way < 0.4:  # kept to by the last joints, which are a frame old and not exact
        moved = hand.joints + rng.normal(0, 0.012, 3) + rng.normal(0, 0.006, hand.joints.shape)
        return isolate(frame, cube, moved.astype(np.float32))
    own = RIGHT if hand.side == "right" else LEFT
    # Labels are coarse, and wrong in patches along outlines.
    cell = int(rng.integers(1, 6))
    coarse = np.ascontiguousarray(labels[::cell, ::cell])
    if rng.random() < 0.7:
        size = (2 * int(rng.integers(1, 3)) + 1,) * 2
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, size)
        ours = (coarse == own).astype(np.uint8)
        ours = cv2.dilate(ours, kernel) if rng.random() < 0.6 else cv2.erode(ours, kernel)
        coarse = np.where(ours > 0, np.uint8(own), np.where(coarse == own, np.uint8(0), coarse))
    grown = cv2.resize(coarse, (labels.shape[1], labels.shape[0]), interpolation=cv2.INTER_NEAREST)
    keep = grown == own
    depth = frame.metres()
    keep &= np.abs(depth - float(np.median(hand.joints[:, 2]))) < 0.15
    # Some of the forearm stays, and now and then a patch of what is behind.
    wrist, knuckle = hand.joints[0], hand.joints[9]
    along = (wrist - knuckle) / np.linalg.norm(wrist - knuckle)
    beyond = (frame.points() - wrist) @ along
    left = float(rng.uniform(-0.01, 0.1))
    keep |= (grown == ARM) & (beyond < left) & (beyond > -0.02) & (np.abs(depth - wrist[2]) < 0.09)
    return keep & (beyond < max(left, 0.0) + 0.02)
