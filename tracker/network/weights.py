"""Weights files: safetensors with everything needed to run them, and a JSON card beside them for people."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tracker.errors import WeightsError
from tracker.network.hand_network import HandNetwork, HandNetworkConfig
from tracker.network.segmenter import Segmenter, SegmenterConfig
from tracker.network.v2v import V2VConfig

FORMAT = "v2v-hand-tracker/1"
SEGMENTER_FORMAT = "v2v-hand-tracker-segmenter/1"
NETWORKS = {FORMAT: "one that finds joints", SEGMENTER_FORMAT: "one that finds hands (`trainer segment`)"}
SEGMENTER = "segmenter"
"""The name of the shipped weights that tell hands from the rest of the image."""


def shipped_weights() -> dict[str, Path]:
    """The weights that come with the package, by model name; those that find joints."""
    return {path.stem: path for path in sorted(_folder().glob("*.safetensors")) if path.stem != SEGMENTER}


def shipped_segmenter() -> Path:
    """The weights that come with the package and tell hands from the rest of the image."""
    return _folder() / f"{SEGMENTER}.safetensors"


def _folder() -> Path:
    return Path(str(files("tracker.network") / "weights"))


def find_weights(model: str) -> Path:
    """What `--model` names: `auto`, the name of shipped weights, or a file. Raises WeightsError."""
    shipped = shipped_weights()
    if model == "auto":
        model = "v2v-lite"
    if model in shipped:
        return shipped[model]
    path = Path(model)
    if path.is_file():
        return path
    names = ", ".join(shipped) or "none"
    if model in ("v2v", "v2v-lite"):
        raise WeightsError(
            f"no weights for {model} come with this version (there are: {names}); "
            f"make them with `python -m trainer weights OUT_DIR --hours H --model {model}` and pass the file as --model"
        )
    raise WeightsError(f"no weights file {model!r}: give a .safetensors file or one of: auto, {names}")


def save_weights(path: Path, network: HandNetwork, card: dict[str, Any]) -> None:
    """Write `path` and its card `path` with the suffix .json, by renaming when both are finished.

    Raises WeightsError if there is no room; what was there before stays, of both.
    """
    _write(path, FORMAT, network.v2v.state_dict(), asdict(network.config), card)


def save_segmenter(path: Path, network: Segmenter, card: dict[str, Any]) -> None:
    """`save_weights` for the segmentation network; its convolutions are kept in half precision, which is enough."""
    state = {name: tensor.half() if tensor.dim() == 4 else tensor for name, tensor in network.state_dict().items()}
    _write(path, SEGMENTER_FORMAT, state, asdict(network.config), card)


def load_weights(path: Path) -> HandNetwork:
    """The network of a weights file, in evaluation mode on the CPU. Runs no code from the file.

    Raises WeightsError if the file is missing, damaged, of another project, or does not fit the network it names.
    """
    state, config = _read(path, FORMAT)
    try:
        values = json.loads(config)
        values["v2v"] = V2VConfig(**values["v2v"])
        values["calibration"] = tuple(values["calibration"])
        values["curve"] = tuple(map(tuple, values.get("curve", ())))  # older files have none
        network = HandNetwork(HandNetworkConfig(**values))
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _unknown(path, error) from error
    _fill(path, network.v2v, state)
    return network.eval()


def load_segmenter(path: Path) -> Segmenter:
    """`load_weights` for the segmentation network."""
    state, config = _read(path, SEGMENTER_FORMAT)
    try:
        values = json.loads(config)
        values["channels"] = tuple(values["channels"])
        network = Segmenter(SegmenterConfig(**values))
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _unknown(path, error) from error
    _fill(path, network, state)
    return network.eval()


def is_segmenter(path: Path) -> bool:
    """Whether a file says that it holds a segmentation network. What cannot be read does not: loading tells why."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format") == SEGMENTER_FORMAT
    except (SafetensorError, OSError):
        return False


def _write(path: Path, form: str, state: dict[str, Tensor], config: dict[str, Any], card: dict[str, Any]) -> None:
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    parts = {target: target.with_name(target.name + ".part") for target in (path, path.with_suffix(".json"))}
    weights, told = parts.values()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(state, weights, metadata={"format": form, "config": json.dumps(config)})
        weights.chmod(0o644)  # the library makes files that only their owner may read
        told.write_text(json.dumps({"config": config, **card}, indent=2) + "\n", encoding="utf-8")
        for target, part in parts.items():
            with part.open("rb") as file:
                os.fsync(file.fileno())
            if target.is_dir():
                raise IsADirectoryError(f"{target} is a folder")
        for target, part in parts.items():
            part.replace(target)
    except (OSError, SafetensorError) as error:
        for part in parts.values():
            with suppress(OSError):
                part.unlink(missing_ok=True)
        raise WeightsError(f"{path} could not be written ({error}); what was there before stays") from error


def _read(path: Path, form: str) -> tuple[dict[str, Tensor], str]:
    """Tensors by name, and the description of their network, as JSON."""
    if not path.is_file():
        raise WeightsError(f"no weights file {path}: give a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        if isinstance(error, SafetensorError) and _by_torch(path):
            raise WeightsError(
                f"{path} is a checkpoint of torch.save, not a weights file: `python -m trainer convert {path} "
                "NEW.safetensors` makes one of an old network's; a run of `fit` has last.safetensors beside its own"
            ) from error
        raise WeightsError(f"{path} is not a readable safetensors file ({error}); was it copied whole?") from error
    if metadata.get("format") in (FORMAT, SEGMENTER_FORMAT) and metadata["format"] != form:
        raise WeightsError(
            f"{path} holds weights of another network, {NETWORKS[metadata['format']]}: {NETWORKS[form]} is wanted"
        )
    if metadata.get("format") != form:
        raise WeightsError(
            f"{path} holds no weights of this project (format {metadata.get('format')!r}, want {form!r})"
        )
    return state, metadata.get("config", "")


def _by_torch(path: Path) -> bool:
    """Whether a file is one of torch.save, by its first bytes (a zip, or before torch 1.6 a pickle), or by its name."""
    with path.open("rb") as file:
        begin = file.read(4)
    return begin == b"PK\x03\x04" or begin[:2] == b"\x80\x02" or path.suffix in (".pt", ".pth")


def _unknown(path: Path, error: Exception) -> WeightsError:
    return WeightsError(
        f"{path} describes a network that this version does not know ({error}): take weights that this version wrote"
    )


def _fill(path: Path, module: nn.Module, state: dict[str, Tensor]) -> None:
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise WeightsError(
                f"{path} holds numbers that are not finite ({name}): the training that wrote it failed; "
                "take weights that it wrote before, or train again with a lower --learning-rate"
            )
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(
            f"{path} does not fit the network it describes: {str(error).splitlines()[-1].strip()}"
        ) from error
