"""`python -m trainer convert`: data sets and files to the compact format or to HDF5; old checkpoints to safetensors."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.errors import DataError
from trainer.commands.writing import add_writing_arguments, write_with_progress
from trainer.data import importers

if TYPE_CHECKING:
    from trainer.data.sample import SampleSource

KINDS = ("hdf5", "packed", "nyu", "icvl", "msra", "hands2017", "hands2019", "bighand", "recording")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `convert`."""
    parser.add_argument(
        "source", type=Path, metavar="SOURCE", help="an HDF5 file, a compact folder, a raw data set, an old checkpoint"
    )
    parser.add_argument(
        "output", type=Path, metavar="OUT", help="a folder of the compact format, or OUT.h5; weights: OUT.safetensors"
    )
    parser.add_argument(
        "--from",
        dest="kind",
        default="auto",
        choices=("auto", *KINDS),
        help="what SOURCE is (default: auto tells HDF5, compact and recording folders)",
    )
    parser.add_argument(
        "--axes", default="xyz", choices=("xyz", "yxz"), help="of the grids that an old checkpoint was trained on"
    )
    add_writing_arguments(parser)
    importers.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """`python -m trainer convert SOURCE OUT`."""
    if options.output.suffix == ".safetensors":
        from trainer.reference_checkpoint import convert_checkpoint

        if options.output.exists():
            raise DataError(f"{options.output} is there already: give another output")
        network = convert_checkpoint(options.source, options.output, options.edge, axes=options.axes)
        print(f"{options.output}: {network.config.v2v.joints} joints, for cubes of {network.config.edge} m")
        return 0
    if not options.source.exists():
        raise DataError(f"no such file or folder: {options.source}")
    if options.output.exists() and options.output.resolve() == options.source.resolve():
        raise DataError(f"{options.output} is the source itself: give another output")
    kind = guess_kind(options.source) if options.kind == "auto" else options.kind
    source = open_source(kind, options)
    origin = {"from": kind, "name": options.source.resolve().name, "options": _importer_options(options)}
    # Frames of a raw data set in which no hand is found come without points; the samples of files stay what they were.
    keep_empty = kind in ("hdf5", "packed")
    return write_with_progress(source, options, origin, getattr(source, "joint_names", None), keep_empty)


def _importer_options(options: argparse.Namespace) -> dict[str, str]:
    """The options of the importer that are not as usual, as index.json tells them."""
    parser = argparse.ArgumentParser()
    importers.add_arguments(parser)
    usual = vars(parser.parse_args([]))
    return {name: str(vars(options)[name]) for name, value in usual.items() if vars(options)[name] != value}


def guess_kind(source: Path) -> str:
    """What a path holds, by the names in it. Raises DataError if they do not tell."""
    from trainer.data.packed import INDEX

    if source.is_file() and source.suffix in (".h5", ".hdf5"):
        return "hdf5"
    for name, kind in ((INDEX, "packed"), ("camera.json", "recording")):
        if (source / name).is_file():
            return kind
    raise DataError(f"what {source} is cannot be told from its names; say it with --from {' | '.join(KINDS)}")


def open_source(kind: str, options: argparse.Namespace) -> SampleSource:
    """The samples of a file or folder of a kind. Raises DataError."""
    from trainer.data.hdf5 import Hdf5Samples
    from trainer.data.packed import PackedSamples

    source: Any
    if kind == "hdf5":
        source = Hdf5Samples(options.source, options.data_label, options.cubes_label, options.com3d_y)
    elif kind == "packed":
        source = PackedSamples(options.source)
    else:
        source = importers.open_data_set(kind, options.source, options)
    return source
