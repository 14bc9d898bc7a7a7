"""The network on OpenVINO: the fastest engine on a CPU."""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from tracker.engine.engine import Engine, Result
from tracker.engine.fold import folded
from tracker.errors import EngineError, missing_package
from tracker.network.hand_network import HandNetwork

if TYPE_CHECKING:
    import openvino

Precision = Literal["auto", "f32", "bf16", "f16"]
INSTALL = 'pip install "openvino>=2025.0"'


def import_openvino() -> Any:
    """The module, without its usage statistics. Raises EngineError if it is not installed.

    Importing OpenVINO and converting with it report to its makers over the internet, unless the package that does so
    cannot be imported, which OpenVINO takes calmly.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise EngineError(missing_package("openvino", "the openvino engine", INSTALL)) from error
    return openvino


@cache
def openvino_core() -> openvino.Core:
    """The one `Core` of this process, never let go of. Raises EngineError if OpenVINO is not installed.

    Each Core gives its thread a stack for signals (for the sake of AMX) and, when it goes, the one that it found there.
    Of two that go in the order in which they came, the second gives back the stack of the first, which is gone: the
    next signal, be it Ctrl-C or the end of a child, would end the process.
    """
    core: openvino.Core = import_openvino().Core()
    return core


def convert(network: HandNetwork) -> openvino.Model:
    """The network with its decoding as an OpenVINO model: input `occupancy`, outputs `joints` and `presence`."""
    ov = import_openvino()
    size = network.config.v2v.input_size
    example = torch.zeros((2, size, size, size), dtype=torch.uint8)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing is deprecated, and warns of shapes that are constant here
        # Traced here because the converter's own tracing checks itself, which takes three times as long.
        traced = torch.jit.trace(folded(network), example, check_trace=False)
        # It prints a report if the command line of this program, whatever it is, has --verbose.
        with contextlib.redirect_stdout(io.StringIO()):
            model = ov.convert_model(traced, example_input=example, input=[-1, size, size, size])
    model.inputs[0].set_names({"occupancy"})
    for output, name in zip(model.outputs, ("joints", "presence")):
        output.set_names({name})
    return model


class OpenVinoEngine(Engine):
    """One compiled request per batch size, on the CPU.

    threads: None leaves the number to OpenVINO (one per physical core).
    precision: of the convolutions; decoding stays in float32. "auto" is bf16 for networks that decode by softmax, where
    the processor computes in it: half as fast again, and it moves joints by 0.1 mm. It is f32 for networks that decode
    at the peak, where rounding can pick the neighbouring voxel (1.5 mm), and on other processors.
    """

    name = "openvino"

    def __init__(
        self, network: HandNetwork, *, max_batch: int, threads: int | None = None, precision: Precision = "auto"
    ) -> None:
        super().__init__(network.config, "cpu", max_batch)
        core = openvino_core()
        able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "auto":
            precision = "bf16" if "BF16" in able and network.config.decode == "softmax" else "f32"
        elif precision != "f32" and {"bf16": "BF16", "f16": "FP16"}[precision] not in able:
            raise EngineError(f"this processor does not compute in {precision} ({', '.join(able)}): use precision f32")
        self.precision: Precision = precision
        properties: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
        if threads is not None:
            properties["INFERENCE_NUM_THREADS"] = threads
        model = convert(network)
        self._requests = []
        for batch in range(1, max_batch + 1):
            model.reshape([batch, *(self.size,) * 3])
            self._requests.append(core.compile_model(model, "CPU", properties).create_infer_request())
        self._warm_up()

    def _infer(self, occupancy: Tensor) -> Result:
        request = self._requests[len(occupancy) - 1]
        request.infer([occupancy.cpu().numpy()], share_inputs=True)
        joints, presence = (np.array(request.get_output_tensor(index).data) for index in (0, 1))
        return joints, presence

    def close(self) -> None:
        """Drop the compiled models."""
        self._requests.clear()
