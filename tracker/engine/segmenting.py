"""The segmentation network made ready to run: on OpenVINO where that is installed, else on PyTorch, on the CPU."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tracker.engine.fold import folded
from tracker.errors import EngineError
from tracker.network.segmenter import Segmenter

log = logging.getLogger(__name__)

Segment = Callable[[NDArray[np.float32], float], NDArray[np.float32]]
"""Coarse depth (H, W) float32 metres and its focal length in pixels to the probabilities (4, H, W) float32 of the
classes else, right, left, arm. The result belongs to the engine, and lasts until the next call."""


def open_segmenter(network: Segmenter, engine: str = "auto", threads: int | None = None) -> Segment:
    """The network, warm, on the CPU; beside a GPU too: the depth image is there, and small.

    engine: "openvino", "torch", or "auto": the first of them that is installed and starts, as for any engine that
    only the pose network has. threads: CPU threads of OpenVINO, None for its own choice.
    Raises EngineError if `engine` cannot run the network.
    """
    if engine in ("torch", "compile") or (engine != "openvino" and not find_spec("openvino")):
        return _on_torch(network)
    try:
        return _on_openvino(network, threads)
    except EngineError as error:
        if engine == "openvino":
            raise
        log.warning("engine openvino is passed over for segmentation: %s", error)
        return _on_torch(network)


class _Probabilities(nn.Module):
    def __init__(self, network: Segmenter) -> None:
        super().__init__()
        self.network = folded(network)

    def forward(self, depth: Tensor, focal: Tensor) -> Tensor:
        return torch.softmax(self.network(depth, focal), dim=1)


def _on_torch(network: Segmenter) -> Segment:
    ready = _Probabilities(network).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def segment(depth: NDArray[np.float32], focal: float) -> NDArray[np.float32]:
        with torch.inference_mode():
            found: NDArray[np.float32] = ready(torch.from_numpy(depth)[None], torch.tensor([focal]))[0].numpy()
        return found

    return _warm(segment, network, "torch")


def _on_openvino(network: Segmenter, threads: int | None) -> Segment:
    from tracker.engine.openvino_engine import import_openvino, openvino_core

    ov = import_openvino()
    height, width = network.config.height, network.config.width
    example = (torch.ones((1, height, width)), torch.full((1,), float(width)))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing is deprecated, and warns of shapes that are constant here
        traced = torch.jit.trace(_Probabilities(network).eval(), example, check_trace=False)
        # It prints a report if the command line of this program, whatever it is, has --verbose.
        with contextlib.redirect_stdout(io.StringIO()):
            model = ov.convert_model(traced, example_input=example, input=[[1, height, width], [1]])
    core = openvino_core()
    # Which class a pixel is does not hang on the last digits, and bfloat16 takes half the time.
    precision = "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
    properties: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    if threads is not None:
        properties["INFERENCE_NUM_THREADS"] = threads
    request = core.compile_model(model, "CPU", properties).create_infer_request()

    def segment(depth: NDArray[np.float32], focal: float) -> NDArray[np.float32]:
        request.infer([depth[None], np.array([focal], np.float32)], share_inputs=True)
        found: NDArray[np.float32] = request.get_output_tensor(0).data[0]
        return found

    return _warm(segment, network, "openvino")


def _warm(segment: Segment, network: Segmenter, engine: str) -> Segment:
    for _ in range(2):
        found = segment(np.ones((network.config.height, network.config.width), np.float32), float(network.config.width))
    if not np.isfinite(found).all():
        raise EngineError(f"the segmentation network gives numbers that are not finite on {engine}: train it again")
    return segment
