"""The network on TensorRT: the fastest engine on an NVIDIA GPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tracker.engine.engine import Engine, Result
from tracker.engine.tensorrt_plan import cached_plan, import_tensorrt, start
from tracker.errors import EngineError
from tracker.network.hand_network import HandNetwork


class TensorRtEngine(Engine):
    """Float16 convolutions, float32 decoding, one plan for all batch sizes, fixed buffers on the device.

    device: "cuda:N".
    """

    name = "tensorrt"

    def __init__(self, network: HandNetwork, device: str, *, max_batch: int) -> None:
        super().__init__(network.config, device, max_batch)
        trt = import_tensorrt()
        shape = (max_batch, network.config.v2v.joints, 4)
        self._grids = torch.zeros((max_batch, *(self.size,) * 3), dtype=torch.uint8, device=device)
        self._joints = torch.zeros(shape, dtype=torch.float32, device=device)
        self._presence = torch.zeros(max_batch, dtype=torch.float32, device=device)
        self._stream = torch.cuda.Stream(device)
        self._logger = trt.Logger(trt.Logger.ERROR)
        with torch.cuda.device(device):
            self._runtime = start(trt, "Runtime", self._logger)
            self._engine = self._load(trt, network)
            self._context: Any = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(f"{trt.__name__} has not enough memory on {device}: free some, or use --engine torch")
        for name, buffer in (("occupancy", self._grids), ("joints", self._joints), ("presence", self._presence)):
            self._context.set_tensor_address(name, buffer.data_ptr())
        self._warm_up()

    def _load(self, trt: Any, network: HandNetwork) -> Any:
        for rebuild in (False, True):
            plan = cached_plan(trt, network, self.device, self.max_batch, rebuild=rebuild)
            engine = self._runtime.deserialize_cuda_engine(plan)
            if engine is not None:
                return engine
        raise EngineError(
            f"{trt.__name__} {trt.__version__} cannot load its own engine on {self.device}: is the driver new enough "
            "for it (nvidia-smi)? --engine compile does without TensorRT"
        )

    def _infer(self, occupancy: Tensor) -> Result:
        batch = len(occupancy)
        self._stream.wait_stream(torch.cuda.current_stream(self.device))  # the grids may still be being written
        with torch.cuda.device(self.device), torch.cuda.stream(self._stream):
            self._grids[:batch].copy_(occupancy)
            self._context.set_input_shape("occupancy", (batch, *(self.size,) * 3))
            if not self._context.execute_async_v3(self._stream.cuda_stream):
                raise EngineError("TensorRT failed to run the network (its reason is above)")
            return self._joints[:batch].cpu().numpy(), self._presence[:batch].cpu().numpy()

    def close(self) -> None:
        """Give the device's memory back, the context before the engine that it needs."""
        self._context = None
        self._engine = None
        self._runtime = None
