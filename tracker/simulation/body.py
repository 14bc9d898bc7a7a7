"""The person behind the hands: head, torso and thighs of the base mesh, decimated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CELL = 0.025
"""Edge of the clustering cells, metres: noise of a depth camera at one metre hides anything finer."""


def decimate(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], weights: dict[str, NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Clusters the vertices of everything but arms and feet (Rossignac and Borrel 1993).

    vertices: (n, 3) metres, y up, z to the front of the person. weights: skin weights (n,) by bone name.
    Returns vertices with the origin between the shoulders, x right, y down, z backwards (into the picture of a camera
    that the person faces), and faces.
    """
    limbs = ("upperarm", "lowerarm", "wrist", "metacarpal", "finger", "foot", "toe", "lowerleg")
    gone = np.sum([w for name, w in weights.items() if name.startswith(limbs)], axis=0) > 0.5
    kept = faces[~gone[faces].any(1)]
    cells = np.floor(vertices / CELL).astype(np.int64)
    _, cluster = np.unique(cells[kept].reshape(-1, 3), axis=0, return_inverse=True)
    cluster = cluster.reshape(-1)
    count = np.bincount(cluster)
    points = np.stack([np.bincount(cluster, vertices[kept.reshape(-1), i]) / count for i in range(3)], axis=1)
    small = cluster.reshape(-1, 3)
    whole = (small[:, 0] != small[:, 1]) & (small[:, 1] != small[:, 2]) & (small[:, 2] != small[:, 0])
    shoulders = weights["shoulder01.R"] + weights["shoulder01.L"]
    origin = (vertices * shoulders[:, None]).sum(0) / shoulders.sum()
    return (points - origin) * np.array([1.0, -1.0, -1.0]), np.unique(small[whole], axis=0)
