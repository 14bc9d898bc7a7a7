"""A person before the camera who moves both hands: everything is a pure function of seed and time."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import HandTruth, Intrinsics, Side
from tracker.simulation.gestures import GESTURES, Pose
from tracker.simulation.hand import LOWER, UPPER, HandModel, load_asset, random_shape
from tracker.simulation.render import Mesh, render
from tracker.simulation.rotations import about, turn

Array = NDArray[np.floating]

SIDES: Final[tuple[Side, Side]] = ("right", "left")
GESTURE_SECONDS: Final = 1.7
"""Time from one gesture to the next; about half of it is spent moving."""
ARRIVED: Final = 0.6
"""Share of the time after which the way from one gesture to the next is done."""
_THUMB: Final = slice(2, 7)
_FINGERS: Final = slice(7, 23)
_MIRROR: Final = np.array([-1.0, 1.0, 1.0])


class Scene:
    """A person who sits 0.9 m before the camera, facing it, behind a desk's edge, and gestures with both hands.

    seed: decides the person, the room, the gestures and the paths. Camera frame: x right, y down, z forward, metres.
    The person's right hand is therefore seen on the left of the image.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        rng = np.random.default_rng([seed, 0])
        model, shape = HandModel.load(), random_shape(rng)
        self._hands = {side: model.rig(shape, side) for side in SIDES}
        self._size = shape.hand_length / 0.185
        self._shoulders = np.array([rng.normal(0, 0.02), rng.normal(0.13, 0.02), rng.uniform(0.88, 0.96)])
        self._paths = {side: _Path(np.random.default_rng([seed, 1 + i]), side) for i, side in enumerate(SIDES)}
        self.still = (self._body(), *_room(rng))
        self._background: dict[Intrinsics, NDArray[np.float32]] = {}

    def at(self, time: float) -> tuple[list[Mesh], tuple[HandTruth, ...]]:
        """The moving meshes (hands and arms) at a time in seconds, and the truth of the right and of the left hand."""
        meshes: list[Mesh] = []
        truth = []
        for number, side in enumerate(SIDES):
            hand, path = self._hands[side], self._paths[side]
            outwards = -1.0 if side == "right" else 1.0
            shoulder = self._shoulders + self._size * np.array([outwards * 0.17, 0.03, -0.02])
            forearm = float(np.linalg.norm(hand.rest_joints[21]))
            wrist, elbow = _reach(shoulder, path.wrist(time), 0.28 * self._size, forearm, outwards)
            pose = gesture_at(self.seed, number, time)
            rotation = path.aim(pose, (elbow - wrist) / forearm, time)
            vertices, joints = hand.pose_with_elbow(pose, rotation, wrist)
            meshes.append(Mesh(vertices, hand.faces))
            meshes.append(_sleeve(joints[21], shoulder, 0.048 * self._size))
            truth.append(HandTruth(joints[:21], side))
        return meshes, tuple(truth)

    def depth(self, time: float, intrinsics: Intrinsics) -> tuple[NDArray[np.float32], tuple[HandTruth, ...]]:
        """The true depth image (height, width) in metres at a time in seconds, and the truth of both hands."""
        if intrinsics not in self._background:
            self._background[intrinsics] = render(self.still, intrinsics)
        image = self._background[intrinsics].copy()
        meshes, truth = self.at(time)
        for mesh in meshes:
            pixels = intrinsics.project(mesh.vertices[mesh.vertices[:, 2] > 0.05])
            if len(pixels) == 0:
                continue
            (left, top), (right, bottom) = np.maximum(pixels.min(0), 0).astype(int), np.maximum(pixels.max(0) + 2, 0)
            rows, columns = slice(int(top), int(bottom)), slice(int(left), int(right))
            seen, before = render([mesh], intrinsics, rows, columns), image[rows, columns]
            np.copyto(before, seen, where=(seen > 0) & ((seen < before) | (before == 0)))
        return image, truth

    def _body(self) -> Mesh:
        asset = load_asset()
        vertices = asset["body_vertices"].astype(np.float64) * self._size + self._shoulders
        return Mesh(vertices, asset["body_faces"].astype(np.int32), closed=False)


def smooth_step(x: float) -> float:
    """0 to 1 over x = 0 to 1 along the path of least jerk (Flash and Hogan 1985)."""
    x = min(max(x, 0.0), 1.0)
    return x * x * x * (10 - 15 * x + 6 * x * x)


def gesture_at(seed: int, hand: int, time: float) -> Pose:
    """The pose (23,) of a hand (0, 1) that goes through the vocabulary; its wrist angles are 0."""
    step, share = divmod(time / GESTURE_SECONDS + 0.37 * hand, 1)
    before, after = (_chosen(seed, hand, int(step) + i) for i in (0, 1))
    pose = on_the_way(before, after, share)
    pose[:2] = 0
    return pose


def on_the_way(before: Pose, after: Pose, share: float) -> Pose:
    """The pose (23,) at a share, 0..1, of the time from one pose to another; from ARRIVED on it is the second.

    The thumb opens first, the fingers move, the thumb closes last: it passes through no finger.
    """
    share = share / ARRIVED
    pose = before + smooth_step((share - 0.25) / 0.5) * (after - before)
    opened = GESTURES["open"]
    way = smooth_step(share / 0.4)
    pose[_THUMB] = before[_THUMB] + way * (opened - before)[_THUMB]
    pose[_THUMB] += smooth_step((share - 0.6) / 0.4) * (after - opened)[_THUMB]
    return pose


def _chosen(seed: int, hand: int, step: int) -> Pose:
    rng = np.random.default_rng([seed, 10 + hand, abs(step)])
    names = list(GESTURES)
    # Every third gesture is an open or a relaxed hand, as people return to these.
    name = names[rng.integers(len(names))] if step % 3 else str(rng.choice(["open", "relaxed", "spread"]))
    return GESTURES[name]


class _Path:
    """Where one wrist goes, and how the palm turns: sums of slow sines about a place before the shoulder."""

    def __init__(self, rng: np.random.Generator, side: Side) -> None:
        self._right = side == "right"
        inwards = 1.0 if self._right else -1.0
        self._place = np.array([-inwards * rng.uniform(0.15, 0.18), rng.uniform(0.05, 0.09), rng.uniform(0.51, 0.55)])
        # Per quantity three sines: x, y, z of the wrist, roll of the forearm, two leanings of the fingers.
        self._extent = np.array([0.045, 0.045, 0.075, 0.7, 0.25, 0.30])[:, None] * rng.uniform(0.5, 1.0, (6, 3))
        self._rate = 2 * np.pi * np.array([0.06, 0.13, 0.27]) * rng.uniform(0.8, 1.25, (6, 3))
        self._phase = rng.uniform(0, 2 * np.pi, (6, 3))
        self._extent *= np.array([1.0, 0.7, 0.35])

    def _wander(self, time: float) -> NDArray[np.float64]:
        return (self._extent * np.sin(self._rate * time + self._phase)).sum(axis=1)

    def wrist(self, time: float) -> NDArray[np.float64]:
        """Where the wrist wants to be, camera frame."""
        return self._place + self._wander(time)[:3]

    def aim(self, pose: Pose, to_elbow: Array, time: float) -> NDArray[np.float64]:
        """The palm's rotation (3, 3) for a forearm; sets the pose's wrist angles, in place.

        The forearm rolls between palm to the camera and palm to the other hand; the wrist bends as far as it can
        towards fingers that point up.
        """
        roll, lean, tilt = self._wander(time)[3:]
        roll += 0.45
        y = to_elbow
        # The back of the hand away from the camera, and up where the forearm points at the camera.
        back = np.array([0.0, -0.35, 1.0])
        z = back - back @ y * y
        z /= np.linalg.norm(z)
        forearm = about(y, -roll if self._right else roll) @ np.stack([np.cross(y, z), y, z], axis=1)
        wish = np.array([lean * 0.6, -1.0, -0.25 + tilt])
        wish = forearm.T @ (wish / np.linalg.norm(wish)) * (1 if self._right else _MIRROR)
        flexion, deviation = np.arctan2(-wish[2], -wish[1]), -np.arcsin(np.clip(wish[0], -1, 1))
        # Soft limits, so that the wrist does not stop with a jerk.
        pose[0] = 0.85 * UPPER[0] * np.tanh(flexion / UPPER[0])
        pose[1] = (0.85 * UPPER[1] if deviation > 0 else -0.85 * LOWER[1]) * np.tanh(deviation)
        bend = turn(2, pose[1]) @ turn(0, -pose[0])
        if not self._right:
            bend = bend * _MIRROR * _MIRROR[:, None]
        return forearm @ bend.T


def _reach(shoulder: Array, wrist: Array, upper: float, lower: float, outwards: float) -> tuple[Array, Array]:
    """Wrist and elbow of an arm of two bones, elbow down and outwards; a shoulder too far away comes forward."""
    line = wrist - shoulder
    distance = float(np.linalg.norm(line))
    line = line / distance
    upper = max(upper, distance / 0.985 - lower)
    along = (upper**2 - lower**2 + distance**2) / (2 * distance)
    pole = np.array([outwards * 0.45, 1.0, 0.0])
    pole = pole - pole @ line * line
    pole /= np.linalg.norm(pole)
    return wrist, shoulder + along * line + np.sqrt(max(upper**2 - along**2, 0)) * pole


def _sleeve(elbow: Array, shoulder: Array, radius: float) -> Mesh:
    """A sleeved upper arm, round at the elbow, from elbow to shoulder."""
    along = (shoulder - elbow) / np.linalg.norm(shoulder - elbow)
    side = np.cross(along, [0.0, 0.0, 1.0])
    side /= np.linalg.norm(side)
    around = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    ring = np.cos(around)[:, None] * side + np.sin(around)[:, None] * np.cross(along, side)
    length = float(np.linalg.norm(shoulder - elbow))
    profile = ((-0.9, 0.35), (-0.65, 0.75), (-0.2, 0.98), (0.3, 1.0), (length / radius, 1.3))
    rings = [elbow + along * radius * way + ring * (radius * wide) for way, wide in profile]
    vertices = np.concatenate([[elbow - along * radius], *rings])
    i = np.arange(14)
    j = (i + 1) % 14
    faces = [np.stack([np.zeros_like(i), 1 + j, 1 + i], axis=1)]
    for level in range(len(profile) - 1):
        a, b = 1 + 14 * level, 15 + 14 * level
        faces += [np.stack([a + i, a + j, b + i], axis=1), np.stack([a + j, b + j, b + i], axis=1)]
    return Mesh(vertices, np.concatenate(faces).astype(np.int32), closed=False)


def _room(rng: np.random.Generator) -> tuple[Mesh, Mesh]:
    """A desk's top before the person, seen from above, and a wall behind."""
    edge = rng.uniform(0.38, 0.46)
    desk = np.array([[-0.9, edge, 0.35], [0.9, edge, 0.35], [0.9, edge - 0.03, 0.8], [-0.9, edge - 0.03, 0.8]])
    z, slant = rng.uniform(2.2, 2.9), rng.uniform(-0.3, 0.3)
    wall = np.array([[-4.0, -3, z - slant], [4, -3, z + slant], [4, 3, z + slant], [-4, 3, z - slant]])
    two = np.array([[0, 1, 2], [0, 2, 3]])
    return Mesh(desk, two, closed=False), Mesh(wall, two, closed=False)
