"""`python -m trainer predict`: the joints that a network finds in data, as a text file."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tracker.errors import DataError
from trainer.commands.arguments import (
    add_data_arguments,
    add_device_argument,
    open_samples,
    pick_device,
    positive,
)
from trainer.commands.evaluate import PRESET_NAMES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from trainer.data.sample import Sample


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `predict`."""
    parser.add_argument("weights", help="a .safetensors file or the name of shipped weights")
    parser.add_argument("data", help="an HDF5 file, a packed folder, `synthetic` or `scenes`")
    parser.add_argument("output", type=Path, metavar="OUT.txt", help="text file to write, a line a sample")
    parser.add_argument(
        "--truth", type=Path, metavar="FILE", help="write the true joints to this file, in the same way"
    )
    parser.add_argument(
        "--preset",
        choices=PRESET_NAMES,
        default="xyz",
        help="write u v d of this data set's camera, or x y z in mm of the camera frame (default: xyz)",
    )
    parser.add_argument(
        "--relative", action="store_true", help="x y z in mm from the centre of each cube, for data that knows no other"
    )
    parser.add_argument(
        "--y-up",
        action="store_true",
        help="write x y z with y up, as in NYU's and MSRA's own coordinates (pixels count rows downwards all the same)",
    )
    parser.add_argument("--names-column", action="store_true", help="begin each line with the name of its frame")
    parser.add_argument("--samples", type=positive, default=1000, help="samples of a stream")
    parser.add_argument("--seed", type=int, default=1, help="seed of a stream; training uses even ones")
    add_device_argument(parser)
    add_data_arguments(parser)
    parser.set_defaults(usage_error=parser.error)


def run(options: argparse.Namespace) -> int:
    """`python -m trainer predict WEIGHTS DATA OUT.txt`."""
    if options.relative and options.preset != "xyz":
        options.usage_error("--relative gives x y z from the cube's centre, which no --preset turns into pixels")
    if options.truth and options.truth.resolve() == options.output.resolve():
        options.usage_error("--truth and OUT.txt are the same file")
    from tracker.network.weights import find_weights, load_weights
    from trainer.judging.evaluate import estimates, joint_count
    from trainer.judging.text_files import PRESETS, format_line, from_mm, written_whole

    network = load_weights(find_weights(options.weights))
    if network.config.global_joints:
        raise DataError(
            f"{options.weights} finds joints without telling which is which, so they have no order to write them in; "
            "`python -m trainer evaluate` judges such weights"
        )
    device = pick_device(options.device)
    source = open_samples(options.data, options, options.samples, options.seed)
    if joint_count(network.config) != source.joints:
        raise DataError(f"{options.weights} has {joint_count(network.config)} joints, {options.data} {source.joints}")
    preset = PRESETS[options.preset]
    with ExitStack() as files:
        found = files.enter_context(written_whole(options.output))
        truth = files.enter_context(written_whole(options.truth)) if options.truth else None
        for batch in estimates(network, source, device, progress="predict"):
            coordinates = batch.points.cpu().numpy()
            for index, sample, ours in zip(batch.indices, batch.samples, coordinates):
                if sample.center is None and not options.relative:
                    raise DataError(
                        f"{options.data} does not tell where the cube of sample {index} is; --relative writes joints "
                        "from the centre of each cube"
                    )
                lines = [from_mm(_millimetres(joints, sample, options), preset) for joints in (ours, sample.joints)]
                if options.y_up and preset is None:
                    lines = [line * [1, -1, 1] for line in lines]
                name = (sample.name or f"{index:08d}") if options.names_column else None
                found.write(format_line(lines[0], name))
                if truth is not None:
                    truth.write(format_line(lines[1], name))
    print(f"{options.output}: {len(source)} lines")
    return 0


def _millimetres(joints: NDArray[np.floating], sample: Sample, options: argparse.Namespace) -> NDArray[np.float64]:
    """Cube coordinates (J, 3) of a sample to mm, camera frame or from the cube's centre; left hands as they were."""
    from tracker.hand.cube import Cube

    center = (0.0, 0.0, 0.0) if options.relative or sample.center is None else sample.center
    cube = Cube(center, sample.edge, "left" if sample.mirrored else "right")
    return cube.to_camera(joints.astype("float64")).astype("float64") * 1000
