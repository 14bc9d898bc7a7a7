"""Rotation matrices, as plain functions: one small matrix at a time, where a library call costs more than the sums."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def turn(axis: int, angle: float) -> Matrix:
    """Right-handed rotation (3, 3) about the coordinate axis 0, 1 or 2 by radians."""
    c, s = math.cos(angle), math.sin(angle)
    matrix = np.eye(3)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def about(axis: NDArray[np.floating], angle: float) -> Matrix:
    """Right-handed rotation (3, 3) about a unit vector (3,) by radians (Rodrigues)."""
    x, y, z = (float(value) for value in axis)
    c, s = math.cos(angle), math.sin(angle)
    k = 1 - c
    return np.array(
        [
            [c + k * x * x, k * x * y - s * z, k * x * z + s * y],
            [k * x * y + s * z, c + k * y * y, k * y * z - s * x],
            [k * x * z - s * y, k * y * z + s * x, c + k * z * z],
        ]
    )


def random_rotation(rng: np.random.Generator) -> Matrix:
    """A rotation (3, 3) drawn evenly from all of them: a normalised quaternion of normal numbers (Shoemake 1992)."""
    w, x, y, z = rng.standard_normal(4)
    length = math.sqrt(x * x + y * y + z * z)
    return about(np.array([x, y, z]) / length, 2 * math.atan2(length, w))
