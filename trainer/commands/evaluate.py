"""`python -m trainer evaluate`: how far a network's joints lie from the truth."""

from __future__ import annotations

import argparse

from tracker.errors import DataError
from trainer.commands.arguments import add_data_arguments, add_device_argument, open_samples, pick_device, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `evaluate`."""
    parser.add_argument("weights", help="a .safetensors file or the name of shipped weights")
    parser.add_argument("data", help="an HDF5 file, or `synthetic`")
    parser.add_argument("--samples", type=positive, default=1000, help="samples of `synthetic`")
    parser.add_argument("--seed", type=int, default=1, help="seed of `synthetic`; training uses even ones")
    add_device_argument(parser)
    add_data_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """`python -m trainer evaluate WEIGHTS DATA`."""
    from tracker.hand.skeleton import JOINT_COUNT, JOINT_NAMES
    from tracker.network.weights import find_weights, load_weights
    from trainer.evaluate import calibration_error, evaluate

    network = load_weights(find_weights(options.weights))
    samples = open_samples(options.data, options, options.samples, options.seed)
    if samples.joints != network.config.v2v.joints:
        raise DataError(f"{options.weights} has {network.config.v2v.joints} joints, {options.data} {samples.joints}")
    result = evaluate(network, samples, pick_device(options.device))
    import numpy as np

    names = JOINT_NAMES if samples.joints == JOINT_COUNT else [f"joint {i}" for i in range(samples.joints)]
    for name, error in zip(names, np.nanmean(result.error_mm, axis=0)):
        print(f"{name:12} {error:6.2f} mm")
    print(f"mean joint error   {result.mean_mm:6.2f} mm over {len(samples)} samples")
    print(f"median joint error {result.median_mm:6.2f} mm")
    print(f"calibration error  {calibration_error(result.confidence, result.error_mm):6.3f}")
    return 0
