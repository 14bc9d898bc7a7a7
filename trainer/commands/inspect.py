"""`python -m trainer inspect`: figures and pictures of a data file."""

from __future__ import annotations

import argparse
import contextlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from tracker.errors import DataError
from trainer.commands.arguments import add_data_arguments, open_samples, positive

if TYPE_CHECKING:
    from trainer.data.sample import Sample, SampleSource
    from trainer.pictures import Scene


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `inspect`."""
    parser.add_argument("data", help="a data file as `fit` takes it, or `synthetic`")
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
    parser.add_argument("--seed", type=int, default=0, help="of `synthetic`, and of which samples figures are taken")
    add_data_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """`python -m trainer inspect DATA`."""
    if options.output is not None and options.output.suffix.lower() != ".png":
        raise DataError(f"--output {options.output}: pictures are PNG files, give a name that ends in .png")
    if options.output is not None and not options.output.resolve().parent.is_dir():
        raise DataError(f"--output {options.output}: there is no folder {options.output.parent}")
    samples = open_samples(options.data, options, options.most, options.seed)
    if not len(samples):
        raise DataError(f"{options.data} holds no samples")
    indices = _indices(options, len(samples))
    chosen = _joints(options.heat_maps, samples.joints)
    if options.output or options.view:
        scenes = _scenes(options, samples, indices)
    _print_figures(options, samples)
    if options.output:
        from trainer.pictures import draw_samples, write_picture

        write_picture(draw_samples(scenes, chosen), options.output)
        print(f"picture in {options.output}", flush=True)
    if options.view:
        from trainer.viewer import SampleViewer

        with SampleViewer(scenes, chosen, options.port) as viewer:
            print(f"samples on {viewer.url}; Ctrl-C ends", flush=True)
            with contextlib.suppress(KeyboardInterrupt):  # the way it is meant to end
                threading.Event().wait()
    return 0


def _print_figures(options: argparse.Namespace, samples: SampleSource) -> None:
    from tqdm import tqdm

    from trainer.inspection import describe, inspect, pick

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


def _scenes(options: argparse.Namespace, samples: SampleSource, indices: list[int]) -> list[Scene]:
    """What is to be shown: each sample, and after it its augmented versions."""
    from trainer.augment import PAPER, SIMULATED, augment
    from trainer.data.sample import Sample, collate

    how = SIMULATED if options.data == "synthetic" else PAPER
    shown: list[tuple[str, Sample]] = []
    for index in indices:
        sample = samples[index]
        title = f"sample {index}{' ' + sample.name if sample.name else ''}, {sample.edge * 1000:.0f} mm"
        shown.append((title + _absence(sample), sample))
        for version in range(options.augment):
            batch = augment(collate([sample], [index * options.augment + version]), how)
            points, joints = batch.points.numpy(), batch.joints[0].numpy()
            moved = Sample(points, joints, float(batch.edge[0]), presence=bool(batch.presence[0] > 0.5))
            shown.append((f"sample {index}, augmented, {moved.edge * 1000:.0f} mm{_absence(moved)}", moved))
    return _with_predictions(shown, options.weights)


def _absence(sample: Sample) -> str:
    return "" if sample.presence else ", no right hand"


def _with_predictions(shown: list[tuple[str, Sample]], weights: str | None) -> list[Scene]:
    """Scenes of titled samples, with what `weights` find in them. Raises DataError if they are for other joints."""
    from trainer.pictures import Scene

    if weights is None:
        return [Scene(title, sample.points, sample.joints, sample.edge) for title, sample in shown]
    import torch

    from tracker.hand.voxels import voxelise
    from tracker.network.weights import find_weights, load_weights
    from trainer.data.sample import collate

    network = load_weights(find_weights(weights))
    joints, wanted = network.config.v2v.joints, len(shown[0][1].joints)
    if joints != wanted:
        raise DataError(f"{weights} finds {joints} joints, the data have {wanted}")
    scenes = []
    for title, sample in shown:
        batch = collate([sample])
        with torch.inference_mode():
            found, presence = network(voxelise(batch.points, batch.sample, 1, network.config.v2v.input_size))
        title += f", a hand: {float(presence[0]):.0%}"
        scenes.append(Scene(title, sample.points, sample.joints, sample.edge, found[0, :, :3].numpy()))
    return scenes
