"""A person's hand size from a file."""

import json

import numpy as np
import pytest

from tracker import Tracker, TrackerConfig, hand_tracker
from tracker.camera.simulated import SimulatedCamera
from tracker.cli import main
from tracker.engine import open_engine
from tracker.errors import ProfileError
from tracker.hand.profile import BONE_NAMES, HandProfile, read_profile, write_profile
from tracker.hand.skeleton import MEAN_HAND_LENGTH, PROPORTIONS
from tracker.tracking.anatomy import measured_lengths

BONES = {name: 0.2 * share for name, share in zip(BONE_NAMES, PROPORTIONS)}


def written(tmp_path, content):
    path = tmp_path / "me.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    "content",
    [
        {"version": 1, "hand_length": 0.2},
        {"version": 1, "bone_lengths": BONES},
        {"version": 1, "hand_length": 0.2, "bone_lengths": {"left": BONES, "right": BONES}},
    ],
)
def test_a_profile_is_read(tmp_path, content):
    profile = read_profile(written(tmp_path, content))
    assert profile.hand_length == pytest.approx(0.2)
    assert profile.cube_scale == pytest.approx(0.2 / MEAN_HAND_LENGTH)
    for side in ("left", "right"):
        np.testing.assert_allclose(profile.lengths(side), list(BONES.values()))


def test_a_profile_is_written_and_read_again(tmp_path):
    rng = np.random.default_rng(1)
    left, right = (tuple(0.18 * np.array(PROPORTIONS) * rng.uniform(0.95, 1.05, 20)) for _ in range(2))
    profile = HandProfile(left, right)
    write_profile(tmp_path / "me.json", profile)
    assert read_profile(tmp_path / "me.json") == profile
    with pytest.raises(ProfileError, match="written"):
        write_profile(tmp_path / "nowhere" / "me.json", profile)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "version"),
        ({"version": 2, "hand_length": 0.2}, "version"),
        ({"version": True, "hand_length": 0.2}, "version"),
        ({"version": 1}, "hand_length"),
        ({"version": 1, "hand_length": "big"}, "number of metres"),
        ({"version": 1, "hand_length": True}, "number of metres"),
        ('{"version": 1, "hand_length": NaN}', "number of metres"),
        ({"version": 1, "hand_length": 190}, "in metres"),
        ({"version": 1, "hand_length": -0.2}, "in metres"),
        ({"version": 1, "hand_length": 10**400}, "number of metres"),
        ({"version": 1, "bone_lengths": [0.1] * 20}, "names and metres"),
        ({"version": 1, "bone_lengths": {"thumb_cmc": 0.03}}, "lacks thumb_mcp"),
        ({"version": 1, "bone_lengths": {"left": BONES}}, "one side only"),
        ({"version": 1, "bone_lengths": {**BONES, "elbow": 0.3}}, "elbow"),
        ({"version": 1, "bone_lengths": {**BONES, "index_pip": None}}, "index_pip"),
        ({"version": 1, "bone_lengths": {**BONES, "index_pip": 0.3}}, "index_pip"),
        ({"version": 1, "bone_lengths": {**BONES, "index_pip": 0}}, "index_pip"),
        ({"version": 1, "hand_length": 0.17, "bone_lengths": BONES}, "middle finger"),
    ],
)
def test_nonsense_is_one_clear_error(tmp_path, capsys, content, message):
    path = written(tmp_path, content)
    with pytest.raises(ProfileError, match=message):
        read_profile(path)
    assert main(["run", "--camera", "simulated", "--frames", "1", "--bind", "none", "--profile", str(path)]) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error:")
    assert "me.json" in error
    assert "\n" not in error


def test_a_missing_file_is_named(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(ProfileError, match=str(path)):
            read_profile(path)


def test_a_profile_is_used_instead_of_an_estimate(monkeypatch):
    opened = []

    def note(network, *rest, **more):
        opened.append(network)
        return open_engine(network, *rest, **more)

    monkeypatch.setattr(hand_tracker, "open_engine", note)
    profile = HandProfile(tuple(BONES.values()), tuple(BONES.values()))
    with Tracker(engine="openvino", config=TrackerConfig(profile=profile)) as tracker:
        assert tracker.edge == pytest.approx(0.26 * 0.2 / MEAN_HAND_LENGTH)
        (network,) = opened
        assert network.decoder.radius * tracker.edge / 2 == pytest.approx(0.01)
        found = []
        for frame in SimulatedCamera(realtime=False, frames=4, seed=5):
            found += [hand.joints for hand in tracker.track(frame).hands]
    assert found
    for joints in found:
        np.testing.assert_allclose(measured_lengths(joints), list(BONES.values()), atol=1e-5)
