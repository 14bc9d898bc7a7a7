"""The compact format: octrees, shards, what is refused, and `synthesize`."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save

from tracker.errors import DataError
from tracker.hand.skeleton import JOINT_NAMES
from tracker.hand.voxels import voxelise
from trainer.cli import main
from trainer.data.hdf5 import Hdf5Samples
from trainer.data.octree import decode, encode, levels_of
from trainer.data.packed import Index, Layout, PackedSamples, Shard, read_index
from trainer.data.sample import Sample, collate
from trainer.data.scenes import SceneSamples
from trainer.data.synthetic import SyntheticSamples
from trainer.data.writing import open_writer, write

torch.set_num_threads(1)


class Blobs(list):
    """A source of random samples; the third is empty."""

    joints = 3
    reach = 1.2

    def __init__(self, count, seed=0):
        rng = np.random.default_rng(seed)
        for i in range(count):
            points = rng.uniform(-1.19, 1.19, (0 if i == 2 else int(rng.integers(1, 300)), 3)).astype(np.float32)
            joints = rng.uniform(-1, 1, (3, 3)).astype(np.float32)
            joints[i % 3] = np.nan
            center = None if i % 2 else (0.1, -0.2, 0.5 + i)
            self.append(Sample(points, joints, 0.2 + i / 100, i != 4, center, i % 3 == 1, f"frame {i} \u00e9"))


def options(**more):
    return {"joint_names": None, "grid": None, "shard_items": 4, "keep_empty": True, "data_label": "real_voxels"} | {
        "cubes_label": "cube",
        **more,
    }


def packed(folder, source, workers=1, **more):
    write(source, open_writer(folder, source, {"from": "test"}, **options(**more)), workers, lambda count: None)
    return PackedSamples(folder)


def together(streams):
    """One stream of several, and where each begins and ends."""
    ends = torch.tensor([len(stream) for stream in streams]).cumsum(0)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), ends[:-1]])
    return torch.from_numpy(np.concatenate(streams)), starts, ends


def unique(voxels):
    return {tuple(voxel) for voxel in np.asarray(voxels).tolist()}


def surface(rng, size):
    """Voxels of the seen half of a bumpy ball."""
    direction = rng.normal(size=(3000, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    radius = 0.3 + 0.1 * np.sin(5 * direction[:, 0])
    return np.floor((direction * radius[:, None] + 0.5) * size).astype(int)[direction[:, 2] < 0]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 44, 88, 120, 129, 1024])
def test_octrees_come_back_as_they_were(size):
    rng = np.random.default_rng(size)
    levels = levels_of(size)
    assert 2**levels >= size
    grids = [rng.integers(0, size, (count, 3)) for count in (1, 0, 40, 500)]
    grids += [surface(rng, size), np.empty((0, 3), int), np.full((5, 3), size - 1), np.zeros((1, 3), int)]
    stream, starts, ends = together([encode(grid, levels) for grid in grids])
    order = torch.from_numpy(rng.permutation(len(grids)))  # samples may be asked for in any order, some twice
    order = torch.cat([order, order[:3]])
    index, sample = decode(stream, starts[order], ends[order], levels)
    assert (sample.diff() >= 0).all()
    for i, number in enumerate(order):
        found = index[sample == i]
        assert unique(found) == unique(grids[number])
        assert len(found) == len(unique(found))


def test_every_voxel_of_a_full_grid():
    grid = np.argwhere(np.ones((8, 8, 8), bool))
    stream = torch.from_numpy(encode(grid, 3))
    assert len(stream) == 1 + 8 + 64
    index, _ = decode(stream, torch.tensor([0]), torch.tensor([73]), 3)
    assert unique(index) == unique(grid)


def test_a_batch_of_nothing():
    nothing = torch.empty(0, dtype=torch.int64)
    index, sample = decode(torch.empty(0, dtype=torch.uint8), nothing, nothing, 7)
    assert index.shape == (0, 3)
    assert sample.shape == (0,)


def test_octrees_of_impossible_voxels_are_refused():
    with pytest.raises(ValueError, match="from 0 to 127"):
        encode(np.array([[0, 128, 0]]), 7)
    with pytest.raises(ValueError, match="from 0 to 127"):
        encode(np.array([[0, -1, 0]]), 7)
    with pytest.raises(ValueError, match="1024"):
        levels_of(1025)


def test_damaged_octrees_are_told_and_never_read_beyond():
    rng = np.random.default_rng(0)
    good = encode(surface(rng, 88), 7)
    refused = 0
    for _ in range(300):
        bad = good.copy()
        bad[rng.integers(len(bad), size=rng.integers(1, 4))] = rng.integers(0, 256)
        bad = bad[: rng.integers(1, len(bad) + 1)] if rng.random() < 0.3 else bad
        stream, starts, ends = together([good, bad, good])
        try:
            index, sample = decode(stream, starts, ends, 7)
        except DataError:
            refused += 1
        else:  # other bits, the same number of them: other voxels, but whole ones
            assert unique(index[sample == 2]) == unique(index[sample == 0])
            assert int(index.max()) < 128
    assert refused > 200
    for bad in (np.zeros(50, np.uint8), np.full(50, 255, np.uint8), good[:-1], np.append(good, 1)):
        stream, starts, ends = together([bad.astype(np.uint8)])
        with pytest.raises(DataError, match="sample 0"):
            decode(stream, starts, ends, 7)
    for starts, ends in (([0], [9999]), ([-1], [5]), ([7], [3])):
        with pytest.raises(DataError, match="outside the stream"):
            decode(torch.from_numpy(good), torch.tensor(starts), torch.tensor(ends), 7)


def test_a_layout_keeps_the_voxels_of_the_cube_in_their_places():
    layout = Layout(88, 1.35)
    assert (layout.span, layout.levels) == (120, 7)
    assert Layout(88, 1.0).span == 88
    points = np.array([[-1, -1, -1], [0.999, 0.999, 0.999], [1.3, 0, 0], [1.4, 0, 0], [np.nan, 0, 0]], np.float32)
    np.testing.assert_array_equal(layout.voxels(points), [[16] * 3, [103] * 3, [117, 60, 60]])
    for grid, reach in ((0, 1.0), (88, 0.9), (1025, 1.0), (88, float("nan"))):
        with pytest.raises(ValueError, match="cannot be stored"):
            Layout(grid, reach)


def test_samples_come_back(tmp_path):
    source = Blobs(11)
    samples = packed(tmp_path / "a", source, joint_names=("a", "b", "c"))
    assert (len(samples), samples.joints, samples.joint_names) == (11, 3, ("a", "b", "c"))
    layout = samples.layout
    for sample, was in zip((samples[i] for i in range(11)), source):
        assert unique(layout.voxels(sample.points)) == unique(layout.voxels(was.points))
        assert np.abs(sample.points).max(initial=0) < 1.25
        np.testing.assert_array_equal(sample.joints, was.joints)
        assert sample.edge == pytest.approx(was.edge)
        assert (sample.presence, sample.mirrored, sample.name) == (was.presence, was.mirrored, was.name)
        assert (sample.center is None) == (was.center is None)
        if was.center is not None:
            assert sample.center == pytest.approx(was.center)
    with pytest.raises(IndexError):
        samples[11]
    again = pickle.loads(pickle.dumps(samples))
    np.testing.assert_array_equal(again[7].points, samples[7].points)


def test_a_batch_is_what_collating_gives(tmp_path):
    samples = packed(tmp_path / "a", Blobs(11))
    chosen = [7, 2, 0, 7, 10]
    batch, slow = samples.batch(chosen, [5, 6, 7, 8, 9]), collate([samples[i] for i in chosen], [5, 6, 7, 8, 9])
    for name in ("points", "sample", "joints", "edge", "presence", "key"):
        fast, plain = getattr(batch, name), getattr(slow, name)
        assert fast.dtype == plain.dtype, name
        torch.testing.assert_close(fast, plain, rtol=0, atol=0, equal_nan=True, msg=name)
    for size in (88, 44):
        torch.testing.assert_close(
            voxelise(batch.points, batch.sample, 5, size), voxelise(slow.points, slow.sample, 5, size)
        )
    np.testing.assert_array_equal(samples.batch(torch.tensor(chosen)).key, range(5))
    for wrong in ([11], [-1]):
        with pytest.raises(IndexError):
            samples.batch(wrong)


def test_samples_stay_where_they_are_if_a_device_has_no_room_for_them(tmp_path, monkeypatch):
    samples = packed(tmp_path / "packed", SyntheticSamples(3, 6))
    before = samples.batch([0, 2])
    moves = []

    def full(tensor, device):
        moves.append(device)
        if len(moves) > 2:
            raise torch.OutOfMemoryError("no room")
        return torch.zeros_like(tensor)

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "to", full)
        samples.move_to(torch.device("cuda:0"))
    assert len(moves) == 3
    assert torch.equal(samples.batch([0, 2]).points, before.points)


def test_frames_without_points_can_be_left_out(tmp_path):
    samples = packed(tmp_path / "a", Blobs(11), keep_empty=False)
    assert len(samples) == 10
    assert [samples[i].name[:7] for i in (1, 2)] == ["frame 1", "frame 3"]
    empty = Blobs(3)
    del empty[:2]
    with pytest.raises(DataError, match="holds no samples"):
        packed(tmp_path / "b", empty, keep_empty=False)


def test_what_is_damaged_is_told_and_made_again(tmp_path, capsys):
    folder, source = tmp_path / "a", Blobs(11)
    packed(folder, source)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(before) == ["index.json", *(f"shard-0000{i}.safetensors" for i in range(3))]

    def damage(name, data):
        if data is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(data)
        with pytest.raises(DataError, match=name) as caught:
            PackedSamples(folder)
        assert "\n" not in str(caught.value)
        packed(folder, source)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before

    second = "shard-00001.safetensors"
    whole = before[second]
    damage(second, None)
    damage(second, whole[:-1])
    damage(second, b"")
    damage(second, whole[:300] + bytes([whole[300] ^ 1]) + whole[301:])
    damage("shard-00002.safetensors", whole)
    assert "made again" in capsys.readouterr().err


def test_a_folder_of_something_else_is_refused(tmp_path):
    folder = tmp_path / "a"
    packed(folder, Blobs(11))
    for source, more, word in (
        (Blobs(11, seed=1), {}, "origin"),
        (Blobs(12), {}, "items"),
        (Blobs(11), {"grid": 44}, "layout"),
        (Blobs(11), {"shard_items": 5}, "shard_items"),
    ):
        with pytest.raises(DataError, match=f"other samples: {word}"):
            packed(folder, source, **more)
    other = tmp_path / "b"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="give another folder"):
        packed(other, Blobs(3))
    with pytest.raises(DataError, match="index"):
        PackedSamples(other)
    assert [path.name for path in other.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"version": 2},
        {"joints": 0},
        {"joints": "many"},
        {"grid": 5000},
        {"reach": None},
        {"items": -1},
        {"shards": None},
        {"shards": [{"file": "../shard-00000.safetensors", "samples": 4, "bytes": 1, "sha256": ""}]},
        {"shards": [{"file": "shard-00000.safetensors", "samples": 5, "bytes": 1, "sha256": ""}]},
        {"joints": 4},
    ],
)
def test_an_index_that_cannot_be_is_told(tmp_path, change):
    folder = tmp_path / "a"
    packed(folder, Blobs(11))
    head = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(head | change))
    with pytest.raises(DataError):
        PackedSamples(folder)
    for text in ("", "[]", "null", "{"):
        (folder / "index.json").write_text(text)
        with pytest.raises(DataError, match=r"index\.json is damaged"):
            PackedSamples(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"joints": np.zeros((4, 2, 3), np.float32)},
        {"edge": np.zeros(4, np.float64)},
        {"offsets": np.array([0, 5, 3, 8, 9])},
        {"offsets": np.array([0, 1, 2, 3, 10**6])},
        {"stream": np.zeros(3, np.float32)},
        {"names": None},
    ],
)
def test_a_shard_that_cannot_be_is_told(tmp_path, change):
    # With a checksum that holds: made by another program, or by this one in error.
    import hashlib

    folder = tmp_path / "a"
    packed(folder, Blobs(4))
    path = folder / "shard-00000.safetensors"
    tensors = {name: tensor for name, tensor in (load_file(path) | change).items() if tensor is not None}
    path.write_bytes(save(tensors))
    head = json.loads((folder / "index.json").read_text())
    head["shards"][0] |= {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    (folder / "index.json").write_text(json.dumps(head))
    with pytest.raises(DataError, match="does not hold what it should"):
        PackedSamples(folder)


def test_an_unfinished_folder_is_told_and_gone_on_with(tmp_path, capsys):
    class Stopping(Blobs):
        def __getitem__(self, index):
            if index == 9 and not isinstance(index, slice) and self.armed:
                raise KeyboardInterrupt
            return super().__getitem__(index)

        armed = False

    source, folder = Stopping(11), tmp_path / "a"
    writer = open_writer(folder, source, {"from": "test"}, **options())
    source.armed = True
    with pytest.raises(KeyboardInterrupt):
        write(source, writer, 1, lambda count: None)
    assert "2 of 3 shards" in capsys.readouterr().err
    with pytest.raises(DataError, match="unfinished: 2 of 3"):
        PackedSamples(folder)
    kept = (folder / "shard-00001.safetensors").stat().st_mtime_ns
    source.armed = False
    assert len(packed(folder, source)) == 11
    assert (folder / "shard-00001.safetensors").stat().st_mtime_ns == kept


def test_a_disk_that_is_full_leaves_what_was_finished(tmp_path, monkeypatch):
    folder, source = tmp_path / "a", Blobs(11)
    writer = open_writer(folder, source, {"from": "test"}, **options())
    real, calls = os.fsync, []

    def full(number):
        calls.append(number)
        if len(calls) == 3:  # the second shard; before it the first, and the index
            raise OSError(28, "No space left on device")
        real(number)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(source, writer, 1, lambda count: None)
    monkeypatch.undo()
    assert read_index(folder).shards.keys() == {0}
    assert not list(folder.glob("*.part"))
    assert len(packed(folder, source)) == 11


def test_simulated_hands_are_the_same_from_any_number_of_processes(tmp_path):
    for name, workers in (("one", "1"), ("two", "2")):
        words = ["synthesize", str(tmp_path / name), "--samples", "80", "--seed", "6", "--workers", workers]
        assert main([*words, "--shard-samples", "50"]) == 0
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(files) == 3
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    samples, source = PackedSamples(tmp_path / "one"), SyntheticSamples(80, 6)
    assert (len(samples), samples.joints) == (80, 21)
    assert samples.joint_names is not None
    np.testing.assert_array_equal(samples[67].joints, source[67].joints)
    assert unique(samples.layout.voxels(samples[67].points)) == unique(samples.layout.voxels(source[67].points))
    assert np.abs(np.concatenate([samples[i].points for i in range(20)])).max() > 1.2  # what lies around is kept


def test_hands_in_situations_to_a_folder(tmp_path):
    words = ["synthesize", str(tmp_path / "a"), "--scenes", "--samples", "20", "--seed", "6", "--grid", "128"]
    assert main([*words, "--workers", "1"]) == 0
    samples, source = PackedSamples(tmp_path / "a"), SceneSamples(20, 6)
    assert read_index(tmp_path / "a").origin["from"] == "scenes"
    for i in range(20):
        np.testing.assert_array_equal(samples[i].joints, source[i].joints)
        assert samples[i].presence == source[i].presence
        assert samples[i].mirrored == source[i].mirrored
        assert unique(samples.layout.voxels(samples[i].points)) == unique(samples.layout.voxels(source[i].points))


def test_simulated_hands_to_hdf5(tmp_path):
    path = tmp_path / "a.h5"
    assert main(["synthesize", str(path), "--samples", "25", "--seed", "2", "--edge", "0.3"]) == 0
    samples, source = Hdf5Samples(path), SyntheticSamples(25, 2, 0.3)
    assert len(samples) == 25
    for i in range(25):
        np.testing.assert_array_equal(samples[i].joints, source[i].joints)
        assert samples[i].presence == source[i].presence
        assert unique(Layout().voxels(samples[i].points)) == unique(Layout().voxels(source[i].points))
    assert samples[0].edge == pytest.approx(0.3)
    assert main(["synthesize", str(path), "--samples", "70"]) == 1


def test_ctrl_c_leaves_finished_shards_and_the_same_command_goes_on(tmp_path):
    folder = tmp_path / "a"
    words = [sys.executable, "-m", "trainer", "synthesize", str(folder), "--samples", "9000", "--seed", "2"]
    words += ["--shard-samples", "8", "--workers", "2"]
    run = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True)
    deadline = time.monotonic() + 90
    while not ((folder / "index.json").exists() and read_index(folder).shards) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: every process of the command gets it
    _, said = run.communicate(timeout=90)
    assert run.returncode == 130, said
    assert "the same command goes on from there" in said
    assert "Traceback" not in said
    done = len(read_index(folder).shards)
    origin = {"from": "synthetic", "seed": 2, "edge": 0.26}
    more = options(shard_items=8, joint_names=JOINT_NAMES)
    writer = open_writer(folder, SyntheticSamples(9000, 2), origin, **more)
    assert 0 < sum(map(len, writer.missing())) == 9000 - 8 * done < 9000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["synthesize", "out", "--samples", "5", "--edge", "26"], "0.1 to 1 metres"),
        (["synthesize", "out", "--samples", "5", "--seed", "-2"], "--seed"),
        (["synthesize", "out", "--samples", "5", "--grid", "5000"], "5000"),
    ],
)
def test_bad_options_are_one_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    printed = capsys.readouterr().err.strip()
    assert message in printed
    assert "\n" not in printed
    assert not Path("out").exists()


def test_index_and_shards_of_a_large_set():
    index = Index(957_032, 21, Layout(), 8192, {})
    assert index.shard_count == 117
    assert index.range_of(116) == range(950_272, 957_032)
    index.shards[0] = Shard("shard-00000.safetensors", 8192, 1, "")
    assert not index.complete
