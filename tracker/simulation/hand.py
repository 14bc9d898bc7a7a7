"""The articulated hand: a skinned mesh with a forearm, its identities, and its poses.

Frame of the model, with the identity rotation: wrist at the origin, +x to the thumb, -y to the fingers, +z out of the
back of the hand. In a camera's frame this is a right hand held up, palm to the camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tracker.hand.skeleton import FINGERS, JOINT_COUNT
from tracker.simulation.rotations import about, turn

Array = NDArray[np.floating]
ASSET = Path(__file__).with_name("hand.npz")

ANGLES: Final[tuple[str, ...]] = (
    "wrist_flexion",
    "wrist_deviation",
    *(f"thumb_{part}" for part in ("cmc_flexion", "cmc_abduction", "twist", "mcp_flexion", "ip_flexion")),
    *(f"{f}_{part}" for f in FINGERS[1:] for part in ("mcp_flexion", "mcp_abduction", "pip_flexion", "dip_flexion")),
)
"""A pose is a vector (23,) of radians in this order. 0 is a straight finger parallel to the middle metacarpal (thumb:
the resting thumb of the mesh). Flexion closes; abduction spreads away from the middle finger (middle: to the thumb's
side; thumb: out of the palm's plane); wrist deviation is towards the little finger."""

_DEGREES: Final = {
    "wrist_flexion": (-60, 65), "wrist_deviation": (-18, 32),
    "thumb_cmc_flexion": (-22, 48), "thumb_cmc_abduction": (-45, 16), "thumb_twist": (-10, 30),
    "thumb_mcp_flexion": (-8, 58), "thumb_ip_flexion": (-18, 80),
    "mcp_flexion": (-25, 90), "pip_flexion": (-3, 108), "dip_flexion": (-10, 85),
    "index_mcp_abduction": (-8, 22), "middle_mcp_abduction": (-8, 10), "ring_mcp_abduction": (-8, 18),
    "little_mcp_abduction": (-8, 32),
}  # fmt: skip


def _limit(name: str) -> tuple[float, float]:
    return _DEGREES[name] if name in _DEGREES else _DEGREES[name.split("_", 1)[1]]


LOWER: Final = np.radians([_limit(name)[0] for name in ANGLES])
UPPER: Final = np.radians([_limit(name)[1] for name in ANGLES])


def angle(name: str) -> int:
    """Index of an angle by its name; raises ValueError for an unknown one."""
    return ANGLES.index(name)


MCP: Final = np.array([angle(f"{f}_mcp_flexion") for f in FINGERS[1:]])
ABDUCTION: Final = MCP + 1
PIP: Final = MCP + 2
DIP: Final = MCP + 3


def limited(pose: Array) -> Array:
    """The nearest pose (23,) that a hand can take: limits, and the couplings between joints.

    DIP follows PIP (about 2/3); fingers cannot spread while the fist is closed; neighbouring knuckles bend together
    (cf. Gracia-Ibanez 2016).
    """
    pose = np.clip(pose, LOWER, UPPER)
    slack = np.radians(15)
    pose[DIP] = np.clip(pose[DIP], np.maximum(0.35 * pose[PIP] - slack, LOWER[DIP]), 0.9 * pose[PIP] + slack)
    for near, far, most in zip(MCP[[1, 1, 2]], MCP[[0, 2, 3]], np.radians((75, 60, 60))):
        pose[far] = np.clip(pose[far], pose[near] - most, pose[near] + most)
    room = np.clip(1.15 - pose[MCP] / np.radians(75), 0.12, 1)
    pose[ABDUCTION] = np.where(pose[ABDUCTION] > 0, pose[ABDUCTION] * room, pose[ABDUCTION])
    return pose


@dataclass(frozen=True, slots=True)
class HandShape:
    """Whose hand it is.

    hand_length: wrist to middle fingertip along the bones, metres.
    blend: how far to go along each of the asset's shape fields, about -1 to 1 (see `HandModel.field_names`).
    finger_length: factors for thumb to little finger. bone_length, bone_thickness: factors (5, 3), proximal to distal.
    palm_width: factor across the palm. arm_length: factor along the forearm.
    """

    hand_length: float = 0.185
    blend: tuple[float, ...] = ()
    finger_length: tuple[float, ...] = (1.0,) * 5
    bone_length: tuple[tuple[float, ...], ...] = ((1.0,) * 3,) * 5
    bone_thickness: tuple[tuple[float, ...], ...] = ((1.0,) * 3,) * 5
    palm_width: float = 1.0
    arm_length: float = 1.0

    def __post_init__(self) -> None:
        if not 0.1 <= self.hand_length <= 0.3:
            raise ValueError(f"hand_length is in metres, 0.145 to 0.215 for people, and is {self.hand_length}")
        if np.shape(self.bone_length) != (5, 3) or np.shape(self.bone_thickness) != (5, 3):
            raise ValueError("bone_length and bone_thickness need 5 fingers of 3 factors each")


def random_shape(rng: np.random.Generator) -> HandShape:
    """An adult's or youth's hand: length N(183, 13.5) mm within 145..215, bones varied by 3 %, thickness by 6 %."""

    def table(spread: float) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple(row) for row in np.clip(1 + spread * rng.standard_normal((5, 3)), 0.85, 1.15).tolist())

    fields = load_asset()["field_names"].tolist()
    spreads = {"sex": 0.8, "age": 0.0, "child": 0.0, "african": 0.4, "asian": 0.4, "finger_length": 0.3}
    blend = {name: float(np.clip(rng.normal(0, spreads.get(name, 0.5)), -1, 1)) for name in fields}
    blend["age"] = float(rng.uniform(0, 1) ** 2)
    blend["child"] = float(rng.uniform(0, 1) ** 4)
    girth = float(np.clip(rng.normal(1.0, 0.06), 0.86, 1.18))
    return HandShape(
        hand_length=float(np.clip(rng.normal(0.183, 0.0135), 0.145, 0.215)),
        blend=tuple(blend[name] for name in fields),
        finger_length=tuple(np.clip(rng.normal(1, 0.03, 5), 0.9, 1.1).tolist()),
        bone_length=table(0.03),
        bone_thickness=tuple(tuple(girth * value for value in row) for row in table(0.03)),
        palm_width=float(np.clip(rng.normal(1, 0.05), 0.88, 1.14)),
        arm_length=float(np.clip(rng.normal(1, 0.05), 0.88, 1.14)),
    )


@lru_cache(maxsize=1)
def load_asset() -> dict[str, NDArray[np.generic]]:
    """The arrays of `hand.npz` (see `tracker.simulation.bake`), read once."""
    with np.load(ASSET) as file:
        return {name: file[name] for name in file.files}


class HandModel:
    """The baked mesh. faces: (m, 3) int32, wound outwards for a right hand; those of a RiggedHand fit its side."""

    def __init__(self, asset: dict[str, NDArray[np.generic]]) -> None:
        self.vertices = asset["vertices"].astype(np.float64)
        self.faces = asset["faces"].astype(np.int32)
        self.weights = asset["weights"].astype(np.float64)
        self.weights /= self.weights.sum(1, keepdims=True)
        self.joints = asset["joints"].astype(np.float64)
        self.fields = asset["fields"].astype(np.float64)
        self.joint_fields = asset["joint_fields"].astype(np.float64)
        self.field_names: tuple[str, ...] = tuple(asset["field_names"].tolist())
        self.bone_names: tuple[str, ...] = tuple(asset["bone_names"].tolist())

    @classmethod
    def load(cls) -> HandModel:
        """The shipped hand."""
        return cls(load_asset())

    def rig(self, shape: HandShape | None = None, side: str = "right") -> RiggedHand:
        """The mesh and skeleton of one identity."""
        shape = shape or HandShape()
        blend = np.zeros(len(self.field_names))
        if len(shape.blend) not in (0, len(blend)):
            raise ValueError(f"blend needs {len(blend)} numbers, for {', '.join(self.field_names)}")
        blend[: len(shape.blend)] = shape.blend
        vertices: Array = self.vertices + np.tensordot(blend, self.fields, 1)
        joints: Array = self.joints + np.tensordot(blend, self.joint_fields, 1)
        vertices, joints = _resize(vertices, joints, self.weights, shape)
        return RiggedHand(vertices, joints, self.weights, self.faces, side)


def _resize(vertices: Array, joints: Array, weights: Array, shape: HandShape) -> tuple[Array, Array]:
    """Scales each bone along and across itself, then the whole to the hand's length. joints: (22, 3), elbow last."""
    count = weights.shape[1]
    scales, origins, moved = np.tile(np.eye(3), (count, 1, 1)), np.zeros((count, 3)), np.zeros((count, 3))
    # Palm (and the metacarpals that cup): wider or narrower about the middle finger's line.
    scales[1:4] = np.diag([shape.palm_width, 1.0, 1.0])
    scales[0] = np.diag([shape.palm_width, shape.arm_length, 1.0])
    result = joints.copy()
    result[21] = scales[0] @ joints[21]
    for finger in range(5):
        chain = 1 + 4 * finger + np.arange(4)
        result[chain[0]] = scales[1] @ joints[chain[0]]
        for part in range(3):
            bone = 4 + 3 * finger + part
            along = joints[chain[part + 1]] - joints[chain[part]]
            along /= np.linalg.norm(along)
            # Half of the thickness at the thumb's root and the knuckle side, where the palm sets the size.
            thick = shape.bone_thickness[finger][part]
            thick = (1 + thick) / 2 if part == 0 and finger == 0 else thick
            stretch = shape.finger_length[finger] * shape.bone_length[finger][part]
            scales[bone] = thick * np.eye(3) + (stretch - thick) * np.outer(along, along)
            origins[bone], moved[bone] = joints[chain[part]], result[chain[part]]
            result[chain[part + 1]] = moved[bone] + scales[bone] @ (joints[chain[part + 1]] - origins[bone])
    offsets = moved - np.einsum("bij,bj->bi", scales, origins)
    mixed = weights @ np.concatenate([scales.reshape(count, 9), offsets], axis=1)
    vertices = np.einsum("vij,vj->vi", mixed[:, :9].reshape(-1, 3, 3), vertices) + mixed[:, 9:]
    middle = result[[0, 9, 10, 11, 12]]
    size = shape.hand_length / np.linalg.norm(np.diff(middle, axis=0), axis=1).sum()
    return (vertices - result[0]) * size, (result - result[0]) * size


class RiggedHand:
    """One identity's hand, ready to be posed.

    rest_vertices (n, 3), rest_joints (22, 3: `hand21` and the elbow) in the model's frame, metres; faces (m, 3) int32,
    wound outwards for the hand's side.
    """

    def __init__(self, vertices: Array, joints: Array, weights: Array, faces: NDArray[np.int32], side: str) -> None:
        if side not in ("left", "right"):
            raise ValueError(f"side must be left or right, is {side!r}")
        self.side = side
        self.faces = faces if side == "right" else np.ascontiguousarray(faces[:, ::-1])
        self.rest_vertices, self.rest_joints = vertices, joints
        self._homogeneous = np.concatenate([vertices, np.ones((len(vertices), 1))], axis=1).astype(np.float32)
        self.weights = weights.astype(np.float32)
        wrist, elbow = joints[0], joints[21]
        arm = (elbow - wrist) / np.linalg.norm(elbow - wrist)
        # The rest angles, so that the pose's angles are anatomical ones. Forearm: +y turned about x, then about z.
        self._forearm = turn(2, np.arctan2(-arm[0], arm[1])) @ turn(0, np.arcsin(arm[2]))
        self._fingers = [self._finger_frame(finger) for finger in range(1, 5)]
        self._thumb = self._thumb_frame()

    def _finger_frame(self, finger: int) -> tuple[Array, Array, float, float, float]:
        """(lateral axis at zero, rest rotation of the proximal phalanx, tilt, rest PIP, rest DIP) of a finger."""
        knuckles = self.rest_joints[[5, 9, 13, 17]]
        chain = self.rest_joints[1 + 4 * finger : 5 + 4 * finger]
        # Knuckles lie on an arch: outer fingers bend about axes tilted with it, and so converge in a fist.
        tangent = knuckles[max(finger - 2, 0)] - knuckles[min(finger, 3)]
        tilt = 0.6 * np.arctan2(-tangent[2], tangent[0])
        axis = turn(1, tilt) @ np.array([1.0, 0.0, 0.0])
        first = (chain[1] - chain[0]) / np.linalg.norm(chain[1] - chain[0])
        # first = Rz(spread) R(axis, flexion) (-y): solve for both.
        flexion = np.arcsin(np.clip(-first[2] / axis[0], -1, 1))
        bent = about(axis, flexion) @ np.array([0.0, -1.0, 0.0])
        spread = np.arctan2(first[1], first[0]) - np.arctan2(bent[1], bent[0])
        rest = turn(2, spread) @ about(axis, flexion)
        hinge = rest @ axis
        bones = np.diff(chain, axis=0)
        bends = [float(np.arctan2(np.cross(bones[i], bones[i + 1]) @ hinge, bones[i] @ bones[i + 1])) for i in (0, 1)]
        return axis, rest, tilt, bends[0], bends[1]

    def _thumb_frame(self) -> tuple[Array, Array, Array]:
        """(flexion hinge, abduction axis, bone direction of the metacarpal) of the resting thumb."""
        chain = self.rest_joints[1:5]
        metacarpal = (chain[1] - chain[0]) / np.linalg.norm(chain[1] - chain[0])
        hinge = THUMB_HINGE - THUMB_HINGE @ metacarpal * metacarpal
        hinge /= np.linalg.norm(hinge)
        return hinge, np.cross(metacarpal, hinge), metacarpal

    def bone_transforms(self, pose: Array) -> tuple[Array, Array]:
        """Rotations (19, 3, 3) of the bones against the rest pose, and joints (22, 3), in the model's frame."""
        rest = self.rest_joints
        rotations = np.tile(np.eye(3), (19, 1, 1))
        joints = rest.copy()
        rotations[0] = turn(2, pose[1]) @ turn(0, -pose[0]) @ self._forearm.T
        joints[21] = rest[0] + rotations[0] @ (rest[21] - rest[0])

        hinge, abductor, along = self._thumb
        rotation = about(abductor, pose[3]) @ about(hinge, pose[2]) @ about(along, pose[4])
        for part, bend in enumerate((0.0, pose[5], pose[6])):
            if part:
                rotation = rotation @ about(THUMB_HINGE, bend)
            rotations[4 + part] = rotation
            joints[2 + part] = joints[1 + part] + rotation @ (rest[2 + part] - rest[1 + part])

        for finger in range(1, 5):
            mcp, spread, pip, dip = pose[3 + 4 * finger : 7 + 4 * finger]
            axis, rest_rotation, _, rest_pip, rest_dip = self._fingers[finger - 1]
            root = 1 + 4 * finger
            base = np.eye(3)
            if finger >= 3:
                # The palm cups: the metacarpals of ring and little finger follow their knuckles, to 7 and 14 degrees.
                cup = (0.08 if finger == 3 else 0.16) * max(mcp, 0.0)
                base = turn(0, cup)
                rotations[finger - 1] = base
                joints[root] = rest[0] * 0.75 + rest[root] * 0.25 + base @ (0.75 * (rest[root] - rest[0]))
                mcp = mcp - cup
            outwards = spread if finger <= 2 else -spread
            rotation = base @ turn(2, outwards) @ about(axis, mcp) @ rest_rotation.T
            hinge = rest_rotation @ axis
            for part, bend in enumerate((0.0, pip - rest_pip, dip - rest_dip)):
                if part:
                    rotation = rotation @ about(hinge, bend)
                rotations[4 + 3 * finger + part] = rotation
                joints[root + part + 1] = joints[root + part] + rotation @ (rest[root + part + 1] - rest[root + part])
        return rotations, joints

    def pose(
        self, pose: Array, rotation: Array | None = None, translation: Array | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Vertices (n, 3) and `hand21` joints (21, 3), float32 metres, by linear blend skinning.

        pose: (23,) radians, see ANGLES. rotation (3, 3): of the palm, model's frame to camera frame. translation (3,):
        of the wrist. A left hand is the right one mirrored in x before it is turned and moved.
        """
        vertices, joints = self.pose_with_elbow(pose, rotation, translation)
        return vertices, joints[:JOINT_COUNT]

    def pose_with_elbow(
        self, pose: Array, rotation: Array | None = None, translation: Array | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As `pose`, with the elbow as the 22nd joint."""
        rotations, joints = self.bone_transforms(pose)
        offsets = joints[_BONE_ORIGIN] - np.einsum("bij,bj->bi", rotations, self.rest_joints[_BONE_ORIGIN])
        placed = np.eye(3) if rotation is None else np.asarray(rotation, np.float64)
        if self.side == "left":
            placed = placed * np.array([-1.0, 1.0, 1.0])
        shift = np.zeros(3) if translation is None else np.asarray(translation, np.float64)
        affine = np.concatenate([placed @ rotations, (offsets @ placed.T + shift)[:, :, None]], axis=2)
        mixed = (self.weights @ affine.reshape(-1, 12).astype(np.float32)).reshape(-1, 3, 4)
        vertices = np.matmul(mixed, self._homogeneous[:, :, None])[:, :, 0]
        return vertices, (joints @ placed.T + shift).astype(np.float32)


THUMB_HINGE: Final = np.array([-0.15, 0.45, -0.88]) / np.linalg.norm([-0.15, 0.45, -0.88])
"""Axis about which the resting thumb bends, in the model's frame: across the nail."""

_BONE_ORIGIN: Final = np.array([0, 0, 13, 17, *(1 + 4 * f + i for f in range(5) for i in range(3))])
"""The joint (of 22) that each bone turns about."""
