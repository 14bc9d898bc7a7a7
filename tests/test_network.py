"""The networks' sizes and shapes, and their weights files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from tracker.errors import DataError, WeightsError
from tracker.network.hand_network import HandNetwork, HandNetworkConfig
from tracker.network.v2v import PRESETS, V2V, V2VConfig
from tracker.network.weights import find_weights, load_weights, save_weights, shipped_weights
from trainer.fitting.start import start_from

TINY = V2VConfig(joints=5, input_size=16, width=4, presence=True)


def cost(config: V2VConfig) -> tuple[int, int]:
    """Parameters, and multiplications of the convolutions for one grid, counted on shapes alone."""
    with torch.device("meta"):
        network = V2V(config).eval()
        products = 0

        def count(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
            nonlocal products
            each = inputs[0] if isinstance(module, nn.ConvTranspose3d) else output
            products += each[0, 0].numel() * module.weight.numel()  # type: ignore[union-attr, operator]

        for module in network.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                module.register_forward_hook(count)  # type: ignore[arg-type]
        network(torch.zeros((1, *(config.input_size,) * 3)))
    return sum(parameter.numel() for parameter in network.parameters()), products


def test_v2v_is_as_large_as_the_paper_has_it() -> None:
    parameters, products = cost(PRESETS["v2v"])
    assert parameters == pytest.approx(3.41e6, rel=0.005)
    assert products == pytest.approx(36.4e9, rel=0.005)


def test_v2v_lite_costs_a_thirtieth() -> None:
    assert cost(PRESETS["v2v-lite"])[1] < cost(PRESETS["v2v"])[1] / 30


@pytest.mark.parametrize(("model", "edge"), [("v2v", 44), ("v2v-88", 88), ("v2v-lite", 24)])
def test_maps_are_as_fine_as_promised(model: str, edge: int) -> None:
    config = PRESETS[model]
    with torch.device("meta"):
        maps, presence = V2V(config).eval()(torch.zeros((2, *(config.input_size,) * 3), dtype=torch.uint8))
    assert config.output_size == edge
    assert maps.shape == (2, 21, edge, edge, edge)
    assert presence.shape == (2,)


@pytest.mark.parametrize("changes", [{}, {"output_scale": 2}, {"front_stride": 2, "front_kernel": 6}])
@pytest.mark.parametrize("presence", [True, False])
def test_joints_leave_the_network_whatever_its_form(changes: dict[str, int], presence: bool) -> None:
    config = replace(TINY, presence=presence, **changes)
    joints, present = HandNetwork(HandNetworkConfig(v2v=config)).eval()(torch.ones((3, 16, 16, 16), dtype=torch.uint8))
    assert joints.shape == (3, 5, 4)
    assert joints.dtype == present.dtype == torch.float32
    assert joints[..., :3].abs().max() <= 1
    assert 0 <= joints[..., 3].min() <= joints[..., 3].max() <= 1
    assert present.shape == (3,)
    assert 0 <= present.min() <= present.max() <= 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"joints": 0},
        {"width": 5},
        {"input_size": 20},
        {"output_scale": 3},
        {"front_kernel": 6},
        {"front_kernel": -7},
        {"middle_blocks": 0},
        {"middle_blocks": 65},
        {"width": 10**9},
        {"front_kernel": 6, "front_stride": 2, "output_scale": 2},
    ],
)
def test_a_network_that_cannot_be_built_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"joints|input_size|output_scale|front_kernel|middle_blocks"):
        V2VConfig(**wrong)


@pytest.mark.parametrize("wrong", [{"upright": "no"}, {"upright": None}, {"name": None}])
def test_a_description_of_the_wrong_kind_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="true or false"):
        HandNetworkConfig(v2v=V2VConfig(), **wrong)
    with pytest.raises(ValueError, match="presence"):
        V2VConfig(presence="x")  # type: ignore[arg-type]


def test_a_network_that_is_given_more_blocks_in_its_middle_goes_on_nearly_from_where_it_was(tmp_path: Path) -> None:
    torch.manual_seed(0)
    hand = HandNetwork(HandNetworkConfig(v2v=TINY)).eval()
    few, more, none = hand.v2v, V2V(replace(TINY, middle_blocks=3)).eval(), V2V(TINY).eval()
    nn.init.normal_(few.head.weight)
    save_weights(tmp_path / "few.safetensors", hand, {})
    fresh = start_from(more, tmp_path / "few.safetensors")
    assert fresh
    assert all(name.startswith("middle_more.") for name in fresh)
    grids = (torch.rand(2, 16, 16, 16) < 0.1).to(torch.uint8)
    changed, whole = ((v2v(grids)[0] - few(grids)[0]).norm() for v2v in (more, none))
    assert 0 < changed < 0.3 * whole
    save_weights(tmp_path / "more.safetensors", HandNetwork(HandNetworkConfig(v2v=more.config)), {})
    with pytest.raises(DataError, match="another network"):  # trained blocks are not dropped
        start_from(V2V(TINY), tmp_path / "more.safetensors")


@pytest.fixture
def network() -> HandNetwork:
    torch.manual_seed(0)
    config = HandNetworkConfig(
        v2v=TINY, name="tiny", decode="peak", edge=0.3, calibration=(0.5, -0.25), curve=((0.0, 0.1), (1.0, 0.9))
    )
    return HandNetwork(config).eval()


def test_weights_come_back_as_they_were_saved(network: HandNetwork, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "tiny.safetensors"
    save_weights(path, network, {"error_mm": 7.5})
    back = load_weights(path)
    grids = (torch.rand(2, 16, 16, 16) < 0.1).to(torch.uint8)
    assert back.config == network.config
    assert not back.training
    for one, other in zip(back(grids), network(grids)):
        assert torch.equal(one, other)
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["error_mm"] == 7.5
    assert card["config"]["v2v"]["width"] == TINY.width
    assert sorted(file.name for file in path.parent.iterdir()) == ["tiny.json", "tiny.safetensors"]


def test_weights_from_before_there_was_a_curve_have_none(network: HandNetwork, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    save_weights(path, network, {})
    with safe_open(path, framework="pt") as file:
        told = dict(file.metadata())
    config = json.loads(told["config"])
    del config["curve"]
    save_file(load_file(path), path, metadata=told | {"config": json.dumps(config)})
    assert load_weights(path).config == replace(network.config, curve=())


def test_weights_whose_card_cannot_be_written_stay_as_they_were(network: HandNetwork, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"those of before")
    (tmp_path / "a.json").mkdir()
    with pytest.raises(WeightsError, match="stays"):
        save_weights(path, network, {})
    assert path.read_bytes() == b"those of before"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.json", "a.safetensors"]


def test_damaged_weights_are_refused(network: HandNetwork, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    save_weights(path, network, {})
    whole = path.read_bytes()
    for damaged in (whole[:-100], whole[:50], b"", b"garbage, not weights" * 100):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match="copied whole"):
            load_weights(path)


def test_weights_of_another_project_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(WeightsError, match="no weights of this project"):
        load_weights(path)


def rewrite(path: Path, state: dict[str, torch.Tensor], **changes: object) -> None:
    config = json.loads(path.with_suffix(".json").read_text())["config"] | changes
    save_file(state, path, metadata={"format": "v2v-hand-tracker/1", "config": json.dumps(config)})


def test_weights_that_do_not_fit_are_refused(network: HandNetwork, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    save_weights(path, network, {})
    state = load_file(path)
    rewrite(path, {**state, "head.bias": torch.zeros(6)})
    with pytest.raises(WeightsError, match="does not fit"):
        load_weights(path)
    rewrite(path, {name: tensor for name, tensor in state.items() if name != "head.bias"})
    with pytest.raises(WeightsError, match="does not fit"):
        load_weights(path)


@pytest.mark.parametrize(
    "changes", [{"decode": "guess"}, {"edge": 26.0}, {"unheard_of": 1}, {"v2v": {"width": 5}}, {"v2v": 3}]
)
def test_networks_of_the_future_are_refused(network: HandNetwork, tmp_path: Path, changes: dict[str, object]) -> None:
    path = tmp_path / "tiny.safetensors"
    save_weights(path, network, {})
    rewrite(path, load_file(path), **changes)
    with pytest.raises(WeightsError, match="does not know"):
        load_weights(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors"):
        load_weights(tmp_path / "nowhere.safetensors")
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors"):
        find_weights(str(tmp_path / "nowhere.safetensors"))


def test_a_file_is_found_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    path.touch()
    assert find_weights(str(path)) == path


@pytest.mark.parametrize("path", shipped_weights().values(), ids=lambda path: path.stem)
def test_shipped_weights_load(path: Path) -> None:
    network = load_weights(path)
    assert network.config.skeleton == "hand21"
    assert network.config.v2v.joints == 21


@pytest.mark.parametrize("curve", [((0, 0), (0, 1)), ((0, 0.5), (1, 0.4)), ((0, 0, 0),), ((0, "1"),), ((0, 2),)])
def test_a_curve_that_is_none_is_refused(curve):
    with pytest.raises(ValueError, match="curve"):
        HandNetworkConfig(v2v=V2VConfig(), curve=curve)


@pytest.mark.parametrize("calibration", [("a", "b"), (1.0,), (float("nan"), 0.0), (1e308, 1e308)])
def test_a_calibration_that_is_none_is_refused(calibration):
    with pytest.raises(ValueError, match="calibration"):
        HandNetworkConfig(v2v=V2VConfig(), calibration=calibration)
