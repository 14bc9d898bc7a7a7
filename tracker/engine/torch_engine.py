"""The network on PyTorch, as it is or through torch.compile."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tracker.engine.engine import Engine, Result
from tracker.engine.fold import folded
from tracker.errors import EngineError
from tracker.network.hand_network import HandNetwork


def half_is_fast(device: str) -> bool:
    """Whether a CUDA device has the tensor cores that make float16 worth its rounding (Volta, 2017, and later)."""
    return device != "cpu" and torch.cuda.get_device_capability(device) >= (7, 0)


class TorchEngine(Engine):
    """Float32 on the CPU; on CUDA float16 convolutions with float32 decoding, which `Decoder` does by itself.

    compiled: run through torch.compile, which takes a minute to start and needs a C++ compiler (CPU) or Triton (CUDA).
    threads: CPU threads. PyTorch has one number for the whole process, and this sets it.
    """

    def __init__(
        self, network: HandNetwork, device: str, *, max_batch: int, threads: int | None = None, compiled: bool = False
    ) -> None:
        super().__init__(network.config, device, max_batch)
        self.name = "compile" if compiled else "torch"
        if threads is not None:
            torch.set_num_threads(threads)
        ready = folded(network).to(device)
        if half_is_fast(device):
            ready.v2v.half().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self._network: nn.Module | None = ready
        if not compiled:
            self._forward = ready.forward
            self._warm_up()
            return
        self._forward = torch.compile(ready.forward)  # once for the first batch size, once for all others
        try:
            self._warm_up()
        except Exception as error:  # the compiler's errors have no common base
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            needs = "a C++ compiler" if device == "cpu" else "Triton"
            raise EngineError(
                f"torch.compile failed ({reason}); it needs {needs}: install that, or use --engine torch"
            ) from error

    def _infer(self, occupancy: Tensor) -> Result:
        batch = len(occupancy)
        if batch == 1 and self.device == "cpu":
            # PyTorch leaves 3-D convolutions of a single sample to its slow fallback: a pair takes less than half.
            occupancy = occupancy.cpu().expand(2, -1, -1, -1)
        with torch.inference_mode():
            joints, presence = self._forward(occupancy.to(self.device))
            return joints[:batch].cpu().numpy(), presence[:batch].cpu().numpy()

    def close(self) -> None:
        """Drop the network; PyTorch keeps the memory for its next use."""
        self._network = None
        self._forward = None  # type: ignore[assignment]
