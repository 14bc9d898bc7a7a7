"""`python -m trainer inspect`: figures and pictures of a data file."""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from tracker.errors import DataError
from trainer.commands.arguments import add_data_arguments, open_samples, positive

if TYPE_CHECKING:
    from tracker.network.hand_network import HandNetwork
    from trainer.data.sample import Batch, SampleSource
    from trainer.showing.pictures import Scene


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `inspect`."""
    parser.add_argument("data", help="a data file as `fit` takes it, `synthetic` or `scenes`")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--samples", type=int, nargs="+", metavar="I", help="numbers of the samples to show, from 0")
    which.add_argument("--count", type=positive, default=4, help="how many to show, spread over the file (default: 4)")
    parser.add_argument("--output", type=Path, metavar="FILE.png", help="write a picture of the samples")
    parser.add_argument("--view", action="store_true", help="show the samples in the browser, until Ctrl-C")
    parser.add_argument("--port", type=positive, default=8080, help="of --view (default: 8080, or the next free one)")
    parser.add_argument(
        "--augment", type=positive, nargs="?", const=2, default=0, metavar="N", help="show N augmented versions of each"
    )
    parser.add_argument(
        "--heat-maps", metavar="JOINT", help="show target heat maps: a joint's number or name, or `all`"
    )
    parser.add_argument("--weights", help="show the joints that these weights find: a file, or a name of shipped ones")
    parser.add_argument("--most", type=positive, default=1000, help="samples that figures are taken of (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of a stream, and of which samples figures are taken")
    add_data_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """`python -m trainer inspect DATA`."""
    if options.output is not None and options.output.suffix.lower() != ".png":
        raise DataError(f"--output {options.output}: pictures are PNG files, give a name that ends in .png")
    if options.output is not None and not options.output.resolve().parent.is_dir():
        raise DataError(f"--output {options.output}: there is no folder {options.output.parent}")
    if options.output is not None and options.output.is_dir():
        raise DataError(f"--output {options.output} is a folder; give the name of a file")
    if options.port > 65535:
        raise DataError(f"--port {options.port}: ports go up to 65535")
    # Simulated hands are as many as are asked for.
    count = max([options.most, *(index + 1 for index in options.samples or [])])
    samples = open_samples(options.data, options, count, options.seed)
    if not len(samples):
        raise DataError(f"{options.data} holds no samples")
    indices = _indices(options, len(samples))
    chosen = _joints(options.heat_maps, samples.joints)
    network = _network(options.weights, samples.joints) if options.weights else None
    _print_figures(options, samples)
    if not options.output and not options.view:
        return 0
    scenes = _scenes(options, samples, indices, network)
    if options.output:
        from trainer.showing.pictures import draw_samples, write_picture

        write_picture(draw_samples(scenes, chosen), options.output)
        print(f"picture in {options.output}", flush=True)
    if options.view:
        from trainer.showing.viewer import SampleViewer

        with SampleViewer(scenes, chosen, options.port) as viewer:
            print(f"samples on {viewer.url}; Ctrl-C ends", flush=True)
            with contextlib.suppress(KeyboardInterrupt):  # the way it is meant to end
                threading.Event().wait()
    return 0


def _print_figures(options: argparse.Namespace, samples: SampleSource) -> None:
    from tqdm import tqdm

    from trainer.showing.inspection import describe, inspect, pick

    chosen = pick(len(samples), options.most, options.seed)
    found = inspect(samples, tqdm(chosen, desc="reading", leave=False, disable=None))
    print("\n".join([options.data, *describe(found)]), flush=True)


def _indices(options: argparse.Namespace, total: int) -> list[int]:
    """The samples to show. Raises DataError for one that the file does not have."""
    if options.samples is None:
        count = min(options.count, total)
        return [i * total // count for i in range(count)]
    for index in options.samples:
        if not 0 <= index < total:
            raise DataError(f"--samples {index}: {options.data} has the samples 0 to {total - 1}")
    return list(options.samples)


def _joints(name: str | None, count: int) -> list[int]:
    """The joints that `--heat-maps` names. Raises DataError."""
    from tracker.hand.skeleton import JOINT_COUNT, JOINT_NAMES

    if name is None:
        return []
    if name == "all":
        return list(range(count))
    if name.isdecimal() and int(name) < count:
        return [int(name)]
    if count == JOINT_COUNT and name in JOINT_NAMES:
        return [JOINT_NAMES.index(name)]
    names = f", {', '.join(JOINT_NAMES)}" if count == JOINT_COUNT else ""
    raise DataError(f"--heat-maps {name}: there is no such joint; give `all`, 0 to {count - 1}{names}")


def _network(weights: str, joints: int) -> HandNetwork:
    """The network of weights. Raises DataError if it finds other joints than the data have, WeightsError."""
    from tracker.network.weights import find_weights, load_weights

    network = load_weights(find_weights(weights))
    if network.config.global_joints:
        raise DataError(
            f"--weights {weights} find joints without telling which is which, which no picture shows; "
            "`python -m trainer evaluate` judges such weights"
        )
    found = network.config.v2v.joints
    if found != joints:
        raise DataError(f"{weights} finds {found} joints, the data have {joints}")
    return network


def _scenes(
    options: argparse.Namespace, samples: SampleSource, indices: list[int], network: HandNetwork | None
) -> list[Scene]:
    """What is to be shown: each sample, and after it its augmented versions.

    A damaged sample is left out with a message; one that was asked for by number raises DataError.
    """
    from trainer.data.sample import collate
    from trainer.fitting.augment import AUGMENTATIONS, augment, usual_augmentation

    how = AUGMENTATIONS[usual_augmentation(samples)]
    scenes = []
    for index in indices:
        try:
            sample = samples[index]
        except DataError as error:
            if options.samples is not None:
                raise
            print(f"left out: {error}", file=sys.stderr)
            continue
        title = f"sample {index}{' ' + sample.name[-40:] if sample.name else ''}"
        scenes.append(_scene(title, collate([sample]), network))
        for version in range(options.augment):
            batch = augment(collate([sample], [index * options.augment + version]), how)
            scenes.append(_scene(f"sample {index}, augmented", batch, network))
    if not scenes:
        raise DataError(f"{options.data}: none of the samples to show can be read")
    return scenes


def _scene(title: str, batch: Batch, network: HandNetwork | None) -> Scene:
    """A batch of one as it is shown, with what a network finds in it."""
    from trainer.showing.pictures import Scene

    points, joints, edge = batch.points.numpy(), batch.joints[0].numpy(), float(batch.edge[0])
    title += f", {edge * 1000:.0f} mm{'' if batch.presence[0] > 0.5 else ', no right hand'}"
    if network is None:
        return Scene(title, points, joints, edge)
    import torch

    from trainer.judging.evaluate import find_joints

    with torch.inference_mode():
        found, _, presence = find_joints(network, batch)
    title += f", found a hand: {float(presence[0]):.0%}"
    return Scene(title, points, joints, edge, found[0].numpy())
