"""`python -m trainer calibrate`: the confidence of weights, made anew from what the tracker publishes."""

from __future__ import annotations

import json
import shutil

import torch

from tracker.network.weights import load_weights, shipped_weights
from trainer.cli import main


def test_only_the_confidence_changes(tmp_path, capsys):
    shipped = shipped_weights()["v2v-lite"]
    out = tmp_path / "better.safetensors"
    assert main(["calibrate", str(shipped), "--output", str(out), "--sequences", "8", "--frames", "3"]) == 0
    assert "held out" in capsys.readouterr().out
    before, after = load_weights(shipped), load_weights(out)
    assert before.config.calibration != after.config.calibration
    assert all(torch.equal(a, b) for a, b in zip(before.v2v.state_dict().values(), after.v2v.state_dict().values()))
    card = json.loads(out.with_suffix(".json").read_text())
    assert card["config"]["calibration"] == list(after.config.calibration)
    assert 0 <= card["confidence"]["calibration_error"] <= 1


def test_mistakes_are_told(tmp_path, capsys):
    assert main(["calibrate", str(tmp_path / "none.safetensors")]) == 1
    assert "no weights file" in capsys.readouterr().err
    assert main(["calibrate", "v2v-lite"]) == 1
    assert "--output" in capsys.readouterr().err
    shutil.copy(shipped_weights()["v2v-lite"], tmp_path / "a.safetensors")
    (tmp_path / "a.json").write_text("{")
    assert main(["calibrate", str(tmp_path / "a.safetensors")]) == 1
    assert "a.json cannot be read" in capsys.readouterr().err
    assert main(["calibrate", str(shipped_weights()["v2v-lite"]), "--sequences", "1"]) == 1
    assert "at least 2" in capsys.readouterr().err
