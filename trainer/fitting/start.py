"""Starting from other weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tracker.errors import DataError
from tracker.network.v2v import V2V
from tracker.network.weights import load_weights


def start_from(network: V2V, weights: Path) -> list[str]:
    """Copy what fits of a weights file; returns the names of the tensors that do not, which start afresh.

    The heads may differ (other joints); grids may too, convolutions fit any; more blocks may be in the middle, and
    begin as a small change. Raises WeightsError, and DataError for a network of another build.
    """
    found = load_weights(weights).v2v
    given_build, wanted_build = (
        replace(
            config,
            input_size=88,
            joints=1,
            presence=False,
            middle_blocks=max(config.middle_blocks, network.config.middle_blocks),
        )
        for config in (found.config, network.config)
    )
    if given_build != wanted_build:
        raise DataError(f"--init {weights} is another network than is to be trained ({found.config})")
    given, wanted = found.state_dict(), network.state_dict()
    fitting = {name: tensor for name, tensor in given.items() if name in wanted and tensor.shape == wanted[name].shape}
    network.load_state_dict(fitting, strict=False)
    return [name for name in wanted if name not in fitting]
