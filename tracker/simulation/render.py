"""A z-buffer in numpy: triangle meshes to a depth image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import Intrinsics

NEAR = 0.05
"""Triangles that reach nearer than this many metres are left out."""


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """Vertices (n, 3) in metres, camera frame; faces (m, 3), seen from outside anticlockwise about the outward normal.

    closed: only the faces turned to the camera are drawn.
    """

    vertices: NDArray[np.floating]
    faces: NDArray[np.integer]
    closed: bool = True


def render(
    meshes: Sequence[Mesh],
    intrinsics: Intrinsics,
    rows: slice = slice(None),
    columns: slice = slice(None),
    labels: NDArray[np.uint8] | None = None,
) -> NDArray[np.float32]:
    """Depth along the optical axis, (window height, window width) float32 metres, 0 where nothing is.

    rows, columns: the window of the image. labels: filled, if given, with 1 + index of the mesh seen, 0 for none.
    """
    top, bottom, _ = rows.indices(intrinsics.height)
    left, right, _ = columns.indices(intrinsics.width)
    height, width = max(bottom - top, 0), max(right - left, 0)
    # Nearness 1/z is linear over a triangle's image and its largest value wins.
    nearness = np.zeros(height * width, np.float32)
    if labels is not None:
        labels[...] = 0
    for number, mesh in enumerate(meshes, start=1):
        corners = mesh.vertices
        with np.errstate(divide="ignore", invalid="ignore"):
            near = (1 / corners[:, 2]).astype(np.float32)
            u = corners[:, 0] * near * np.float32(intrinsics.fx) + np.float32(intrinsics.cx - left)
            v = corners[:, 1] * near * np.float32(intrinsics.fy) + np.float32(intrinsics.cy - top)
        ok = (corners[:, 2] > NEAR)[mesh.faces].all(axis=1)
        faces = mesh.faces[ok]
        _draw(u[faces], v[faces], near[faces], mesh.closed, nearness, height, width, labels, number)
    with np.errstate(divide="ignore"):
        depth = np.where(nearness > 0, 1 / nearness, np.float32(0))
    return depth.reshape(height, width)


def _draw(
    u: NDArray[np.float32],
    v: NDArray[np.float32],
    near: NDArray[np.float32],
    closed: bool,
    nearness: NDArray[np.float32],
    height: int,
    width: int,
    labels: NDArray[np.uint8] | None,
    number: int,
) -> None:
    """Draws triangles given by their corners (m, 3) in window pixels and 1/z; pixel centres lie on whole numbers.

    Each triangle is cut into rows and each row into pixels, all the rows and all the pixels at once.
    """
    u, v = u.T, v.T
    area = (u[1] - u[0]) * (v[2] - v[0]) - (u[2] - u[0]) * (v[1] - v[0])
    first = np.maximum(np.ceil(np.minimum(np.minimum(v[0], v[1]), v[2])), 0)
    last = np.minimum(np.floor(np.maximum(np.maximum(v[0], v[1]), v[2])), height - 1)
    # x right and y down turn the sense of rotation: outwards anticlockwise in space has a negative area here.
    seen = np.nonzero((last >= first) & ((area < 0) if closed else (area != 0)))[0]
    if len(seen) == 0:
        return
    u, v, near, area = u[:, seen].astype(np.float64), v[:, seen].astype(np.float64), near.T[:, seen], area[seen]
    start_row = first[seen].astype(np.int64)
    count = last[seen].astype(np.int64) - start_row + 1

    # Rows: where each of the three edges bounds them.
    triangle = np.repeat(np.arange(len(seen)), count)
    y = np.arange(len(triangle)) - (np.cumsum(count) - count - start_row)[triangle]
    low = np.zeros(len(triangle))
    high = np.full(len(triangle), width - 1.0)
    for a, b in ((0, 1), (1, 2), (2, 0)):
        rise = v[b] - v[a]
        level = rise == 0
        slope = (u[b] - u[a]) / np.where(level, 1, rise)
        # The triangle lies right of an edge that goes down (up, for a triangle wound the other way).
        is_low = ((rise < 0) == (area > 0)) & ~level
        edge = u[a] - v[a] * slope
        x = edge[triangle] + slope[triangle] * y
        low_rows = is_low[triangle]
        np.maximum(low, np.where(low_rows, x, 0), out=low)
        np.minimum(high, np.where(low_rows | level[triangle], width - 1.0, x), out=high)
    # The margin keeps rounding from opening cracks between neighbours.
    x_first = np.ceil(low - 1e-5).astype(np.int64)
    length = np.floor(high + 1e-5).astype(np.int64) - x_first + 1
    rows = np.nonzero(length > 0)[0]
    triangle, y, x_first, length = triangle[rows], y[rows], x_first[rows], length[rows]

    per_x = ((near[1] - near[0]) * (v[2] - v[0]) - (near[2] - near[0]) * (v[1] - v[0])) / area
    per_y = ((near[2] - near[0]) * (u[1] - u[0]) - (near[1] - near[0]) * (u[2] - u[0])) / area
    start = near[0][triangle] + per_x[triangle] * (x_first - u[0][triangle]) + per_y[triangle] * (y - v[0][triangle])

    # Pixels.
    row = np.repeat(np.arange(len(rows)), length)
    step = np.arange(len(row)) - (np.cumsum(length) - length)[row]
    pixel = (y * width + x_first)[row] + step
    value = start.astype(np.float32)[row] + per_x[triangle].astype(np.float32)[row] * step.astype(np.float32)
    label = np.uint8(number)
    # Where a pixel comes up twice in one assignment one of them stays: repeat until the nearest has won everywhere.
    while True:
        wins = value > nearness[pixel]
        if not wins.any():
            break
        pixel, value = pixel[wins], value[wins]
        nearness[pixel] = value
        if labels is not None:
            labels.reshape(-1)[pixel] = label
