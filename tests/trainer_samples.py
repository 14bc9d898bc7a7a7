"""A small HDF5 file of the common form, for the tests of the trainer."""

import io

import h5py
import numpy as np


def write_h5(path, count=6, joints=21, key="real_voxels", cubes="cube", as_bytes=False):
    """A file of the common form: a blob of voxels around random joints."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        labels = rng.uniform(-0.6, 0.6, (count, joints, 3)).astype(np.float32)
        file["labels"] = labels
        file[cubes] = np.full((count, 3), 300.0, np.float32)
        for i in range(count):
            grid = np.zeros((88, 88, 88), bool)
            x, y, z = np.floor((labels[i] + 1) / 2 * 88).astype(int).T
            grid[y, x, z] = True
            buffer = io.BytesIO()
            np.savez_compressed(buffer, grid)
            raw = buffer.getvalue()
            data = np.frombuffer(raw, np.uint8) if as_bytes else np.array([np.void(raw)])
            file[f"{key}/{i}"] = data
    return labels
