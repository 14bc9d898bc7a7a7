"""NYU Hand Pose (Tompson et al. 2014): `train/` and `test/` with joint_data.mat and depth_1_0000001.png, ...

A Kinect at 640x480, right hands. Its own frame has y upwards; depth is packed into the green and blue channels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import DepthFrame, Intrinsics
from tracker.errors import DataError
from trainer.data.importers.centers import found_center
from trainer.data.importers.common import DepthSamples, Frames, build, metres
from trainer.data.importers.images import MILLIMETRE, as_frame, read_png
from trainer.data.importers.joint_sets import NYU_ALL, NYU_USUAL

INTRINSICS = Intrinsics(640, 480, 588.036865, 587.075073, 320.0, 240.0)
"""Of the data set's own conversion between pixels and space; often rounded to 588.03, 587.07."""
EDGE = 0.30
"""DeepPrior++ (Oberweger and Lepetit 2017); V2V-PoseNet used 0.25."""


def open_samples(root: Path, options: argparse.Namespace) -> DepthSamples:
    """The frames of one split, of the first of the three cameras. Raises DataError."""
    split = options.split or "train"
    folder = root / split
    path = folder / "joint_data.mat"
    joints = _joints_of(path, options.truth or "xyz")
    chosen = range(len(NYU_ALL)) if options.all_joints else NYU_USUAL
    frames = Frames(
        folder=folder,
        names=[f"depth_1_{number:07d}.png" for number in range(1, len(joints) + 1)],
        joint_names=tuple(NYU_ALL[joint] for joint in chosen),
        joints=joints[:, list(chosen)],
        left=np.zeros(len(joints), np.bool_),
    )
    return build(frames, options, read_image, found_center, EDGE, center_signs=(1, -1, 1))


def read_image(path: Path) -> DepthFrame:
    """Millimetres: 256 times green plus blue. Raises DataError."""
    image = read_png(path, INTRINSICS, np.uint8, 3).astype(np.uint16)
    return as_frame(image[..., 1] * 256 + image[..., 0], INTRINSICS, MILLIMETRE)


def _joints_of(path: Path, truth: str) -> NDArray[np.float32]:
    """(n, 36, 3) float32, metres, optical frame, from joint_xyz (mm, y up) or joint_uvd (pixels, pixels, mm)."""
    import scipy.io

    if not path.is_file():
        raise DataError(f"no such file: {path}; NYU is a folder with train/joint_data.mat and test/joint_data.mat")
    key = f"joint_{truth}"
    try:
        found = scipy.io.loadmat(path, variable_names=[key]).get(key)
    except Exception as error:  # a broken file makes the reader raise almost anything
        raise DataError(f"{path} cannot be read as a MATLAB file ({error}); unpack it again") from error
    shape = None if found is None else np.shape(found)
    if shape is None or len(shape) != 4 or shape[0] < 1 or shape[1] < 1 or shape[2:] != (len(NYU_ALL), 3):
        raise DataError(f"{path}: {key} must be of shape (cameras, frames, 36, 3), is {shape or 'not there'}")
    labels = np.asarray(found[0], np.float64)
    if not np.isfinite(labels).all():
        raise DataError(f"{path}: {key} holds numbers that are not finite")
    if truth == "xyz":
        return metres(labels.reshape(len(labels), -1).astype(np.float32), (1, -1, 1))
    return back_projected(labels, INTRINSICS)


def back_projected(labels: NDArray[np.floating], k: Intrinsics) -> NDArray[np.float32]:
    """Labels (n, J, 3) u, v in pixels and depth in millimetres to joints in metres, optical frame."""
    z = labels[..., 2] / 1000
    x, y = (labels[..., 0] - k.cx) / k.fx * z, (labels[..., 1] - k.cy) / k.fy * z
    return np.stack([x, y, z], axis=-1).astype(np.float32)
