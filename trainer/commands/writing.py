"""What `convert` and `synthesize` share: their options for the output, and the progress that a person sees."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trainer.commands.arguments import add_data_arguments, positive

if TYPE_CHECKING:
    from trainer.data.sample import SampleSource


LINE_SECONDS = 10.0


def add_writing_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the output."""
    parser.add_argument(
        "--grid", type=positive, metavar="N", help="voxels along a cube's edge (default: as in the source, else 88)"
    )
    parser.add_argument(
        "--shard-samples", type=positive, default=8192, metavar="N", help="samples of a shard (default: 8192)"
    )
    parser.add_argument("--workers", type=positive, metavar="N", help="processes (default: one for each core)")
    add_data_arguments(parser)


def write_with_progress(
    source: SampleSource,
    options: argparse.Namespace,
    origin: dict[str, Any],
    joint_names: tuple[str, ...] | None,
    keep_empty: bool = True,
) -> int:
    """Write a source to `options.output`, with a progress bar at a terminal. Returns the exit status.

    origin, joint_names: for index.json. keep_empty: samples without points too.
    """
    from tqdm import tqdm

    from trainer.data.packed import Layout
    from trainer.data.parallel import usable_cores
    from trainer.data.writing import PIECE, open_writer, write

    if options.grid:
        Layout(options.grid)  # a grid that cannot be stored is told before anything is made
    writer = open_writer(
        options.output,
        source,
        origin,
        joint_names=joint_names,
        grid=options.grid,
        shard_items=options.shard_samples,
        keep_empty=keep_empty,
        data_label=options.data_label,
        cubes_label=options.cubes_label,
    )
    missing = sum(map(len, writer.missing()))
    if missing < len(source):
        print(f"{len(source) - missing} of {len(source)} samples are in {options.output} already", file=sys.stderr)
    # A process takes seconds to start: a few samples are made sooner without.
    workers = min(options.workers or usable_cores(), -(-missing // PIECE))
    began = time.monotonic()
    there = len(source) - missing
    if sys.stderr.isatty():
        with tqdm(total=len(source), initial=there, unit="sample", smoothing=0.05, dynamic_ncols=True) as bar:
            write(source, writer, workers, bar.update)
    else:
        write(source, writer, workers, _lines(len(source), there))
    rate = missing / max(time.monotonic() - began, 1e-9)
    folder = options.output.is_dir()
    size = sum(item.stat().st_size for item in (options.output.iterdir() if folder else [options.output]))
    said = f"{options.output}: {writer.samples} samples of {source.joints} joints"
    if writer.samples:
        said += f", {size / writer.samples:.0f} bytes each"
    if writer.samples < len(source):
        said += f"; {len(source) - writer.samples} left out, which held no usable hand"
    print(f"{said}; {rate:.0f} a second" if missing else said)
    return 0


def _lines(total: int, there: int) -> Callable[[int], None]:
    """Progress for a log: a line every LINE_SECONDS."""
    count, began = there, time.monotonic()
    said = began

    def more(samples: int) -> None:
        nonlocal count, said
        count += samples
        now = time.monotonic()
        if now - said >= LINE_SECONDS:
            said = now
            rate = (count - there) / (now - began)
            left = (total - count) / rate / 60
            print(f"{count} of {total} samples, {rate:.0f} a second, {left:.1f} minutes left", file=sys.stderr)

    return more
