"""The model as a file for other programs: ONNX, OpenVINO or a TensorRT engine, decoding included."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tracker.engine.engine import LARGEST_BATCH
from tracker.engine.onnx_export import difference_mm, export_onnx, written
from tracker.errors import EngineError

if TYPE_CHECKING:
    from tracker.network.hand_network import HandNetwork

FORMATS = ("onnx", "openvino", "tensorrt")
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "tensorrt": ".engine"}


def export_openvino(network: HandNetwork, path: Path, *, half: bool = False) -> float:
    """Write an OpenVINO model: `path` (.xml) and its weights beside it (.bin), inputs and outputs as in `export_onnx`.

    half: store the weights as float16; the precision of the arithmetic is chosen when the model is compiled.
    Returns the largest difference of a joint from PyTorch in mm. Raises EngineError as `export_onnx` does.
    """
    from tracker.engine.openvino_engine import convert, import_openvino, openvino_core

    ov = import_openvino()
    with written(path) as part:
        model = convert(network)
        model.set_rt_info(json.dumps(asdict(network.config)), ["config"])
        ov.save_model(model, part, compress_to_fp16=half)
        part.with_suffix(".bin").replace(path.with_suffix(".bin"))
    return difference_mm(network, openvino_core().read_model(path))


def export_tensorrt(network: HandNetwork, path: Path, *, half: bool = True, max_batch: int = LARGEST_BATCH) -> str:
    """Write a TensorRT engine for batches 1 to `max_batch`.

    TensorRT builds for the GPU of this machine and needs it; TensorRT for RTX builds without one, for all from Ampere
    on. Returns what built it. Raises EngineError as `export_onnx` does, and where TensorRT is missing or fails.
    """
    from tracker.engine.tensorrt_plan import build_plan, import_tensorrt

    trt = import_tensorrt()
    with written(path) as part:
        part.write_bytes(build_plan(trt, network, half=half, max_batch=max_batch))
    return f"{trt.__name__} {trt.__version__}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `tracker export`."""
    parser.add_argument("--model", default="auto", help="auto, a model's name or a .safetensors file (default: auto)")
    parser.add_argument("--format", choices=FORMATS, default="onnx", help="what to write (default: onnx)")
    parser.add_argument(
        "--output", required=True, metavar="FILE", help="the file to write (OpenVINO: .xml, with a .bin)"
    )
    parser.add_argument("--half", action="store_true", help="float16 convolutions (OpenVINO: float16 weights)")


def run(args: argparse.Namespace) -> int:
    """`tracker export` with the options of `add_arguments`. Prints what was written; raises TrackerError."""
    from tracker.network.weights import find_weights, load_weights

    path = Path(args.output)
    if path.suffix != SUFFIXES[args.format] and args.format == "openvino":
        raise EngineError(f"OpenVINO wants the suffix .xml: --output {path.with_suffix('.xml')}")
    if path.is_file() and path.suffix != SUFFIXES[args.format]:
        raise EngineError(f"{path} is there and does not end in {SUFFIXES[args.format]}: it is not replaced")
    source = find_weights(args.model)
    network = load_weights(source)
    if network.config.global_joints:
        raise EngineError(f"{source.name} shows all joints in one map, which the exported decoding cannot take apart")
    if args.format == "tensorrt":
        print(f"{path}: built by {export_tensorrt(network, path, half=args.half)} from {source.name}, not run")
        return 0
    export = export_onnx if args.format == "onnx" else export_openvino
    difference = export(network, path, half=args.half)
    print(f"{path}: {source.name}, run by OpenVINO: joints within {difference:.2g} mm of PyTorch")
    return 0
