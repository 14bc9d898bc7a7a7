"""The HDF5 training files that data sets of this kind come in, read as they are."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tracker.errors import DataError
from trainer.data.sample import Sample


class Hdf5Samples:
    """Samples of an HDF5 file, as points: the centres of occupied voxels, whatever network they are for.

    path: group `data_label`, whose item str(i) holds the bytes of an .npz with a 3-D boolean grid, axes y x z; `labels`
    (n, J, 3), x y z in [-1, 1]; `cubes_label` (n, 3), the edges of each sample's cube in millimetres.
    Raises DataError for a file that is not of this form. Opened lazily, so that worker processes open their own.
    """

    def __init__(self, path: Path, data_label: str = "real_voxels", cubes_label: str = "cube") -> None:
        self.path, self.data_label, self.cubes_label = path, data_label, cubes_label
        self._file: h5py.File | None = None
        self._voxels = self._open()
        labels = self._dataset("labels")
        if labels.ndim != 3 or labels.shape[2] != 3 or not len(labels):
            raise DataError(f"{path}: labels must be of shape (samples, joints, 3), are {labels.shape}")
        self._labels: NDArray[np.float32] = labels[:].astype(np.float32)
        cubes = self._dataset(cubes_label)
        if cubes.shape[0] != len(labels):
            raise DataError(f"{path}: {len(labels)} labels but {cubes.shape[0]} cubes in {cubes_label!r}")
        self._edges: NDArray[np.float64] = np.asarray(cubes[:], np.float64).reshape(len(labels), -1)[:, 0] / 1000
        if not (np.isfinite(self._edges) & (self._edges > 0)).all():
            raise DataError(f"{path}: {cubes_label!r} must hold positive edge lengths in millimetres")
        if len(self._voxels) < len(labels):
            raise DataError(f"{path}: {len(labels)} labels but {len(self._voxels)} samples in {data_label!r}")
        self.joints = int(labels.shape[1])

    def _open(self) -> Any:
        if not self.path.is_file():
            raise DataError(f"no such file: {self.path}")
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as error:
            raise DataError(f"{self.path} is not a readable HDF5 file ({error})") from error
        group = self._file.get(self.data_label)
        if not isinstance(group, h5py.Group):
            found = ", ".join(name for name, item in self._file.items() if isinstance(item, h5py.Group))
            raise DataError(
                f"{self.path} has no group {self.data_label!r} (groups: {found or 'none'}); see --data-label"
            )
        return group

    def _dataset(self, name: str) -> h5py.Dataset:
        assert self._file is not None
        found = self._file.get(name)
        if not isinstance(found, h5py.Dataset):
            raise DataError(f"{self.path} has no data set {name!r}; it holds {', '.join(self._file)}")
        return found

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> Sample:
        if self._file is None:
            self._voxels = self._open()
        grid = self._grid(index)
        y, x, z = np.nonzero(grid)
        points = (np.stack([x, y, z], axis=1).astype(np.float32) + 0.5) * (2 / np.array(grid.shape, np.float32)) - 1
        return Sample(points.astype(np.float32), self._labels[index], float(self._edges[index]))

    def _grid(self, index: int) -> NDArray[np.bool_]:
        try:
            raw = self._voxels[str(index)][()]
            data = raw.tobytes() if isinstance(raw, np.ndarray | np.void) else bytes(raw)
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                grid = archive["arr_0"]
        except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{self.path}: sample {index} of {self.data_label!r} cannot be read ({error})") from error
        if grid.ndim != 3:
            raise DataError(f"{self.path}: sample {index} is not a 3-D grid but of shape {grid.shape}")
        return grid.astype(bool, copy=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_voxels": None}
