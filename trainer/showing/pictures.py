"""Pictures of samples: voxels from three sides, joints, predictions and heat maps over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tracker.hand.heatmaps import gaussian_maps
from tracker.hand.skeleton import BONES, JOINT_COUNT

GRID: Final = 88
MAPS: Final = 44
"""Voxels along the edge of the paper's input and of its heat maps."""
MOST_ROWS: Final = 100
WIDTH: Final = 3.0
HEIGHT: Final = 3.25
"""Inches of a column and of a row with its title."""
FINGER_COLORS: Final = ("tab:red", "tab:orange", "tab:green", "tab:blue", "tab:purple")


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What is shown of one sample.

    points: (n, 3), joints: (J, 3), predicted: (J, 3), all in cube coordinates, NaN where not known. edge: metres.
    """

    title: str
    points: NDArray[np.float32]
    joints: NDArray[np.float32]
    edge: float
    predicted: NDArray[np.float32] | None = None

    @property
    def inside(self) -> NDArray[np.float32]:
        """The points in the cube, which are all that a network sees."""
        return self.points[((self.points >= -1) & (self.points < 1)).all(axis=1)]

    @property
    def error_mm(self) -> float | None:
        """Mean distance of the predicted joints from the truth, in millimetres."""
        if self.predicted is None or not np.isfinite(self.joints).all(axis=1).any():
            return None
        return float(np.nanmean(np.linalg.norm(self.predicted - self.joints, axis=1)) * self.edge / 2 * 1000)


@dataclass(frozen=True, slots=True)
class Side:
    """A side to look from, of which a picture is no mirror image.

    right, vertical, depth: the axes along the picture and away from the eye, 0 1 2 for x y z. up: `vertical` points up
    in the picture. beyond: the eye is where `depth` is greatest and looks back along it.
    """

    name: str
    right: int
    vertical: int
    depth: int
    up: bool = False
    beyond: bool = False

    @property
    def origin(self) -> Literal["lower", "upper"]:
        """Where Matplotlib puts the first row."""
        return "lower" if self.up else "upper"

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top of the cube in its own coordinates."""
        return (-1, 1, -1, 1) if self.up else (-1, 1, 1, -1)


SIDES: Final = (Side("front", 0, 1, 2), Side("side", 2, 1, 0, beyond=True), Side("above", 0, 2, 1, up=True))


def target_map(joints: NDArray[np.float32], chosen: Sequence[int]) -> NDArray[np.float32]:
    """The target heat map of the chosen joints, the highest where they overlap: (44, 44, 44) float32, axes x y z."""
    maps = gaussian_maps(torch.from_numpy(np.ascontiguousarray(joints[list(chosen)]))[None], MAPS)
    return np.asarray(maps[0].amax(dim=0).numpy())


def joint_colors(count: int) -> NDArray[np.float64]:
    """(count, 3) RGB 0..1: a colour a finger for `hand21`, else a rainbow."""
    if count == JOINT_COUNT:
        names = ["black", *(color for color in FINGER_COLORS for _ in range(4))]
        return np.array([matplotlib.colors.to_rgb(name) for name in names])
    return np.asarray(matplotlib.colormaps["turbo"](np.linspace(0.05, 0.95, count))[:, :3])


def draw_samples(scenes: Sequence[Scene], chosen: Sequence[int] = ()) -> Figure:
    """A row of pictures a scene: from the front, the side and above; once more with heat maps of the `chosen` joints.

    Raises ValueError for more than 100 scenes.
    """
    if not 0 < len(scenes) <= MOST_ROWS:
        raise ValueError(f"a picture shows 1 to {MOST_ROWS} samples, not {len(scenes)}")
    columns = len(SIDES) * (2 if chosen else 1)
    figure = Figure(figsize=(WIDTH * columns, HEIGHT * len(scenes)))
    FigureCanvasAgg(figure)
    for row, scene in enumerate(scenes):
        error = scene.error_mm
        title = scene.title + (f", error {error:.1f} mm" if error is not None else "")
        figure.text(0.5, 1 - (row + 0.03) / len(scenes), title, fontsize=9, ha="center", va="top")
        heat = target_map(scene.joints, chosen) if chosen else None
        for column in range(columns):
            # Placed by hand: Matplotlib's own layouts take minutes for hundreds of axes.
            place = ((column + 0.05) / columns, 1 - (row + 0.92) / len(scenes), 0.9 / columns, 0.83 / len(scenes))
            axes = figure.add_axes(place)
            side = SIDES[column % len(SIDES)]
            _draw_voxels(axes, scene, side)
            if column < len(SIDES):
                _draw_joints(axes, scene, side)
            elif heat is not None:
                _draw_heat(axes, heat, side)
    return figure


def write_picture(figure: Figure, path: Path) -> None:
    """Write a PNG, whole or not at all. Raises OSError."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        figure.savefig(partial, format="png", dpi=80)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _draw_voxels(axes: Axes, scene: Scene, side: Side) -> None:
    """The nearest voxel of each line of sight, dark near the eye and pale far from it."""
    index = np.floor((scene.inside + 1) * (GRID / 2)).astype(np.int64)
    far = GRID - 1 - index[:, side.depth] if side.beyond else index[:, side.depth]
    nearest = np.full((GRID, GRID), np.inf)
    np.minimum.at(nearest, (index[:, side.vertical], index[:, side.right]), far)
    span = max(1, int(far.max() - far.min())) if len(far) else 1
    shade = np.where(np.isfinite(nearest), 0.15 + 0.7 * (nearest - far.min(initial=GRID)) / span, 1.0)
    axes.imshow(shade, cmap="gray", vmin=0, vmax=1, origin=side.origin, extent=side.extent)
    known = scene.joints[np.isfinite(scene.joints).all(axis=1)]
    reach = 1.02 if not len(known) else float(np.clip(np.abs(known).max() + 0.05, 1.02, 2.0))
    axes.set_xlim(-reach, reach)
    axes.set_ylim(*((-reach, reach) if side.up else (reach, -reach)))
    axes.set_xticks([])
    axes.set_yticks([])
    right, vertical = "xyz"[side.right], "xyz"[side.vertical]
    axes.set_xlabel(f"{side.name}: {right} right, {vertical} {'up' if side.up else 'down'}", fontsize=8)


def _draw_joints(axes: Axes, scene: Scene, side: Side) -> None:
    x, y = scene.joints[:, side.right], scene.joints[:, side.vertical]
    colors = joint_colors(len(x))
    axes.scatter(x, y, c=colors, s=10, zorder=3)
    if len(x) == JOINT_COUNT:
        bones = np.array(BONES)
        lines = np.stack([x[bones], y[bones]], axis=2)
        axes.add_collection(LineCollection(list(lines), colors=list(colors[bones[:, 1]]), linewidths=1.2))
    else:
        for i in np.flatnonzero(np.isfinite(x + y)):
            axes.annotate(str(i), (x[i], y[i]), xytext=(2, 2), textcoords="offset points", fontsize=7)
    if scene.predicted is not None:
        found_x, found_y = scene.predicted[:, side.right], scene.predicted[:, side.vertical]
        lines = np.stack([np.stack([x, y], axis=1), np.stack([found_x, found_y], axis=1)], axis=1)
        axes.add_collection(LineCollection(list(lines), colors="magenta", linewidths=0.8))
        axes.scatter(found_x, found_y, color="magenta", marker="x", s=14, linewidths=1, zorder=4)


def _draw_heat(axes: Axes, heat: NDArray[np.float32], side: Side) -> None:
    """The highest value along each line of sight, red over the voxels."""
    flat = heat.max(axis=side.depth)
    # What is left are two of the axes x y z in this order; rows must be `vertical`.
    flat = flat.T if side.right < side.vertical else flat
    red = np.zeros((MAPS, MAPS, 4))
    red[..., 0], red[..., 3] = 1, 0.8 * flat
    axes.imshow(red, origin=side.origin, extent=side.extent, interpolation="nearest")
