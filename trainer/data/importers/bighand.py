"""BigHand2.2M (Yuan et al. 2017) and text labels of its style: lines of an image's name and 21 joints in millimetres.

full_annotation/Subject_1/1 75_loc_shift_made_by_qi_20180112_v2.txt labels Subject_1/1 75/image_D00000000.png, ...;
its lines name an image by the number alone, by its file name, or by a path. Camera and joints are those of HANDS 2017.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tracker.errors import DataError
from trainer.data.importers.centers import found_center
from trainer.data.importers.common import DepthSamples, Frames, build, metres
from trainer.data.importers.hands2017 import EDGE, read_image
from trainer.data.importers.joint_sets import HANDS
from trainer.data.importers.text import read_labels

ANNOTATIONS = "full_annotation"


def open_samples(root: Path, options: argparse.Namespace) -> DepthSamples:
    """The frames of one file of labels (`--labels`), or of all under full_annotation/. Raises DataError.

    `--images` names the folder that the images' names are relative to, where it is not found by itself.
    """
    names: list[str] = []
    labels = []
    for path in [options.labels] if options.labels is not None else _label_files(root):
        found, numbers = read_labels(path, 3 * len(HANDS), "x y z of 21 joints in mm")
        names += _image_names(root, path, found, options.images)
        labels.append(numbers)
    frames = Frames(
        folder=options.images or root,
        names=names,
        joint_names=HANDS,
        joints=metres(np.concatenate(labels)),
        left=np.zeros(len(names), np.bool_),
    )
    return build(frames, options, read_image, found_center, EDGE)


def _label_files(root: Path) -> list[Path]:
    folder = root / ANNOTATIONS
    found = sorted(path for path in folder.rglob("*.txt") if not path.name.lower().startswith("readme"))
    if not found:
        raise DataError(f"{folder} holds no label files: expected Subject_1/1 75_....txt and so on, or name --labels")
    return found


def _image_names(root: Path, path: Path, names: list[str], images: Path | None) -> list[str]:
    """Paths of a label file's images, relative to `images`, or to `root`."""
    tried = [] if images is None else [(images, "")]
    if images is None:
        # "Subject_1/1 75_loc_....txt" labels the images of "Subject_1/1 75".
        tried = [(root, f"{path.parent.name}/{path.stem.partition('_')[0]}/"), (root, f"{path.stem}/"), (root, "")]
        tried += [(root, "images/")]
    first = names[0].replace("\\", "/")
    for base, folder in tried:
        for pattern in _patterns():
            if (base / (folder + pattern.format(first))).is_file():
                return [folder + pattern.format(name.replace("\\", "/")) for name in names]
    places = ", ".join(str(base / folder) for base, folder in tried)
    raise DataError(f"{path}: its first image {names[0]} is in none of {places}; name its folder with --images")


def _patterns() -> Iterator[str]:
    """How a label's name is made a file name."""
    yield from ("{}", "image_D{}.png", "{}.png")
