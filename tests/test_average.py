"""The mean of several weights files."""

import json
from pathlib import Path

import pytest
import torch

from tracker.network.hand_network import HandNetwork, HandNetworkConfig
from tracker.network.segmenter import Segmenter, SegmenterConfig
from tracker.network.v2v import V2VConfig
from tracker.network.weights import load_segmenter, load_weights, save_segmenter, save_weights
from trainer.cli import main

SMALL = V2VConfig(input_size=16, width=4, blocks=1)
TINY = SegmenterConfig(width=32, height=24, channels=(4, 8), deep=1)


def hand_weights(path: Path, seed: int, config: V2VConfig = SMALL) -> Path:
    torch.manual_seed(seed)
    network = HandNetwork(HandNetworkConfig(v2v=config, calibration=(1.0 + seed, 0.5 * seed)))
    network.v2v.front[1].num_batches_tracked += 7  # counts have no mean
    save_weights(path, network, {"command": f"run {seed}", "results": {}})
    return path


def test_the_mean_of_hand_networks_is_that_of_their_tensors(tmp_path, capsys):
    files = [hand_weights(tmp_path / f"{seed}.safetensors", seed) for seed in (1, 2, 3)]
    out = tmp_path / "mean.safetensors"
    assert main(["average", *map(str, files), str(out)]) == 0
    assert "the mean of 3" in capsys.readouterr().out
    mean, parts = load_weights(out), [load_weights(file) for file in files]
    for name, tensor in mean.v2v.state_dict().items():
        each = torch.stack([part.v2v.state_dict()[name].double() for part in parts])
        torch.testing.assert_close(tensor.double(), each.mean(dim=0), rtol=0, atol=1e-6)
    assert mean.config.calibration == pytest.approx((3.0, 1.0))
    card = json.loads(out.with_suffix(".json").read_text())
    assert [part["command"] for part in card["mean_of"]] == ["run 1", "run 2", "run 3"]
    assert "results" not in card["mean_of"][0]
    # A mean of it still tells of its parts.
    again = tmp_path / "again.safetensors"
    assert main(["average", str(out), str(files[0]), str(again)]) == 0
    parts = json.loads(again.with_suffix(".json").read_text())["mean_of"]
    assert [part["command"] for part in parts[0]["mean_of"]] == ["run 1", "run 2", "run 3"]


def test_the_mean_of_segmentation_networks_can_be_used(tmp_path):
    files = [tmp_path / f"{seed}.safetensors" for seed in (1, 2)]
    for seed, file in enumerate(files):
        torch.manual_seed(seed)
        save_segmenter(file, Segmenter(TINY), {})
    out = tmp_path / "mean.safetensors"
    assert main(["average", *map(str, files), str(out)]) == 0
    mean, one, two = (load_segmenter(file).head.weight for file in (out, *files))
    torch.testing.assert_close(mean, (one + two) / 2, rtol=2e-3, atol=1e-4)
    shipped = tmp_path / "shipped.safetensors"
    assert main(["average", "segmenter", "segmenter", str(shipped)]) == 0
    assert load_segmenter(shipped).config == SegmenterConfig()


def test_what_has_no_mean_is_refused(tmp_path, capsys):
    first = hand_weights(tmp_path / "1.safetensors", 1)
    wide = hand_weights(tmp_path / "2.safetensors", 2, V2VConfig(input_size=16, width=8, blocks=1))
    (tmp_path / "taken.json").write_text("{}")
    segmenter = tmp_path / "3.safetensors"
    save_segmenter(segmenter, Segmenter(TINY), {})
    for words, told in (
        ([first, wide, "x.safetensors"], "different networks (width 8 and 4)"),
        (
            [first, segmenter, "x.safetensors"],
            "another network, one that finds hands (`trainer segment`): one that finds joints is wanted",
        ),
        ([segmenter, first, "x.safetensors"], "another network, one that finds joints: one that finds hands"),
        ([first, "none", "x.safetensors"], "no weights file 'none'"),
        ([first, "x.safetensors"], "two WEIGHTS or more"),
        ([first, first, "x.pt"], "must end in .safetensors"),
        ([first, first, segmenter], "not overwritten"),
        ([first, first, tmp_path / "taken.safetensors"], "taken.json is there already"),
        ([first, first, segmenter / "y.safetensors"], "could not be written"),
    ):
        words = [str(tmp_path / word) if str(word).startswith("x.") else str(word) for word in words]
        assert main(["average", *words]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert told in error
        assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.glob("x*")) == []
    first.with_suffix(".json").write_text("{")
    assert main(["average", str(first), str(first), str(tmp_path / "x.safetensors")]) == 1
    assert "cannot be read" in capsys.readouterr().err
    first.with_suffix(".json").write_text("[1, 2]")
    assert main(["average", str(first), str(first), str(tmp_path / "x.safetensors")]) == 1
    assert "is no JSON object" in capsys.readouterr().err
