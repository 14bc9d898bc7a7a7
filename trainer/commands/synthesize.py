"""`python -m trainer synthesize`: simulated hands to a file."""

from __future__ import annotations

import argparse
from pathlib import Path

from trainer.commands.arguments import positive
from trainer.commands.writing import add_writing_arguments, write_with_progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `synthesize`."""
    parser.add_argument("output", type=Path, metavar="OUT", help="a folder of the compact format, or a file OUT.h5")
    parser.add_argument("--samples", type=positive, required=True, help="how many")
    parser.add_argument("--scenes", action="store_true", help="hands in whole situations, as of `fit scenes`")
    parser.add_argument("--seed", type=int, default=0, help="training uses even seeds, tests odd ones (default: 0)")
    parser.add_argument("--edge", type=float, help="of the cubes, metres (default: that of the live tracker, 0.26)")
    add_writing_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """`python -m trainer synthesize OUT --samples N --seed S [--scenes]`."""
    from tracker.errors import DataError
    from tracker.hand.cube import DEFAULT_EDGE
    from tracker.hand.skeleton import JOINT_NAMES
    from trainer.data.scenes import SceneSamples
    from trainer.data.synthetic import SyntheticSamples

    edge = DEFAULT_EDGE if options.edge is None else options.edge
    if not 0.1 <= edge <= 1:
        raise DataError(f"--edge must be from 0.1 to 1 metres, is {edge}")
    if options.seed < 0:
        raise DataError(f"--seed must be 0 or above, is {options.seed}")
    kind = SceneSamples if options.scenes else SyntheticSamples
    source = kind(options.samples, options.seed, edge)
    origin = {"from": "scenes" if options.scenes else "synthetic", "seed": options.seed, "edge": edge}
    return write_with_progress(source, options, origin, JOINT_NAMES)
