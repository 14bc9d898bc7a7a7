"""People behind the hands: head, torso and thighs of random bodies, posed and dressed; and what their arms wear.

A person's own frame has its origin between the shoulders, x right, y down, z backwards: the camera frame of a camera
that the person faces. Bodies have no arms: those belong to the hands (`upper_arm`, and the forearm of the hand's mesh).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import Side
from tracker.simulation.render import Mesh
from tracker.simulation.rotations import turn

Array = NDArray[np.floating]
ASSET: Final = Path(__file__).with_name("people.npz")
UNIT: Final = 0.0001
"""The asset's vertices are int16 multiples of this many metres (see `tracker.simulation.bake_people`)."""


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """One person.

    body: head, torso and thighs; metres. shoulders: (3,) centre of each shoulder joint, the person's own right one at
    negative x before it is turned. size: 1 for an adult of mean size; hand length / 0.185 m.
    dull: (m,) faces of the body that a depth camera hardly sees, as they send too little light back: black hair, black
    clothes, glasses.
    """

    body: Mesh
    shoulders: Mapping[Side, NDArray[np.float64]]
    size: float
    dull: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class _Bodies:
    """The asset. n bodies of v vertices and b bones; parents come before their children, -1 for none.

    vertices (n, v, 3), joints (n, b + 2, 3): what each bone turns about, then right and left shoulder; metres, own
    frame. sizes (n,). faces (m, 3). weights (v, b). hair, cloth (v,): 0 to 1, how much of it is covered. glasses (v,):
    what glasses cover. smooth (v,): 0 to 1, how far it may be smoothed. edges (2, e): vertex and neighbour, sorted;
    first_edge (v,): where each vertex's begin; neighbours (v, 1): how many.
    """

    vertices: NDArray[np.float32]
    joints: NDArray[np.float64]
    sizes: NDArray[np.float32]
    faces: NDArray[np.int32]
    weights: NDArray[np.float32]
    hair: NDArray[np.float32]
    cloth: NDArray[np.float32]
    parents: tuple[int, ...]
    bones: tuple[str, ...]
    glasses: NDArray[np.bool_]
    smooth: NDArray[np.float32]
    edges: NDArray[np.int64]
    first_edge: NDArray[np.int64]
    neighbours: NDArray[np.float32]


@lru_cache(maxsize=1)
def _bodies() -> _Bodies:
    with np.load(ASSET) as file:
        asset = {name: file[name] for name in file.files}
    faces = asset["faces"].astype(np.int32)
    weights = asset["weights"].astype(np.float32)
    weights /= weights.sum(axis=1, keepdims=True)
    names = asset["bone_names"].tolist()
    corners = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.unique(np.concatenate([corners, corners[:, ::-1]]), axis=0).T.astype(np.int64)
    return _Bodies(
        vertices=asset["vertices"] * np.float32(UNIT),
        joints=asset["joints"] * UNIT,
        sizes=asset["sizes"],
        faces=faces,
        weights=weights,
        hair=asset["hair"] / np.float32(255),
        cloth=asset["cloth"] / np.float32(255),
        parents=tuple(asset["parents"].tolist()),
        bones=tuple(names),
        glasses=asset["glasses"],
        # The balls of the shoulders would shrink.
        smooth=1 - weights[:, [i for i, name in enumerate(names) if name.startswith("shoulder")]].sum(axis=1),
        edges=edges,
        first_edge=np.searchsorted(edges[0], np.arange(len(weights))),
        neighbours=np.bincount(edges[0], minlength=len(weights)).astype(np.float32)[:, None],
    )


def random_person(rng: np.random.Generator, sitting: bool | None = None) -> Person:
    """A random person in its own frame: teenagers to old people, thin to heavy; hair, clothes, posture at random.

    sitting: whether the thighs point forwards; at random if None.
    """
    bodies = _bodies()
    one, two = rng.integers(len(bodies.vertices), size=2)
    share = max(0.0, float(rng.uniform(-0.5, 0.5)))
    growth = float(np.clip(rng.normal(1, 0.035), 0.9, 1.1))
    vertices = growth * ((1 - share) * bodies.vertices[one] + share * bodies.vertices[two])
    joints = growth * ((1 - share) * bodies.joints[one] + share * bodies.joints[two])
    size = growth * float((1 - share) * bodies.sizes[one] + share * bodies.sizes[two])
    dull = _dull(rng, vertices, bodies)
    vertices, shoulders = _posed(_covered(rng, vertices, bodies), joints, _posture(rng, sitting), bodies)
    middle = shoulders.mean(axis=0)
    return Person(
        Mesh(vertices - middle.astype(np.float32), bodies.faces, closed=False),
        {"right": shoulders[0] - middle, "left": shoulders[1] - middle},
        size,
        dull,
    )


def turned(person: Person, rotation: Array, translation: Array) -> Person:
    """The person in another frame: rotation (3, 3) of its own frame to that one, translation (3,) of its origin."""
    body = person.body.vertices @ np.asarray(rotation, np.float32).T + np.asarray(translation, np.float32)
    shoulders: dict[Side, NDArray[np.float64]] = {
        side: rotation @ place + translation for side, place in person.shoulders.items()
    }
    return Person(Mesh(body, person.body.faces, person.body.closed), shoulders, person.size, person.dull)


def _posture(rng: np.random.Generator, sitting: bool | None) -> dict[str, tuple[float, float, float]]:
    """Bone -> (forwards, to the person's left, to its left side): radians about x, y, z against the bone before."""
    lean, twist, side = rng.normal((8, 0, 0), (11, 10, 5))
    nod, look, tilt = rng.normal((-4, 0, 0), (14, 22, 7))
    shrug = rng.normal(0, 5, (2, 3))
    sits = bool(rng.random() < 0.6) if sitting is None else sitting
    spread = rng.uniform(2, 22)
    spine = ("pelvis", "belly", "ribs", "chest")
    angles: dict[str, tuple[float, float, float]] = dict.fromkeys(spine, (lean / 4, twist / 4, side / 4))
    # A person who leans still looks ahead.
    angles["neck"] = ((nod - 0.6 * lean) / 2, look * 0.4, tilt * 0.5)
    angles["head"] = ((nod - 0.6 * lean) / 2, look * 0.6, tilt * 0.5)
    for number, (bone, outwards) in enumerate((("right", -1.0), ("left", 1.0))):
        angles[f"shoulder_{bone}"] = (0.0, shrug[number, 0], shrug[number, 1])
        raised = rng.uniform(70, 95) if sits else rng.normal(0, 6)
        angles[f"thigh_{bone}"] = (
            -raised - lean / 4,
            outwards * -spread if sits else 0.0,
            0.0 if sits else -outwards * 3,
        )
    return {
        bone: (float(np.radians(x)), float(np.radians(y)), float(np.radians(z))) for bone, (x, y, z) in angles.items()
    }


def _posed(
    vertices: Array, joints: Array, posture: Mapping[str, tuple[float, float, float]], bodies: _Bodies
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Vertices (v, 3) and shoulders (2, 3) in a posture, by linear blend skinning."""
    placed: list[NDArray[np.float64]] = []
    for bone, (name, parent) in enumerate(zip(bodies.bones, bodies.parents)):
        own = np.eye(4)
        x, y, z = posture.get(name, (0.0, 0.0, 0.0))
        own[:3, :3] = turn(1, y) @ turn(0, x) @ turn(2, z)
        own[:3, 3] = joints[bone] - own[:3, :3] @ joints[bone]
        placed.append(own if parent < 0 else placed[parent] @ own)
    affine = np.stack(placed)[:, :3]
    mixed = (bodies.weights @ affine.reshape(-1, 12).astype(np.float32)).reshape(-1, 3, 4)
    moved = np.einsum("vij,vj->vi", mixed[:, :, :3], vertices.astype(np.float32)) + mixed[:, :, 3]
    ends = [affine[bodies.bones.index(f"shoulder_{side}")] for side in ("right", "left")]
    shoulders = np.stack([end[:, :3] @ joint + end[:, 3] for end, joint in zip(ends, joints[-2:])])
    return moved, shoulders


def _covered(rng: np.random.Generator, vertices: Array, bodies: _Bodies) -> Array:
    """The body (v, 3) in clothes and hair: smoothed under cloth, then swollen, with folds; see `_hair`."""
    slack = float(rng.uniform(0.0, 0.045)) if rng.random() < 0.85 else 0.0
    sources, first = bodies.edges[1], bodies.first_edge
    share = (0.6 * bodies.cloth * bodies.smooth)[:, None]
    for _ in range(int(slack / 0.009)):
        mean = np.add.reduceat(vertices[sources], first, axis=0) / bodies.neighbours
        vertices = vertices + share * (mean - vertices)
    folds = 1 + 0.45 * _waves(rng, vertices, 0.10) + 0.35 * _waves(rng, vertices, 0.2)
    # Cloth hangs: it is wider below the chest.
    hang = np.clip(0.5 + vertices[:, 1] / 0.4, 0.35, 1.2)
    thick, drop = _hair(rng, vertices, bodies)
    swell = slack * bodies.cloth * folds * hang + thick
    return vertices + swell[:, None] * _normals(vertices, bodies.faces) + drop


def _hair(rng: np.random.Generator, vertices: Array, bodies: _Bodies) -> tuple[Array, Array]:
    """How thick hair or a cap lies on each vertex (v,), 0 to 5 cm, and how its strands hang down (v, 3), metres."""
    drop = np.zeros_like(vertices)
    if rng.random() < 0.15:
        return np.zeros(len(vertices)), drop
    thick = float(rng.uniform(0.005, 0.02) if rng.random() < 0.5 else rng.uniform(0.015, 0.05))
    rough = 1 + 0.35 * _waves(rng, vertices, 0.05) + 0.3 * _waves(rng, vertices, 0.12)
    if rng.random() < 0.35:
        scalp = vertices[bodies.hair > 0.5]
        top, bottom = scalp[:, 1].min(), scalp[:, 1].max()
        # The lower a strand begins, the further it hangs: the rim comes down as a curtain beside and behind the face.
        low = np.clip((vertices[:, 1] - top) / (bottom - top) - 0.35, 0, 1) * bodies.hair
        behind = np.clip(1 + (vertices[:, 2] - scalp[:, 2].mean()) / 0.06, 0, 1)
        drop[:, 1] = low * behind * rng.uniform(0.08, 0.40)
        drop[:, 0] = drop[:, 1] * 0.1 * np.sign(vertices[:, 0]) * np.sqrt(np.abs(vertices[:, 0]))
        drop[:, 2] = drop[:, 1] * 0.15
    return thick * bodies.hair * rough, drop


def _dull(rng: np.random.Generator, vertices: Array, bodies: _Bodies) -> NDArray[np.bool_]:
    """Which faces (m,) send too little light back: black hair, black clothes, glasses, in part or all over."""
    dull = np.zeros(len(vertices), np.bool_)
    for covered, often in ((bodies.hair > 0.5, 0.4), (bodies.cloth > 0.5, 0.2), (bodies.glasses, 0.2)):
        if rng.random() < often:
            dull |= covered & (_waves(rng, vertices, 0.2) > rng.uniform(-2.5, 0.3))
    return np.asarray(dull[bodies.faces].all(axis=1))


def _waves(rng: np.random.Generator, points: Array, length: float) -> Array:
    """A smooth random field (n,) of about -1 to 1 that changes over `length` metres: a product of two plane waves."""
    waves = rng.standard_normal((2, 3)) * (2.2 / length)
    phases = rng.uniform(0, 2 * np.pi, 2)
    return np.sin(points @ waves[0] + phases[0]) + 0.5 * np.sin(points @ waves[1] + phases[1])


def _normals(vertices: Array, faces: NDArray[np.integer]) -> Array:
    """Unit outward normals (n, 3) of vertices."""
    a, b, c = (vertices[faces[:, i]].T for i in range(3))
    (x, y, z), (u, v, w) = b - a, c - a
    cross = (y * w - z * v, z * u - x * w, x * v - y * u)
    corner = faces.T.reshape(-1)
    sums = np.stack([np.bincount(corner, np.concatenate([n, n, n]), len(vertices)) for n in cross], axis=1)
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)


def upper_arm(elbow: Array, shoulder: Array, radius: float, sleeve: float | None, until: float = 0.0) -> Mesh:
    """An upper arm from elbow to shoulder (3,), round at the elbow, thicker at the shoulder.

    radius: of the bare arm at the elbow, metres. sleeve: slack of the cloth around it, metres; None for a bare arm.
    until: where the sleeve ends, as a share of the way from elbow to shoulder: 0 is a long one, 0.5 that of a T-shirt.
    """
    length = max(float(np.linalg.norm(np.asarray(shoulder) - elbow)), radius)
    near = np.array([-0.9, -0.6, -0.2, 0.4]) * radius
    middle = np.linspace(0.3, 0.8, 4) * length
    edge = np.array([until, until + 0.001]) * length  # of the sleeve, a step
    far = length + np.array([0.0, 0.45, 0.8]) * radius
    along = np.concatenate([near, middle, far, edge])
    order = np.argsort(along)
    wide = np.interp(along, [*near, *middle, *far], (0.42, 0.78, 0.97, 1, 1.02, 1.06, 1.12, 1.18, 1.2, 1.05, 0.7))
    cloth = (sleeve or 0.0) * ((along > until * length) | (until == 0.0))
    return _tube(elbow, shoulder, along[order], (wide * radius + cloth)[order], cloth[order])


def sleeve(elbow: Array, wrist: Array, until: float, slack: float) -> Mesh:
    """A sleeve around a forearm, from behind the elbow to `until` metres before the wrist.

    elbow, wrist: (3,) metres. slack: metres between skin and cloth. It is open at the end, so that its edge shows.
    """
    length = float(np.linalg.norm(np.asarray(wrist) - elbow))
    end = max(length - until, 0.04)
    along = np.linspace(-0.03, end, 8)
    # The bare forearm as the hand's mesh has it: thickest a quarter of the way down, half as wide at the wrist.
    skin = np.interp(along / length, (-0.12, 0.0, 0.25, 0.55, 0.85, 1.0), (0.034, 0.042, 0.042, 0.034, 0.028, 0.029))
    wide = skin * (length / 0.22) + 0.002 + np.append(np.full(7, 0.6), 1.0) * slack
    return _tube(elbow, wrist, along, wide, np.full(8, slack), open_ends=True)


def watch(wrist: Array, elbow: Array, above: float) -> Mesh:
    """A band around the forearm, `above` metres from the wrist joint towards the elbow."""
    length = float(np.linalg.norm(np.asarray(elbow) - wrist))
    radius = (0.0255 + 0.04 * above) * length / 0.22
    along = above + np.array([-0.011, -0.010, 0.010, 0.011])
    return _tube(wrist, elbow, along, radius + np.array([-0.004, 0.003, 0.003, -0.004]), np.zeros(4), open_ends=True)


def _tube(start: Array, to: Array, along: Array, wide: Array, slack: Array, open_ends: bool = False) -> Mesh:
    """Rings around the line from start to `to` (3,): `along` (n,) metres from start, radii `wide` (n,).

    slack: (n,) of cloth, metres, which throws folds. Both ends are closed by fans, unless open_ends.
    """
    start, to = np.asarray(start, np.float64), np.asarray(to, np.float64)
    axis = to - start
    axis = axis / max(float(np.linalg.norm(axis)), 1e-6)
    side = np.cross(axis, np.eye(3)[int(np.abs(axis).argmin())])
    side /= np.linalg.norm(side)
    count = 14
    around = np.linspace(0, 2 * np.pi, count, endpoint=False)
    ring = np.cos(around)[:, None] * side + np.sin(around)[:, None] * np.cross(axis, side)
    # Folds run around the arm and a little along it.
    radii = wide[:, None] + 0.45 * slack[:, None] * np.sin(along[:, None] * 150 + 2 * np.sin(around + 1.3) + around)
    rings = start + along[:, None, None] * axis + radii[:, :, None] * ring
    vertices = rings.reshape(-1, 3)
    i = np.arange(count)
    first = (np.arange(len(along) - 1)[:, None] * count + i).reshape(-1)
    second = (np.arange(len(along) - 1)[:, None] * count + (i + 1) % count).reshape(-1)
    faces = [np.stack([first, second, first + count], 1), np.stack([second, second + count, first + count], 1)]
    if not open_ends:
        last = len(vertices) - count
        ends = start + axis * np.array([[along[0] - 0.1 * wide[0]], [along[-1] + 0.1 * wide[-1]]])
        faces.append(np.stack([np.full(count, len(vertices)), (i + 1) % count, i], 1))
        faces.append(np.stack([np.full(count, len(vertices) + 1), last + i, last + (i + 1) % count], 1))
        vertices = np.concatenate([vertices, ends])
    return Mesh(vertices, np.concatenate(faces).astype(np.int32), closed=False)
