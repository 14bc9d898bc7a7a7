"""Things: in a hand's grip, on desks, between hand and camera. All are simple solids of random measures.

One solid makes them all: a profile turned about an axis (`lathe`), with four sides a box, with many a cylinder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tracker.simulation.render import Mesh
from tracker.simulation.rotations import about, random_rotation, turn

Array = NDArray[np.floating]

FINGER: Final = 0.008
"""Metres from a finger's bones to its skin."""
_CURL: Final = np.arange(5, 21).reshape(4, 4)
_FACING: Final = np.array([
    [1, 0, 0, 1, 0, 0, 0, 0], [0, 1, 0, 0, 1, 0, 0, 0], [1, 0, 0, 0, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0, 0, 0],
    [0, 0, 0, 1, 0, 0, 0, 1], [0, 1, 0, 0, 1, 0, 0, 1], [0, 0, 1, 0, 1, 0, 1, 0],
])  # fmt: skip
"""Which of palm, knuckle, PIP, DIP, fingertip, thumb's MCP, IP and tip face each other."""


def lathe(profile: Sequence[tuple[float, float]] | Array, sides: int = 12, deep: float = 1.0) -> Mesh:
    """A solid of rotation about y.

    profile: (k, 2), height (metres along y, rising) and radius of its rings; ends of radius above 0 are closed with
    flat caps. sides: corners of a ring, which stand at (1, 1)/sqrt(2) of the radius for 4 sides, so that a box of half
    width w has the radius w * sqrt(2). deep: how wide it is in z for its width in x.
    """
    rings = np.asarray(profile, np.float64)
    around = (np.arange(sides) + 0.5) * (2 * np.pi / sides)
    circle = np.stack([np.cos(around), np.zeros(sides), deep * np.sin(around)], axis=1)
    points = rings[:, 1, None, None] * circle + rings[:, 0, None, None] * np.array([0.0, 1.0, 0.0])
    ends = np.array([[0.0, rings[0, 0], 0.0], [0.0, rings[-1, 0], 0.0]])
    vertices = np.concatenate([points.reshape(-1, 3), ends])
    i, j = np.arange(sides), (np.arange(sides) + 1) % sides
    step = np.arange(len(rings) - 1)[:, None] * sides
    a, b = (step + i).reshape(-1), (step + j).reshape(-1)
    low, high = len(vertices) - 2, len(vertices) - 1
    last = (len(rings) - 1) * sides
    faces = np.concatenate([
        np.stack([a, a + sides, b], axis=1), np.stack([b, a + sides, b + sides], axis=1),
        np.stack([np.full(sides, low), i, j], axis=1), np.stack([np.full(sides, high), last + j, last + i], axis=1),
    ])  # fmt: skip
    return Mesh(vertices, faces.astype(np.int32))


def box(width: float, height: float, depth: float) -> Mesh:
    """A box around the origin; edges along x, y, z in metres."""
    return lathe([(-height / 2, width / 2**0.5), (height / 2, width / 2**0.5)], 4, depth / width)


def ball(radius: float, long: float = 1.0, deep: float = 1.0) -> Mesh:
    """A sphere around the origin, or an ellipsoid: `long` times as long in y, `deep` times in z."""
    angles = np.linspace(-np.pi / 2, np.pi / 2, 9)
    return lathe(np.stack([radius * long * np.sin(angles), radius * np.cos(angles)], axis=1), 14, deep)


def cylinder(radius: float, height: float, top: float = 1.0) -> Mesh:
    """A cylinder around the origin along y, or a cone: `top` times as wide at the end of larger y."""
    return lathe([(-height / 2, radius), (height / 2, radius * top)], 14)


def moved(mesh: Mesh, place: Array | Sequence[float], rotation: Array | None = None) -> Mesh:
    """The mesh turned by (3, 3) about the origin, then moved by (3,)."""
    vertices = mesh.vertices if rotation is None else mesh.vertices @ np.asarray(rotation).T
    return Mesh(vertices + np.asarray(place), mesh.faces, mesh.closed)


def joined(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of several; all of them closed, or none."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes[:-1])])
    faces = np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts)])
    return Mesh(np.concatenate([mesh.vertices for mesh in meshes]), faces, meshes[0].closed)


def grip(joints: Array, wanted: float = 0.0) -> tuple[Array, Array, Array, float]:
    """Where the hand with these joints (21, 3) holds things.

    wanted: radius that a thing would like to have, metres; the place moves out of the palm towards it while there is
    more room. Returns the middle of the space between palm, curled fingers and thumb (3,), the axis across the palm
    (3,) that a stick in it would have, the direction (3,) at right angles to it of the widest gap between the fingers,
    and the free radius: the distance of the nearest bone from the axis, less the flesh on it, metres.
    """
    joints = np.asarray(joints, np.float64)
    axis = joints[5] - joints[17]
    axis /= np.linalg.norm(axis)
    curl = joints[_CURL].mean(axis=0)
    palm = 0.5 * joints[0] + 0.5 * curl[0]
    # Seen along the axis, in two dimensions: u to the knuckles, v out of the palm, where the fingers curl to.
    u = curl[0] - palm - (curl[0] - palm) @ axis * axis
    u /= np.linalg.norm(u)
    v = np.cross(axis, u)
    v *= 1.0 if (curl[2] + curl[3] - 2 * curl[0]) @ v >= 0 else -1.0
    flat = np.stack([u, v], axis=1)
    chain = (np.stack([palm, *curl, *joints[2:5]]) - palm) @ flat
    # Bones as points, close enough to each other that nothing slips between.
    bones = np.concatenate([chain, 0.5 * (chain[1:5] + chain[:4]), 0.5 * (chain[6:] + chain[5:-1])])
    # The largest empty circle about middles between parts of the hand that face each other.
    middles = _FACING @ chain / _FACING.sum(axis=1, keepdims=True)
    best = middles[np.linalg.norm(middles[:, None] - bones, axis=2).min(axis=1).argmax()]
    outwards = best + np.array([0.0, 0.003]) * np.arange(14)[:, None]
    free = np.linalg.norm(outwards[:, None] - bones, axis=2).min(axis=1) - FINGER
    steps = int(np.argmin(np.append((np.diff(free) > 0) & (free[:-1] < wanted), False)))
    place = outwards[steps]
    angles = np.sort(np.arctan2(bones[:, 1] - place[1], bones[:, 0] - place[0]))
    gaps = np.diff(np.append(angles, angles[0] + 2 * np.pi))
    opens = angles[gaps.argmax()] + gaps.max() / 2
    return palm + flat @ place, axis, flat @ np.array([np.cos(opens), np.sin(opens)]), float(free[steps])


def held(rng: np.random.Generator, joints: Array) -> Mesh:
    """A thing in the grip of a posed hand, in the frame of its joints (21, 3): cup, stick, ball, plate, box, pen ...

    The same rng gives the same thing, so that it stays the same while the hand moves. Its thickness fits the grip: it
    lies between palm, fingers and thumb, and touches or slightly enters them.
    """
    size = float(np.linalg.norm(np.asarray(joints[9]) - joints[0])) / 0.09
    tilt = rng.normal(0, np.radians(12), 2)
    kind = int(rng.integers(7))
    thick = size * rng.uniform(0.012, 0.04)
    # Thin things lie deep in the grip, thick ones fill it and open it.
    middle, axis, opens, free = grip(joints, 0.0 if kind in (0, 4, 6) else thick)
    length, slide, spin = rng.uniform(0.07, 0.22), rng.uniform(-0.35, 0.35), rng.uniform(0, 2 * np.pi)
    share, wide = rng.uniform(0.7, 1.1), rng.uniform(0.03, 0.09)
    radius = float(np.clip(share * free, 0.005, 0.045)) * min(size, 1.0)
    # x out of the widest gap, y along the axis.
    frame = np.stack([opens, axis, np.cross(opens, axis)], axis=1) @ turn(2, tilt[0]) @ turn(0, tilt[1])
    if kind == 0:  # a stick, a pen, a brush
        thin = min(radius, rng.uniform(0.004, 0.014))
        thing = moved(lathe([(-length, thin), (length, thin * rng.uniform(0.4, 1.3))], 8), [0, slide * length, 0])
    elif kind == 1:  # a can, a cup
        thing = moved(cylinder(radius, length, rng.uniform(0.9, 1.4)), [0, slide * length, 0])
    elif kind == 2:  # a bottle
        neck = radius * rng.uniform(0.3, 0.6)
        outline = [(-0.6, radius), (0.3, radius), (0.55, neck), (0.85, neck)]
        thing = moved(lathe([(at * length * 1.3, r) for at, r in outline]), [0, slide * length, 0])
    elif kind == 3:  # a ball, an apple, an egg
        large = max(radius, 0.016) + rng.uniform(0, 0.01)
        thing = moved(ball(large, rng.uniform(0.85, 1.3)), [large - radius, 0, 0])
    elif kind == 4:  # a phone, a card, a book: sticks out of the grip
        thing = moved(box(2 * wide, length * 0.9, min(thick / 2, 2 * radius)), [wide - 0.02, slide * length * 0.6, 0])
    elif kind == 5:  # a box
        thing = moved(lathe([(-length / 2, radius), (length / 2, radius)], 4), [0, slide * length, 0], turn(1, spin))
    else:  # a racket, a spoon, a hairbrush
        thin = min(radius, 0.012)
        head = moved(ball(wide, rng.uniform(1.0, 1.5), rng.uniform(0.08, 0.3)), [0, length + wide, 0], turn(1, spin))
        thing = joined([lathe([(-0.06, thin), (length, thin)], 8), head])
    return moved(thing, middle, frame)


def clutter(
    rng: np.random.Generator, where: Array, size: float, up: Sequence[float] | Array = (0.0, -1.0, 0.0)
) -> Mesh:
    """A free thing around a place (3,), in its frame; `size` metres is about half its largest extent.

    up: unit vector (3,) along which most things stand; a quarter of them lies anyhow.
    """
    kind = str(rng.choice(list(_KINDS)))
    mesh = joined(_KINDS[kind](rng))
    extent = np.ptp(mesh.vertices, axis=0).max()
    if rng.random() < 0.25:
        rotation = random_rotation(rng)
    else:
        # Things stand along +y; the shortest turn from +y to up.
        y = np.array([0.0, 1.0, 0.0])
        across = np.cross(y, up)
        sine = float(np.linalg.norm(across))
        hinge = across / sine if sine > 1e-6 else np.array([1.0, 0.0, 0.0])
        rotation = about(hinge, float(np.arctan2(sine, np.asarray(up)[1]))) @ turn(1, rng.uniform(0, 2 * np.pi))
    middle = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
    scaled = Mesh((mesh.vertices - middle) * (2 * size / extent), mesh.faces)
    return moved(scaled, where, rotation)


def chair(rng: np.random.Generator) -> Mesh:
    """A chair in the frame of a person of mean size who sits on it (see `people`): back, seat, perhaps arms."""
    behind, wide, top = rng.uniform(0.14, 0.24), rng.uniform(0.36, 0.6), rng.uniform(-0.35, 0.25)
    back = moved(box(wide, 0.62 - top, 0.04), [0, 0.5 * (0.62 + top), behind], turn(0, rng.uniform(-0.25, 0.05)))
    seat = moved(box(wide, 0.06, 0.45), [0, 0.62, behind - 0.24])
    parts = [back, seat]
    if rng.random() < 0.5:
        high = rng.uniform(0.3, 0.42)
        for side in (-1, 1):
            parts.append(moved(box(0.05, 0.04, 0.3), [side * (wide / 2 + 0.04), high, behind - 0.2]))
            parts.append(moved(box(0.04, 0.6 - high, 0.04), [side * (wide / 2 + 0.04), (high + 0.6) / 2, behind - 0.2]))
    return joined(parts)


def _box(rng: np.random.Generator) -> list[Mesh]:
    return [box(*rng.uniform(0.2, 1.0, 3))]


def _flat(rng: np.random.Generator) -> list[Mesh]:
    return [box(1.0, rng.uniform(0.03, 0.2), rng.uniform(0.3, 1.0))]


def _can(rng: np.random.Generator) -> list[Mesh]:
    return [cylinder(rng.uniform(0.15, 0.6), 1.0, rng.uniform(0.6, 1.3))]


def _round(rng: np.random.Generator) -> list[Mesh]:
    return [ball(0.5, *rng.uniform(0.6, 1.3, 2))]


def _bottle(rng: np.random.Generator) -> list[Mesh]:
    wide, neck = rng.uniform(0.12, 0.25), rng.uniform(0.04, 0.1)
    return [lathe([(0, wide), (0.6, wide), (rng.uniform(0.65, 0.8), neck), (1.0, neck)])]


def _mug(rng: np.random.Generator) -> list[Mesh]:
    wide, thick = rng.uniform(0.35, 0.5), 0.07
    bars = [moved(box(0.3, thick, thick), [wide + 0.1, y, 0]) for y in (-0.25, 0.25)]
    return [cylinder(wide, 1.0, rng.uniform(0.9, 1.2)), *bars, moved(box(thick, 0.57, thick), [wide + 0.22, 0, 0])]


def _lamp(rng: np.random.Generator) -> list[Mesh]:
    shade = cylinder(rng.uniform(0.2, 0.35), 0.3, rng.uniform(0.4, 0.9))
    shade = moved(shade, [0, 0.95, 0], turn(0, rng.normal(0, 0.4)))
    return [cylinder(0.2, 0.05), lathe([(0, 0.02), (0.9, 0.02)], 6), shade]


def _monitor(rng: np.random.Generator) -> list[Mesh]:
    screen = moved(box(1.0, rng.uniform(0.5, 0.7), 0.05), [0, 0.55, 0], turn(0, rng.normal(0, 0.15)))
    return [box(0.4, 0.03, 0.3), moved(box(0.08, 0.4, 0.06), [0, 0.2, 0.05]), screen]


def _bars(rng: np.random.Generator) -> list[Mesh]:
    """Pens in a cup, a plant, a fork: like fingers on a palm, but not a hand."""
    count, spread, foot = int(rng.integers(3, 8)), rng.uniform(0.05, 0.5), rng.uniform(0.12, 0.3)
    parts = [lathe([(-0.45, foot), (0.0, foot * rng.uniform(0.8, 1.4))], int(rng.choice([4, 12])), rng.uniform(0.3, 1))]
    for i in range(count):
        thin, length = rng.uniform(0.025, 0.08), rng.uniform(0.35, 0.9)
        lean = turn(2, spread * (2 * i / (count - 1) - 1)) @ turn(0, rng.normal(0, 0.15))
        bar = lathe([(-0.1, thin), (length, thin * rng.uniform(0.3, 1.2))], 6)
        parts.append(moved(bar, [foot * 0.7 * (1 - 2 * i / (count - 1)), 0, 0], lean))
    return parts


_KINDS: Final = {
    "box": _box, "flat": _flat, "can": _can, "round": _round, "bottle": _bottle, "mug": _mug, "lamp": _lamp,
    "monitor": _monitor, "bars": _bars,
}  # fmt: skip
