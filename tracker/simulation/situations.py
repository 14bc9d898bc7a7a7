"""Whole situations as a depth camera sees them: a person or only arms, a room with things, and one of many cameras.

Everything about a situation is a function of its seed. Networks are trained on them and judged on others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import DepthFrame, HandTruth, Intrinsics
from tracker.hand.skeleton import FLESH
from tracker.simulation.arms import UPPER_ARM, palm_rotation, reach
from tracker.simulation.cameras import CameraModel, random_camera, scaled
from tracker.simulation.gestures import GESTURES, Pose, random_pose
from tracker.simulation.hand import HandModel, RiggedHand, random_shape
from tracker.simulation.people import random_person, sleeve, turned, upper_arm, watch
from tracker.simulation.render import NEAR, Mesh, render
from tracker.simulation.scene import ARRIVED, on_the_way
from tracker.simulation.sensing import sense
from tracker.simulation.stage import ArmPlan, draw_kind, set_stage
from tracker.simulation.surroundings import surroundings
from tracker.simulation.things import held

ELSE, RIGHT, LEFT, ARM = 0, 1, 2, 3
"""Labels of pixels. An arm is any arm from the wrist up, with its sleeve and watch."""

TEST_SEEDS: Final = range(900_000_000, 900_001_000)
"""Of the frozen test set; training never uses them."""

FRAMES_PER_SECOND: Final = 30
_FLESH: Final = np.array(FLESH)
POSE_SECONDS: Final = 1.3
"""Time from one pose to the next."""
INSIDE: Final = 0.6
"""Share of the joints that must be inside the image for a hand to count."""
SEEN: Final = 0.3
"""Share of the joints that must not be hidden for a hand to count."""
_HANDS: Final = {"right": RIGHT, "left": LEFT}


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """A frame of a situation.

    frame: with the truth of the hands that are mostly inside the image and of which enough is seen.
    labels: (h, w) uint8, ELSE, RIGHT, LEFT or ARM for each pixel of the scene before the sensor's noise.
    hidden: (21,) bool for each hand of the truth, joints that are behind something or outside the image.
    partial: the other hands of which something is in the image; finding them is neither right nor wrong.
    """

    frame: DepthFrame
    labels: NDArray[np.uint8]
    hidden: tuple[NDArray[np.bool_], ...]
    partial: tuple[HandTruth, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A mesh in the camera frame and the label of its pixels."""

    mesh: Mesh
    label: int


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """A window of a scene.

    depth: (h, w) float32 metres, 0 where there is nothing. labels: (h, w) uint8. dull: (h, w) bool, what swallows the
    camera's light.
    """

    depth: NDArray[np.float32]
    labels: NDArray[np.uint8]
    dull: NDArray[np.bool_]

    @property
    def lit(self) -> NDArray[np.float32]:
        """The depth of what the camera can see."""
        return np.where(self.dull, np.float32(0), self.depth)


class Situation:
    """What one camera sees of one person who does one kind of thing.

    seed: decides everything that is not given. kind: one of `tracker.simulation.stage.KINDS`, else ValueError.
    """

    def __init__(self, seed: int, kind: str | None = None, camera: CameraModel | None = None) -> None:
        rng = np.random.default_rng([seed, 41])
        self.seed = seed
        drawn_kind, drawn_camera = draw_kind(rng), random_camera(rng)
        self.kind, self.camera = kind or drawn_kind, camera or drawn_camera
        person = random_person(rng, sitting=True if self.kind == "desk" else None)
        self.stage = set_stage(rng, self.kind, person.size, self.camera.near, self.camera.far, self.camera.intrinsics)
        self.person = turned(person, self.stage.rotation, self.stage.translation)
        shape = random_shape(rng)
        self._hands = {arm.side: HandModel.load().rig(shape, arm.side) for arm in self.stage.arms}
        self._grip = {arm.side: int(rng.integers(2**31)) for arm in self.stage.arms}
        self._cloth = float(rng.uniform(0.004, 0.02))
        # Where short sleeves end, as a share of the upper arm; None: without sleeves.
        self._short = float(rng.uniform(0.25, 0.65)) if rng.random() < 0.8 else None
        self._room_seed = int(rng.integers(2**31))
        self._background: tuple[Intrinsics, Drawn] | None = None

    @cached_property
    def still(self) -> tuple[Mesh, ...]:
        """What does not move, camera frame; of a person, first what swallows light (hair, dark clothes)."""
        around = surroundings(np.random.default_rng(self._room_seed), self.stage, self.person)
        if self.shows_body:
            body, dull = self.person.body, self.person.dull
            bright = Mesh(body.vertices, body.faces[~dull], closed=False)
            around = [Mesh(body.vertices, body.faces[dull], closed=False), bright, *around]
        return tuple(_clear_of_camera(mesh) for mesh in around)

    def background(self, k: Intrinsics, rows: slice = slice(None), columns: slice = slice(None)) -> Drawn:
        """A window without the arms."""
        height, width = len(range(*rows.indices(k.height))), len(range(*columns.indices(k.width)))
        number = np.zeros((height, width), np.uint8)
        depth = render(self.still, k, rows, columns, number)
        return Drawn(depth, np.full(depth.shape, ELSE, np.uint8), (number == 1) & self.shows_body)

    @property
    def shows_body(self) -> bool:
        """Whether head and torso are there; a camera on the head sees neither."""
        return self.kind not in ("alone", "own")

    def shot(self, time: float, scale: float = 1.0) -> Shot:
        """The frame at a time in seconds from 0, with `scale` times as many pixels a side."""
        camera = self.camera if scale == 1.0 else scaled(self.camera, scale)
        k = camera.intrinsics
        parts, hands = self.at(time)
        if self._background is None or self._background[0] != k:
            self._background = k, self.background(k)
        drawn = draw(parts, k, self._background[1])
        number = round(time * FRAMES_PER_SECOND)
        counts = sense(camera, drawn.lit, np.random.default_rng([self.seed, 42, number]))
        truth, hidden, partial = [], [], []
        for hand in hands:
            behind, outside = _hidden(hand, drawn.depth, k)
            in_range = camera.near < np.median(hand.joints[:, 2]) < camera.far
            if in_range and outside.mean() <= 1 - INSIDE and (behind | outside).mean() <= 1 - SEEN:
                truth.append(hand)
                hidden.append(behind | outside)
            elif not outside.all():
                partial.append(hand)
        captured = round(time * 1e9)
        frame = DepthFrame(counts, camera.depth_scale, k, number, captured, captured, tuple(truth))
        return Shot(frame, drawn.labels, tuple(hidden), tuple(partial))

    def at(self, time: float) -> tuple[list[Part], tuple[HandTruth, ...]]:
        """The arms at a time in seconds, camera frame, and the joints of their hands."""
        parts: list[Part] = []
        truth = []
        for number, arm in enumerate(self.stage.arms):
            hand = self._hands[arm.side]
            pose = self._pose(arm, number, hand, time)
            wander = arm.wander(time)
            shoulder = self.person.shoulders[arm.side]
            forearm = float(np.linalg.norm(hand.rest_joints[21]))
            wrist = self.stage.to_camera(arm.place + wander[:3] * self.person.size)
            pole = self.stage.rotation @ (arm.pole + np.array([wander[4], 0, 0]))
            wrist, elbow = reach(shoulder, wrist, UPPER_ARM * self.person.size, forearm, pole)
            rotation = palm_rotation(arm.side, shoulder, elbow, wrist, arm.supination + wander[3], pose)
            vertices, joints = hand.pose_with_elbow(pose, rotation, wrist)
            forearm_faces = hand.weights[hand.faces, 0].mean(axis=1) > 0.5
            parts.append(Part(Mesh(vertices, hand.faces[~forearm_faces]), _HANDS[arm.side]))
            parts.append(Part(Mesh(vertices, hand.faces[forearm_faces]), ARM))
            parts += self._covers(arm, joints[21].astype(np.float64), wrist, shoulder)
            if arm.holds:
                thing = held(np.random.default_rng(self._grip[arm.side]), joints[:21])
                parts.append(Part(thing, ELSE))
            truth.append(HandTruth(joints[:21], arm.side))
        return parts, tuple(truth)

    def _covers(
        self, arm: ArmPlan, elbow: NDArray[np.floating], wrist: NDArray[np.floating], shoulder: NDArray[np.floating]
    ) -> list[Part]:
        radius = 0.046 * self.person.size
        bare = arm.sleeve is None and self._short is None
        until = (self._short or 0.0) if arm.sleeve is None else 0.0
        meshes = [upper_arm(elbow, shoulder, radius, None if bare else self._cloth, until)]
        if arm.sleeve is not None:
            meshes.append(sleeve(elbow, wrist, arm.sleeve, self._cloth))
        if arm.watch is not None:
            meshes.append(watch(wrist, elbow, arm.watch))
        return [Part(mesh, ARM) for mesh in meshes]

    def _pose(self, arm: ArmPlan, number: int, hand: RiggedHand, time: float) -> Pose:
        step, share = divmod(time / POSE_SECONDS + 0.37 * number, 1)
        after = self._key_pose(arm, number, hand, int(step) + 1)
        if share >= ARRIVED:
            return after
        pose = on_the_way(self._key_pose(arm, number, hand, int(step)), after, share)
        if arm.holds:  # the grip stays closed, only the wrist moves
            pose[2:] = after[2:]
        return pose

    def _key_pose(self, arm: ArmPlan, number: int, hand: RiggedHand, step: int) -> Pose:
        rng = np.random.default_rng([self.seed, 43 + number, step])
        if arm.holds:
            grip = GESTURES[("grab", "half_curl", "cup", "pinch_open", "hook")[self._grip[arm.side] % 5]]
            return np.concatenate([rng.normal(0, np.radians((15, 8))), grip[2:]])
        if not arm.acts:
            return GESTURES["relaxed"]
        return random_pose(rng, hand)


def draw(
    parts: Sequence[Part],
    intrinsics: Intrinsics,
    background: Drawn,
    rows: slice = slice(None),
    columns: slice = slice(None),
) -> Drawn:
    """A window of the parts before a background."""
    number = np.zeros(background.depth.shape, np.uint8)
    depth = render([part.mesh for part in parts], intrinsics, rows, columns, number)
    before = (depth > 0) & ((background.depth == 0) | (depth < background.depth))
    labels = np.array([ELSE, *(part.label for part in parts)], np.uint8)[number]
    return Drawn(
        np.where(before, depth, background.depth),
        np.where(before, labels, background.labels),
        background.dull & ~before,
    )


def _clear_of_camera(mesh: Mesh) -> Mesh:
    """Without the faces so near to the camera that it would stand in them."""
    near = np.linalg.norm(mesh.vertices, axis=1) < 3 * NEAR
    return Mesh(mesh.vertices, mesh.faces[~near[mesh.faces].any(axis=1)], mesh.closed) if near.any() else mesh


def _hidden(hand: HandTruth, depth: NDArray[np.float32], k: Intrinsics) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(behind something, outside the image), each (21,), of the joints of a hand in a true depth image."""
    ahead = hand.joints[:, 2] > NEAR
    pixels = np.full((len(hand.joints), 2), -1, np.int64)
    pixels[ahead] = np.rint(k.project(hand.joints[ahead])).astype(np.int64)
    inside = np.asarray(((pixels >= 0) & (pixels < (k.width, k.height))).all(axis=1))
    behind = np.zeros(len(pixels), np.bool_)
    surface = depth[pixels[inside, 1], pixels[inside, 0]]
    behind[inside] = (surface > 0) & (hand.joints[inside, 2] - surface > _FLESH[inside])
    return behind, ~inside
