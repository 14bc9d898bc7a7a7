"""`python -m trainer`: fit and evaluate."""

from __future__ import annotations

import argparse
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tracker.errors import DataError, TrackerError

if TYPE_CHECKING:
    import torch

    from trainer.data.sample import SampleSource


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trainer", description="Train and judge hand networks.")
    commands = parser.add_subparsers(dest="command", required=True)
    fit = commands.add_parser("fit", help="train a network")
    fit.add_argument("train", help="an HDF5 file, or `synthetic` for a stream of simulated hands")
    fit.add_argument("output", type=Path, metavar="OUT_DIR", help="folder for weights, checkpoints and the log")
    fit.add_argument("--model", default="v2v-lite", choices=("v2v", "v2v-88", "v2v-lite"))
    fit.add_argument("--input-size", type=positive, help="edge of the grid in voxels, to learn on coarser ones first")
    fit.add_argument("--loss", default="integral", choices=("integral", "heatmap"))
    fit.add_argument("--epochs", type=positive, default=10)
    fit.add_argument("--epoch-samples", type=positive, default=20_000, help="samples that make an epoch of `synthetic`")
    fit.add_argument(
        "--views", type=positive, default=1, help="how often each sample of `synthetic` comes (default: 1)"
    )
    fit.add_argument("--minutes", type=float, help="train by the clock instead of for --epochs")
    fit.add_argument("--batch-size", type=positive, default=8)
    fit.add_argument("--learning-rate", type=float, default=1.5e-3)
    fit.add_argument("--dev", help="HDF5 file, or `synthetic`, to judge on (default: synthetic for synthetic)")
    fit.add_argument("--dev-samples", type=positive, default=512, help="samples of a `synthetic` --dev")
    fit.add_argument("--init", type=Path, metavar="WEIGHTS", help="start from these weights")
    fit.add_argument("--resume", action="store_true", help="go on from the checkpoint in OUT_DIR")
    fit.add_argument("--checkpoint-minutes", type=float, default=5.0, help="at most this much work is lost")
    fit.add_argument("--seed", type=int, default=0)
    fit.add_argument("--workers", type=int, default=1, help="processes that prepare samples; 0: none")
    fit.add_argument("--precision", default="auto", choices=("auto", "bf16", "f32"))
    fit.add_argument("--no-augmentation", action="store_true", help="train on the samples as they are")
    judge = commands.add_parser("evaluate", help="mean joint error of a weights file on data")
    judge.add_argument("weights", help="a .safetensors file or the name of shipped weights")
    judge.add_argument("data", help="an HDF5 file, or `synthetic`")
    judge.add_argument("--samples", type=positive, default=1000, help="samples of `synthetic`")
    judge.add_argument("--seed", type=int, default=1, help="seed of `synthetic`; training uses even ones")
    for command in (fit, judge):
        command.add_argument("--device", default="auto", help="auto | cpu | cuda[:N]")
        command.add_argument("--data-label", default="real_voxels", metavar="KEY")
        command.add_argument("--cubes-label", default="cube", metavar="KEY")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run_fit(options) if options.command == "fit" else run_evaluate(options)
    except (TrackerError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"error: {error.strerror}: {error.filename}", file=sys.stderr)
    except KeyboardInterrupt:
        print("stopped; --resume goes on", file=sys.stderr)
        return 130
    return 1


def positive(text: str) -> int:
    """A whole number from 1 up, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 up, is {text}")
    return int(text)


def open_samples(name: str, options: argparse.Namespace, count: int, seed: int, views: int = 1) -> SampleSource:
    """`synthetic`, or an HDF5 file by its path."""
    from trainer.data.hdf5 import Hdf5Samples
    from trainer.data.synthetic import SyntheticSamples

    if name == "synthetic":
        return SyntheticSamples(count, seed, views=views)
    return Hdf5Samples(Path(name), options.data_label, options.cubes_label)


def pick_device(name: str) -> torch.device:
    """The device that `--device` names. Raises DataError if it is not there."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DataError(f"--device {name} cannot be used: {str(error).splitlines()[0]}") from error
    return device


def command() -> str:
    """The command line of this process, as a person would type it."""
    return shlex.join(["python", "-m", "trainer", *sys.argv[1:]])


def commit() -> str | None:
    """The commit that this code was checked out at; None for an installed package."""
    here = Path(__file__).parent
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() if found.returncode == 0 else None


def run_fit(options: argparse.Namespace) -> int:
    """`python -m trainer fit`."""
    from dataclasses import replace

    import torch

    from tracker.network.v2v import PRESETS
    from trainer.augment import PAPER, SIMULATED, Augmentation
    from trainer.data.synthetic import SyntheticSamples
    from trainer.fit import Fit, FitConfig
    from trainer.losses import LossConfig

    if not options.resume and (options.output / "checkpoint.pt").exists():
        raise DataError(f"{options.output} holds a run already: go on with --resume, or give another folder")
    train = open_samples(options.train, options, options.epoch_samples, 2 * options.seed, options.views)
    simulated = isinstance(train, SyntheticSamples)
    dev_name = options.dev or ("synthetic" if simulated else None)
    dev = open_samples(dev_name, options, options.dev_samples, 1_000_001) if dev_name else None
    network = replace(PRESETS[options.model], joints=train.joints)
    if options.input_size:
        network = replace(network, input_size=options.input_size)
    if not simulated:
        network = replace(network, presence=False)
    if dev is not None and dev.joints != train.joints:
        raise DataError(f"{options.train} has {train.joints} joints, {dev_name} has {dev.joints}")
    device = pick_device(options.device)
    fits = device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    augmentation = SIMULATED if simulated else PAPER
    if options.loss == "heatmap":
        loss_config = LossConfig(name="heatmap", sigma=1.7 * network.output_size / 44)
    else:
        loss_config = LossConfig()
    data = Path(options.train).name
    if isinstance(train, SyntheticSamples):
        data = f"simulated hands, seed {train.seed}, {train.views} views of each"
    init = str(options.init) if options.init else None
    origin = {"data": data, "init": init, "command": command(), "commit": commit()}
    fit = Fit(
        train,
        dev,
        options.output,
        network,
        name=options.model,
        config=FitConfig(
            epochs=options.epochs,
            minutes=options.minutes,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            seed=options.seed,
            workers=options.workers,
            checkpoint_minutes=options.checkpoint_minutes,
            bf16=fits if options.precision == "auto" else options.precision == "bf16",
        ),
        loss_config=loss_config,
        augmentation=Augmentation() if options.no_augmentation else augmentation,
        device=device,
        init=options.init,
        edge=train[0].edge,
        origin=origin,
    )
    if options.resume:
        fit.resume()
        if fit.progress >= 1:
            print(
                f"the run in {options.output} is finished: more --epochs or --minutes train it further", file=sys.stderr
            )
    fit.run()
    return 0


def run_evaluate(options: argparse.Namespace) -> int:
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
