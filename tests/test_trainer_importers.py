"""The importers of raw data sets: tiny files of each layout in, samples in the project's convention out."""

from __future__ import annotations

import argparse
import logging
import pickle
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import importer_samples as tiny
import numpy as np
import pytest
import scipy.io
from importer_samples import Floats, Scene
from numpy.typing import NDArray

from tracker.errors import DataError
from tracker.hand.cube import Cube
from tracker.hand.skeleton import JOINT_NAMES
from trainer.data.hdf5 import Hdf5Samples
from trainer.data.importers import KINDS, add_arguments, open_data_set
from trainer.data.importers.common import DepthSamples
from trainer.data.importers.joint_sets import NYU_ALL, NYU_USUAL
from trainer.data.sample import Sample

SEED = Path(__file__).resolve().parents[2] / "shared" / "seed_format"
HANDS21 = ("msra", "hands2017", "hands2019", "bighand")

ORDERS: dict[str, Callable[[Floats], Floats]] = {
    "nyu": lambda joints: tiny.nyu_joints(joints)[list(NYU_USUAL)],
    "icvl": tiny.icvl_joints,
    "msra": tiny.msra_joints,
    "hands2017": tiny.hands_joints,
    "hands2019": tiny.hands_joints,
    "bighand": tiny.hands_joints,
    "recording": lambda joints: joints,
}
"""`hand21` in the order of each data set, by the tests' own tables."""


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


@pytest.fixture(scope="module")
def data_sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[Scene]]]:
    """A folder and the scenes of each kind, not to be changed."""
    root = tmp_path_factory.mktemp("raw")
    return {kind: (root / kind, getattr(tiny, f"write_{kind}")(root / kind)) for kind in KINDS}


DataSets = dict[str, tuple[Path, list[Scene]]]


def in_metres(sample: Sample) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Points and joints in the camera frame."""
    assert sample.center is not None
    cube = Cube(sample.center, sample.edge, "left" if sample.mirrored else "right")
    return cube.to_camera(sample.points), cube.to_camera(sample.joints)


def is_right(joints: NDArray[np.floating]) -> bool:
    """Of `hand21` joints of a hand that is bent a little: whether the fingers bend to a right hand's palm."""
    palm = np.cross(joints[5] - joints[0], joints[17] - joints[0])
    bent = (joints[[8, 12, 16, 20]] - joints[[5, 9, 13, 17]]).mean(axis=0)
    return bool(palm @ bent > 0)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_metres_in_the_optical_frame(kind: str, data_sets: DataSets) -> None:
    root, scenes = data_sets[kind]
    source: DepthSamples = pickle.loads(pickle.dumps(open_data_set(kind, root, options())))
    assert len(source) == {"nyu": 2, "msra": 153, "bighand": 2}.get(kind, 3)
    assert source.joints == len(source.joint_names)
    for index, scene in enumerate(scenes):
        sample = source[17 * index if kind == "msra" else index]
        points, joints = in_metres(sample)
        truth = ORDERS[kind](scene.joints)
        assert sample.presence
        assert sample.name
        assert sample.joints.shape == (source.joints, 3)
        assert sample.points.dtype == sample.joints.dtype == np.float32
        known = np.isfinite(joints).all(axis=1)
        assert np.abs(joints[known] - truth[known]).max() < 1e-4
        # A finger is as thick as 20 mm, a palm as 30: a joint lies within half of that below the skin.
        reach = [np.linalg.norm(points - joint, axis=1).min() for joint in joints[known]]
        assert max(reach) < 0.03
        assert np.median(reach) < 0.012
        # The cube is about the hand, and its points reach a little out of it, where the image does.
        assert np.abs(sample.joints[known].mean(axis=0)).max() < 0.4
        assert np.abs(sample.points).max() < 1.35 == source.reach
        assert np.abs(sample.points).max() > 1 or kind == "msra"


@pytest.mark.parametrize("kind", KINDS)
def test_points_are_those_of_the_image(kind: str, data_sets: DataSets) -> None:
    root, scenes = data_sets[kind]
    points, _ = in_metres(open_data_set(kind, root, options())[0])
    k = {"nyu": tiny.KINECT, "icvl": tiny.CREATIVE, "msra": tiny.CREATIVE}.get(kind, tiny.SR300)
    if kind == "recording":
        return
    column, row = np.rint(k.project(points)).astype(int).T
    assert np.abs(scenes[0].depth[row, column] - points[:, 2]).max() < 0.00051


@pytest.mark.parametrize("kind", HANDS21)
def test_hand21_is_the_trackers_order(kind: str, data_sets: DataSets) -> None:
    root, scenes = data_sets[kind]
    source = open_data_set(kind, root, options("--hand21"))
    assert source.joint_names == JOINT_NAMES
    assert np.abs(in_metres(source[0])[1] - scenes[0].joints).max() < 1e-4


def test_left_hands_are_mirrored_and_mirror_overrides(data_sets: DataSets) -> None:
    root, scenes = data_sets["recording"]
    source = open_data_set("recording", root, options())
    assert [source[index].mirrored for index in range(3)] == [False, True, False]
    assert is_right(source[0].joints)
    assert is_right(source[1].joints)
    assert not is_right(scenes[1].joints)
    as_is = open_data_set("recording", root, options("--mirror", "no"))[1]
    assert not as_is.mirrored
    assert np.allclose(as_is.joints * (-1, 1, 1), source[1].joints, atol=1e-6)
    assert open_data_set("icvl", data_sets["icvl"][0], options())[0].mirrored
    assert open_data_set("nyu", data_sets["nyu"][0], options("--mirror", "yes"))[0].mirrored


def test_icvl_hands_are_left_by_the_published_labels() -> None:
    path = SEED.parent / "published" / "icvl" / "icvl_test_groundtruth_label.txt"
    if not path.is_file():
        pytest.skip("the published labels of ICVL are not here")
    labels = np.loadtxt(path).reshape(-1, 16, 3)
    xy = (labels[..., :2] - (160, 120)) * labels[..., 2:] / 241.42
    joints = np.concatenate([xy, labels[..., 2:]], axis=-1)
    palm = np.cross(joints[:, 4] - joints[:, 0], joints[:, 13] - joints[:, 0])
    bent = (joints[:, [6, 9, 12, 15]] - joints[:, [4, 7, 10, 13]]).mean(axis=1)
    assert np.mean((palm * bent).sum(axis=1) > 0) < 0.1


def test_nyu_frames_become_the_published_voxels(tmp_path: Path) -> None:
    """Ten real frames: images made of the voxels, labels and centres as published, to the labels of the HDF5 file."""
    if not SEED.is_dir():
        pytest.skip("the ten NYU frames are not here")
    truth = Hdf5Samples(SEED / "nyu_10_voxels.h5")
    rows = [row.split() for row in (SEED / "joint_data_train.txt").read_text().splitlines()]
    centers = np.loadtxt(SEED / "center_train_refined.txt") / 1000 * (1, -1, 1)
    labels = np.zeros((1, 10, 36, 3))
    labels[0][:, list(NYU_USUAL)] = np.array([row[1:] for row in rows], float).reshape(-1, 14, 3)
    for index, row in enumerate(rows):
        points = truth[index].points * 0.15 + centers[index]
        order = np.argsort(-points[:, 2])
        column, line = np.rint(tiny.KINECT.project(points[order])).astype(int).T
        mm = np.zeros((480, 640), np.uint16)
        mm[line, column] = np.rint(points[order, 2] * 1000)
        tiny.write_png(tmp_path / "train" / row[0], np.dstack([mm & 255, mm >> 8, mm * 0]).astype(np.uint8))
    scipy.io.savemat(tmp_path / "train" / "joint_data.mat", {"joint_xyz": labels})
    source = open_data_set("nyu", tmp_path, options("--centers", str(SEED / "center_train_refined.txt")))
    for index in range(10):
        sample, voxels = source[index], truth[index]
        assert sample.name == rows[index][0]
        assert sample.center == pytest.approx(voxels.center, abs=1e-6)  # in the camera frame, both
        assert sample.edge == pytest.approx(float(voxels.edge))
        assert np.abs(sample.joints - voxels.joints).max() < 1e-5
        theirs = {tuple(cell) for cell in np.floor((voxels.points + 1) * 44).astype(int)}
        ours = {tuple(cell) for cell in np.floor((sample.points + 1) * 44).astype(int)}
        assert len(ours & theirs) > 0.98 * len(ours)
    # The order of the 14: the tips from the little finger on, each farther from the wrist than the joint after it.
    joints = source[0].joints
    away = np.linalg.norm(joints - joints[11:13].mean(axis=0), axis=1)
    assert (away[[0, 2, 4, 6, 8]] > away[[1, 3, 5, 7, 9]]).all()
    assert (np.diff(joints[[0, 2, 4, 6, 8], 0]) > 0).all()


def test_nyu_options(tmp_path: Path, data_sets: DataSets) -> None:
    root, scenes = data_sets["nyu"]
    source = open_data_set(
        "nyu", root, options("--all-joints", "--truth", "uvd", "--edge", "0.25", "--center", "joints")
    )
    sample = source[1]
    truth = tiny.nyu_joints(scenes[1].joints)
    assert source.joint_names == NYU_ALL
    assert sample.edge == 0.25
    assert np.abs(in_metres(sample)[1] - truth).max() < 1e-4
    assert np.abs(np.array(sample.center) - truth.mean(axis=0)).max() < 1e-4
    tiny.write_nyu(tmp_path, 1, "test")
    assert len(open_data_set("nyu", tmp_path, options("--split", "test"))) == 1


@pytest.mark.parametrize(("kind", "signs"), [("nyu", (1, -1, 1)), ("msra", (1, -1, 1)), ("hands2017", (1, 1, 1))])
def test_centre_files_have_the_axes_of_their_data_set(
    kind: str, signs: tuple[int, int, int], tmp_path: Path, data_sets: DataSets, caplog: pytest.LogCaptureFixture
) -> None:
    root, scenes = data_sets[kind]
    frames = {"nyu": 2, "msra": 153, "hands2017": 3}[kind]
    centers = [scenes[0].joints.mean(axis=0)] * frames
    lines = [" ".join(f"{value:.5f}" for value in center * 1000 * signs) for center in centers]
    lines[1] = "invalid"
    path = tmp_path / "centers.txt"
    path.write_text("\n".join(lines) + "\n")
    with caplog.at_level(logging.WARNING):
        source = open_data_set(kind, root, options("--centers", str(path)))
    assert len(source) == frames - 1
    assert caplog.messages == [f"1 of {frames} frames left out: their centre is not valid"]
    assert np.abs(np.array(source[0].center) - scenes[0].joints.mean(axis=0)).max() < 1e-5
    path.write_text("\n".join(f"0 150 {1000 * center[2]}" for center in centers))
    with pytest.raises(DataError, match=r"centers.txt: half of the centres are more than 1\d\d mm from"):
        open_data_set(kind, root, options("--centers", str(path)))
    path.write_text("\n".join(lines[:-1]))
    with pytest.raises(DataError, match=f"{frames - 1} centres for {frames} frames"):
        open_data_set(kind, root, options("--centers", str(path)))


def test_msra_leaves_subjects_out(data_sets: DataSets) -> None:
    root, _ = data_sets["msra"]
    test = open_data_set("msra", root, options("--subjects", "3", "--split", "test"))
    assert {test[index].name.split("/")[0] for index in range(0, len(test), 8)} == {"P3"}
    train = open_data_set("msra", root, options("--subjects", "3,0"))
    assert (len(test), len(train)) == (17, 7 * 17)
    assert train[0].name == "P1/1/000000_depth.bin"
    for words, why in (
        (("--split", "test"), "--subjects 3"),
        (("--subjects", "9"), "from 0 to 8"),
        (("--subjects", "0,1,2,3,4,5,6,7,8"), "none is left"),
    ):
        with pytest.raises(DataError, match=why):
            open_data_set("msra", root, options(*words))


def test_icvl_originals_and_test_sequences(data_sets: DataSets) -> None:
    root, scenes = data_sets["icvl"]
    originals = open_data_set("icvl", root, options("--originals"))
    assert [originals[index].name for index in range(len(originals))] == [
        "201403121135/image_0000.png",
        "201403121135/image_0001.png",
    ]
    test = open_data_set("icvl", root, options("--split", "test"))
    assert [test[0].name, test[1].name] == ["test_seq_1/image_0000.png", "test_seq_2/image_0000.png"]
    assert np.abs(in_metres(test[1])[1] - tiny.icvl_joints(scenes[2].joints)).max() < 1e-4


@pytest.mark.parametrize("kind", ["hands2017", "hands2019"])
def test_test_frames_have_boxes_and_no_labels(
    kind: str, tmp_path: Path, data_sets: DataSets, caplog: pytest.LogCaptureFixture
) -> None:
    root, scenes = data_sets[kind]
    source = open_data_set(kind, root, options("--split", "test"))
    sample = source[1]
    assert sample.presence
    assert np.isnan(sample.joints).all()
    hand = scenes[1].joints.mean(axis=0)
    assert sample.center is not None
    assert np.abs(sample.center - hand).max() < 0.06
    shutil.copytree(root, tmp_path / kind)
    boxes = tmp_path / kind / ("frame/BoundingBox.txt" if kind == "hands2017" else "test_bbs.txt")
    rows = boxes.read_text().splitlines()
    # Nothing but the upper left corner of the image: no hand there. And a box that is none.
    rows[0] = rows[0].split("\t")[0] + "\t0\t0\t20\t20"
    rows[1] = rows[1].split("\t")[0] + "\t9\t9\t" + ("0\t4" if kind == "hands2017" else "9\t4")
    boxes.write_text("\n".join(rows))
    with caplog.at_level(logging.WARNING):
        source = open_data_set(kind, tmp_path / kind, options("--split", "test"))
    assert caplog.messages == ["1 of 3 frames left out: their box is empty"]
    assert len(source) == 2
    assert len(source[0].points) == 0
    assert not source[0].presence
    assert source[1].presence


def test_hands2017_boxes_may_be_corners(tmp_path: Path, data_sets: DataSets) -> None:
    root, _ = data_sets["hands2017"]
    shutil.copytree(root, tmp_path / "raw")
    corners = (data_sets["hands2019"][0] / "test_bbs.txt").read_text()
    (tmp_path / "raw" / "frame" / "BoundingBox.txt").write_text(corners)
    sizes = open_data_set("hands2017", root, options("--split", "test"))
    assert open_data_set("hands2017", tmp_path / "raw", options("--split", "test"))[1].center == sizes[1].center


def test_other_labels_and_images(tmp_path: Path, data_sets: DataSets) -> None:
    root, scenes = data_sets["hands2017"]
    labels = (root / "training" / "Training_Annotation.txt").read_text()
    path = tmp_path / "test_annotation_frame.txt"
    path.write_text(labels.replace("image_D", "frame\\images\\image_D"))
    test = open_data_set("hands2017", root, options("--split", "test", "--labels", str(path), "--hand21"))
    assert np.abs(in_metres(test[2])[1] - scenes[2].joints).max() < 1e-4
    words = ("--labels", str(path), "--images", str(root / "training" / "images"))
    with pytest.raises(DataError, match=r"first image .* is in none of"):
        open_data_set("bighand", root, options(*words))
    path.write_text(labels)
    assert len(open_data_set("bighand", root, options(*words))) == 3


def test_recording_hands_and_unknown_joints(data_sets: DataSets, caplog: pytest.LogCaptureFixture) -> None:
    root, _ = data_sets["recording"]
    with caplog.at_level(logging.WARNING):
        source = open_data_set("recording", root, options())
    assert caplog.messages == ["1 of 3 frames left out: no hand is labelled in them"]
    assert [source[index].name for index in range(3)] == ["depth/000000.png"] * 2 + ["depth/000005.png"]
    assert np.isnan(source[2].joints[0]).all()
    assert np.isfinite(source[2].joints[1:]).all()


def test_recording_without_labels(tmp_path: Path, data_sets: DataSets) -> None:
    shutil.copytree(data_sets["recording"][0], tmp_path / "tiny")
    (tmp_path / "tiny" / "joints.jsonl").unlink()
    source = open_data_set("recording", tmp_path / "tiny", options())
    assert [source[index].presence for index in range(3)] == [True, False, True]
    assert np.isnan(source[0].joints).all()
    with pytest.raises(DataError, match="needs labels"):
        open_data_set("recording", tmp_path / "tiny", options("--center", "joints"))


def test_frames_without_a_usable_hand_have_no_points(tmp_path: Path) -> None:
    tiny.write_hands2017(tmp_path)
    images = tmp_path / "training" / "images"
    depth = cv2.imread(str(images / "image_D00000002.png"), cv2.IMREAD_UNCHANGED)
    tiny.write_png(images / "image_D00000001.png", np.zeros((480, 640), np.uint16))
    # The hand of another frame, far from where the labels are.
    tiny.write_png(images / "image_D00000002.png", np.roll(depth, (100, -220), (0, 1)))
    source = open_data_set("hands2017", tmp_path, options())
    for index in (0, 1):
        assert source[index].points.shape == (0, 3)
        assert np.isnan(source[index].joints).all()
        assert not source[index].presence
    assert source[2].presence


def test_missing_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny.write_hands2019(tmp_path)
    (tmp_path / "training_images" / "image_D00000002.png").unlink()
    with pytest.raises(DataError, match=r"missing image: .*image_D00000002.png \(1 of 3 frames have none\)"):
        open_data_set("hands2019", tmp_path, options())
    with caplog.at_level(logging.WARNING):
        source = open_data_set("hands2019", tmp_path, options("--allow-missing"))
    assert caplog.messages == ["1 of 3 frames left out: their image is missing"]
    assert [source[0].name, source[1].name] == ["image_D00000001.png", "image_D00000003.png"]
    (tmp_path / "training_images" / "image_D00000003.png").unlink()
    with pytest.raises(DataError, match=r"missing image: .*image_D00000003.png"):
        source[1]


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new, 1))


def claim_huge(path: Path) -> None:
    """A PNG whose header says 60000 x 60000 pixels."""
    raw = path.read_bytes()
    header = b"IHDR" + (60000).to_bytes(4, "big") * 2 + raw[24:29]
    path.write_bytes(raw[:12] + header + zlib.crc32(header).to_bytes(4, "big") + raw[33:])


DAMAGES: list[tuple[str, Callable[[Path], object], str]] = [
    ("nyu", lambda root: (root / "train/joint_data.mat").unlink(), "no such file: .*joint_data.mat; NYU is a folder"),
    ("nyu", lambda root: (root / "train/joint_data.mat").write_bytes(b"junk" * 99), "joint_data.mat cannot be read"),
    ("nyu", lambda root: cut(root / "train/joint_data.mat", 900), "joint_data.mat cannot be read"),
    ("nyu", lambda root: scipy.io.savemat(root / "train/joint_data.mat", {"a": 1}), "joint_xyz must be .* not there"),
    (
        "nyu",
        lambda root: scipy.io.savemat(root / "train/joint_data.mat", {"joint_xyz": np.zeros((3, 2, 14, 3))}),
        r"of shape \(cameras, frames, 36, 3\), is \(3, 2, 14, 3\)",
    ),
    ("nyu", lambda root: cut(root / "train/depth_1_0000001.png", 3000), "0000001.png is broken"),
    ("nyu", lambda root: cut(root / "train/depth_1_0000001.png", 0), "0000001.png is broken"),
    (
        "nyu",
        lambda root: tiny.write_png(root / "train/depth_1_0000001.png", np.zeros((480, 640), np.uint16)),
        "must be a PNG of 3 x 8 bits a pixel, has 1 x 16",
    ),
    (
        "nyu",
        lambda root: tiny.write_png(root / "train/depth_1_0000001.png", np.zeros((240, 320, 3), np.uint8)),
        "is 320x240, but the images of this data set are 640x480",
    ),
    ("icvl", lambda root: shutil.rmtree(root / "Training"), "no such folder: .*Training; ICVL is"),
    ("icvl", lambda root: (root / "Training/labels.txt").unlink(), "no such file: .*labels.txt"),
    ("icvl", lambda root: (root / "Training/labels.txt").write_text("\n"), "labels.txt is empty"),
    ("icvl", lambda root: edit(root / "Training/labels.txt", "0000.png ", "0000.png 1 "), "labels.txt:1: .* found 49"),
    ("icvl", lambda root: edit(root / "Training/labels.txt", "0001.png ", "0001.png x"), "labels.txt:2: .*'x"),
    ("icvl", lambda root: (root / "Training/labels.txt").write_bytes(b"\xff\xfe\x00"), "cannot be read as text"),
    ("msra", lambda root: (root / "P4/T/joint.txt").unlink(), "no such file: .*P4/T/joint.txt; MSRA is a folder"),
    ("msra", lambda root: edit(root / "P0/1/joint.txt", "1\n", "2\n"), "promises 2 frames .* has 1"),
    ("msra", lambda root: edit(root / "P0/1/joint.txt", "1\n", "a b\n"), "joint.txt:1: expected the number of frames"),
    ("msra", lambda root: edit(root / "P0/1/joint.txt", ".", "nan ."), "joint.txt:2: expected x y z of 21 joints"),
    ("msra", lambda root: cut(root / "P0/1/000000_depth.bin", 9), "000000_depth.bin is cut off"),
    ("msra", lambda root: cut(root / "P0/1/000000_depth.bin", 999), "has 999 bytes where its header promises"),
    ("msra", lambda root: (root / "P0/1/000000_depth.bin").write_bytes(b"\x7f" * 99), "has a broken header"),
    ("hands2017", lambda root: (root / "training/Training_Annotation.txt").unlink(), "no such file: .*Annotation.txt"),
    ("hands2017", lambda root: shutil.rmtree(root / "training/images"), "no such folder: .*images"),
    ("hands2017", lambda root: cut(root / "training/images/image_D00000001.png", 2000), "00000001.png is broken"),
    ("hands2017", lambda root: claim_huge(root / "training/images/image_D00000001.png"), "00000001.png is broken"),
    ("hands2019", lambda root: (root / "training_joint_annotation.txt").unlink(), "training_joint_annotation.txt"),
    ("bighand", lambda root: shutil.rmtree(root / "full_annotation"), "full_annotation holds no label files"),
    ("bighand", lambda root: shutil.rmtree(root / "Subject_1"), "first image 00000000 is in none of"),
    ("recording", lambda root: (root / "camera.json").unlink(), "has no camera.json"),
    ("recording", lambda root: (root / "joints.jsonl").write_text("{}\n{}\n"), "joints.jsonl, line 1"),
    ("recording", lambda root: cut(root / "depth/000000.png", 500), "000000.png is broken"),
]


@pytest.mark.parametrize(("kind", "damage", "message"), DAMAGES)
def test_broken_data_sets_say_what_is_wrong(
    kind: str, damage: Callable[[Path], object], message: str, tmp_path: Path, data_sets: DataSets
) -> None:
    root = tmp_path / kind
    shutil.copytree(data_sets[kind][0], root)
    damage(root)
    with pytest.raises(DataError, match=message):
        open_data_set(kind, root, options())[0]


def test_options_of_other_data_sets_are_refused(tmp_path: Path, data_sets: DataSets) -> None:
    root, _ = data_sets["nyu"]
    for words, why in (
        (("--subjects", "1"), "--subjects is not for nyu, but for msra"),
        (("--hand21",), "--hand21 is not for nyu"),
        (("--originals",), "--originals is not for nyu, but for icvl"),
    ):
        with pytest.raises(DataError, match=why):
            open_data_set("nyu", root, options(*words))
    with pytest.raises(DataError, match="no such folder"):
        open_data_set("nyu", tmp_path / "none", options())
    with pytest.raises(DataError, match="no importer for 'itop'"):
        open_data_set("itop", root, options())
