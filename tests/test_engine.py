"""Every engine gives what plain PyTorch gives, and says what is wrong where it cannot run."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from engine_samples import LITE, TINY, TOLERANCE_MM, answer, distances_mm, grids_of, network
from torch import nn

from tracker.engine import ENGINES, Engine, open_engine, openvino_engine
from tracker.engine.engine import LARGEST_BATCH
from tracker.engine.fold import folded
from tracker.engine.openvino_engine import OpenVinoEngine
from tracker.engine.sample import hand_like_grids
from tracker.errors import EngineError
from tracker.network.hand_network import HandNetwork
from tracker.network.v2v import V2VConfig

NETWORKS = [
    pytest.param(TINY, "softmax", id="softmax"),
    pytest.param(TINY, "peak", id="peak"),
    pytest.param(replace(TINY, presence=False), "softmax", id="no-presence"),
    pytest.param(replace(TINY, front_stride=2, front_kernel=6), "peak", id="stride-2"),
    pytest.param(replace(TINY, output_scale=2), "softmax", id="fine-maps"),
]


def opened(made: HandNetwork, name: str, max_batch: int = 4) -> Engine:
    """The engine in float32, one thread."""
    if name == "openvino":
        return OpenVinoEngine(made, threads=1, max_batch=max_batch, precision="f32")
    return open_engine(made, name, "cpu", max_batch=max_batch)


def agrees(engine: Engine, made: HandNetwork, batches: tuple[int, ...] = (1, 2, 4)) -> None:
    grids = grids_of(made)
    want_joints, want_presence = answer(made, grids)
    assert want_joints[..., :3].std() > 0.05, "maps that say nothing compare nothing"
    for batch in batches:
        joints, presence = engine.run(grids[:batch])
        assert joints.shape == (batch, engine.config.v2v.joints, 4)
        assert presence.shape == (batch,)
        assert joints.dtype == presence.dtype == np.float32
        assert distances_mm(joints, want_joints[:batch]).max() < TOLERANCE_MM
        np.testing.assert_allclose(joints[..., 3], want_joints[:batch, :, 3], atol=1e-3)
        np.testing.assert_allclose(presence, want_presence[:batch], atol=1e-4)


@pytest.mark.parametrize(("v2v", "decode"), NETWORKS)
@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_engines_agree_with_pytorch(name: str, v2v: V2VConfig, decode: str) -> None:
    made = network(v2v, decode=decode, calibration=(0.8, 0.1))
    with opened(made, name) as engine:
        assert engine.name == name
        assert engine.device == engine.voxel_device == "cpu"
        assert engine.size == v2v.input_size
        agrees(engine, made)


def test_openvino_agrees_on_v2v_lite() -> None:
    made = network(LITE)
    with opened(made, "openvino", max_batch=2) as engine:
        agrees(engine, made, batches=(1, 2))


def test_torch_compile_agrees_with_pytorch() -> None:
    made = network()
    try:
        engine = open_engine(made, "compile", "cpu", max_batch=1)
    except EngineError as error:
        pytest.skip(str(error))
    with engine:
        agrees(engine, made, batches=(1,))


def test_torch_compile_without_a_compiler_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_compiler(*_: object) -> None:
        raise LookupError("No working C++ compiler found")

    monkeypatch.setattr(torch, "compile", lambda forward: without_compiler)
    with pytest.raises(EngineError, match="--engine torch"):
        open_engine(network(), "compile", "cpu")


def test_bfloat16_stays_near() -> None:
    """Trained maps move by 0.1 mm; random ones, of many peaks, are the harder case."""
    made = network()
    try:
        engine = OpenVinoEngine(made, max_batch=4, precision="bf16")
    except EngineError as error:
        pytest.skip(str(error))
    grids = grids_of(made)
    assert np.median(distances_mm(engine.run(grids)[0], answer(made, grids)[0])) < 2


@pytest.mark.parametrize(("decode", "want"), [("softmax", {"f32", "bf16"}), ("peak", {"f32"})])
def test_openvino_rounds_only_where_decoding_bears_it(decode: str, want: set[str]) -> None:
    with open_engine(network(decode=decode), "openvino", "cpu", max_batch=1) as engine:
        assert isinstance(engine, OpenVinoEngine)
        assert engine.precision in want


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_results_belong_to_the_caller(name: str) -> None:
    """An engine reuses its buffers, so it must not hand them out."""
    made = network()
    grids = grids_of(made, 2)
    with opened(made, name) as engine:
        joints, presence = engine.run(grids[:1])
        kept = joints.copy(), presence.copy()
        engine.run(grids[1:])
    np.testing.assert_array_equal(joints, kept[0])
    np.testing.assert_array_equal(presence, kept[1])


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_grids_come_as_arrays_or_tensors(name: str) -> None:
    made = network()
    grids = grids_of(made, 3)
    with opened(made, name) as engine:
        joints, _ = engine.run(grids)
        as_tensor, _ = engine.run(torch.from_numpy(grids))
        turned = np.ascontiguousarray(grids.transpose(0, 3, 2, 1)).transpose(0, 3, 2, 1)
        not_contiguous, _ = engine.run(turned)
    np.testing.assert_allclose(as_tensor, joints, atol=1e-6)
    np.testing.assert_allclose(not_contiguous, joints, atol=1e-6)


def test_no_hands_give_no_joints() -> None:
    with open_engine(network(), "torch", "cpu", max_batch=1) as engine:
        joints, presence = engine.run(np.zeros((0, 24, 24, 24), np.uint8))
    assert joints.shape == (0, 21, 4)
    assert presence.shape == (0,)


@pytest.mark.parametrize(
    ("grids", "complaint"),
    [
        (np.zeros((1, 24, 24, 24), np.float32), "uint8"),
        (np.zeros((1, 32, 32, 32), np.uint8), "24"),
        (np.zeros((24, 24, 24), np.uint8), "24"),
        (np.zeros((2, 24, 24, 24), np.uint8), "max_batch"),
    ],
)
def test_other_grids_are_refused(grids: np.ndarray, complaint: str) -> None:
    with open_engine(network(), "torch", "cpu", max_batch=1) as engine, pytest.raises(ValueError, match=complaint):
        engine.run(grids)


@pytest.mark.parametrize("batch", [0, LARGEST_BATCH + 1])
def test_senseless_batches_are_refused(batch: int) -> None:
    with pytest.raises(ValueError, match="max_batch"):
        open_engine(network(), "torch", "cpu", max_batch=batch)


def test_weights_that_are_not_finite_are_refused() -> None:
    made = network()
    nn.init.constant_(made.v2v.head.weight, float("nan"))
    with pytest.raises(EngineError, match="not finite"):
        open_engine(made, "torch", "cpu")


def test_an_engine_that_fails_at_its_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no kernel image is available for this device\nand much more")

    made = network()
    monkeypatch.setattr("tracker.network.v2v.V2V.forward", fail)
    with pytest.raises(EngineError, match=r"\(no kernel image is available for this device\): try another --engine"):
        open_engine(made, "torch", "cpu")


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_closing_twice_is_harmless(name: str) -> None:
    engine = open_engine(network(), name, "cpu", max_batch=1)
    engine.close()
    engine.close()


def test_auto_on_a_cpu_is_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    made = network()
    with open_engine(made, "auto", "cpu", max_batch=1) as engine:
        assert engine.name == "openvino"
    monkeypatch.setattr("tracker.engine.find_spec", lambda name: None)
    with open_engine(made, "auto", "cpu", max_batch=1) as engine:
        assert engine.name == "torch"


def test_auto_passes_over_an_engine_that_does_not_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise EngineError("a library of it is missing")

    monkeypatch.setattr("tracker.engine.openvino_engine.OpenVinoEngine", broken)
    with caplog.at_level(logging.WARNING), open_engine(network(), "auto", "cpu", max_batch=1) as engine:
        assert engine.name == "torch"
    assert "a library of it is missing" in caplog.text


def test_an_unknown_engine_is_refused_with_the_choices() -> None:
    with pytest.raises(EngineError, match=", ".join(ENGINES)):
        open_engine(network(), "warp")


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cpu:1", "cuda:-1", ""])
def test_an_unknown_device_is_refused_with_the_choices(device: str) -> None:
    with pytest.raises(EngineError, match="cuda:N"):
        open_engine(network(), "auto", device)


def test_engines_and_devices_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(EngineError, match="--device cpu"):
        open_engine(network(), "openvino", "cuda")
    with pytest.raises(EngineError, match="--device cuda"):
        open_engine(network(), "tensorrt", "cpu")


@pytest.mark.parametrize(("name", "device"), [("torch", "cuda"), ("compile", "cuda:0"), ("tensorrt", "auto")])
def test_a_missing_gpu_is_said(monkeypatch: pytest.MonkeyPatch, name: str, device: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(EngineError, match="no CUDA device"):
        open_engine(network(), name, device)


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EngineError, match="pip install"):
        open_engine(network(), "openvino", "cpu")


def test_a_precision_that_the_processor_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class OldCore:
        def get_property(self, *_: str) -> list[str]:
            return ["FP32", "INT8"]

    monkeypatch.setattr(openvino_engine, "openvino_core", OldCore)
    with pytest.raises(EngineError, match="precision f32"):
        OpenVinoEngine(network(), max_batch=1, precision="bf16")


@pytest.mark.skipif(os.name == "nt", reason="stacks for signals are of Linux")
def test_signals_do_no_harm_after_engines_that_were_dropped_in_the_order_of_their_making() -> None:
    """Each Core of OpenVINO brings a stack for signals; the last to go could leave that of one before it."""
    script = (
        "import faulthandler, gc, signal\n"
        "faulthandler.enable()\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('heard'))\n"
        "from engine_samples import network\n"
        "from tracker.engine import open_engine\n"
        "from tracker.engine.segmenting import open_segmenter\n"
        "from tracker.network.segmenter import Segmenter, SegmenterConfig\n"
        "small = Segmenter(SegmenterConfig(width=32, height=24, channels=(4, 8), deep=1))\n"
        "segment = open_segmenter(small, 'openvino')\n"
        "engine = open_engine(network(), 'openvino', 'cpu', max_batch=1)\n"
        "del segment\n"
        "gc.collect()\n"
        "engine.close()\n"
        "del engine\n"
        "gc.collect()\n"
        "signal.raise_signal(signal.SIGUSR1)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=_paths(), capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr


def test_openvino_reports_nothing_to_the_internet() -> None:
    """Usage statistics are sent by a package that `import openvino` imports if it can."""
    script = (
        "import sys\n"
        "from engine_samples import network\n"
        "from tracker.engine import open_engine\n"
        "open_engine(network(), 'openvino', 'cpu', max_batch=1)\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry.')])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=_paths(), capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[]", done.stderr


def test_importing_the_package_imports_no_framework() -> None:
    script = "import sys, tracker.engine; print([m for m in ('torch', 'openvino', 'tensorrt') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], env=_paths(), capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def _paths() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def test_folding_keeps_the_function_and_leaves_the_original_alone() -> None:
    made = network(replace(TINY, output_scale=2))
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    light = folded(made)
    assert not any(isinstance(module, nn.BatchNorm3d) for module in light.modules())
    grids = grids_of(made)
    assert distances_mm(answer(light, grids)[0], answer(made, grids)[0]).max() < TOLERANCE_MM
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.state_dict().items())


def test_sample_grids_look_like_hands() -> None:
    grids = hand_like_grids(3, 48)
    assert grids.shape == (3, 48, 48, 48)
    assert grids.dtype == np.uint8
    assert set(np.unique(grids)) == {0, 1}
    assert (grids.mean(axis=(1, 2, 3)) > 0.005).all()
    assert (grids.mean(axis=(1, 2, 3)) < 0.1).all()
    np.testing.assert_array_equal(grids, hand_like_grids(3, 48))
