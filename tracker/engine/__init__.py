"""Inference engines: the same network on PyTorch, torch.compile, OpenVINO and TensorRT."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING

from tracker.engine.engine import ENGINES, Engine, EngineName
from tracker.errors import EngineError

if TYPE_CHECKING:
    from tracker.network.hand_network import HandNetwork

__all__ = ["ENGINES", "Engine", "EngineName", "open_engine"]

log = logging.getLogger(__name__)


def open_engine(
    network: HandNetwork, engine: str = "auto", device: str = "auto", *, threads: int | None = None, max_batch: int = 4
) -> Engine:
    """A network made ready to run.

    engine: one of `ENGINES`, or "auto": on a GPU the first of tensorrt, compile, torch that is installed and starts;
    on a CPU openvino, else torch (see docs and `benchmarks/engines.py` for the reasons).
    device: "cpu", "cuda", "cuda:N", or "auto": the first GPU if there is one and the engine can use it.
    threads: CPU threads, None for the engine's own choice. max_batch: the most hands in one call, 1 to 8.
    Raises EngineError for unknown names, for a package or a device that is missing, and where an engine cannot run
    the network.
    """
    if engine != "auto" and engine not in ENGINES:
        raise EngineError(f"no engine {engine!r}: choose one of auto, {', '.join(ENGINES)}")
    place = find_device(device, engine)
    if engine != "auto":
        return _open(engine, network, place, threads, max_batch)
    *others, last = _candidates(place)
    for name in others:
        try:
            return _open(name, network, place, threads, max_batch)
        except EngineError as error:
            log.warning("engine %s is passed over: %s", name, error)
    return _open(last, network, place, threads, max_batch)


def find_device(device: str, engine: str = "auto") -> str:
    """What `--device` and `--engine` mean here: "cpu" or "cuda:N". Raises EngineError."""
    import torch

    kind, _, number = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (number and not (kind == "cuda" and number.isdecimal())):
        raise EngineError(f"no device {device!r}: choose one of auto, cpu, cuda, cuda:N")
    if engine == "openvino" and kind == "cuda":
        raise EngineError("the openvino engine runs on the CPU only: use --device cpu, or --engine torch for the GPU")
    if engine == "tensorrt" and kind == "cpu":
        raise EngineError("the tensorrt engine runs on NVIDIA GPUs only: use --device cuda, or --engine openvino")
    wants_gpu = kind == "cuda" or engine == "tensorrt"
    if not wants_gpu and (kind == "cpu" or engine == "openvino" or not torch.cuda.is_available()):
        return "cpu"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = int(number or 0)
    if index >= count:
        found = f"PyTorch sees {count} CUDA device(s)" if count else "PyTorch sees no CUDA device"
        build = "" if torch.version.cuda else ", this is a CPU build of it"
        raise EngineError(f"cannot use cuda:{index}: {found}{build}; check nvidia-smi, or use --device cpu")
    return f"cuda:{index}"


def _candidates(device: str) -> list[EngineName]:
    if device == "cpu":
        return ["openvino", "torch"] if find_spec("openvino") else ["torch"]
    tensorrt = find_spec("onnxscript") and (find_spec("tensorrt") or find_spec("tensorrt_rtx"))
    return ["tensorrt", "compile", "torch"] if tensorrt else ["compile", "torch"]


def _open(engine: str, network: HandNetwork, device: str, threads: int | None, max_batch: int) -> Engine:
    try:
        if engine == "openvino":
            from tracker.engine.openvino_engine import OpenVinoEngine

            return OpenVinoEngine(network, threads=threads, max_batch=max_batch)
        if engine == "tensorrt":
            from tracker.engine.tensorrt_engine import TensorRtEngine

            return TensorRtEngine(network, device, max_batch=max_batch)
        from tracker.engine.torch_engine import TorchEngine

        return TorchEngine(network, device, threads=threads, max_batch=max_batch, compiled=engine == "compile")
    except RuntimeError as error:  # out of memory, a GPU too old for this build of PyTorch, a driver that fails
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        other = "another --engine" if device == "cpu" else "another --engine, or --device cpu"
        raise EngineError(f"the engine {engine} does not start on {device} ({reason}): try {other}") from error
