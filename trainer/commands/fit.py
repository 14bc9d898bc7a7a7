"""`python -m trainer fit`: train a network."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.errors import DataError
from trainer.commands.arguments import (
    STREAMS,
    add_data_arguments,
    add_device_argument,
    command_line,
    commit,
    open_samples,
    pick_device,
    positive,
    run_in,
)
from trainer.commands.fit_options import augmentation_of, config_of, described, is_upright, losses_of, network_of

if TYPE_CHECKING:
    from trainer.data.sample import SampleSource
    from trainer.fitting.fit import Fit
    from trainer.parallel.world import World


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fit`."""
    add = parser.add_argument
    add(
        "train",
        help="an HDF5 file, a compact folder, `synthetic` for a stream of simulated hands, or `scenes` for one of "
        "hands in whole situations",
    )
    add("output", type=Path, metavar="OUT_DIR", help="folder for weights, checkpoints, log and curves")
    add("--dev", help="data to judge on (default: for a stream another of its kind, otherwise none)")
    add("--resume", action="store_true", help="go on from the checkpoint in OUT_DIR")
    add("--init", metavar="WEIGHTS", help="start from a weights file, or shipped ones; what does not fit starts afresh")
    add_data_arguments(parser)
    add("--epoch-samples", type=positive, default=20_000, help="samples of an epoch of a stream (default: 20000)")
    add("--views", type=positive, default=1, help="how often each sample of a stream comes (default: 1)")
    add("--dev-samples", type=positive, default=512, help="samples of a streamed --dev (default: 512)")

    network = parser.add_argument_group("network and loss")
    network.add_argument("--model", default="v2v-lite", choices=("v2v", "v2v-88", "v2v-lite"))
    network.add_argument(
        "--input-size", type=positive, metavar="N", help="edge of the grid in voxels; coarse ones learn fast"
    )
    network.add_argument(
        "--upright",
        action=argparse.BooleanOptionalAction,
        help="turn cubes so that the hand is seen straight on, its fingers up, which is easier to learn; for data with "
        "the 21 joints of hand21 (default: as the weights of --init, or the run that --resume goes on with)",
    )
    network.add_argument("--loss", choices=("integral", "heatmap"), help="(default: the recipe's)")
    network.add_argument(
        "--distance", type=float, metavar="WEIGHT", help="of how far joints are off, in --loss integral (default: 20)"
    )
    network.add_argument(
        "--presence", type=float, metavar="WEIGHT", help="of whether there is a hand (default: 2 with --loss integral)"
    )
    network.add_argument(
        "--global-joints", action="store_true", help="one map as fine as the grid for all joints, without identity"
    )

    recipe = parser.add_argument_group("recipe")
    add = recipe.add_argument
    add("--recipe", default="modern", choices=("modern", "paper"), help="what the options below default to")
    add("--epochs", type=positive)
    add("--minutes", type=float, help="train by the clock instead of for --epochs")
    add("--batch-size", type=positive, help="samples of a step, of all processes together")
    add("--learning-rate", type=float)
    add("--optimizer", choices=("adamw", "muon", "rmsprop"))
    add("--schedule", choices=("cosine", "constant"), help="of the learning rate, after the warm-up")
    add("--weight-decay", type=float)
    add("--warmup", type=int, metavar="STEPS", help="over which the learning rate rises")
    add("--ema", type=float, help="decay of the averaged weights; 0: none")
    add("--precision", default="auto", choices=("auto", "bf16", "f32"))
    add("--seed", type=int)

    vary = parser.add_argument_group("augmentation")
    add = vary.add_argument
    add("--augmentation", default="auto", choices=("auto", "paper", "simulated", "none"), help="where to start from")
    add("--no-augmentation", dest="augmentation", action="store_const", const="none", help="--augmentation none")
    add("--roll", type=float, metavar="DEGREES", help="in the image plane, +-")
    add("--rotation", type=float, metavar="DEGREES", help="about any axis, at most")
    add("--scale", type=float, metavar="SHARE", help="of the size, +-")
    add("--shift", type=float, metavar="SHARE", help="of half the cube's edge, +-")
    add("--jitter", type=float, metavar="MM", help="noise of the points, standard deviation")
    add("--drop", type=float, metavar="SHARE", help="of the points, at most")

    where = parser.add_argument_group("where it runs")
    add_device_argument(where)
    add = where.add_argument
    add("--gpus", metavar="N|all", help="train on several GPUs of this machine")
    add("--processes", type=positive, metavar="N", help="train by several processes on this machine's CPU")
    add("--workers", type=int, help="processes that prepare samples, for each that trains; 0: none")

    keep = parser.add_argument_group("what is kept")
    add = keep.add_argument
    add("--checkpoint-minutes", type=float, help="at most this much work is lost (default: 5)")
    add("--dev-epochs", type=positive, help="epochs between evaluations (default: 1)")
    add("--tensorboard", action="store_true", help="write TensorBoard events, too")


def run(options: argparse.Namespace) -> int:
    """`python -m trainer fit`."""
    from trainer.parallel.launch import end_with_launcher
    from trainer.parallel.launchers import detect

    launch = detect(os.environ)
    if launch is None and (options.gpus or options.processes):
        return _launch_workers(options)
    end_with_launcher()

    import torch

    from trainer.parallel.world import World

    with World.join(launch, pick_device(options.device)) as world:
        try:
            _train(options, world)
        except torch.OutOfMemoryError as error:
            raise DataError("the GPU has not enough memory: try a lower --batch-size, or more GPUs") from error
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "alloc" not in str(error):
                raise
            raise DataError("there is not enough memory: try a lower --batch-size or --input-size") from error
        except KeyboardInterrupt:
            if world.main and (options.output / "checkpoint.pt").exists():
                print(f"--resume goes on from the checkpoint in {options.output}", file=sys.stderr)
            raise
    return 0


def _train(options: argparse.Namespace, world: World) -> None:
    from tracker.network.weights import find_weights
    from trainer.fitting.fit import Fit
    from trainer.fitting.lock import lock_run
    from trainer.fitting.recipes import RECIPES
    from trainer.parallel.world import SharedError

    restarted = world.restarted()
    found = world.share(run_in(options.output))
    there = "checkpoint.pt" in found
    if found and not (options.resume or (restarted and there)):
        go_on = "go on with --resume, or " if there else ""
        raise SharedError(f"{options.output} holds a run already ({', '.join(found)}): {go_on}give another folder")
    if options.resume and not there:
        raise SharedError(f"nothing to resume: there is no {options.output / 'checkpoint.pt'}; start without --resume")
    if options.resume and options.init:
        raise SharedError("--init starts a run, --resume goes on with one: give one of them")
    recipe = RECIPES[options.recipe]
    seed = recipe.fit.seed if options.seed is None else options.seed
    train, dev = world.together(lambda: _open(options, seed))
    if options.train not in STREAMS:
        world.together(lambda: _check_samples(options.train, train) if world.main else None)
    try:
        network = network_of(options, train)
        config = config_of(recipe.fit, options, world, network)
        augmentation, augmentation_name = augmentation_of(options, train)
        losses = losses_of(options, recipe.loss, network)
    except ValueError as error:
        raise SharedError(str(error)) from error  # every process finds it
    seen = {"command": command_line(), "commit": commit(), "data": described(options.train, train)}
    origin: dict[str, Any] = {**seen, "init": options.init}
    init = world.share(world.together(lambda: find_weights(options.init) if options.init and world.main else None))
    upright = world.share(world.together(lambda: is_upright(options, network, train, init) if world.main else False))
    fit = Fit(
        train,
        dev,
        options.output,
        network,
        name=options.model,
        config=config,
        loss_config=losses,
        augmentation=augmentation,
        world=world,
        init=init,
        edge=round(world.share(train[0].edge), 6),  # files hold 32-bit numbers
        upright=upright,
        origin=origin,
        tensorboard=options.tensorboard,
    )
    if options.resume or (restarted and there):
        fit.resume()
    lock = world.together(lambda: lock_run(options.output) if world.main else None)
    world.begin()
    world.together(lambda: _write_config(options.output, seen, options.recipe, augmentation_name, fit, world))
    if world.main:
        if fit.fresh:
            layers = dict.fromkeys(name.split(".")[0] for name in fit.fresh)
            print(f"{options.init}: these do not fit and start afresh: {', '.join(layers)}", file=sys.stderr)
        if fit.progress >= 1:
            print(
                f"the run in {options.output} is finished: more --epochs or --minutes train it further",
                file=sys.stderr,
            )
    try:
        fit.run()
    finally:
        if lock is not None:
            lock.close()


def _write_config(output: Path, seen: dict[str, Any], recipe: str, augmentation: str, fit: Fit, world: World) -> None:
    """`config.json`: what this run was asked for, or was when it was last resumed."""
    if not world.main:
        return
    text = json.dumps({**seen, "recipe": recipe, "augmentation_preset": augmentation, **fit.settings()}, indent=2)
    part = output / "config.json.part"
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(output / "config.json")


def _check_samples(name: str, samples: SampleSource) -> None:
    """Raise DataError if samples hold nothing or labels teach nothing, and warn if many of the labels do not."""
    import numpy as np

    from trainer.data.identity import spread

    look = f"look at them with `python -m trainer inspect {name}`"
    looked_at = spread(samples)
    if not any(len(sample.points) for sample in looked_at):
        raise DataError(f"{name}: the grids are empty, none of {len(looked_at)} has an occupied voxel; {look}")
    hands = [sample.joints for sample in looked_at if sample.presence]
    if not hands:
        return
    with np.errstate(invalid="ignore"):
        inside = np.mean((np.abs(np.stack(hands)) < 1).all(axis=2))
    if inside == 0:
        raise DataError(f"{name}: no label lies in its cube, where all coordinates are from -1 to 1; {look}")
    if inside < 0.5:
        print(f"warning: {name}: only {inside:.0%} of the labels lie in their cubes; {look}", file=sys.stderr)


def _launch_workers(options: argparse.Namespace) -> int:
    """Start this same command several times, as one run."""
    from trainer.parallel.launch import count_gpus, launch

    if options.gpus and options.processes:
        raise DataError("give either --gpus or --processes (on the CPU)")
    processes = count_gpus(options.gpus) if options.gpus else options.processes
    more = [] if options.gpus else ["--device", "cpu"]
    return launch(processes, [*sys.argv[1:], *more])


def _open(options: argparse.Namespace, seed: int) -> tuple[SampleSource, SampleSource | None]:
    # Even seeds are for training.
    train = open_samples(options.train, options, options.epoch_samples, 2 * seed, options.views)
    if not len(train):
        raise DataError(f"{options.train} holds no samples")
    name = options.dev or (options.train if options.train in STREAMS else None)
    if name is None:
        return train, None
    dev = open_samples(name, options, options.dev_samples, 1_000_001)
    if dev.joints != train.joints:
        raise DataError(f"{options.train} has {train.joints} joints, {name} has {dev.joints}")
    return train, dev
