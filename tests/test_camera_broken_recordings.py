"""Every kind of broken recording folder and `.h5` recording is one clear error."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from camera_samples import depth_of, frames_with_truth, record

from tracker.camera import open_camera
from tracker.errors import CameraError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return record(tmp_path / "walk", frames_with_truth())


# Broken folders


def change_header(folder: Path, **entries: object) -> None:
    path = folder / "camera.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


HEADERS = [
    ({"width": None}, '"width" is missing'),
    ({"width": -64}, "image size must be positive"),
    ({"height": 47.5}, "whole numbers"),
    ({"width": "64"}, '"width" must be a finite number'),
    ({"fx": -1}, "focal lengths must be positive"),
    ({"fy": float("nan")}, '"fy" must be a finite number'),
    ({"cx": float("inf")}, '"cx" must be a finite number'),
    ({"cy": True}, '"cy" must be a finite number'),
    ({"fx": 10**400}, '"fx" must be a finite number'),
    ({"depth_scale": 0}, "depth_scale must be a positive"),
    ({"depth_scale": -0.001}, "depth_scale must be a positive"),
    ({"depth_scale": None}, '"depth_scale" is missing'),
    ({"name": ""}, '"name" must be a text'),
    ({"name": 7}, '"name" must be a text'),
]


@pytest.mark.parametrize(("entries", "message"), HEADERS)
def test_a_wrong_entry_of_the_header_is_told(folder, entries, message):
    change_header(folder, **entries)
    with pytest.raises(CameraError, match=message):
        open_camera(str(folder))


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", "\udcff", "[" * 100_000])
def test_a_header_that_is_no_json_object_is_told(folder, text):
    (folder / "camera.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CameraError, match=r"camera\.json"):
        open_camera(str(folder))


def test_missing_parts_are_told(folder, tmp_path):
    for image in (folder / "depth").iterdir():
        image.unlink()
    with pytest.raises(CameraError, match="has no images"):
        open_camera(str(folder))
    (folder / "camera.json").unlink()
    with pytest.raises(CameraError, match=r"no recording folder: it has no camera\.json"):
        open_camera(str(folder))


def test_wrong_names_of_images_are_told(folder):
    odd = folder / "depth" / "seven.png"
    odd.write_bytes(b"")
    with pytest.raises(CameraError, match="named by its frame number"):
        open_camera(str(folder))
    odd.rename(folder / "depth" / "7.png")
    with pytest.raises(CameraError, match="same frame number"):
        open_camera(str(folder))


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


BAD_IMAGES = {
    "8 bits": (png(depth_of(1).astype(np.uint8)), "8 bits and 1 channels"),
    "colour": (png(np.dstack([depth_of(1)] * 3)), "16 bits and 3 channels"),
    "size": (png(depth_of(1, 64, 47)), "is 64x47, but camera.json says 64x48"),
    "empty": (b"", "cannot be decoded"),
    "garbage": (b"garbage" * 99, "cannot be decoded"),
    "cut off": (png(depth_of(1))[:3000], "cannot be decoded"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_a_bad_image_is_told_when_it_is_read_and_the_others_are_good(folder, kind):
    data, message = BAD_IMAGES[kind]
    (folder / "depth" / "000013.png").write_bytes(data)
    with open_camera(str(folder)) as camera:
        assert [camera.read().number, camera.read().number] == [7, 10]
        with pytest.raises(CameraError, match=rf"000013\.png.*{message}"):
            camera.read()


BAD_TIMES = [
    (lambda lines: lines[:-1], "has 9 lines for 10 images"),
    (lambda lines: [*lines, "1e10", "2e10"], "has 12 lines for 10 images"),
    (lambda lines: [*lines[:4], "soon", *lines[5:]], "line 5: 'soon' is not a time"),
    (lambda lines: ["nan", *lines[1:]], "line 1: 'nan' is not a time"),
    (lambda lines: ["-3", *lines[1:]], "line 1: '-3' is not a time"),
    (lambda lines: [*lines[:9], "1e400"], "line 10: '1e400' is not a time"),
    (lambda lines: [*lines[:3], lines[2], *lines[4:]], "line 4: .* is not later"),
    (lambda lines: lines[::-1], "line 2: .* is not later"),
]


@pytest.mark.parametrize(("change", "message"), BAD_TIMES)
def test_bad_times_are_told(folder, change, message):
    path = folder / "timestamps.txt"
    path.write_text("\n".join(change(path.read_text().splitlines())))
    with pytest.raises(CameraError, match=message):
        open_camera(str(folder))


HAND = [[0.0, 0.0, 0.5]] * 21
BAD_TRUTH = [
    "garbage",
    "[]",
    '{"frame": 7}',
    '{"frame": "7", "hands": []}',
    '{"frame": 7, "hands": 3}',
    '{"frame": 7, "hands": [3]}',
    json.dumps({"frame": 7, "hands": [{"joints": HAND[1:]}]}),
    json.dumps({"frame": 7, "hands": [{"joints": [[1, 2], *HAND[1:]]}]}),
    json.dumps({"frame": 7, "hands": [{"joints": [["x", 0, 0], *HAND[1:]]}]}),
    json.dumps({"frame": 7, "hands": [{"joints": HAND, "side": "middle"}]}),
    json.dumps({"frame": 8, "hands": []}),
    json.dumps({"frame": 10, "hands": []}),
]


@pytest.mark.parametrize("line", BAD_TRUTH)
def test_bad_truth_is_told_with_its_line(folder, line):
    lines = [json.dumps({"frame": 10, "hands": []}), line, json.dumps({"frame": 13, "hands": []})]
    (folder / "joints.jsonl").write_text("\n".join(lines))
    with pytest.raises(CameraError, match=r"joints\.jsonl, line 2: "):
        open_camera(str(folder))


# Broken `.h5` files


def h5_with(path: Path, change) -> Path:
    record(path, frames_with_truth())
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def replace_table(name: str, value: np.ndarray):
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = value

    return change


BAD_H5 = [
    (lambda file: file.attrs.__delitem__("format"), "no depth recording"),
    (lambda file: file.attrs.__setitem__("version", 2), "format version 2"),
    (lambda file: file.attrs.__setitem__("fx", -5.0), "focal lengths"),
    (lambda file: file.attrs.__delitem__("depth_scale"), '"depth_scale" is missing'),
    (lambda file: file.__delitem__("number"), "table number is missing"),
    (replace_table("depth", np.zeros((10, 48, 63), np.uint16)), r"table depth is missing, or its entries are not"),
    (replace_table("depth", np.zeros((10, 48, 64), np.uint8)), "table depth is missing, or its entries are not"),
    (replace_table("depth", np.zeros((0, 48, 64), np.uint16)), "has no frames"),
    (replace_table("captured_ns", np.zeros(10, np.int64)), "do not increase"),
    (replace_table("truth_side", np.full(6, 9, np.uint8)), "side 9"),
]


@pytest.mark.parametrize(("change", "message"), BAD_H5)
def test_a_wrong_h5_recording_is_told(tmp_path, change, message):
    path = h5_with(tmp_path / "bad.h5", change)
    with pytest.raises(CameraError, match=message):
        open_camera(str(path))


def test_h5_files_that_are_none_are_told(tmp_path):
    path = tmp_path / "bad.h5"
    good = record(tmp_path / "good.h5", frames_with_truth()).read_bytes()
    for data in (b"", b"garbage" * 1000, good[: len(good) // 100], good[: len(good) // 20]):
        path.write_bytes(data)
        with pytest.raises(CameraError, match=r"bad\.h5"):
            open_camera(str(path))


@pytest.mark.parametrize("percent", [60, 80, 95])
def test_an_h5_recording_that_is_cut_off_is_read_up_to_there(tmp_path, percent, caplog):
    path = record(tmp_path / "cut.h5", frames_with_truth())
    os.truncate(path, path.stat().st_size * percent // 100)
    with open_camera(str(path)) as camera:
        frames = list(camera)
    assert 0 < len(frames) < 10
    for frame, original in zip(frames, frames_with_truth()):
        assert frame.number == original.number
        np.testing.assert_array_equal(frame.depth, original.depth)
    assert "cut.h5 is cut off" in caplog.text


def test_an_h5_recording_damaged_in_the_middle_is_told_when_it_is_read(tmp_path):
    path = record(tmp_path / "bad.h5", frames_with_truth())
    with h5py.File(path, "r") as file:
        chunk = file["depth"].id.get_chunk_info(2)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(bytes(100))
    with open_camera(str(path)) as camera:
        assert [camera.read().number, camera.read().number] == [7, 10]
        with pytest.raises(CameraError, match="damaged: frame 13 cannot be read"):
            camera.read()
