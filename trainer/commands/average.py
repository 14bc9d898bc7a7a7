"""`python -m trainer average`: the mean of the weights of several runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.commands.arguments import card_of, command_line, commit

if TYPE_CHECKING:
    from torch import Tensor

TOLD = (
    *("command", "commit", "data", "licence", "init", "seed", "resumes", "samples_seen", "images_seen", "minutes"),
    *("fit", "stages", "mean_of"),
)
"""What the card of a mean repeats of the cards of its parts."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `average`."""
    parser.add_argument(
        "weights", nargs="+", metavar="WEIGHTS", help="files of networks of one kind, or shipped ones by name"
    )
    parser.add_argument("output", type=Path, metavar="OUT.safetensors", help="a new file")


def run(options: argparse.Namespace) -> int:
    """`python -m trainer average A B ... OUT`: tensor by tensor (Wortsman et al., "Model soups", ICML 2022).

    Worth a try for weights of which one was the start of the other: far from one another, their mean is of no use.
    """
    from dataclasses import asdict, replace

    from tracker.errors import DataError
    from tracker.network.hand_network import HandNetwork
    from tracker.network.weights import (
        SEGMENTER,
        find_weights,
        is_segmenter,
        load_segmenter,
        load_weights,
        save_segmenter,
        save_weights,
        shipped_segmenter,
    )

    output: Path = options.output
    if len(options.weights) < 2:
        raise DataError("a mean needs two WEIGHTS or more, and the file to write after them")
    if output.suffix != ".safetensors":
        raise DataError(f"{output} must end in .safetensors")
    for path in (output, output.with_suffix(".json")):
        if path.exists():
            raise DataError(f"{path} is there already and is not overwritten: choose another file")
    paths = [shipped_segmenter() if name == SEGMENTER else find_weights(name) for name in options.weights]
    parts = [
        {"file": name, **{key: value for key, value in card_of(path).items() if key in TOLD}}
        for name, path in zip(options.weights, paths)
    ]
    card: dict[str, Any] = {"command": command_line(), "commit": commit(), "mean_of": parts}
    if is_segmenter(paths[0]):
        segmenters = [load_segmenter(path) for path in paths]
        _check(options.weights, [asdict(one.config) for one in segmenters])
        segmenters[0].load_state_dict(_mean([one.state_dict() for one in segmenters]))
        save_segmenter(output, segmenters[0], card)
        judge = f"benchmarks/segmenter.py --weights {output}"
    else:
        networks = [load_weights(path) for path in paths]
        # Roughly right, until it is calibrated.
        slope, offset = (sum(each) / len(networks) for each in zip(*(one.config.calibration for one in networks)))
        configs = [replace(one.config, calibration=(slope, offset), curve=()) for one in networks]
        _check(options.weights, [{**asdict(one), **asdict(one.v2v)} for one in configs])
        mean = HandNetwork(configs[0])
        mean.v2v.load_state_dict(_mean([one.v2v.state_dict() for one in networks]))
        save_weights(output, mean, card)
        judge = f"-m trainer evaluate {output} DATA"
    print(f"{output}: the mean of {len(paths)}; `python {judge}` tells whether it is better than they are")
    return 0


def _check(names: Sequence[str], configs: Sequence[dict[str, Any]]) -> None:
    """Raise DataError if networks are not the same."""
    from tracker.errors import DataError

    for name, config in zip(names, configs):
        if differ := [key for key, value in configs[0].items() if config[key] != value and key != "v2v"]:
            told = ", ".join(f"{key} {config[key]} and {configs[0][key]}" for key in differ)
            raise DataError(f"{name} and {names[0]} are different networks ({told}), which have no mean")


def _mean(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of tensors of numbers; of counts, the first's."""
    import torch

    def mean(name: str, first: Tensor) -> Tensor:
        return torch.stack([state[name].double() for state in states]).mean(dim=0).to(first.dtype)

    return {name: mean(name, first) if first.is_floating_point() else first for name, first in states[0].items()}
