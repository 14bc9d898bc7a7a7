"""`python -m trainer fit`: train a network."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tracker.errors import DataError
from trainer.commands.arguments import (
    add_data_arguments,
    add_device_argument,
    command_line,
    commit,
    open_samples,
    pick_device,
    positive,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fit`."""
    parser.add_argument("train", help="an HDF5 file, or `synthetic` for a stream of simulated hands")
    parser.add_argument("output", type=Path, metavar="OUT_DIR", help="folder for weights, checkpoints and the log")
    parser.add_argument("--model", default="v2v-lite", choices=("v2v", "v2v-88", "v2v-lite"))
    parser.add_argument("--input-size", type=positive, help="edge of the grid in voxels; coarse ones learn fast")
    parser.add_argument("--loss", default="integral", choices=("integral", "heatmap"))
    parser.add_argument("--epochs", type=positive, default=10)
    parser.add_argument("--epoch-samples", type=positive, default=20_000, help="samples of an epoch of `synthetic`")
    parser.add_argument(
        "--views", type=positive, default=1, help="how often each sample of `synthetic` comes (default: 1)"
    )
    parser.add_argument("--minutes", type=float, help="train by the clock instead of for --epochs")
    parser.add_argument("--batch-size", type=positive, default=8)
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--dev", help="HDF5 file, or `synthetic`, to judge on (default: synthetic for synthetic)")
    parser.add_argument("--dev-samples", type=positive, default=512, help="samples of a `synthetic` --dev")
    parser.add_argument("--init", type=Path, metavar="WEIGHTS", help="start from these weights")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in OUT_DIR")
    parser.add_argument("--checkpoint-minutes", type=float, default=5.0, help="at most this much work is lost")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes that prepare samples; 0: none")
    parser.add_argument("--precision", default="auto", choices=("auto", "bf16", "f32"))
    parser.add_argument("--no-augmentation", action="store_true", help="train on the samples as they are")
    add_device_argument(parser)
    add_data_arguments(parser)


def run(options: argparse.Namespace) -> int:
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
    origin = {"data": data, "init": init, "command": command_line(), "commit": commit()}
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
