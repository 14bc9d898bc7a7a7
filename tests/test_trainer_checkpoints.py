"""Old checkpoints: what is converted gives the same maps, and nothing in a file is run."""

import os
import pickle

import pytest
import torch
from torch import nn

from tracker.errors import WeightsError
from tracker.hand.skeleton import SKELETON
from tracker.hand_tracker import Tracker
from tracker.network.hand_network import HandNetwork, HandNetworkConfig
from tracker.network.v2v import V2VConfig
from tracker.network.weights import load_weights, save_weights
from trainer.cli import main
from trainer.reference_checkpoint import convert_checkpoint

torch.set_num_threads(1)
WIDTH, JOINTS = 4, 5


class Conv(nn.Module):
    """A layer as the ports name it: `block`, with biases that the batch norm makes superfluous."""

    def __init__(self, layer, channels):
        super().__init__()
        self.block = nn.Sequential(layer, nn.BatchNorm3d(channels))

    def forward(self, x):
        return self.block(x).relu()


class Twice(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.res_branch = nn.Sequential(
            nn.Conv3d(a, b, 3, padding=1),
            nn.BatchNorm3d(b),
            nn.ReLU(),
            nn.Conv3d(b, b, 3, padding=1),
            nn.BatchNorm3d(b),
        )
        self.skip_con = nn.Sequential(*([] if a == b else [nn.Conv3d(a, b, 1), nn.BatchNorm3d(b)]))

    def forward(self, x):
        return (self.skip_con(x) + self.res_branch(x)).relu()


class Hourglass(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.encoder_res1, self.encoder_res2 = Twice(w, 2 * w), Twice(2 * w, 4 * w)
        self.mid_res, self.decoder_res2, self.decoder_res1 = (
            Twice(4 * w, 4 * w),
            Twice(4 * w, 4 * w),
            Twice(2 * w, 2 * w),
        )
        self.decoder_upsample2 = Conv(nn.ConvTranspose3d(4 * w, 2 * w, 2, 2), 2 * w)
        self.decoder_upsample1 = Conv(nn.ConvTranspose3d(2 * w, w, 2, 2), w)
        self.skip_res1, self.skip_res2 = Twice(w, w), Twice(2 * w, 2 * w)

    def forward(self, x):
        half = self.encoder_res1(nn.functional.max_pool3d(x, 2))
        deep = self.mid_res(self.encoder_res2(nn.functional.max_pool3d(half, 2)))
        half = self.skip_res2(half) + self.decoder_upsample2(self.decoder_res2(deep))
        return self.skip_res1(x) + self.decoder_upsample1(self.decoder_res1(half))


class Port(nn.Module):
    """The paper's network with the names that its PyTorch ports have, written from the paper's figure 3."""

    def __init__(self, w=WIDTH, joints=JOINTS):
        super().__init__()
        self.front_layers = nn.Sequential(
            Conv(nn.Conv3d(1, w // 2, 7, padding=3), w // 2),
            nn.MaxPool3d(2),
            Twice(w // 2, w),
            Twice(w, w),
            Twice(w, w),
        )
        self.encoder_decoder = Hourglass(w)
        self.back_layers = nn.Sequential(Twice(w, w), Conv(nn.Conv3d(w, w, 1), w), Conv(nn.Conv3d(w, w, 1), w))
        self.output_layer = nn.Conv3d(w, joints, 1)

    def forward(self, x):
        return self.output_layer(self.back_layers(self.encoder_decoder(self.front_layers(x[:, None]))))


@pytest.fixture(scope="module")
def port():
    """A port with statistics and biases that matter."""
    torch.manual_seed(0)
    network = Port()
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            nn.init.normal_(module.bias, std=0.5)
        elif isinstance(module, nn.BatchNorm3d):
            nn.init.normal_(module.running_mean, std=0.5)
            nn.init.uniform_(module.running_var, 0.3, 2)
            nn.init.normal_(module.weight, mean=1, std=0.3)
            nn.init.normal_(module.bias, std=0.3)
    return network.eval()


@pytest.fixture(scope="module")
def grids():
    return (torch.rand((2, 16, 16, 16), generator=torch.Generator().manual_seed(1)) < 0.2).float()


@pytest.mark.parametrize("form", ["model_state_dict", "state_dict", "bare"])
@pytest.mark.parametrize("prefix", ["", "module."])
@torch.inference_mode()
def test_a_converted_network_gives_the_same_maps(port, grids, form, prefix, tmp_path):
    state = {prefix + name: tensor for name, tensor in port.state_dict().items()}
    torch.save(state if form == "bare" else {form: state, "epoch": 3}, tmp_path / "old.pth")
    words = ["convert", str(tmp_path / "old.pth"), str(tmp_path / "new.safetensors")]
    assert main([*words, "--edge", "0.3"]) == 0
    assert load_weights(tmp_path / "new.safetensors").config.edge == 0.3
    assert main(words) == 1  # weights that are there are not overwritten
    (tmp_path / "new.safetensors").unlink()
    assert main(words) == 0
    network = load_weights(tmp_path / "new.safetensors")
    assert (network.config.decode, network.config.edge, network.config.v2v.joints) == ("peak", 0.25, JOINTS)
    assert network.config.v2v.input_size == 88
    maps, _ = network.v2v(grids)
    expected = port(grids)
    assert expected.abs().mean() > 0.1
    torch.testing.assert_close(maps, expected, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_axes_in_another_order_are_turned(port, grids, tmp_path):
    torch.save(port.state_dict(), tmp_path / "old.pth")
    network = convert_checkpoint(tmp_path / "old.pth", tmp_path / "new.safetensors", 0.3, axes="yxz")
    assert network.config.edge == 0.3
    expected = port(grids.transpose(1, 2)).transpose(2, 3)
    torch.testing.assert_close(network.v2v(grids)[0], expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(port(grids), expected, atol=1e-2)


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_pickle_does_not_run(port, legacy, tmp_path):
    sign = tmp_path / "it ran"
    content = {"model_state_dict": port.state_dict(), "args": Harmful(sign)}
    torch.save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(WeightsError, match="could run code"):
        convert_checkpoint(tmp_path / "old.pth", tmp_path / "new.safetensors")
    assert not sign.exists()
    assert not (tmp_path / "new.safetensors").exists()
    torch.load(tmp_path / "old.pth", weights_only=False)  # the file does do harm where it is trusted
    assert sign.exists()


def changed(port, **changes):
    state = dict(port.state_dict())
    for name, value in changes.items():
        key = name.replace("__", ".")
        if value is None:
            del state[key]
        else:
            state[key] = value
    return state


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder_decoder__mid_res__res_branch__3__weight": None}, "encoder_decoder.mid_res.res_branch.3.weight"),
        ({"output_layer__extra": torch.zeros(1)}, "output_layer.extra"),
        # An early port up-sampled with kernels of 3.
        (
            {"encoder_decoder__decoder_upsample1__block__0__weight": torch.zeros(2 * WIDTH, WIDTH, 3, 3, 3)},
            "decoder_upsample1.block.0.weight has the shape",
        ),
        ({"output_layer__bias": torch.full((JOINTS,), float("nan"))}, "output_layer.bias holds numbers"),
        ({"front_layers__0__block__0__bias": torch.zeros(7)}, "do not belong together"),
        ({"front_layers__0__block__0__weight": torch.tensor(1.0)}, "another architecture"),
        ({"output_layer__weight": torch.zeros(0, WIDTH, 1, 1, 1)}, "another architecture"),
    ],
)
def test_other_architectures_are_told(port, changes, message, tmp_path, capsys):
    torch.save({"state_dict": changed(port, **changes)}, tmp_path / "old.pth")
    assert main(["convert", str(tmp_path / "old.pth"), str(tmp_path / "new.safetensors")]) == 1
    printed = capsys.readouterr().err.strip()
    assert message in printed
    assert "\n" not in printed
    assert not (tmp_path / "new.safetensors").exists()


@pytest.mark.parametrize("kind", ["missing", "empty", "garbage", "truncated", "pickle", "list", "names"])
def test_damaged_checkpoints_are_one_line(port, kind, tmp_path, capsys):
    path = tmp_path / "old.pth"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "garbage":
        path.write_bytes(b"i" + os.urandom(5000))  # a letter that the unpickler takes for a command
    elif kind == "truncated":
        torch.save(port.state_dict(), path)
        path.write_bytes(path.read_bytes()[:-3000])
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({"model_state_dict": {"a": 1}}))
    elif kind == "list":
        torch.save([torch.zeros(3)], path)
    elif kind == "names":
        torch.save({"model_state_dict": {"a": "b"}}, path)
    assert main(["convert", str(path), str(tmp_path / "new.safetensors")]) == 1
    printed = capsys.readouterr().err.strip()
    assert "old.pth" in printed
    assert "\n" not in printed
    reasons = {"empty": "it is empty", "garbage": "begins as no file of torch.save", "truncated": "cut short"}
    assert reasons.get(kind, "") in printed


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_where_weights_are_wanted_names_the_command(port, legacy, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model_state_dict": port.state_dict()}, "old.tar", _use_new_zipfile_serialization=not legacy)
    (tmp_path / "old.pth").write_bytes(b"garbage")
    for name in ("old.tar", "old.pth"):
        for command in (["evaluate", name, "synthetic"], ["fit", "synthetic", "out", "--init", name]):
            assert main(command) == 1
            printed = capsys.readouterr().err.strip()
            assert f"python -m trainer convert {name} NEW.safetensors" in printed
            assert "\n" not in printed


def test_joints_of_another_order_are_not_tracked(tmp_path):
    torch.save(Port(WIDTH, 21).state_dict(), tmp_path / "old.pth")
    network = convert_checkpoint(tmp_path / "old.pth", tmp_path / "new.safetensors")
    assert network.config.skeleton != SKELETON
    with pytest.raises(WeightsError, match="joints21"):
        Tracker(str(tmp_path / "new.safetensors"), "torch", "cpu")


def test_one_map_for_all_joints_is_saved_and_not_tracked(tmp_path, capsys):
    v2v = V2VConfig(joints=1, input_size=16, width=4, front_kernel=3, blocks=1, output_scale=2)
    config = HandNetworkConfig(v2v=v2v, decode="peak", skeleton="global21", global_joints=21)
    save_weights(tmp_path / "a.safetensors", HandNetwork(config), {})
    assert load_weights(tmp_path / "a.safetensors").config == config
    from tracker.cli import main as track

    assert track(["run", "--camera", "simulated", "--model", str(tmp_path / "a.safetensors"), "--frames", "1"]) == 1
    printed = capsys.readouterr().err.strip().splitlines()[-1]
    assert "global21" in printed
    for wrong in ({"skeleton": "hand21"}, {"global_joints": -1}, {"decode": "softmax"}, {"v2v": V2VConfig(joints=2)}):
        with pytest.raises(ValueError, match="global"):
            HandNetworkConfig(**{"v2v": v2v, "decode": "peak", "skeleton": "global21", "global_joints": 21, **wrong})
