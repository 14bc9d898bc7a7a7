"""Writes the samples of any source: to a folder of the compact format, or to an HDF5 file."""

from __future__ import annotations

import hashlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save as save_tensors

from tracker.errors import DataError
from trainer.data.packed import INDEX, Index, Layout, Shard, check_shard, join, pack, read_index, shard_name
from trainer.data.parallel import in_order
from trainer.data.sample import Sample, SampleSource

PIECE = 64
"""Samples that a process prepares at a time."""
FURTHEST = 1.35
"""How far out the points of a source are kept that does not say how far they reach, cube coordinates."""


class PackedWriter:
    """A folder of the compact format, shard after shard: each is renamed into place whole, then told in index.json.

    A folder that holds some shards of the same samples already is gone on with; damaged ones are made again.
    Raises DataError for a folder of other samples, or one that holds other things.
    """

    def __init__(self, folder: Path, index: Index, keep_empty: bool = True) -> None:
        """index: what the folder is to hold, no shards in it yet. keep_empty: samples without points too."""
        self.folder = folder
        self.prepare = partial(_pack_all, layout=index.layout, joints=index.joints, keep_empty=keep_empty)
        self.index = index
        if (folder / INDEX).exists():
            self._go_on(read_index(folder))
        elif folder.exists() and (not folder.is_dir() or any(item.suffix != ".part" for item in folder.iterdir())):
            raise DataError(f"{folder} is there already and is not of the compact format: give another folder")
        self._parts: list[dict[str, NDArray[Any]]] = []
        folder.mkdir(parents=True, exist_ok=True)
        self._tell()

    def _tell(self) -> None:
        write_whole(self.folder / INDEX, self.index.to_json().encode())

    def _go_on(self, found: Index) -> None:
        for name in ("items", "joints", "joint_names", "layout", "shard_items", "origin"):
            there, here = getattr(found, name), getattr(self.index, name)
            if there != here:
                raise DataError(
                    f"{self.folder} holds other samples: {name} is {there} there and {here} here; give another folder"
                )
        for number, shard in found.shards.items():
            try:
                check_shard(self.folder, shard)
            except DataError as error:
                print(f"made again: {error}", file=sys.stderr)
                continue
            self.index.shards[number] = shard

    def missing(self) -> Iterator[range]:
        """The items that are still to be written, in pieces; none goes over the border of a shard."""
        for number in range(self.index.shard_count):
            if number not in self.index.shards:
                whole = self.index.range_of(number)
                yield from (whole[start : start + PIECE] for start in range(0, len(whole), PIECE))

    def append(self, piece: range, prepared: dict[str, NDArray[Any]]) -> None:
        """Add the next piece of `missing`; writes the shard that it completes."""
        number = piece.start // self.index.shard_items
        self._parts.append(prepared)
        if piece.stop < self.index.range_of(number).stop:
            return
        tensors = join(self._parts)
        self._parts = []
        data = save_tensors(tensors)
        path = self.folder / shard_name(number)
        write_whole(path, data)
        checksum = hashlib.sha256(data).hexdigest()
        self.index.shards[number] = Shard(path.name, len(tensors["edge"]), len(data), checksum)
        self._tell()

    @property
    def samples(self) -> int:
        """How many are written."""
        return self.index.samples

    def close(self) -> None:
        """Nothing is left open."""

    def abandon(self) -> str:
        """What a person is told whose work was stopped."""
        if not self.index.shards:
            return f"nothing is written yet: the first shard of {self.folder} was not finished"
        done, all_of_them = len(self.index.shards), self.index.shard_count
        return f"{done} of {all_of_them} shards are in {self.folder}; the same command goes on from there"


class _Disk(io.FileIO):
    """A file that remembers that it could not be written, and swallows what comes after.

    The HDF5 library goes on after a full disk as if nothing had been, and ends the process when it closes the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), "w+")
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """All of it, or none once it has failed."""
        left = memoryview(data)
        with self._remembering():
            while len(left) and self.error is None:
                left = left[super().write(left) :]
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        """To a size, if it has not failed before."""
        with self._remembering():
            if self.error is None:
                return super().truncate(size)
        return size or 0

    @contextmanager
    def _remembering(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename = self.name
            self.error = error

    def check(self) -> None:
        """Raises OSError if something could not be written."""
        if self.error is not None:
            raise self.error


class Hdf5Writer:
    """An HDF5 file of the common form, renamed into place when it is whole; what lies around the cubes is left out.

    Besides labels, cubes and voxels: com3D (n, 3) mm, camera frame, NaN where not known, and with it gt3Dcrop (n, J, 3)
    mm, the joints from there, which tells readers that y points down in com3D; file_name/<i>; and `mirrored` and
    `presence` (n,) where there are left hands or cubes without a hand. Raises DataError if the file is there already.
    """

    def __init__(
        self, path: Path, items: int, grid: int, data_label: str, cubes_label: str, keep_empty: bool = True
    ) -> None:
        """items: of the source. grid: voxels along an edge. keep_empty: samples without points too."""
        if path.exists():
            raise DataError(f"{path} is there already: give another name, or remove it")
        self.path, self.items, self.cubes_label = path, items, cubes_label
        self.prepare = partial(_zip_all, grid=grid, keep_empty=keep_empty)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._part = path.with_name(path.name + ".part")
        self._disk = _Disk(self._part)
        self._file = h5py.File(self._disk, "w")
        self._voxels = self._file.create_group(data_label)
        self._rows: list[Sample] = []

    def missing(self) -> Iterator[range]:
        """All items, in pieces."""
        return (range(start, min(start + PIECE, self.items)) for start in range(0, self.items, PIECE))

    def append(self, piece: range, prepared: tuple[list[bytes], list[Sample]]) -> None:
        """Add the next piece."""
        packed, rows = prepared
        for index, data in enumerate(packed, len(self._rows)):
            self._voxels[str(index)] = np.frombuffer(data, np.uint8)
            self._disk.check()
        self._rows += rows

    @property
    def samples(self) -> int:
        """How many are written."""
        return len(self._rows)

    def close(self) -> None:
        """Write the tables and put the file in its place."""
        rows, file = self._rows, self._file
        if not rows:
            raise DataError(f"there is nothing to write: none of {self.items} items held a hand")
        unknown = (np.nan, np.nan, np.nan)
        file["labels"] = np.stack([row.joints for row in rows]).astype(np.float32)
        file[self.cubes_label] = np.array([(row.edge * 1000,) * 3 for row in rows], np.float32)
        if any(row.center is not None for row in rows):
            file["com3D"] = np.array([row.center or unknown for row in rows], np.float32) * np.float32(1000)
            file["gt3Dcrop"] = np.stack([_from_center(row) for row in rows])
        if any(row.name for row in rows):
            for index, row in enumerate(rows):
                file[f"file_name/{index}"] = np.frombuffer(row.name.encode() or b"\0", np.uint8)
        if any(row.mirrored for row in rows):
            file["mirrored"] = np.array([row.mirrored for row in rows], np.uint8)
        if not all(row.presence for row in rows):
            file["presence"] = np.array([row.presence for row in rows], np.uint8)
        file.close()
        self._disk.check()
        os.fsync(self._disk.fileno())
        self._disk.close()
        self._part.replace(self.path)

    def abandon(self) -> str:
        """Remove what is there of it."""
        with suppress(OSError, RuntimeError, ValueError):
            self._file.close()
        self._disk.close()
        self._part.unlink(missing_ok=True)
        return f"{self.path} is not written: an HDF5 file is written whole (a folder of the compact format can go on)"


def _from_center(sample: Sample) -> NDArray[np.float32]:
    """The joints (J, 3) of a sample in mm from the centre of its cube, camera frame; left hands as they were."""
    side = -1 if sample.mirrored else 1
    return (sample.joints * (np.array([side, 1, 1]) * sample.edge * 500)).astype(np.float32)


def _kept(samples: Sequence[Sample], keep_empty: bool) -> list[Sample]:
    return [sample for sample in samples if keep_empty or len(sample.points)]


def _pack_all(samples: Sequence[Sample], layout: Layout, joints: int, keep_empty: bool) -> dict[str, NDArray[Any]]:
    return pack(_kept(samples, keep_empty), layout, joints)


def _zip_all(samples: Sequence[Sample], grid: int, keep_empty: bool) -> tuple[list[bytes], list[Sample]]:
    """The .npz of each sample's grid, and the samples without their points."""
    layout, packed = Layout(grid), []
    samples = _kept(samples, keep_empty)
    for sample in samples:
        occupancy = np.zeros((grid, grid, grid), bool)
        x, y, z = layout.voxels(sample.points).T
        occupancy[y, x, z] = True
        buffer = io.BytesIO()
        np.savez_compressed(buffer, occupancy)
        packed.append(buffer.getvalue())
    nothing = np.empty((0, 3), np.float32)
    return packed, [replace(sample, points=nothing) for sample in samples]


Writer = PackedWriter | Hdf5Writer


def write_whole(path: Path, data: bytes) -> None:
    """Put a file in its place at once: after a crash it is there whole, or as it was."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        error.filename = str(path)
        part.unlink(missing_ok=True)
        raise


def fingerprint(source: SampleSource) -> str:
    """Tells sources apart that go by the same name: a checksum of the first, the middle and the last sample."""
    layout = Layout(256, FURTHEST)
    chosen = sorted({0, len(source) // 2, len(source) - 1})
    return hashlib.sha256(save_tensors(pack([source[index] for index in chosen], layout, source.joints))).hexdigest()[
        :16
    ]


def open_writer(
    output: Path,
    source: SampleSource,
    origin: dict[str, Any],
    *,
    joint_names: Sequence[str] | None,
    grid: int | None,
    shard_items: int,
    keep_empty: bool,
    data_label: str,
    cubes_label: str,
) -> Writer:
    """The writer for an output: an HDF5 file if its name ends in .h5 or .hdf5, else a folder of the compact format.

    origin: what index.json says of where the samples come from; a fingerprint is added. grid: voxels along a cube's
    edge; as the source has them, else 88, if None. keep_empty: samples without points too.
    """
    if not len(source):
        raise DataError("there are no samples to write")
    edge = grid if grid is not None else int(getattr(source, "grid", 88))
    if output.suffix in (".h5", ".hdf5"):
        return Hdf5Writer(output, len(source), edge, data_label, cubes_label, keep_empty)
    index = Index(
        items=len(source),
        joints=source.joints,
        layout=Layout(edge, float(getattr(source, "reach", FURTHEST))),
        shard_items=shard_items,
        origin=origin | {"fingerprint": fingerprint(source)},
        joint_names=None if joint_names is None else tuple(joint_names),
    )
    return PackedWriter(output, index, keep_empty)


def write(source: SampleSource, writer: Writer, workers: int, done: Callable[[int], Any]) -> None:
    """Write what is missing. done: called with the number of items of each piece.

    Raises whatever the source raises; what was finished stays.
    """
    prepare: Callable[[list[Sample]], Any] = writer.prepare
    pieces = in_order(source, writer.missing(), prepare, workers)
    try:
        for piece, prepared in pieces:
            writer.append(piece, prepared)
            done(len(piece))
        writer.close()
    except BaseException:
        pieces.close()
        print(writer.abandon(), file=sys.stderr)
        raise
