"""Tiny raw data sets of every layout, of simulated hands seen through each data set's own camera."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import scipy.io
from numpy.typing import NDArray

from tracker.camera.frame import Intrinsics
from tracker.simulation.gestures import GESTURES
from tracker.simulation.hand import HandModel
from tracker.simulation.render import Mesh, render
from tracker.simulation.rotations import turn

CREATIVE = Intrinsics(320, 240, 241.42, 241.42, 160, 120)
KINECT = Intrinsics(640, 480, 588.036865, 587.075073, 320, 240)
SR300 = Intrinsics(640, 480, 475.065948, 475.065857, 315.944855, 245.287079)

Floats = NDArray[np.float64]


class Scene(NamedTuple):
    """depth: (height, width) metres. joints: (21, 3) of `hand21`, metres, optical frame."""

    depth: NDArray[np.float32]
    joints: Floats


def scene(
    k: Intrinsics, number: int = 0, side: str = "right", place: tuple[float, float, float] | None = None
) -> Scene:
    """A hand that is held up, palm towards the camera, another pose for each number."""
    hand = HandModel.load().rig(side=side)
    pose = list(GESTURES.values())[(0, 3, 17)[number % 3]]
    rotation = turn(2, 0.2 + 0.3 * number) @ turn(0, 0.15)
    vertices, joints = hand.pose(pose, rotation)
    shift = np.array(place or (0.03 - 0.02 * number, 0.01, 0.42 + 0.03 * number)) - joints.mean(axis=0)
    vertices, joints = vertices + shift, joints + shift
    return Scene(render([Mesh(vertices.astype(np.float32), hand.faces)], k), joints.astype(np.float64))


def uvd(joints: Floats, k: Intrinsics) -> Floats:
    """Pixels, pixels, millimetres."""
    return np.concatenate([k.project(joints), 1000 * joints[:, 2:]], axis=1)


def hands_joints(joints: Floats) -> Floats:
    """`hand21` to the order of HANDS 2017: wrist, the first joints of all fingers, then the rest of each finger."""
    rest = [1 + 4 * finger + part for finger in range(5) for part in (1, 2, 3)]
    return joints[[0, 1, 5, 9, 13, 17, *rest]]


def msra_joints(joints: Floats) -> Floats:
    """`hand21` to the order of MSRA: the thumb comes last."""
    return joints[[0, *range(5, 21), 1, 2, 3, 4]]


def icvl_joints(joints: Floats) -> Floats:
    """`hand21` to the 16 of ICVL: the palm, and root, middle, tip of each finger from the thumb on."""
    palm = joints[[0, 5, 9, 13, 17]].mean(axis=0)
    return np.stack([palm, *(joints[1 + 4 * finger + part] for finger in range(5) for part in (0, 2, 3))])


def nyu_joints(joints: Floats) -> Floats:
    """`hand21` to the 36 of NYU: six per finger from the little one's tip on, thumb last, then the palm."""
    rows = []
    for finger in (4, 3, 2, 1, 0):
        root, first, second, tip = joints[1 + 4 * finger : 5 + 4 * finger]
        rows += [tip, (tip + second) / 2, second, (first + second) / 2, first, root]
    wrist, index, little, middle = joints[[0, 5, 17, 9]]
    across = (index - little) / 4
    rows += [wrist - across, wrist + across, (wrist + middle) / 2, middle, (wrist + little) / 2, wrist]
    return np.stack(rows)


def write_png(path: Path, image: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def millimetres(depth: NDArray[np.float32]) -> NDArray[np.uint16]:
    return np.rint(depth * 1000).astype(np.uint16)


def line(name: str, numbers: Floats, separator: str = "\t") -> str:
    return separator.join([name, *(f"{value:.4f}" for value in numbers.ravel())]) + "\n"


def write_nyu(root: Path, count: int = 2, split: str = "train") -> list[Scene]:
    scenes = [scene(KINECT, number) for number in range(count)]
    for number, seen in enumerate(scenes, start=1):
        mm = millimetres(seen.depth)
        write_png(root / split / f"depth_1_{number:07d}.png", np.dstack([mm & 255, mm >> 8, mm * 0]).astype(np.uint8))
    joints = np.stack([nyu_joints(seen.joints) for seen in scenes])
    pixels = np.stack([uvd(frame, KINECT) for frame in joints])
    # Three cameras; the others' labels must not be taken.
    xyz = np.stack([joints * (1000, -1000, 1000), joints * 0 + 1, joints * 0 + 2])
    found = {"joint_xyz": xyz, "joint_uvd": np.stack([pixels, pixels * 0 + 1, pixels * 0 + 2])}
    scipy.io.savemat(root / split / "joint_data.mat", found)
    return scenes


def write_icvl(root: Path) -> list[Scene]:
    """Training: two originals and a copy that is called rotated. Testing: one frame in each sequence."""
    scenes = [scene(CREATIVE, number, side="left") for number in range(3)]
    names = ["201403121135/image_0000.png", "201403121135/image_0001.png", "22-5/image_0000.png"]
    for seen, name in zip(scenes, names, strict=True):
        write_png(root / "Training" / "Depth" / name, millimetres(seen.depth))
    labels = [
        line(name, uvd(icvl_joints(seen.joints), CREATIVE), " ") for seen, name in zip(scenes, names, strict=True)
    ]
    (root / "Training" / "labels.txt").write_text("".join(labels))
    for number in (1, 2):
        name = f"test_seq_{number}/image_0000.png"
        write_png(root / "Testing" / "Depth" / name, millimetres(scenes[number].depth))
        label = line(name, uvd(icvl_joints(scenes[number].joints), CREATIVE), " ")
        (root / "Testing" / f"test_seq_{number}.txt").write_text(label + "\n")
    return scenes


MSRA_GESTURES = ("1", "2", "3", "4", "5", "6", "7", "8", "9", "I", "IP", "L", "MP", "RP", "T", "TIP", "Y")


def box_of(k: Intrinsics, joints: Floats) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a hand, with a margin for its skin."""
    pixels, margin = k.project(joints), 0.05 * k.fx
    left, top = np.maximum(np.floor(pixels.min(axis=0) - margin), 0).astype(int)
    right, bottom = np.minimum(np.ceil(pixels.max(axis=0) + margin), (k.width, k.height)).astype(int)
    return int(left), int(top), int(right), int(bottom)


def write_bin(path: Path, depth: NDArray[np.float32], joints: Floats) -> None:
    left, top, right, bottom = box_of(CREATIVE, joints)
    header = np.array([depth.shape[1], depth.shape[0], left, top, right, bottom], "<i4")
    crop = (depth[top:bottom, left:right] * 1000).astype("<f4")
    path.write_bytes(header.tobytes() + crop.tobytes())


def write_msra(root: Path) -> list[Scene]:
    """All nine subjects and 17 gestures, a frame each; the scene is that of the subject's number modulo 3."""
    scenes = [scene(CREATIVE, number, place=(0.01, 0.02, 0.32 + 0.02 * number)) for number in range(3)]
    for subject in range(9):
        seen = scenes[subject % 3]
        for gesture in MSRA_GESTURES:
            folder = root / f"P{subject}" / gesture
            folder.mkdir(parents=True)
            labels = msra_joints(seen.joints) * (1000, -1000, -1000)
            (folder / "joint.txt").write_text("1\n" + " ".join(f"{value:.3f}" for value in labels.ravel()) + "\n")
            write_bin(folder / "000000_depth.bin", seen.depth, seen.joints)
    return scenes


def _write_hands(labels: Path, images: Path, boxes: Path, test_images: Path, sizes: bool) -> list[Scene]:
    scenes = [scene(SR300, number) for number in range(3)]
    lines, box_lines = [], []
    for number, seen in enumerate(scenes):
        name = f"image_D{number + 1:08d}.png"
        lines.append(line(name, hands_joints(seen.joints) * 1000))
        write_png(images / name, millimetres(seen.depth))
        write_png(test_images / name, millimetres(seen.depth))
        left, top, right, bottom = box_of(SR300, seen.joints)
        box = (left, top, right - left, bottom - top) if sizes else (left, top, right, bottom)
        box_lines.append("\t".join([name, *map(str, box)]) + "\n")
    labels.write_text("".join(lines))
    boxes.write_text("".join(box_lines))
    return scenes


def write_hands2017(root: Path) -> list[Scene]:
    train, test = root / "training", root / "frame"
    return _write_hands(
        train / "Training_Annotation.txt", train / "images", test / "BoundingBox.txt", test / "images", sizes=True
    )


def write_hands2019(root: Path) -> list[Scene]:
    return _write_hands(
        root / "training_joint_annotation.txt",
        root / "training_images",
        root / "test_bbs.txt",
        root / "test_images",
        sizes=False,
    )


def write_bighand(root: Path) -> list[Scene]:
    scenes = [scene(SR300, number) for number in range(2)]
    folder = root / "full_annotation" / "Subject_1"
    folder.mkdir(parents=True)
    (root / "full_annotation" / "README.txt").write_text("about the data\n")
    for number, seen in enumerate(scenes):
        write_png(root / "Subject_1" / "1 75" / f"image_D{number:08d}.png", millimetres(seen.depth))
    lines = [line(f"{number:08d}", hands_joints(seen.joints) * 1000) for number, seen in enumerate(scenes)]
    (folder / "1 75_loc_shift_made_by_qi_20180112_v2.txt").write_text("".join(lines))
    return scenes


def write_recording(root: Path) -> list[Scene]:
    """Frame 0: a right and a left hand. Frame 2: nobody. Frame 5: a right hand with an unknown wrist."""
    k = Intrinsics(320, 240, 300.0, 300.0, 160.0, 118.0)
    entries = {"width": 320, "height": 240, "fx": 300.0, "fy": 300.0, "cx": 160.0, "cy": 118.0}
    root.mkdir(exist_ok=True)
    (root / "camera.json").write_text(json.dumps({"name": "tiny", **entries, "depth_scale": 0.000125}))
    right = scene(k, 1, place=(-0.1, 0.0, 0.45))
    left = scene(k, 1, side="left", place=(0.12, 0.01, 0.5))
    alone = scene(k, 1)
    both = np.where(left.depth > 0, left.depth, right.depth)
    for number, depth in ((0, both), (2, both * 0), (5, alone.depth)):
        write_png(root / "depth" / f"{number:06d}.png", np.rint(depth / 0.000125).astype(np.uint16))
    wristless = [None, *alone.joints[1:].tolist()]
    truth = [
        {"frame": 0, "hands": [
            {"side": "right", "joints": right.joints.tolist()}, {"side": "left", "joints": left.joints.tolist()}]},
        {"frame": 2, "hands": []},
        {"frame": 5, "hands": [{"side": "right", "joints": wristless}]},
    ]  # fmt: skip
    (root / "joints.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in truth))
    return [right, left, alone]
