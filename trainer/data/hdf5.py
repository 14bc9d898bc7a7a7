"""The HDF5 training files that data sets of this kind come in, read as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from tracker.errors import DataError
from trainer.data.npz import MOST_BYTES, occupied
from trainer.data.sample import Sample

H5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError)
"""What h5py raises on damaged files."""

Y = Literal["auto", "down", "up"]
"""Where the y of `com3D` points. auto: as `gt3Dcrop` tells; down without it, as files of this program have it."""
TOLD_BY = 1000
"""Samples whose `gt3Dcrop` is looked at: the convention is one for the file."""


class Hdf5Samples:
    """Samples of an HDF5 file, as points: the centres of occupied voxels, whatever network they are for.

    path: group `data_label`, whose item str(i) holds the bytes of an .npz with a 3-D boolean grid, axes y x z; `labels`
    (n, J, 3), x y z in [-1, 1]; `cubes_label` (n, 3), the edges of each sample's cube in millimetres. Optional: `com3D`
    (n, 3), the cubes' centres in millimetres; `gt3Dcrop` (n, J, 3), the joints from there, in millimetres and in the
    frame of com3D; `file_name`, whose item str(i) is a name; `mirrored` and `presence` (n,).
    Labels and grids have y down, as samples do. com3D may have it up (files of NYU do): see `Y`; centres of samples are
    turned into the camera frame. Raises DataError for a file that is not of this form. Opened lazily, so that worker
    processes open their own.
    """

    reach = 1.0
    """Its grids span the cube and nothing beyond."""

    def __init__(
        self, path: Path, data_label: str = "real_voxels", cubes_label: str = "cube", com3d_y: Y = "auto"
    ) -> None:
        self.path, self.data_label, self.cubes_label, self.com3d_y = path, data_label, cubes_label, com3d_y
        self._file: h5py.File | None = None
        self._voxels = self._open()
        try:
            self._read_tables()
        except H5_ERRORS as error:
            raise DataError(f"{path} is damaged: its tables cannot be read ({error})") from error

    def _read_tables(self) -> None:
        labels, cubes = self._dataset("labels"), self._dataset(self.cubes_label)
        if labels.ndim != 3 or labels.shape[2] != 3 or not labels.size:
            raise DataError(f"{self.path}: labels must be of shape (samples, joints, 3), are {labels.shape}")
        count = len(labels)
        if cubes.ndim not in (1, 2) or len(cubes) != count or not cubes.size:
            raise DataError(f"{self.path}: {count} labels, but {self.cubes_label!r} is of shape {cubes.shape}")
        if len(self._voxels) < count:
            raise DataError(f"{self.path}: {count} labels but {len(self._voxels)} samples in {self.data_label!r}")
        self._labels: NDArray[np.float32] = labels[:].astype(np.float32)
        self._edges = self._equal_edges(np.asarray(cubes[:], np.float64).reshape(count, -1)) / 1000
        self.joints = int(labels.shape[1])
        self._centers = self._camera_centers(count)
        self._mirrored = self._optional("mirrored", (count,))
        self._presence = self._optional("presence", (count,))
        self.others = 0.0 if self._presence is None else float(1 - np.mean(self._presence[:].astype(bool)))
        """Share of the cubes that hold no hand."""

    @property
    def grid(self) -> int:
        """Voxels along an edge of the first sample."""
        return self._grid(0)[1][0]

    def _open(self) -> Any:
        if not self.path.is_file():
            raise DataError(f"no such file: {self.path}")
        try:
            self._file = h5py.File(self.path, "r")
            group = self._file.get(self.data_label)
            if isinstance(group, h5py.Group):
                len(group)  # which a damaged one does not have
                return group
            found = ", ".join(name for name, item in self._file.items() if isinstance(item, h5py.Group))
        except H5_ERRORS as error:
            raise DataError(f"{self.path} is not a readable HDF5 file ({error})") from error
        raise DataError(f"{self.path} has no group {self.data_label!r} (groups: {found or 'none'}); see --data-label")

    def _dataset(self, name: str) -> h5py.Dataset:
        assert self._file is not None
        found = self._file.get(name)
        if not isinstance(found, h5py.Dataset):
            raise DataError(f"{self.path} has no data set {name!r}; it holds {', '.join(self._file)}")
        return found

    def _optional(self, name: str, shape: tuple[int, ...]) -> NDArray[Any] | None:
        assert self._file is not None
        found = self._file.get(name)
        if found is None:
            return None
        if not isinstance(found, h5py.Dataset) or found.shape != shape:
            raise DataError(f"{self.path}: {name!r} must be of shape {shape}, is {getattr(found, 'shape', 'a group')}")
        return np.asarray(found[:])

    def _equal_edges(self, edges: NDArray[np.float64]) -> NDArray[np.float64]:
        """One edge (n,) of each cube, of one or three (n, k) of them, mm. Raises DataError if they are not equal."""
        if not (np.isfinite(edges) & (edges > 0)).all():
            raise DataError(f"{self.path}: {self.cubes_label!r} must hold positive edge lengths in millimetres")
        uneven = ~np.isclose(edges, edges[:, :1], rtol=1e-4).all(axis=1)
        if uneven.any():
            # Grids have one size of voxel, and millimetres of a joint are one factor for all axes.
            index = int(uneven.argmax())
            told = " x ".join(f"{edge:g}" for edge in edges[index])
            raise DataError(
                f"{self.path}: the cube of sample {index} is {told} mm in {self.cubes_label!r}; all edges of a cube "
                "must be of one length: cut these samples out of equal-sided cubes"
            )
        return edges[:, 0]

    def _camera_centers(self, count: int) -> NDArray[np.float64] | None:
        """The cubes' centres (n, 3), metres, camera frame; None if the file does not tell."""
        centers = self._optional("com3D", (count, 3))
        if centers is None:
            return None
        up = self._told_up() if self.com3d_y == "auto" else self.com3d_y == "up"
        return centers.astype(np.float64) * ((1, -1, 1) if up else (1, 1, 1)) / 1000

    def _told_up(self) -> bool:
        """Whether `gt3Dcrop` is the labels with y turned; False if it does not tell."""
        assert self._file is not None
        crop = self._file.get("gt3Dcrop")
        if not isinstance(crop, h5py.Dataset) or crop.shape != self._labels.shape:
            return False
        theirs = crop[:TOLD_BY, :, 1].astype(np.float64)
        ours = self._labels[:TOLD_BY, :, 1] * (self._edges[:TOLD_BY, None] * 500)
        return bool(np.nansum(abs(theirs + ours)) < np.nansum(abs(theirs - ours)))

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> Sample:
        index_yxz, shape = self._grid(index)
        voxels = index_yxz[:, [1, 0, 2]].astype(np.float32)
        points = (voxels + 0.5) * (2 / np.array(shape, np.float32)[[1, 0, 2]]) - 1
        center = None
        if self._centers is not None and np.isfinite(self._centers[index]).all():
            x, y, z = self._centers[index].tolist()
            center = x, y, z
        return Sample(
            points.astype(np.float32),
            self._labels[index],
            float(self._edges[index]),
            presence=self._presence is None or bool(self._presence[index]),
            center=center,
            mirrored=self._mirrored is not None and bool(self._mirrored[index]),
            name=self._name(index),
        )

    def _raw(self, path: str) -> bytes:
        """The bytes of an item, one void or 1-D uint8. Raises ValueError, also for more than any sample can have."""
        assert self._file is not None
        item = self._file.get(path)
        if not isinstance(item, h5py.Dataset):
            raise ValueError("it is missing")
        if item.size is None or item.size * item.dtype.itemsize > MOST_BYTES:
            raise ValueError(f"holds more than {MOST_BYTES >> 20} MiB, or nothing")
        raw = item[()]
        return raw.tobytes() if isinstance(raw, np.ndarray | np.void) else bytes(raw)

    def _name(self, index: int) -> str:
        assert self._file is not None
        if "file_name" not in self._file:
            return ""
        try:
            return self._raw(f"file_name/{index}").decode(errors="replace").rstrip("\0")
        except H5_ERRORS as error:
            raise DataError(f"{self.path}: file_name/{index} cannot be read ({error})") from error

    def _grid(self, index: int) -> tuple[NDArray[np.int64], tuple[int, ...]]:
        """The occupied voxels (n, 3) of a sample, y x z, and the shape of its grid."""
        if self._file is None:
            self._voxels = self._open()
        try:
            voxels, shape = occupied(self._raw(f"{self.data_label}/{index}"))
        except H5_ERRORS as error:
            raise DataError(f"{self.path}: sample {index} of {self.data_label!r} cannot be read ({error})") from error
        if len(shape) != 3:
            raise DataError(f"{self.path}: sample {index} is not a 3-D grid but of shape {shape}")
        return voxels, shape

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_voxels": None}
