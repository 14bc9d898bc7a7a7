"""`python -m trainer calibrate`: the confidence of weights, made anew from what the tracker publishes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from tracker import Tracker
from tracker.camera.simulated import SimulatedCamera
from tracker.network.hand_network import HandNetwork
from tracker.network.weights import load_weights, save_weights, shipped_weights
from trainer.cli import main


def test_only_the_confidence_changes_and_means_more(tmp_path, capsys):
    shipped = load_weights(shipped_weights()["v2v-lite"])
    slope, offset = shipped.config.calibration
    before = HandNetwork(replace(shipped.config, calibration=(slope, offset + 3), curve=()))  # sure of everything
    before.v2v.load_state_dict(shipped.v2v.state_dict())
    save_weights(tmp_path / "sure.safetensors", before, {})
    out = tmp_path / "better.safetensors"
    words = ["calibrate", str(tmp_path / "sure.safetensors"), "--output", str(out)]
    assert main([*words, "--sequences", "8", "--frames", "3"]) == 0
    told = capsys.readouterr().out
    assert "held out" in told
    assert "no curve: too few joints" in told
    after = load_weights(out)
    assert after.config.calibration[1] < before.config.calibration[1] - 1
    assert all(torch.equal(a, b) for a, b in zip(before.v2v.state_dict().values(), after.v2v.state_dict().values()))
    card = json.loads(out.with_suffix(".json").read_text())
    assert card["config"]["calibration"] == list(after.config.calibration)
    assert after.config.curve == (), "so few joints have none"
    told = card["confidence"]
    assert 0 < told["calibration_error"] < told["calibration_error_before"] / 1.5


def test_the_published_confidence_follows_the_curve_and_nothing_else_does():
    told = {}
    for curve in ((), ((0.0, 0.1), (0.5, 0.2), (1.0, 0.6))):
        with Tracker() as tracker:
            tracker.curve = curve
            frames = SimulatedCamera(realtime=False, frames=12, seed=5)
            told[curve] = [hand for frame in frames for hand in tracker.track(frame).hands]
    plain, curved = told.values()
    assert len(plain) == len(curved) > 20
    for one, other in zip(plain, curved):
        assert np.array_equal(one.joints, other.joints)
        assert np.array_equal(one.joint_tracked, other.joint_tracked)
        assert other.joint_confidence == pytest.approx(np.interp(one.joint_confidence, [0, 0.5, 1], [0.1, 0.2, 0.6]))
        assert other.joint_confidence.dtype == np.float32
        assert other.confidence < one.confidence


def test_mistakes_are_told(tmp_path, capsys):
    assert main(["calibrate", str(tmp_path / "none.safetensors")]) == 1
    assert "no weights file" in capsys.readouterr().err
    assert main(["calibrate", "v2v-lite"]) == 1
    assert "--output" in capsys.readouterr().err
    assert main(["calibrate", "segmenter"]) == 1
    assert "no confidence of joints" in capsys.readouterr().err
    shutil.copy(shipped_weights()["v2v-lite"], tmp_path / "a.safetensors")
    (tmp_path / "a.json").write_text("{")
    assert main(["calibrate", str(tmp_path / "a.safetensors")]) == 1
    assert "a.json cannot be read" in capsys.readouterr().err
    (tmp_path / "a.json").write_text("[" * 100_000)
    assert main(["calibrate", str(tmp_path / "a.safetensors")]) == 1
    assert "a.json cannot be read" in capsys.readouterr().err
    shipped = load_weights(shipped_weights()["v2v-lite"])
    save_weights(tmp_path / "flat.safetensors", HandNetwork(replace(shipped.config, calibration=(0.0, 1.0))), {})
    assert main(["calibrate", str(tmp_path / "flat.safetensors")]) == 1
    assert "slope 0" in capsys.readouterr().err
    assert main(["calibrate", str(shipped_weights()["v2v-lite"]), "--sequences", "1"]) == 1
    assert "at least 2" in capsys.readouterr().err
