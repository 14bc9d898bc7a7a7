"""TensorRT plans: built from ONNX, and kept in the user's cache because building takes minutes.

One code path for TensorRT 10, TensorRT 11 and TensorRT for RTX: it uses what all three have. Precision comes from the
ONNX file (a strongly typed network), since TensorRT 11 has no precision flags any more.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from tracker.engine.onnx_export import export_onnx
from tracker.errors import EngineError, missing_package
from tracker.network.hand_network import HandNetwork

log = logging.getLogger(__name__)

INSTALL = 'pip install "v2v-hand-tracker[tensorrt]", or "v2v-hand-tracker[tensorrt-rtx]" for GeForce and RTX cards'
PLAN_VERSION = 1
"""Count it up when the network's or the decoder's arithmetic changes: plans of old versions must not be loaded."""

WORKSPACE = 2 << 30
"""Bytes that a layer may use as scratch; the paper's network needs a tenth."""


def import_tensorrt() -> Any:
    """`tensorrt`, else `tensorrt_rtx`. Raises EngineError if neither can be imported."""
    for name in ("tensorrt", "tensorrt_rtx"):
        try:
            return import_module(name)
        except (ImportError, OSError):  # OSError: a library of it is missing
            continue
    raise EngineError(missing_package("tensorrt", "the tensorrt engine", INSTALL))


def start(trt: Any, kind: str, logger: Any) -> Any:
    """A `Builder` or a `Runtime`. Raises EngineError if TensorRT does not start, as without a driver."""
    try:
        return getattr(trt, kind)(logger)
    except TypeError as error:  # what the bindings make of a null pointer
        raise EngineError(
            f"{trt.__name__} does not start: it needs an NVIDIA GPU with a current driver (see nvidia-smi)"
        ) from error


def build_plan(
    trt: Any, network: HandNetwork, *, half: bool, max_batch: int, capability: tuple[int, int] | None = None
) -> bytes:
    """A serialised engine for batches 1 to `max_batch`, tuned for 2 (two hands).

    capability: of the GPU that is to run it, for TensorRT for RTX, which builds for all from Ampere on if None;
    TensorRT builds for the current device. Raises EngineError if TensorRT cannot build it.
    """
    size = network.config.v2v.input_size
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    if builder is None:
        raise EngineError(
            f"{trt.__name__} does not start: is there an NVIDIA GPU with a current driver? See nvidia-smi"
        )
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE)
    if capability is not None and trt.__name__ == "tensorrt_rtx":
        _aim(trt, config, capability)
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    definition = builder.create_network(flags)  # the parser keeps no reference to it
    parser = trt.OnnxParser(definition, logger)
    with tempfile.TemporaryDirectory() as folder:
        onnx = Path(folder) / "network.onnx"
        export_onnx(network, onnx, half=half, max_batch=max_batch)
        if not parser.parse(onnx.read_bytes()):
            reasons = "; ".join(parser.get_error(index).desc() for index in range(parser.num_errors))
            raise EngineError(f"{trt.__name__} {trt.__version__} cannot read the network: {reasons}")
    profile = builder.create_optimization_profile()
    shapes = [(batch, size, size, size) for batch in (1, min(2, max_batch), max_batch)]
    profile.set_shape("occupancy", *shapes)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(definition, config)
    if plan is None:
        raise EngineError(f"{trt.__name__} {trt.__version__} cannot build the network (its reason is above)")
    return bytes(plan)


def _aim(trt: Any, config: Any, capability: tuple[int, int]) -> None:
    """Build for one kind of GPU: smaller, and the only way to reach Turing."""
    target = getattr(trt.ComputeCapability, "SM{}{}".format(*capability), None)
    if target is None:
        raise EngineError(
            "TensorRT for RTX does not know GPUs of compute capability {}.{}: ".format(*capability)
            + "install the extra tensorrt instead, or use --engine compile"
        )
    config.num_compute_capabilities = 1
    config.set_compute_capability(target, 0)


def cached_plan(trt: Any, network: HandNetwork, device: str, max_batch: int, *, rebuild: bool = False) -> bytes:
    """The float16 plan for a CUDA device, from the cache if it is there. rebuild: the one in the cache is no good."""
    path = cache_folder() / f"{plan_key(trt, network, device, max_batch)}.engine"
    if path.is_file() and not rebuild:
        return path.read_bytes()
    log.info("building a TensorRT engine for %s: this takes minutes, once", torch.cuda.get_device_name(device))
    with torch.cuda.device(device):
        capability = torch.cuda.get_device_capability(device)
        plan = build_plan(trt, network, half=True, max_batch=max_batch, capability=capability)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_bytes(plan)
        part.replace(path)
    except OSError as error:
        log.warning("the TensorRT engine cannot be kept for the next start: %s", error)
    return plan


def plan_key(trt: Any, network: HandNetwork, device: str, max_batch: int) -> str:
    """Changes with everything that a plan depends on: weights, configuration, versions, GPU and batch."""
    properties = (torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device))
    versions = (trt.__name__, trt.__version__, PLAN_VERSION)
    digest = hashlib.sha256(repr((network.config, versions, properties, max_batch)).encode())
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def cache_folder() -> Path:
    """Where plans are kept; safe to delete."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(base) / "v2v-hand-tracker"
