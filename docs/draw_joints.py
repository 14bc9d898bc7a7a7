"""Draw the joints of the protocol on the built-in hand.

python docs/draw_joints.py docs/images/hand21.png
"""

from __future__ import annotations

import sys

import matplotlib as mpl

mpl.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection

from tracker.hand.skeleton import BONES, JOINT_NAMES
from tracker.simulation.hand import HandModel, angle
from tracker.stream.openxr import METACARPALS, OPENXR_BONES, OPENXR_NAMES, PALM, openxr_joints

WRIST_LINE = 0.045
"""Metres of the forearm that are shown."""
SPREAD = {"index_mcp_abduction": 14, "ring_mcp_abduction": 8, "little_mcp_abduction": 18}
"""Degrees, so that the names find room."""
OFFSETS = {
    **{"middle_metacarpal": 9, "index_metacarpal": -5, "thumb_metacarpal": -7},
    **{"middle_mcp": -12, "index_mcp": 8, "middle_proximal": -12, "index_proximal": 8},
    **{"ring_pip": 10, "ring_intermediate": 5, "little_dip": -3, "little_distal": -9},
}
"""Points up, of names that would lie on each other."""


def main(path: str) -> None:
    """Both skeletons beside each other."""
    rigged = HandModel.load().rig()
    pose = np.zeros(23)
    for name, degrees in SPREAD.items():
        pose[angle(name)] = np.radians(degrees)
    vertices, joints = rigged.pose(pose)
    openxr, _ = openxr_joints(joints, "right")
    figure, (left, right) = plt.subplots(1, 2, figsize=(15, 9), layout="constrained")
    for axes in (left, right):
        draw_mesh(axes, vertices, rigged.faces)
    draw_skeleton(left, joints, BONES, JOINT_NAMES, set())
    left.set_title("hand21 (the default)", fontsize=16)
    draw_skeleton(right, openxr, OPENXR_BONES, OPENXR_NAMES, {PALM, *METACARPALS})
    right.set_title("openxr26 (--skeleton openxr26; white: inferred)", fontsize=16)
    figure.savefig(path, dpi=80)


def draw_mesh(axes: Axes, vertices: np.ndarray, faces: np.ndarray) -> None:
    """The skin of a right hand, palm to the viewer, shaded; far faces first."""
    triangles = vertices[faces]
    triangles = triangles[triangles[:, :, 1].mean(axis=1) < WRIST_LINE]
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    order = np.argsort(-triangles[:, :, 2].mean(axis=1))
    shade = np.clip(0.80 - 0.17 * normals[:, 2], 0, 1)[order]
    colors = np.stack([shade, 0.97 * shade, 0.93 * shade], axis=1)
    axes.add_collection(
        PolyCollection(triangles[order][:, :, :2], facecolors=colors, edgecolors=colors, linewidths=0.4)
    )
    axes.set_xlim(-0.115, 0.125)
    axes.set_ylim(WRIST_LINE, -0.2)
    axes.set_aspect("equal")
    axes.axis("off")


def draw_skeleton(
    axes: Axes, joints: np.ndarray, bones: tuple[tuple[int, int], ...], names: tuple[str, ...], inferred: set[int]
) -> None:
    """Bones, joints, and the number and name of each."""
    for parent, child in bones:
        axes.plot(*joints[[parent, child], :2].T, color="#20639b", linewidth=2, zorder=3)
    for number, (joint, name) in enumerate(zip(joints, names)):
        face = "white" if number in inferred else "#ed553b"
        axes.plot(joint[0], joint[1], "o", markersize=8, markerfacecolor=face, markeredgecolor="#20639b", zorder=4)
        to_the_left = name.startswith(("ring", "little"))
        axes.annotate(
            f"{number} {name}",
            (joint[0], joint[1]),
            xytext=(-9 if to_the_left else 9, OFFSETS.get(name, 0)),
            textcoords="offset points",
            fontsize=10,
            verticalalignment="center",
            horizontalalignment="right" if to_the_left else "left",
            zorder=5,
            bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.8},
        )


if __name__ == "__main__":
    main(sys.argv[1])
