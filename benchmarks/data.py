"""Milliseconds that one core spends on a training sample: decoding, augmentation, voxels.

    python benchmarks/data.py [--data FILE.h5] [--batch-size 16]

Compared, in the same run, with the plain way, a sample at a time in NumPy: np.load of the .npz, each voxel rotated,
scaled and moved about the centre and rounded again, the grid filled; and with what was measured for a published port
of V2V-PoseNet on one core: 2.6 ms to decode and 21.8 ms to augment a sample (41 samples a second). Target heat maps
are apart: both ways need them. Without --data, simulated hands.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import torch
from machine import machine

from tracker.hand.heatmaps import gaussian_maps
from tracker.hand.voxels import voxelise
from trainer.data.packed import PackedSamples
from trainer.data.synthetic import SyntheticSamples
from trainer.data.writing import open_writer, write
from trainer.fitting.augment import PAPER, augment

PORT_MS = 2.6 + 21.8
SECONDS = 3.0


def plain(data: bytes, joints: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The reference: one sample to its augmented grid and joints."""
    with np.load(io.BytesIO(data)) as archive:
        grid = archive["arr_0"]
    size = grid.shape[0]
    voxels = np.argwhere(grid)[:, [1, 0, 2]].astype(np.float64)
    joints = (joints + 1) / 2 * size
    angle = np.radians(rng.uniform(-40, 40))
    rotation = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    scale, shift, middle = rng.uniform(0.8, 1.2), rng.uniform(-8, 8, 3), size / 2
    moved = (voxels + 0.5 - middle) @ rotation.T * scale + middle + shift
    joints = (joints - middle) @ rotation.T * scale + middle + shift
    index = np.floor(moved).astype(int)
    x, y, z = index[((index >= 0) & (index < size)).all(axis=1)].T
    out = np.zeros((size, size, size), np.float32)
    out[x, y, z] = 1
    return out, joints / size * 2 - 1


def median_ms(work: Callable[[], object], samples: int) -> float:
    """Median processor time of a call, over the samples that it prepares: others on the machine do not count."""
    for _ in range(3):
        work()
    times = []
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(times) < 5:
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return float(np.median(times)) * 1000 / samples


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="an HDF5 file (default: simulated hands)")
    parser.add_argument("--batch-size", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        samples, npz, labels = load(options.data, Path(folder))
        report(samples, npz, labels, options.batch_size)
    return 0


def load(data: Path | None, folder: Path) -> tuple[PackedSamples, list[bytes], np.ndarray]:
    """The same samples in the compact format, and as the .npz bytes and labels of an HDF5 file."""
    from trainer.data.hdf5 import Hdf5Samples

    settings = {"joint_names": None, "grid": None, "shard_items": 8192, "keep_empty": True}
    settings |= {"data_label": "real_voxels", "cubes_label": "cube"}
    if data is None:
        data = folder / "simulated.h5"
        simulated = SyntheticSamples(256, 1, others=0)
        write(simulated, open_writer(data, simulated, {}, **settings), 1, lambda count: None)
    source = Hdf5Samples(data)
    write(source, open_writer(folder / "packed", source, {}, **settings), 1, lambda count: None)
    with h5py.File(data) as file:
        npz = [file["real_voxels"][str(i)][()].tobytes() for i in range(min(len(source), 256))]
        labels = file["labels"][:]
    return PackedSamples(folder / "packed"), npz, labels


def report(samples: PackedSamples, npz: list[bytes], labels: np.ndarray, size: int) -> None:
    rng = np.random.default_rng(0)

    def one() -> None:
        chosen = int(rng.integers(len(npz)))
        plain(npz[chosen], labels[chosen], rng)

    def chosen() -> list[int]:
        return rng.integers(len(samples), size=size).tolist()

    reference = median_ms(one, 1)
    batch = samples.batch(chosen())
    moved = augment(batch, PAPER)
    print(machine())
    print(
        f"{len(samples)} samples, {len(batch.points) / size:.0f} voxels each, {samples.joints} joints; batches of"
        f" {size}, one core\n"
    )
    print(f"plain NumPy, a sample at a time, 88^3        {reference:8.3f} ms a sample")
    print(f"published port, measured before              {PORT_MS:8.3f} ms a sample\n")
    print(f"decode                                       {median_ms(lambda: samples.batch(chosen()), size):8.3f}")
    print(f"augment                                      {median_ms(lambda: augment(batch, PAPER), size):8.3f}")
    for edge in (88, 48):
        out = torch.empty((size, edge, edge, edge), dtype=torch.uint8)
        alone = median_ms(lambda: voxelise(moved.points, moved.sample, size, edge, out), size)  # noqa: B023

        def whole() -> None:
            # Fresh keys, as training has them: every batch is another one.
            fresh = replace(samples.batch(chosen()), key=torch.from_numpy(rng.integers(1 << 60, size=size)))
            varied = augment(fresh, PAPER)
            voxelise(varied.points, varied.sample, size, edge, out)  # noqa: B023

        ours = median_ms(whole, size)
        print(f"voxelise {edge}^3                                {alone:8.3f}")
        print(
            f"decode + augment + voxelise {edge}^3             {ours:8.3f} ms a sample, {1000 / ours:.0f} a second:"
            f" {reference / ours:.0f} times the plain way, {PORT_MS / ours:.0f} times the port"
        )
    for edge in (44, 24):
        maps = median_ms(lambda: gaussian_maps(moved.joints, edge, 1.7), size)  # noqa: B023
        print(f"target heat maps {edge}^3, {samples.joints} joints             {maps:8.3f} ms a sample")


if __name__ == "__main__":
    sys.exit(main())
