"""`convert`: between HDF5 files and the compact format, and .npz bytes that may be anything."""

import io
import sys
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from tracker.errors import DataError
from tracker.hand.cube import Cube
from trainer.cli import main
from trainer.data.hdf5 import Hdf5Samples
from trainer.data.npz import MOST_BYTES, occupied
from trainer.data.packed import PackedSamples
from trainer.data.sample import Sample
from trainer.data.writing import Hdf5Writer

NYU = Path(__file__).resolve().parents[2] / "shared" / "seed_format" / "nyu_10_voxels.h5"
torch.set_num_threads(1)


def npz(grid, compressed=True, name="arr_0"):
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **{name: grid})
    return buffer.getvalue()


def write_h5(path, count=5, size=24, key="real_voxels", cubes="cube"):
    rng = np.random.default_rng(count)
    with h5py.File(path, "w") as file:
        file["labels"] = rng.uniform(-0.9, 0.9, (count, 4, 3)).astype(np.float32)
        file[cubes] = np.full((count, 3), 250.0, np.float32)
        file["com3D"] = rng.uniform(-100, 900, (count, 3)).astype(np.float32)
        for i in range(count):
            file[f"{key}/{i}"] = np.frombuffer(npz(rng.random((size, size, size)) < 0.02), np.uint8)
            file[f"file_name/{i}"] = np.array([np.void(f"depth_{i}.png".encode())])


def assert_equal(one, other):
    assert len(one) == len(other)
    for i in range(len(one)):
        a, b = one[i], other[i]
        order = [np.lexsort(sample.points.T) for sample in (a, b)]
        np.testing.assert_allclose(a.points[order[0]], b.points[order[1]], atol=1e-6)
        np.testing.assert_array_equal(a.joints, b.joints)
        assert a.edge == pytest.approx(b.edge, rel=1e-6)
        assert a.center == pytest.approx(b.center, rel=1e-6)
        assert (a.name, a.presence, a.mirrored) == (b.name, b.presence, b.mirrored)


def test_hdf5_to_compact_and_back(tmp_path):
    write_h5(tmp_path / "a.h5", key="voxels", cubes="boxes")
    words = [str(tmp_path / "a.h5"), str(tmp_path / "packed"), "--data-label", "voxels", "--cubes-label", "boxes"]
    assert main(["convert", *words, "--shard-samples", "3"]) == 0
    source = Hdf5Samples(tmp_path / "a.h5", "voxels", "boxes")
    samples = PackedSamples(tmp_path / "packed")
    assert (samples.grid, samples.reach) == (24, 1.0)  # as in the file
    assert_equal(samples, source)
    assert main(["convert", str(tmp_path / "packed"), str(tmp_path / "b.h5")]) == 0
    again = Hdf5Samples(tmp_path / "b.h5")
    assert_equal(again, source)
    assert again.grid == 24
    with h5py.File(tmp_path / "b.h5") as file:  # the form of the contract
        item = file["real_voxels/0"]
        assert (item.dtype, item.ndim) == (np.uint8, 1)
        with np.load(io.BytesIO(item[()].tobytes())) as archive:
            assert archive["arr_0"].dtype == bool
        np.testing.assert_allclose(file["cube"][:], 250.0)


@pytest.mark.skipif(not NYU.is_file(), reason="the shared sample of NYU is not here")
def test_real_frames_take_about_a_kilobyte_and_come_back(tmp_path):
    assert main(["convert", str(NYU), str(tmp_path / "packed")]) == 0
    samples = PackedSamples(tmp_path / "packed")
    assert_equal(samples, Hdf5Samples(NYU))
    assert samples[0].name.endswith("depth_1_0000001.png")
    size = (tmp_path / "packed" / "shard-00000.safetensors").stat().st_size
    assert size / 10 < 1600
    assert main(["convert", str(tmp_path / "packed"), str(tmp_path / "back.h5")]) == 0
    assert_equal(Hdf5Samples(tmp_path / "back.h5"), Hdf5Samples(NYU))


@pytest.mark.parametrize(
    ("crop", "option", "up"),
    [(None, "auto", False), (1, "auto", False), (-1, "auto", True), (None, "up", True), (-1, "down", False)],
)
def test_centres_are_turned_into_the_camera_frame(tmp_path, crop, option, up):
    """com3D has y up if gt3Dcrop is the labels with y turned, or if a person says so."""
    write_h5(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        if crop is not None:
            file["gt3Dcrop"] = file["labels"][:] * np.float32(125) * (1, crop, 1)
            file["gt3Dcrop"][0] = np.nan
        expected = file["com3D"][:] * (1, -1 if up else 1, 1) / 1000
    words = ["convert", str(tmp_path / "a.h5"), str(tmp_path / "packed"), "--com3d-y", option]
    assert main(words) == 0
    assert main(["convert", str(tmp_path / "packed"), str(tmp_path / "b.h5")]) == 0
    sources = [
        Hdf5Samples(tmp_path / "a.h5", com3d_y=option),
        PackedSamples(tmp_path / "packed"),
        Hdf5Samples(tmp_path / "b.h5"),  # which tells its own convention
    ]
    for source in sources:
        np.testing.assert_allclose([sample.center for sample in map(source.__getitem__, range(5))], expected, rtol=1e-6)


def test_written_files_hold_the_joints_from_the_centres(tmp_path):
    joints = np.array([[0.5, -0.25, 0.1]], np.float32)
    for i, mirrored in enumerate((False, True)):
        sample = Sample(joints, joints, 0.2, center=(0.1, 0.2, 0.6), mirrored=mirrored)
        writer = Hdf5Writer(tmp_path / f"{i}.h5", 1, 8, "real_voxels", "cube")
        writer.append(range(1), writer.prepare([sample]))
        writer.close()
        with h5py.File(tmp_path / f"{i}.h5") as file:
            seen = Cube(sample.center, 0.2, "left" if mirrored else "right").to_camera(joints) * 1000
            np.testing.assert_allclose(file["gt3Dcrop"][0] + file["com3D"][0], seen, atol=1e-3)


def test_a_coarser_grid_on_demand(tmp_path):
    write_h5(tmp_path / "a.h5")
    assert main(["convert", str(tmp_path / "a.h5"), str(tmp_path / "packed"), "--grid", "12"]) == 0
    samples = PackedSamples(tmp_path / "packed")
    assert samples.grid == 12
    assert np.isin(np.round((samples[0].points + 1) * 6 - 0.5, 4), range(12)).all()


def test_a_damaged_sample_stops_with_its_number_and_the_rest_goes_on(tmp_path, capsys):
    path = tmp_path / "a.h5"
    write_h5(path)
    with h5py.File(path, "r+") as file:
        good = file["real_voxels/3"][()]
        del file["real_voxels/3"]
        file["real_voxels/3"] = good[:-40] ^ 1
    words = ["convert", str(path), str(tmp_path / "packed"), "--shard-samples", "2"]
    assert main(words) == 1
    assert "sample 3" in capsys.readouterr().err
    with h5py.File(path, "r+") as file:
        del file["real_voxels/3"]
        file["real_voxels/3"] = good
    assert main(words) == 0
    assert "2 of 5 samples" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of file sizes")
@pytest.mark.parametrize("name", ["b.h5", "packed"])
def test_a_full_disk_is_one_line_and_leaves_nothing_half(tmp_path, capsys, name):
    import resource

    write_h5(tmp_path / "a.h5", count=40)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, before[1]))  # a write beyond it fails, as on a full disk
    try:
        assert main(["convert", str(tmp_path / "a.h5"), str(tmp_path / name)]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("error: File too large")
    assert name in said[-1]
    assert not list(tmp_path.rglob("*.part"))
    assert not (tmp_path / "b.h5").exists()
    assert main(["convert", str(tmp_path / "a.h5"), str(tmp_path / name)]) == 0


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("kind", [bool, np.uint8, np.float32])
def test_grids_are_found_as_numpy_finds_them(compressed, kind):
    rng = np.random.default_rng(0)
    for shape in ((9, 10, 11), (50, 60, 70), (0, 3, 3)):
        grid = (rng.random(shape) < 0.05).astype(kind)
        for stored in (grid, np.asfortranarray(grid)):
            index, found = occupied(npz(stored, compressed))
            assert found == shape
            np.testing.assert_array_equal(sorted(index.tolist()), np.argwhere(grid).tolist())


def test_an_npz_of_another_form_is_read_too():
    grid = np.eye(5, dtype=bool)[None].repeat(5, axis=0)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("other.npy", b"something else")
        member = io.BytesIO()
        np.save(member, grid)
        archive.writestr("arr_0.npy", member.getvalue())
    np.testing.assert_array_equal(occupied(buffer.getvalue())[0], np.argwhere(grid))


def header(shape, kind="|b1"):
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def zipped(member):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("arr_0.npy", member)
    return buffer.getvalue()


GOOD = npz(np.ones((20, 20, 20), bool))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a whole"),
        (b"garbage" * 30, "not a whole"),
        (GOOD[:60], "cut short|not a whole"),
        (GOOD[:80] + b"\xff\x00\xff" + GOOD[83:], "not a whole"),
        (npz(np.zeros((3, 3, 3), bool), name="voxels"), "without 'arr_0'"),
        (zipped(b"no array"), "not an array"),
        (zipped(header((88, 88, 88)) + bytes(100)), "holds 100 bytes"),
        (zipped(header((4, 4, 4)) + bytes(1 << 20)), "of shape"),
        (zipped(header((10**6, 10**6, 10**6)) + bytes(100)), "more than 128 MiB"),
        (zipped(header((-4, 4, 4)) + bytes(64)), "not a grid"),
        (zipped(header((4, 4, 4), "|O") + bytes(512)), "not a grid"),
        (zipped(header((4, 4, 4), "<f4") + bytes(255)), "buffer size|255 bytes"),
        (zipped(header("(4, 4, x)") + bytes(64)), "header"),
        (zipped(b"\x93NUMPY\x01\x00\xff\xff" + bytes(70000)), "header"),
    ],
)
def test_bytes_that_are_no_grid_are_told(data, message):
    with pytest.raises(ValueError, match=message):
        occupied(data)


def test_any_damage_is_told_as_an_error():
    rng = np.random.default_rng(0)
    good = npz(rng.random((30, 30, 30)) < 0.05)
    refused = 0
    for _ in range(400):
        bad = bytearray(good)
        bad[rng.integers(len(bad) - 120)] ^= 1 << rng.integers(8)
        try:
            occupied(bytes(bad))
        except ValueError:
            refused += 1
    assert refused > 350  # the others: bits of the zip header that say nothing of the content


def test_a_bomb_costs_no_memory():
    # 256 MiB of ones in a quarter of a megabyte, with a header to match or to mislead.
    import tracemalloc

    packer = zlib.compressobj(wbits=-15)
    block = b"\x01" * (1 << 20)
    content = b"".join(packer.compress(block) for _ in range(256)) + packer.flush()
    for shape in ((1 << 10, 1 << 10, 1 << 8), (88, 88, 88)):
        start = zlib.compressobj(wbits=-15)
        packed = start.compress(header(shape).ljust(128)) + start.flush(zlib.Z_FULL_FLUSH) + content
        local = b"PK\x03\x04\x14\0\0\0\x08\0" + bytes(16) + b"\x09\0\0\0" + b"arr_0.npy"
        tracemalloc.start()
        with pytest.raises(ValueError, match="arr_0"):
            occupied(local + packed)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MOST_BYTES / 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"com3D": np.zeros((5, 2))}, "com3D"),
        ({"mirrored": np.zeros(4)}, "mirrored"),
        ({"cube": [(250.0,) * 3] * 3 + [(300.0, 200.0, 100.0)] * 2}, "cube of sample 3 is 300 x 200 x 100 mm"),
        ({"cube": [(250.0, 250.0, np.nan)] * 5}, "positive edge lengths"),
    ],
)
def test_tables_of_other_shapes_are_told(tmp_path, change, message):
    write_h5(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        for name, value in change.items():
            file.pop(name, None)
            file[name] = value
    with pytest.raises(DataError, match=message):
        Hdf5Samples(tmp_path / "a.h5")


def test_a_sample_that_is_missing_is_told_when_it_is_read(tmp_path):
    write_h5(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["real_voxels/2"]
        file["real_voxels/2"] = np.empty(0, np.uint8)
        del file["file_name/4"]
    samples = Hdf5Samples(tmp_path / "a.h5")
    assert samples[1].name == "depth_1.png"
    with pytest.raises(DataError, match="sample 2"):
        samples[2]
    with pytest.raises(DataError, match="file_name/4"):
        samples[4]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.h5", "out"], "no such file"),
        (["text.txt", "out"], "--from"),
        (["folder", "out"], "--from"),
        (["folder", "out", "--from", "packed"], "index.json"),
        (["text.txt", "out", "--from", "hdf5"], "not a readable HDF5"),
        (["text.txt", "text.txt", "--from", "hdf5"], "the source itself"),
        (["a.h5", "text.txt"], "give another folder"),
        (["a.h5", "there.h5"], "there already"),
        (["a.h5", "out", "--grid", "2000"], "2000"),
    ],
)
def test_bad_input_is_one_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_h5(tmp_path / "a.h5")
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "there.h5").write_text("something")
    (tmp_path / "folder").mkdir()
    assert main(["convert", *words]) == 1
    printed = capsys.readouterr().err.strip()
    assert message in printed
    assert "\n" not in printed
    assert not Path("out").exists()
    assert Path("text.txt").read_text() == "hello"
