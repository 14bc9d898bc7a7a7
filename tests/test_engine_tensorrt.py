"""TensorRT as far as it goes without a GPU: TensorRT for RTX builds engines anywhere, but runs them on one only."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_samples import LITE, network
from torch import nn

from tracker.engine import tensorrt_plan
from tracker.engine.export import export_tensorrt
from tracker.engine.tensorrt_plan import build_plan, cache_folder, cached_plan, import_tensorrt, plan_key, start
from tracker.errors import EngineError


@pytest.fixture
def rtx() -> Any:
    return pytest.importorskip("tensorrt_rtx", reason="needs the extra tensorrt-rtx")


def test_an_engine_is_built_from_v2v_lite(rtx: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    path = tmp_path / "lite.engine"
    assert export_tensorrt(network(LITE), path).startswith("tensorrt_rtx")
    assert path.stat().st_size > 1_000_000
    assert [file.name for file in tmp_path.iterdir()] == ["lite.engine"]


def test_turing_gets_an_engine_of_its_own(rtx: Any) -> None:
    """Left to itself, TensorRT for RTX builds for later GPUs; and Turing runs 3-D convolutions in float16 only."""
    assert build_plan(rtx, network(), half=True, max_batch=4, capability=(7, 5))
    with pytest.raises(EngineError, match="cannot build"):
        build_plan(rtx, network(), half=False, max_batch=4, capability=(7, 5))


def test_a_gpu_that_rtx_does_not_know_is_named(rtx: Any) -> None:
    with pytest.raises(EngineError, match=r"9\.0"):
        build_plan(rtx, network(), half=True, max_batch=2, capability=(9, 0))


def test_onnx_that_tensorrt_cannot_read_is_an_error(rtx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def garbage(_: object, path: Path, **__: object) -> float:
        path.write_bytes(b"no network at all")
        return 0.0

    monkeypatch.setattr(tensorrt_plan, "export_onnx", garbage)
    with pytest.raises(EngineError, match="cannot read"):
        build_plan(rtx, network(), half=True, max_batch=2)


def test_a_missing_tensorrt_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(EngineError, match="pip install"):
        import_tensorrt()


def test_tensorrt_without_a_driver_is_an_error() -> None:
    class NoDriver:
        __name__ = "tensorrt"

        @staticmethod
        def Builder(logger: object) -> None:  # noqa: N802
            raise TypeError("pybind11::init(): factory function returned nullptr")

    with pytest.raises(EngineError, match="nvidia-smi"):
        start(NoDriver(), "Builder", None)


class FakeTensorRt:
    """As much of the module as the cache looks at."""

    __version__ = "11.4.0"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.usefixtures("gpu")
def test_plans_are_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[tuple[int, int]] = []

    def build(*_: object, capability: tuple[int, int], **__: object) -> bytes:
        built.append(capability)
        return b"plan %d" % len(built)

    monkeypatch.setattr(tensorrt_plan, "build_plan", build)
    monkeypatch.setattr(torch.cuda, "device", torch.device)
    made = network()
    assert cached_plan(FakeTensorRt, made, "cuda:0", 4) == b"plan 1"
    assert cached_plan(FakeTensorRt, made, "cuda:0", 4) == b"plan 1"
    assert cached_plan(FakeTensorRt, made, "cuda:0", 4, rebuild=True) == b"plan 2"
    assert cached_plan(FakeTensorRt, made, "cuda:0", 4) == b"plan 2"
    assert built == [(8, 9)] * 2
    assert [file.suffix for file in cache_folder().iterdir()] == [".engine"]


@pytest.mark.usefixtures("gpu")
def test_plans_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    made = network()
    keys = [plan_key(FakeTensorRt, made, "cuda:0", batch) for batch in (2, 4)]
    keys.append(plan_key(FakeTensorRt, network(edge=0.3), "cuda:0", 4))
    nn.init.zeros_(made.v2v.head.weight)
    keys.append(plan_key(FakeTensorRt, made, "cuda:0", 4))
    monkeypatch.setattr(FakeTensorRt, "__version__", "11.4.1")
    keys.append(plan_key(FakeTensorRt, made, "cuda:0", 4))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Another GPU")
    keys.append(plan_key(FakeTensorRt, made, "cuda:0", 4))
    assert len(set(keys)) == len(keys)
