"""Exported files hold the same function as the network, and say what it was made for."""

from __future__ import annotations

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from engine_samples import TINY, TOLERANCE_MM, answer, distances_mm, grids_of, network

from tracker.engine import export
from tracker.engine.openvino_engine import import_openvino, openvino_core
from tracker.errors import EngineError, WeightsError
from tracker.network.weights import save_weights

needs_onnx = pytest.mark.skipif(not (find_spec("onnx") and find_spec("onnxscript")), reason="needs the extra onnx")


def run_by_openvino(path: Path, grids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    core = openvino_core()
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled([grids])
    return results["joints"], results["presence"]


def command(*options: str) -> int:
    parser = argparse.ArgumentParser()
    export.add_arguments(parser)
    return export.run(parser.parse_args(list(options)))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_weights(path, network(), {})
    return path


@needs_onnx
@pytest.mark.parametrize("decode", ["softmax", "peak"])
def test_onnx_is_one_file_with_decoding_and_any_batch(tmp_path: Path, decode: str) -> None:
    import onnx

    made = network(decode=decode)
    path = tmp_path / "tiny.onnx"
    assert export.export_onnx(made, path) < TOLERANCE_MM
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.onnx"]
    for batch in (1, 4):
        grids = grids_of(made, batch)
        joints, presence = run_by_openvino(path, grids)
        want_joints, want_presence = answer(made, grids)
        assert distances_mm(joints, want_joints).max() < TOLERANCE_MM
        np.testing.assert_allclose(presence, want_presence, atol=1e-4)
    model = onnx.load(path)
    onnx.checker.check_model(model)
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert not any(node.op_type == "BatchNormalization" for node in model.graph.node)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["config"])["edge"] == made.config.edge


@needs_onnx
def test_half_onnx_computes_in_float16_and_decodes_in_float32(tmp_path: Path) -> None:
    import onnx

    made = network()
    path = tmp_path / "tiny.onnx"
    assert export.export_onnx(made, path, half=True) < 2
    model = onnx.load(path)
    kinds = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 5}
    assert kinds == {onnx.TensorProto.FLOAT16}
    assert {output.type.tensor_type.elem_type for output in model.graph.output} == {onnx.TensorProto.FLOAT}


@needs_onnx
def test_the_command_writes_onnx_and_says_how_near_it_is(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out.onnx"
    assert command("--model", str(weights), "--output", str(path)) == 0
    assert "mm of PyTorch" in capsys.readouterr().out
    assert path.stat().st_size > 10_000


def test_openvino_export_runs_elsewhere(tmp_path: Path, weights: Path) -> None:
    path = tmp_path / "tiny.xml"
    assert command("--model", str(weights), "--format", "openvino", "--output", str(path)) == 0
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".bin", ".json", ".safetensors", ".xml"]
    made = network()
    grids = grids_of(made)
    joints, _ = run_by_openvino(path, grids)
    assert distances_mm(joints, answer(made, grids)[0]).max() < TOLERANCE_MM
    described = openvino_core().read_model(path).get_rt_info(["config"]).astype(str)
    assert json.loads(described)["v2v"]["input_size"] == TINY.input_size


def test_half_openvino_weights_take_half_the_space(tmp_path: Path) -> None:
    made = network()
    export.export_openvino(made, tmp_path / "full.xml")
    assert export.export_openvino(made, tmp_path / "half.xml", half=True) < 2
    assert (tmp_path / "half.bin").stat().st_size < 0.6 * (tmp_path / "full.bin").stat().st_size


@pytest.mark.parametrize("format_", ["onnx", "openvino", "tensorrt"])
def test_a_path_that_cannot_be_written_is_said_before_the_work(tmp_path: Path, weights: Path, format_: str) -> None:
    if format_ == "tensorrt":
        pytest.importorskip("tensorrt_rtx")
    nowhere = tmp_path / "no_folder" / f"out{export.SUFFIXES[format_]}"
    with pytest.raises(EngineError, match="cannot write"):
        command("--model", str(weights), "--format", format_, "--output", str(nowhere))


def test_a_failed_export_leaves_nothing_behind_and_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny.xml"
    path.write_text("the old one")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(import_openvino(), "save_model", fail)
    with pytest.raises(EngineError, match="No space left"):
        export.export_openvino(network(), path)
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.xml"]
    assert path.read_text() == "the old one"


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_is_named_with_its_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EngineError, match=rf"{package},.*pip install .*\[onnx\]"):
        export.export_onnx(network(), tmp_path / "tiny.onnx")


def test_openvino_wants_its_suffix(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(EngineError, match=r"model\.xml"):
        command("--model", str(weights), "--format", "openvino", "--output", str(tmp_path / "model.bin"))


def test_missing_weights_are_said(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="nowhere"):
        command("--model", str(tmp_path / "nowhere.safetensors"), "--output", str(tmp_path / "out.onnx"))
