"""The network as an ONNX file, checked against PyTorch; what every export shares."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tracker.engine.engine import LARGEST_BATCH
from tracker.engine.sample import hand_like_grids
from tracker.errors import EngineError, missing_package

if TYPE_CHECKING:
    import openvino

    from tracker.network.hand_network import HandNetwork

OPSET = 20


def export_onnx(network: HandNetwork, path: Path, *, half: bool = False, max_batch: int = LARGEST_BATCH) -> float:
    """Write one ONNX file: input `occupancy` (batch, N, N, N) uint8, outputs `joints` and `presence` (`HandNetwork`).

    half: convolutions in float16, decoding in float32. max_batch: the batch is dynamic up to this.
    The configuration travels in the metadata as JSON. Returns the largest difference of a joint from PyTorch in mm.
    Raises EngineError if onnx or onnxscript is missing, or `path` cannot be written.
    """
    import torch

    from tracker.engine.fold import folded
    from tracker.engine.openvino_engine import openvino_core

    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        install = 'pip install "v2v-hand-tracker[onnx]"'
        raise EngineError(missing_package(error.name or "onnx", "an ONNX export", install)) from error
    ready = folded(network)
    if half:
        ready.v2v.half()
    size = network.config.v2v.input_size
    batch = torch.export.Dim("batch", min=1, max=max_batch)
    with written(path) as part, _quiet():
        program = torch.onnx.export(
            ready,
            (torch.zeros((2, size, size, size), dtype=torch.uint8),),
            dynamo=True,
            opset_version=OPSET,
            input_names=["occupancy"],
            output_names=["joints", "presence"],
            dynamic_shapes=({0: batch},),
            verbose=False,
        )
        assert program is not None  # only dynamo=False returns None
        program.model.metadata_props["config"] = json.dumps(asdict(network.config))
        program.save(part, external_data=False)
    return difference_mm(network, openvino_core().read_model(path))


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A file to write to that takes the place of `path` when the block ends, and is deleted if it fails."""
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        part.touch()
        yield part
        part.replace(path)
    except OSError as error:
        raise EngineError(f"cannot write {path} ({error.strerror or error}): choose another --output") from error
    finally:
        part.unlink(missing_ok=True)
        part.with_suffix(".bin").unlink(missing_ok=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks about its own future and about packages that it could use."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)


def difference_mm(network: HandNetwork, model: openvino.Model) -> float:
    """Largest distance in mm between a joint of the model, run by OpenVINO in float32, and of the network."""
    import torch

    from tracker.engine.openvino_engine import openvino_core

    compiled = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    grids = hand_like_grids(3, network.config.v2v.input_size)
    with torch.inference_mode():
        want = network.eval()(torch.from_numpy(grids))[0].numpy()
    got = compiled([grids])["joints"]
    return float(np.linalg.norm((got - want)[..., :3], axis=-1).max() * network.config.edge / 2 * 1000)
