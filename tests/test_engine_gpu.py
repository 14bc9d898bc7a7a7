"""The engines on a CUDA device: float16 stays near float32 on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from engine_samples import LITE, answer, distances_mm, grids_of, network

from tracker.engine import open_engine
from tracker.errors import EngineError

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("name", ["torch", "compile", "tensorrt"])
def test_engines_agree_with_pytorch_on_the_cpu(name: str) -> None:
    made = network(LITE)
    try:
        engine = open_engine(made, name, "cuda", max_batch=2)
    except EngineError as error:
        if name != "tensorrt":
            raise
        pytest.skip(str(error))
    grids = grids_of(made, 2)
    want, want_presence = answer(made, grids)
    with engine:
        assert engine.device == engine.voxel_device == "cuda:0"
        for batch in (1, 2):
            for given in (grids[:batch], torch.from_numpy(grids[:batch]).to("cuda")):
                joints, presence = engine.run(given)
                assert np.median(distances_mm(joints, want[:batch])) < 0.5
                np.testing.assert_allclose(presence, want_presence[:batch], atol=0.02)


def test_auto_takes_the_gpu() -> None:
    with open_engine(network(LITE), max_batch=1) as engine:
        assert engine.device == "cuda:0"


def test_a_gpu_that_is_not_there_is_said() -> None:
    with pytest.raises(EngineError, match="cuda:99"):
        open_engine(network(), "torch", "cuda:99")
