"""The compact format: a folder of shards, the occupied voxels of each sample as an octree of about 1.2 kB.

    index.json                 what the folder holds: see `Index`
    shard-00000.safetensors    some thousand samples, one tensor for each field: see `FIELDS`

957,000 samples take about 1.3 GB: they are loaded into memory (or onto a GPU) whole, and batches decoded from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from torch import Tensor

from tracker.errors import DataError
from trainer.data.octree import MOST_LEVELS, decode, encode, levels_of
from trainer.data.sample import Batch, Sample, rays

FORMAT = "hand-octrees"
VERSION = 1
INDEX = "index.json"

FIELDS: dict[str, tuple[type[np.generic], tuple[int | None, ...]]] = {
    "offsets": (np.int64, ()),
    "joints": (np.float32, (None, 3)),
    "edge": (np.float32, ()),
    "presence": (np.uint8, ()),
    "center": (np.float32, (3,)),
    "mirrored": (np.uint8, ()),
    "name_offsets": (np.int64, ()),
}
"""Types and shapes of a shard's tensors, (samples, *shape); the two of offsets have one more. Sample i's octree is
stream[offsets[i] : offsets[i + 1]], its name names[name_offsets[i] : name_offsets[i + 1]] in UTF-8. Joints: cube
coordinates. edge: metres. center: metres, camera frame, NaN where not known. Besides: `stream` and `names`, uint8."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The voxels of a file.

    grid: voxels along the edge of a cube. reach: the least that is kept, in cube coordinates; samples that know what
    lies around their cube keep it, so that augmentation can bring it in.
    """

    grid: int = 88
    reach: float = 1.0

    def __post_init__(self) -> None:
        if self.grid < 1 or not self.reach >= 1 or self.span > 1 << MOST_LEVELS:
            raise ValueError(
                f"a grid of {self.grid} voxels that reaches to {self.reach} cannot be stored: from 1 to"
                f" {1 << MOST_LEVELS} voxels in all, a reach from 1 up"
            )

    @property
    def margin(self) -> int:
        """Voxels beyond each face of the cube."""
        return int(np.ceil((self.reach - 1) * self.grid / 2 - 1e-9))

    @property
    def span(self) -> int:
        """Voxels along an edge in all."""
        return self.grid + 2 * self.margin

    @property
    def levels(self) -> int:
        """Of the octrees."""
        return levels_of(self.span)

    def voxels(self, points: NDArray[np.float32]) -> NDArray[np.int64]:
        """Cube coordinates (n, 3) to voxels (m, 3); points beyond the reach, or that are not finite, are left out."""
        index = np.floor((points + np.float32(1)) * np.float32(self.grid / 2)) + self.margin
        return index[((index >= 0) & (index < self.span)).all(axis=1)].astype(np.int64)


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of the folder; sha256 of all its bytes."""

    file: str
    samples: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Index:
    """What index.json says.

    items: of the source; a shard is of `shard_items` of them in a row, but for the last one. It has fewer samples than
    that if some items held no usable hand. origin: of the samples, whatever tells them from others.
    """

    items: int
    joints: int
    layout: Layout
    shard_items: int
    origin: dict[str, Any]
    joint_names: tuple[str, ...] | None = None
    shards: dict[int, Shard] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """How many are in the shards that are there."""
        return sum(shard.samples for shard in self.shards.values())

    @property
    def complete(self) -> bool:
        """Whether every shard is there."""
        return len(self.shards) == self.shard_count

    @property
    def shard_count(self) -> int:
        """How many shards there are to be."""
        return -(-self.items // self.shard_items)

    def range_of(self, shard: int) -> range:
        """The items of the source that a shard is of."""
        start = shard * self.shard_items
        return range(start, min(start + self.shard_items, self.items))

    def to_json(self) -> str:
        """The text of index.json."""
        shards = [asdict(self.shards[number]) for number in sorted(self.shards)]
        head: dict[str, Any] = {"format": FORMAT, "version": VERSION, "complete": self.complete}
        head |= {"samples": self.samples, "joints": self.joints, "joint_names": self.joint_names}
        head |= asdict(self.layout) | {"items": self.items, "shard_items": self.shard_items, "origin": self.origin}
        return json.dumps(head | {"shards": shards}, indent=1) + "\n"


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"shard-{number:05d}.safetensors"


def read_index(folder: Path) -> Index:
    """What a folder holds. Raises DataError if it is not of this format."""
    path = folder / INDEX
    try:
        head = json.loads(path.read_text())
        if head["format"] != FORMAT:
            raise DataError(f"{path} is not of the compact format; make one with `python -m trainer convert`")
        if head["version"] != VERSION:
            raise DataError(f"{path} is of version {head['version']}, this program reads {VERSION}: convert it again")
        shards = [Shard(str(s["file"]), int(s["samples"]), int(s["bytes"]), str(s["sha256"])) for s in head["shards"]]
        names = head["joint_names"]
        index = Index(
            items=int(head["items"]),
            joints=int(head["joints"]),
            layout=Layout(int(head["grid"]), float(head["reach"])),
            shard_items=int(head["shard_items"]),
            origin=dict(head["origin"]),
            joint_names=None if names is None else tuple(str(name) for name in names),
        )
        if index.items < 1 or index.joints < 1 or index.shard_items < 1:
            raise ValueError("items, joints and shard_items must be at least 1")
        numbers = {shard_name(number): number for number in range(index.shard_count)}
        for shard in shards:
            # Only names of this very form: none leads out of the folder.
            number = numbers.get(shard.file, -1)
            if number < 0 or not 0 <= shard.samples <= len(index.range_of(number)):
                raise ValueError(f"{shard.file!r} of {shard.samples} samples does not belong")
            index.shards[number] = shard
    except FileNotFoundError:
        raise DataError(
            f"{folder} holds no {INDEX}: not of the compact format; `python -m trainer convert` reads raw data sets"
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(f"{path} is damaged ({type(error).__name__}: {error}); convert the data again") from error
    return index


def check_shard(folder: Path, shard: Shard) -> bytes:
    """The bytes of a shard. Raises DataError, naming the file, if they are not those that were written."""
    path = folder / shard.file
    mend = "the command that made the folder makes it again"
    try:
        size = path.stat().st_size
        if size != shard.bytes:
            raise DataError(f"{path} is damaged: {size} bytes instead of {shard.bytes}; {mend}")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); {mend}") from error
    if hashlib.sha256(data).hexdigest() != shard.sha256:
        raise DataError(f"{path} is damaged: its checksum is another; {mend}")
    return data


def pack(samples: Sequence[Sample], layout: Layout, joints: int) -> dict[str, NDArray[Any]]:
    """Samples, of `joints` joints each, as the tensors of a shard."""
    if any(sample.joints.shape != (joints, 3) for sample in samples):
        raise DataError(f"samples must all be of {joints} joints")
    nothing = np.empty(0, np.uint8)
    streams = [encode(layout.voxels(sample.points), layout.levels) for sample in samples]
    names = [np.frombuffer(sample.name.encode(), np.uint8) for sample in samples]
    unknown = (np.nan, np.nan, np.nan)
    return {
        "stream": np.concatenate([nothing, *streams]),
        "offsets": np.cumsum([0, *map(len, streams)], dtype=np.int64),
        "joints": np.array([sample.joints for sample in samples], np.float32).reshape(-1, joints, 3),
        "edge": np.array([sample.edge for sample in samples], np.float32),
        "presence": np.array([sample.presence for sample in samples], np.uint8),
        "center": np.array([sample.center or unknown for sample in samples], np.float32).reshape(-1, 3),
        "mirrored": np.array([sample.mirrored for sample in samples], np.uint8),
        "names": np.concatenate([nothing, *names]),
        "name_offsets": np.cumsum([0, *map(len, names)], dtype=np.int64),
    }


def join(parts: Sequence[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """The tensors of consecutive samples as one set."""
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    for name in ("offsets", "name_offsets"):
        lengths = np.concatenate([np.diff(part[name]) for part in parts])
        joined[name] = np.cumsum(np.concatenate([[0], lengths]), dtype=np.int64)
    return joined


def _unpack(data: bytes, shard: Shard, joints: int, path: Path) -> dict[str, NDArray[Any]]:
    """The tensors of a shard, of the types and shapes that they must have."""
    try:
        tensors = load_tensors(data)
        for name, (kind, shape) in FIELDS.items():
            count = shard.samples + name.endswith("offsets")
            wanted = (count, *(joints if length is None else length for length in shape))
            if tensors[name].dtype != kind or tensors[name].shape != wanted:
                raise ValueError(f"{name} is {tensors[name].dtype} {tensors[name].shape} instead of {wanted}")
        for name, content in (("offsets", "stream"), ("name_offsets", "names")):
            offsets = tensors[name]
            if tensors[content].dtype != np.uint8 or tensors[content].ndim != 1:
                raise ValueError(f"{content} must be bytes")
            if offsets[0] != 0 or offsets[-1] != len(tensors[content]) or (np.diff(offsets) < 0).any():
                raise ValueError(f"{name} do not fit {content}")
    except (SafetensorError, KeyError, ValueError) as error:
        raise DataError(f"{path} does not hold what it should ({error}); convert the data again") from error
    return tensors


class PackedSamples:
    """The samples of a folder of the compact format, in memory whole; points are centres of voxels.

    Raises DataError, naming the file, for a folder that is unfinished, damaged or of another form.
    """

    def __init__(self, folder: Path, device: torch.device | None = None) -> None:
        """device: where the samples are kept and batches are made; the CPU if None."""
        self.folder, self.index = folder, read_index(folder)
        index = self.index
        if not index.complete:
            raise DataError(
                f"{folder} is unfinished: {len(index.shards)} of {index.shard_count} shards; run the command that made"
                " it again, it goes on where it stopped"
            )
        if not index.samples:
            raise DataError(f"{folder} holds no samples: none of {index.items} items held a hand")
        self.joints, self.joint_names = index.joints, index.joint_names
        self.layout, self.grid, self.reach = index.layout, index.layout.grid, index.layout.reach
        # Filled as the shards are read, so that the octrees are never in memory twice; more than enough, which costs
        # nothing, since what is not written to takes no memory.
        stream, used, parts = np.empty(sum(shard.bytes for shard in index.shards.values()), np.uint8), 0, []
        for number in range(index.shard_count):
            shard = index.shards[number]
            part = _unpack(check_shard(folder, shard), shard, index.joints, folder / shard.file)
            octrees = part.pop("stream")
            stream[used : used + len(octrees)] = octrees
            used += len(octrees)
            parts.append(part)
        tensors = {"stream": stream[:used], **join(parts)}
        self.others = float(1 - tensors["presence"].mean())
        """Share of the cubes that hold no hand."""
        self._names = tensors.pop("names").tobytes()
        self._name_offsets = tensors.pop("name_offsets")
        self._tensors = {name: torch.from_numpy(tensor).to(device or "cpu") for name, tensor in tensors.items()}

    def move_to(self, device: torch.device) -> None:
        """Keep the samples on a device and make batches there; where it has no room for them, all stays as it is."""
        with contextlib.suppress(torch.OutOfMemoryError):
            self._tensors = {name: tensor.to(device) for name, tensor in self._tensors.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedSamples, (self.folder,)  # other processes read the files for themselves

    def __len__(self) -> int:
        return self.index.samples

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        points, _ = self._points(torch.tensor([index], device=self._tensors["edge"].device))
        center = self._tensors["center"][index].tolist()
        start, end = self._name_offsets[index : index + 2].tolist()
        return Sample(
            points.cpu().numpy(),
            self._tensors["joints"][index].cpu().numpy(),
            float(self._tensors["edge"][index]),
            presence=bool(self._tensors["presence"][index]),
            center=None if np.isnan(center).any() else (center[0], center[1], center[2]),
            mirrored=bool(self._tensors["mirrored"][index]),
            name=self._names[start:end].decode(errors="replace"),
        )

    def batch(self, indices: Sequence[int] | Tensor, keys: Sequence[int] | None = None) -> Batch:
        """Samples by index, decoded together, on the device of this source. keys: see `Batch`."""
        tensors, device = self._tensors, self._tensors["edge"].device
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        if len(chosen) and (int(chosen.min()) < 0 or int(chosen.max()) >= len(self)):
            raise IndexError(f"samples are from 0 to {len(self) - 1}")
        chosen = chosen.to(device)
        points, sample = self._points(chosen)
        return Batch(
            points=points,
            sample=sample,
            joints=tensors["joints"][chosen],
            edge=tensors["edge"][chosen],
            presence=tensors["presence"][chosen].float(),
            ray=rays(tensors["center"][chosen], tensors["mirrored"][chosen]),
            key=torch.arange(len(chosen), device=device)
            if keys is None
            else torch.as_tensor(keys, dtype=torch.int64).to(device),
        )

    def _points(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """The points (P, 3) of samples, cube coordinates, and which sample of `chosen` each is of."""
        offsets = self._tensors["offsets"]
        try:
            index, sample = decode(self._tensors["stream"], offsets[chosen], offsets[chosen + 1], self.layout.levels)
        except DataError as error:
            raise DataError(f"{self.folder}: {error}") from error
        size = 2 / self.grid
        return index.float().mul_(size).add_((0.5 - self.layout.margin) * size - 1), sample
