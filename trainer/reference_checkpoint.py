"""Checkpoints of the PyTorch ports of V2V-PoseNet (dragonbook/V2V-PoseNet-pytorch, mhruz/hpoes_pytorch) to our weights.

Those are `torch.save` files of a dict with `model_state_dict` (or `state_dict`, or the tensors themselves), the keys
perhaps prefixed `module.`. The layers are those of the paper, as ours are: padding, pooling and the order of the
blocks are the same, so outputs are equal up to rounding. They differ in that every convolution has a bias, which the
batch norm behind it takes up here, exactly.

What such a file does not say is assumed: grids of 88 voxels, filled and decoded with the axes x y z in that order and
voxel i covering [i, i + 1), as dragonbook's does; `axes` is for others. A port that puts joints at the corner of
voxels instead of their middle is decoded half a heat-map voxel too far along each axis. Whether y points up in its
training data (it does for MSRA and NYU) is for whoever feeds the network to know. So is the order of its joints, which
is never `hand21`: `tracker run` refuses such weights, `evaluate`, `predict` and `fit --init` take them.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from tracker.errors import WeightsError
from tracker.network.hand_network import HandNetwork, HandNetworkConfig
from tracker.network.v2v import V2VConfig
from tracker.network.weights import save_weights

EDGE = 0.25
"""Metres; the ports' usual cube for hands."""

Axes = Literal["xyz", "yxz"]

# Ours, and the name there. Each stands for a convolution and the batch norm behind it.
_RESIDUALS = {
    **{f"enter.{block}": f"front_layers.{block + 2}" for block in range(3)},
    "skip1": "encoder_decoder.skip_res1",
    "down1": "encoder_decoder.encoder_res1",
    "skip2": "encoder_decoder.skip_res2",
    "down2": "encoder_decoder.encoder_res2",
    "middle": "encoder_decoder.mid_res",
    "up2.0": "encoder_decoder.decoder_res2",
    "up1.0": "encoder_decoder.decoder_res1",
    "leave.0": "back_layers.0",
}
_BASICS = {
    "front": "front_layers.0",
    "up2.1": "encoder_decoder.decoder_upsample2",
    "up1.1": "encoder_decoder.decoder_upsample1",
    "leave.1": "back_layers.1",
    "leave.2": "back_layers.2",
}


def convert_checkpoint(source: Path, output: Path, edge: float | None = None, *, axes: Axes = "xyz") -> HandNetwork:
    """Write the weights of a port's checkpoint as a weights file with its card, and return the network.

    edge: of the cubes it was trained on, metres; 0.25 if None. axes: of its grids; those of HDF5 files are y x z, and
    a network trained on them as they are, labels too, sees our grids after `yxz`.
    Raises WeightsError if the file is missing, damaged, holds anything but tensors and numbers (no code in it is run),
    or is of another architecture.
    """
    if output.suffix != ".safetensors":
        raise WeightsError(f"weights are written to a file that ends in .safetensors, not to {output}")
    state = load_reference(source)
    converted, config = convert_state(state, source, axes)
    edge = EDGE if edge is None else edge
    try:
        network = HandNetwork(
            HandNetworkConfig(v2v=config, name="v2v", decode="peak", edge=edge, skeleton=f"joints{config.joints}")
        )
    except ValueError as error:
        raise WeightsError(f"{source} cannot be converted: {error}") from error
    network.v2v.load_state_dict(converted)
    network.eval()
    card = {
        "data": f"checkpoint {source.name} of a PyTorch port of V2V-PoseNet, axes {axes}",
        "torch": torch.__version__,
    }
    save_weights(output, network, card)
    return network


def load_reference(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by their names, without `module.`. Raises WeightsError; runs no code of the file."""
    if not path.is_file():
        raise WeightsError(f"no checkpoint {path}")
    with path.open("rb") as file:
        begin = file.read(4)
    # A zip, or before torch 1.6 a pickle. Other bytes would be taken for commands of a pickle, and fail as anything.
    if begin != b"PK\x03\x04" and begin[:1] != b"\x80":
        what = "begins as no file of torch.save does" if begin else "is empty"
        raise WeightsError(f"{path} is not a readable checkpoint: it {what}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles by other programs; what matters is an error
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is damaged, or holds Python objects, which could run code and are not loaded; "
            "save the model's state_dict alone"
        ) from error
    except Exception as error:  # damaged bytes make the unpickler raise nearly anything, in words that tell nothing
        raise WeightsError(
            f"{path} is not a readable checkpoint, but damaged or cut short; was it copied whole?"
        ) from error
    for key in ("model_state_dict", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content or not all(isinstance(t, Tensor) for t in content.values()):
        raise WeightsError(
            f"{path} holds no network: want a dict with model_state_dict, state_dict, or tensors by name"
        )
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def convert_state(state: Mapping[str, Tensor], source: Path, axes: Axes = "xyz") -> tuple[dict[str, Tensor], V2VConfig]:
    """The tensors of a port as those of `V2V`, and its configuration. Raises WeightsError naming what does not fit.

    source: the file, for messages.
    """
    left = dict(state)

    def take(name: str, default: Tensor | None = None) -> Tensor:
        found = left.pop(name, default)
        if found is None:
            raise WeightsError(f"{source} is of another architecture than the paper's V2V-PoseNet: it has no {name}")
        if found.is_floating_point() and not torch.isfinite(found).all():
            raise WeightsError(f"{source}: {name} holds numbers that are not finite; take an earlier checkpoint")
        return found.float() if found.is_floating_point() else found

    def kernel(name: str) -> Tensor:
        weight = take(name)
        # Swapping the axes of all kernels swaps those of input and output: the network does the same to each.
        return weight.transpose(2, 3).contiguous() if axes == "yxz" and weight.dim() == 5 else weight

    converted: dict[str, Tensor] = {}
    origins: dict[str, str] = {}

    def pair(ours: str, our_norm: str, theirs: str, their_norm: str) -> None:
        converted[f"{ours}.weight"] = kernel(f"{theirs}.weight")
        origins[f"{ours}.weight"] = f"{theirs}.weight"
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            origins[f"{our_norm}.{name}"] = f"{their_norm}.{name}"
        mean = take(f"{their_norm}.running_mean")
        bias = take(f"{theirs}.bias", torch.zeros_like(mean))
        if bias.shape != mean.shape:
            raise WeightsError(f"{source}: {theirs}.bias and {their_norm}.running_mean do not belong together")
        # norm(x + bias) with this mean is norm(x) with the mean less the bias.
        converted[f"{our_norm}.running_mean"] = mean - bias
        for name in ("weight", "bias", "running_var"):
            converted[f"{our_norm}.{name}"] = take(f"{their_norm}.{name}")
        converted[f"{our_norm}.num_batches_tracked"] = take(f"{their_norm}.num_batches_tracked", torch.tensor(0))

    for ours, theirs in _BASICS.items():
        pair(f"{ours}.0", f"{ours}.1", f"{theirs}.block.0", f"{theirs}.block.1")
    for ours, theirs in _RESIDUALS.items():
        pair(f"{ours}.body.0.0", f"{ours}.body.0.1", f"{theirs}.res_branch.0", f"{theirs}.res_branch.1")
        pair(f"{ours}.body.1", f"{ours}.body.2", f"{theirs}.res_branch.3", f"{theirs}.res_branch.4")
        if ours in ("enter.0", "down1", "down2"):
            pair(f"{ours}.shortcut.0", f"{ours}.shortcut.1", f"{theirs}.skip_con.0", f"{theirs}.skip_con.1")
    for name in ("weight", "bias"):
        converted[f"head.{name}"] = kernel(f"output_layer.{name}")
        origins[f"head.{name}"] = f"output_layer.{name}"
    if left:
        raise WeightsError(f"{source} is of another architecture than the paper's V2V-PoseNet: it also has {min(left)}")
    return converted, _config(converted, origins, source)


def _config(converted: Mapping[str, Tensor], origins: Mapping[str, str], source: Path) -> V2VConfig:
    head, front = converted["head.weight"], converted["front.0.weight"]
    try:
        config = V2VConfig(joints=head.shape[0], width=2 * front.shape[0])
    except (ValueError, IndexError) as error:
        raise WeightsError(f"{source} is of another architecture than the paper's V2V-PoseNet: {error}") from error
    with torch.device("meta"):
        expected = HandNetwork(HandNetworkConfig(v2v=config)).v2v.state_dict()
    for name, tensor in expected.items():
        if converted[name].shape != tensor.shape:
            raise WeightsError(
                f"{source} is of another architecture than the paper's V2V-PoseNet: "
                f"{origins[name]} has the shape {tuple(converted[name].shape)}, not {tuple(tensor.shape)}"
            )
    return config
