"""What the options of `fit` ask for: the network, its augmentation, its recipe, and the way to turn cubes."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from tracker.errors import DataError

if TYPE_CHECKING:
    from tracker.network.v2v import V2VConfig
    from trainer.data.sample import SampleSource
    from trainer.fitting.augment import Augmentation
    from trainer.fitting.losses import LossConfig, LossName
    from trainer.fitting.recipes import FitConfig
    from trainer.parallel.world import World


def _others(samples: SampleSource) -> bool:
    """Whether some of the cubes hold no hand, so that there is something to tell apart."""
    return bool(getattr(samples, "others", 0))


def network_of(options: argparse.Namespace, train: SampleSource) -> V2VConfig:
    """The network. Raises ValueError for numbers that are none of a network."""
    from dataclasses import replace

    from tracker.network.v2v import PRESETS

    network = PRESETS[options.model]
    if options.global_joints:
        # One map as fine as the grid, which needs features as fine as the grid.
        kernel = network.front_kernel if network.front_stride == 1 else network.front_kernel - 1
        network = replace(network, front_stride=1, front_kernel=kernel, output_scale=2)
    return replace(
        network,
        joints=1 if options.global_joints else train.joints,
        input_size=options.input_size or network.input_size,
        # The paper's network only finds joints; the tracker wants to know whether there is a hand at all.
        presence=_others(train) and options.recipe != "paper" and not options.global_joints,
    )


def is_upright(options: argparse.Namespace, network: V2VConfig, train: SampleSource, init: Path | None) -> bool:
    """Whether cubes are turned: as asked for, otherwise as in the run that goes on, or in the weights it starts from.

    Raises DataError where that is asked for but not possible.
    """
    import torch

    from tracker.hand.skeleton import JOINT_COUNT, JOINT_NAMES, SKELETON
    from tracker.network.weights import load_weights
    from trainer.fitting.checkpoint import load_checkpoint
    from trainer.fitting.fit import UPRIGHT

    named = getattr(train, "joint_names", None) or JOINT_NAMES
    possible = network.joints == JOINT_COUNT and named == JOINT_NAMES and not options.global_joints
    if options.upright and not possible:
        raise DataError(
            f"--upright needs the {JOINT_COUNT} joints of {SKELETON}, by which a hand is turned (`convert --hand21` "
            "makes data with them)"
        )
    if options.upright is not None or not possible:
        return bool(options.upright)
    if (options.output / "checkpoint.pt").exists():
        return bool(load_checkpoint(options.output, torch.device("cpu")).get("identity", {}).get(UPRIGHT, False))
    return init is not None and load_weights(init).config.upright


def augmentation_of(options: argparse.Namespace, train: SampleSource) -> tuple[Augmentation, str]:
    """How samples are varied, and the name of what that starts from. Raises ValueError."""
    from dataclasses import replace

    from trainer.fitting.augment import AUGMENTATIONS, usual_augmentation

    name = usual_augmentation(train) if options.augmentation == "auto" else options.augmentation
    how = AUGMENTATIONS[name]
    asked = {
        "roll": options.roll and math.radians(options.roll),
        "rotation": options.rotation and math.radians(options.rotation),
        "scale": options.scale,
        "shift": options.shift,
        "jitter": options.jitter and options.jitter / 1000,
        "drop": options.drop,
    }
    return replace(how, **{key: value for key, value in asked.items() if value is not None}), name


def losses_of(options: argparse.Namespace, usual: LossName, network: V2VConfig) -> LossConfig:
    """The loss; `usual` if none is asked for. Raises ValueError for weights that it does not have."""
    from dataclasses import replace

    from trainer.fitting.recipes import loss_config

    name = options.loss or ("heatmap" if options.global_joints else usual)
    asked = {key: value for key in ("distance", "presence") if (value := getattr(options, key)) is not None}
    if "distance" in asked and name != "integral":
        raise ValueError(f"--distance weighs a part of --loss integral, this is {name}: leave it out")
    if "presence" in asked and not network.presence:
        raise ValueError("--presence: this network does not say whether there is a hand, leave it out")
    if asked.get("presence") == 0:
        raise ValueError("--presence must be above 0: the network would say at random whether there is a hand")
    return replace(loss_config(name, network, options.global_joints), **asked)


def config_of(fit: FitConfig, options: argparse.Namespace, world: World, network: V2VConfig) -> FitConfig:
    """A recipe with what is asked for instead. Raises ValueError."""
    from dataclasses import fields, replace

    import torch

    from trainer.fitting.recipes import computes_bf16

    asked = {
        item.name: value
        for item in fields(fit)
        if item.name != "bf16" and (value := getattr(options, item.name, None)) is not None
    }
    if "workers" not in asked and world.device.type == "cuda":
        asked["workers"] = max(1, min(8, torch.get_num_threads() - 1))
    # On 2^3 voxels, where grids of 16^3 end, oneDNN's bfloat16 weight gradients are now and then not a number.
    fits = computes_bf16(world.device) and (world.device.type == "cuda" or network.input_size > 16)
    bf16 = fit.bf16 and fits if options.precision == "auto" else options.precision == "bf16"
    return replace(fit, **asked, bf16=bf16)


def described(name: str, samples: SampleSource) -> str:
    """What a card says of the data."""
    from trainer.data.synthetic import SyntheticSamples

    if isinstance(samples, SyntheticSamples):
        what = "simulated hands" if name == "synthetic" else "simulated hands in whole situations"
        return f"{what}, seed {samples.seed}, {samples.views} views of each"
    return Path(name).name
