"""MSRA Hand Gesture (Sun et al. 2015): P0 ... P8, each with 17 gestures, each with joint.txt and 000000_depth.bin, ...

An Intel Creative camera at 320x240, right hands. The labels' frame has y upwards and z towards the viewer.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from tracker.camera.frame import DepthFrame, Intrinsics
from tracker.errors import DataError
from trainer.data.importers.centers import nearest_center
from trainer.data.importers.common import DepthSamples, Frames, build, metres
from trainer.data.importers.images import as_frame, read_bytes
from trainer.data.importers.joint_sets import MSRA
from trainer.data.importers.text import read_numbers

INTRINSICS = Intrinsics(320, 240, 241.42, 241.42, 160.0, 120.0)
EDGE = 0.20
"""DeepPrior++ (Oberweger and Lepetit 2017) and V2V-PoseNet."""
SUBJECTS = range(9)
GESTURES = ("1", "2", "3", "4", "5", "6", "7", "8", "9", "I", "IP", "L", "MP", "RP", "T", "TIP", "Y")
SCALE = 0.0001
"""Metres: the files hold millimetres with fractions."""
HEADER = 6


def open_samples(root: Path, options: argparse.Namespace) -> DepthSamples:
    """The frames by subject, gesture and number, the order of V2V-PoseNet's centre files. Raises DataError.

    Leave-one-out: `--subjects 3 --split test` are the frames of P3, `--subjects 3 --split train` all the others.
    """
    names: list[str] = []
    labels = []
    for subject in _subjects(options):
        for gesture in GESTURES:
            path = root / f"P{subject}" / gesture / "joint.txt"
            count = _count(path)
            labels.append(read_numbers(path, 3 * len(MSRA), "x y z of 21 joints", count))
            names += [f"P{subject}/{gesture}/{number:06d}_depth.bin" for number in range(count)]
    frames = Frames(
        folder=root,
        names=names,
        joint_names=MSRA,
        joints=metres(np.concatenate(labels), (1, -1, -1)),
        left=np.zeros(len(names), np.bool_),
    )
    return build(frames, options, read_image, nearest_center, EDGE, center_signs=(1, -1, 1))


def _subjects(options: argparse.Namespace) -> list[int]:
    if options.subjects is None:
        if options.split == "test":
            raise DataError("msra has no test part of its own: name the subjects to test on, such as --subjects 3")
        return list(SUBJECTS)
    words = options.subjects.split(",")
    if not all(word.strip().isdecimal() and int(word) in SUBJECTS for word in words):
        raise DataError(f"--subjects must be numbers from 0 to 8, such as 3 or 0,3; is {options.subjects}")
    named = {int(word) for word in words}
    test = options.split == "test"
    chosen = [subject for subject in SUBJECTS if (subject in named) == test]
    if not chosen:
        raise DataError("--subjects names all nine: none is left to train on")
    return chosen


def _count(path: Path) -> int:
    """The number of frames, in the first line of a joint.txt."""
    try:
        with path.open(encoding="utf-8") as file:
            first = file.readline().strip()
    except FileNotFoundError as error:
        raise DataError(f"no such file: {path}; MSRA is a folder with P0/1/joint.txt to P8/Y/joint.txt") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}") from error
    if not first.isdecimal() or not int(first):
        raise DataError(f"{path}:1: expected the number of frames, found {first[:40]!r}")
    return int(first)


def read_image(path: Path) -> DepthFrame:
    """A crop: six int32 (image width, height; left, top, right, bottom) and float32 millimetres by rows.

    Raises DataError.
    """
    raw = read_bytes(path)
    size = 4 * HEADER
    if len(raw) < size:
        raise DataError(f"{path} is cut off: it has {len(raw)} bytes, its header alone {size}; unpack it again")
    width, height, left, top, right, bottom = (int(value) for value in np.frombuffer(raw, "<i4", HEADER))
    k = INTRINSICS
    if (width, height) != (k.width, k.height) or not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise DataError(
            f"{path} has a broken header: image {width}x{height}, crop {left},{top} to {right},{bottom}; "
            f"images of MSRA are {k.width}x{k.height}"
        )
    expected = size + 4 * (right - left) * (bottom - top)
    if len(raw) != expected:
        raise DataError(f"{path} has {len(raw)} bytes where its header promises {expected}; unpack it again")
    crop = np.frombuffer(raw, "<f4", offset=size).reshape(bottom - top, right - left)
    depth = np.zeros((k.height, k.width), np.uint16)
    counts = np.nan_to_num(crop * np.float32(0.001 / SCALE), nan=0, posinf=0, neginf=0)
    depth[top:bottom, left:right] = np.rint(counts).clip(0, 65535)
    return as_frame(depth, k, SCALE)
