"""Training on a CUDA device: samples are kept, decoded and learned from there."""

from __future__ import annotations

import json

import pytest
import torch
from trainer_samples import write_h5

from tracker.network.weights import load_weights
from trainer.cli import main
from trainer.data.packed import PackedSamples

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_batches_are_decoded_where_the_samples_are(tmp_path):
    write_h5(tmp_path / "a.h5")
    assert main(["convert", str(tmp_path / "a.h5"), str(tmp_path / "packed")]) == 0
    here, there = PackedSamples(tmp_path / "packed"), PackedSamples(tmp_path / "packed")
    there.move_to(torch.device("cuda"))
    want, got = here.batch([4, 0, 4, 5]), there.batch([4, 0, 4, 5])
    for name in ("points", "sample", "joints", "edge", "presence", "key"):
        moved = getattr(got, name)
        assert moved.is_cuda
        assert torch.equal(moved.cpu(), getattr(want, name))
    assert (there[3].points == here[3].points).all()


@pytest.mark.parametrize("data", ["a.h5", "packed"])
def test_a_run_learns_on_the_gpu(tmp_path, data):
    write_h5(tmp_path / "a.h5")
    assert main(["convert", str(tmp_path / "a.h5"), str(tmp_path / "packed")]) == 0
    words = ["fit", str(tmp_path / data), str(tmp_path / "out"), "--dev", str(tmp_path / "a.h5"), "--device", "cuda"]
    words += ["--input-size", "16", "--batch-size", "6", "--epochs", "60", "--augmentation", "none", "--workers", "1"]
    assert main([*words, "--learning-rate", "0.005", "--ema", "0.5"]) == 0
    events = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    losses = [event["loss"] for event in events if event["event"] == "train"]
    assert losses[-1] < losses[0]
    load_weights(tmp_path / "out" / "best.safetensors")
