"""Time from the pixels of a hand's region to its occupancy grid, on one core.

    python benchmarks/voxelise.py

Compared, in the same run, with the plain way: every pixel of the image back-projected and cut to the cube, and the
grid filled by a loop over its points in Python. The paper's pipeline took 23 ms for its input.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch
from machine import machine

from tracker import open_camera
from tracker.camera.frame import DepthFrame
from tracker.hand.cube import Cube, crop, cube_center, triple
from tracker.hand.voxels import voxelise


def plain(frame: DepthFrame, cube: Cube, size: int) -> np.ndarray:
    """The reference."""
    points = cube.normalise(frame.points().reshape(-1, 3)[frame.depth.reshape(-1) > 0])
    grid = np.zeros((size, size, size), np.uint8)
    for x, y, z in points[((points >= -1) & (points < 1)).all(axis=1)]:
        grid[int((x + 1) / 2 * size), int((y + 1) / 2 * size), int((z + 1) / 2 * size)] = 1
    return grid


def main() -> int:
    torch.set_num_threads(1)
    with open_camera("simulated", realtime=False) as camera:
        frame = camera.read()
    assert frame is not None
    assert frame.truth is not None
    cube = Cube(triple(cube_center(frame.truth[0].joints)))
    print(machine())
    print(f"{'grid':>6} {'points':>7} {'p50 ms':>8} {'p95 ms':>8} {'plain ms':>9} {'ratio':>7}")
    for size in (48, 88):
        out = torch.zeros((1, size, size, size), dtype=torch.uint8)
        times = []
        for _ in range(300):
            start = time.perf_counter()
            points = torch.from_numpy(crop(frame, cube))
            voxelise(points, torch.zeros(len(points), dtype=torch.int64), 1, size, out=out)
            times.append((time.perf_counter() - start) * 1e3)
        start = time.perf_counter()
        reference = plain(frame, cube, size)
        plain_ms = (time.perf_counter() - start) * 1e3
        differ = int((reference != out[0].numpy()).sum())
        if differ > 2:  # float32 against float64 at a voxel's face
            print(f"error: {differ} voxels differ from the reference", file=sys.stderr)
            return 1
        p50, p95 = np.percentile(times[20:], [50, 95])
        print(f"{size:>4}^3 {len(points):7} {p50:8.2f} {p95:8.2f} {plain_ms:9.1f} {plain_ms / p50:7.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
