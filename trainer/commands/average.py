"""`python -m trainer average`: the mean of the weights of several runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.commands.arguments import card_of, command_line, commit

if TYPE_CHECKING:
    from torch import Tensor

TOLD = ("command", "commit", "data", "seed", "samples_seen", "images_seen", "minutes", "stages")
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
    from dataclasses import replace

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
    if output.exists():
        raise DataError(f"{output} is there already and is not overwritten: choose another file")
    paths = [shipped_segmenter() if name == SEGMENTER else find_weights(name) for name in options.weights]
    parts = [
        {"file": name, **{key: value for key, value in card_of(path).items() if key in TOLD}}
        for name, path in zip(options.weights, paths)
    ]
    card: dict[str, Any] = {"command": command_line(), "commit": commit(), "mean_of": parts}
    other = "these are of different networks, which have no mean: give weights of one kind"
    if is_segmenter(paths[0]):
        segmenters = [load_segmenter(path) for path in paths]
        if any(one.config != segmenters[0].config for one in segmenters):
            raise DataError(other)
        segmenters[0].load_state_dict(_mean([one.state_dict() for one in segmenters]))
        save_segmenter(output, segmenters[0], card)
        judge = f"benchmarks/segmenter.py --weights {output}"
    else:
        networks = [load_weights(path) for path in paths]
        # Roughly right, until it is calibrated.
        slope, offset = (sum(each) / len(networks) for each in zip(*(one.config.calibration for one in networks)))
        configs = [replace(one.config, calibration=(slope, offset)) for one in networks]
        if any(config != configs[0] for config in configs):
            raise DataError(other)
        mean = HandNetwork(configs[0])
        mean.v2v.load_state_dict(_mean([one.v2v.state_dict() for one in networks]))
        save_weights(output, mean, card)
        judge = f"-m trainer evaluate {output} DATA"
    print(f"{output}: the mean of {len(paths)}; `python {judge}` tells whether it is better than they are")
    return 0


def _mean(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of tensors of numbers; of counts, the first's."""
    import torch

    def mean(name: str, first: Tensor) -> Tensor:
        return torch.stack([state[name].double() for state in states]).mean(dim=0).to(first.dtype)

    return {name: mean(name, first) if first.is_floating_point() else first for name, first in states[0].items()}
