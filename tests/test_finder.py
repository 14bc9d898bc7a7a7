"""Finding hands by geometry: drawn scenes, the simulated person, and real recordings."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tracker.camera.frame import DepthFrame, Intrinsics
from tracker.camera.recording import open_recording_folder
from tracker.hand.cube import Cube
from tracker.simulation.noise import StereoNoise
from tracker.simulation.scene import Scene
from tracker.tracking.finder import find_hands
from tracker.tracking.regions import cut_jumps, isolate
from tracker.tracking.silhouette import find_desk, silhouette

REAL = Path(__file__).resolve().parents[2] / "shared" / "real"
VGA = Intrinsics(640, 480, 460.0, 460.0, 320.0, 240.0)


class Drawing:
    """A depth image made of spheres, capsules and planes, nearest wins; metres, camera frame."""

    def __init__(self, intrinsics: Intrinsics = VGA, depth_scale: float = 0.001) -> None:
        self.intrinsics, self.depth_scale = intrinsics, depth_scale
        x = (np.arange(intrinsics.width) - intrinsics.cx) / intrinsics.fx
        y = (np.arange(intrinsics.height) - intrinsics.cy) / intrinsics.fy
        self.rays = np.stack([*np.meshgrid(x, y), np.ones((intrinsics.height, intrinsics.width))], -1)
        self.depth = np.full(self.rays.shape[:2], np.inf)

    def sphere(self, center: Sequence[float], radius: float) -> None:
        c, k = np.asarray(center), self.intrinsics
        (u, v), reach = k.project(c), 1.3 * radius * k.fx / (c[2] - radius)
        window = np.s_[max(int(v - reach), 0) : max(int(v + reach), 0), max(int(u - reach), 0) : max(int(u + reach), 0)]
        rays = self.rays[window]
        a, b = (rays**2).sum(-1), rays @ c
        root = b * b - a * (c @ c - radius**2)
        depth = np.where(root > 0, (b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
        self.depth[window] = np.minimum(self.depth[window], depth)

    def capsule(self, start: Sequence[float], end: Sequence[float], radius: float, end_radius: float = 0.0) -> None:
        length = float(np.linalg.norm(np.subtract(end, start)))
        for t in np.linspace(0, 1, max(2, int(length / 0.003))):
            self.sphere(
                np.add(np.multiply(start, 1 - t), np.multiply(end, t)), radius * (1 - t) + (end_radius or radius) * t
            )

    def plane(self, point: Sequence[float], normal: Sequence[float], far: float = 3.0) -> None:
        slope = self.rays @ np.asarray(normal)
        with np.errstate(divide="ignore"):
            depth = np.dot(point, normal) / slope
        self.depth = np.minimum(self.depth, np.where((depth > 0.1) & (depth < far), depth, np.inf))

    def person(self) -> None:
        self.capsule((-0.12, 0.3, 1.1), (0.12, 0.3, 1.1), 0.17)
        self.capsule((0, 0.2, 1.08), (0, 0.0, 1.05), 0.06)
        self.sphere((0, -0.1, 1.0), 0.09)

    def hand(
        self,
        palm: Sequence[float],
        toward: Sequence[float] = (0, -1, 0),
        arm: Sequence[float] = (0, 0.3, 0.06),
        fingers: int = 5,
    ) -> NDArray[np.float64]:
        """A hand whose fingers go `toward`, the forearm to palm + `arm`; returns the place of its knuckles."""
        along = np.asarray(toward) / np.linalg.norm(toward)
        side = np.array([-along[1], along[0], 0.0])
        center = np.asarray(palm)
        for across in np.linspace(-0.028, 0.028, 5):
            self.capsule(center + side * across - along * 0.035, center + side * across + along * 0.035, 0.014)
        for i, across in enumerate(np.linspace(-0.032, 0.032, 4)[: max(fingers - 1, 0)]):
            direction = along + side * (i - 1.5) * 0.14
            self.capsule(center + side * across + along * 0.03, center + side * across + direction * 0.115, 0.009)
        if fingers == 5:
            self.capsule(center - side * 0.03, center - side * 0.075 + along * 0.03, 0.011)
        wrist = center + np.asarray(arm) * 0.055 / np.linalg.norm(arm)
        self.capsule(wrist, center + np.asarray(arm), 0.024, 0.034)
        return center + along * 0.04

    def frame(self) -> DepthFrame:
        units = np.where(np.isfinite(self.depth), self.depth / self.depth_scale, 0)
        return DepthFrame(np.rint(units).astype(np.uint16), self.depth_scale, self.intrinsics, 0, 0, 0)


def assert_hands(frame: DepthFrame, middles: Sequence[NDArray[np.float64]], tolerance: float = 0.035) -> None:
    hands = find_hands(frame)
    assert len(hands) == len(middles)
    for middle in middles:
        hand = min(hands, key=lambda hand: float(np.linalg.norm(hand.center - middle)))
        assert np.linalg.norm(hand.center - middle) < tolerance
        assert 0.5 <= hand.score <= 1
        assert hand.mask.shape == frame.depth.shape
        assert (frame.depth[hand.mask] > 0).all()
        within = np.abs(frame.points()[hand.mask] - hand.center).max(axis=1) < 0.13
        assert within.mean() > 0.99


def test_two_hands_before_a_person() -> None:
    drawing = Drawing()
    drawing.person()
    middles = [drawing.hand((-0.15, 0, 0.5)), drawing.hand((0.17, -0.02, 0.6), (0.3, -1, 0))]
    assert_hands(drawing.frame(), middles)


def test_region_leaves_the_forearm_out_and_knows_where_it_is() -> None:
    drawing = Drawing()
    drawing.hand((0, 0, 0.5), arm=(0.05, 0.3, 0.05))
    frame = drawing.frame()
    hand = find_hands(frame)[0]
    assert hand.arm is not None
    assert hand.arm @ np.array([0.05, 0.3, 0.05]) > 0.95 * np.linalg.norm([0.05, 0.3, 0.05])
    assert np.linalg.norm(hand.palm - (0, 0, 0.486)) < 0.02
    y = frame.points()[..., 1]
    seen = frame.depth > 0
    assert hand.mask[seen & (y < 0.03)].mean() > 0.97
    assert not hand.mask[y > 0.12].any()


@pytest.mark.parametrize("angle", [0, 90, 180, 270])
def test_hand_above_a_desk_from_any_side(angle: int) -> None:
    turn = np.deg2rad(angle)
    toward = np.array([np.sin(turn), -np.cos(turn), 0.0])
    drawing = Drawing()
    drawing.plane((0, 0, 0.7), (0, 0.1, 1))
    middle = drawing.hand((0, 0, 0.62), toward, arm=-0.45 * toward - np.array([0, 0, 0.02]))
    assert_hands(drawing.frame(), [middle])


def test_two_hands_seen_from_above() -> None:
    drawing = Drawing()
    drawing.plane((0, 0, 0.75), (0, 0, 1))
    middles = [
        drawing.hand((-0.12, -0.02, 0.68), arm=(-0.05, 0.35, 0)),
        drawing.hand((0.1, -0.02, 0.7), (-0.2, -1, 0), arm=(0.05, 0.35, 0)),
    ]
    assert_hands(drawing.frame(), middles)


def test_sleeve_wider_than_the_hand() -> None:
    drawing = Drawing()
    middle = drawing.hand((-0.1, 0, 0.5))
    drawing.capsule((-0.1, 0.07, 0.51), (-0.1, 0.35, 0.6), 0.05)
    assert_hands(drawing.frame(), [middle])


def test_hand_that_lies_on_the_desk() -> None:
    drawing = Drawing()
    drawing.plane((0, 0, 0.6), (0, 0, 1))
    middle = drawing.hand((0, 0, 0.58), arm=(0, 0.4, 0))
    assert_hands(drawing.frame(), [middle])


def test_fist_at_the_end_of_an_arm() -> None:
    drawing = Drawing()
    drawing.person()
    drawing.sphere((-0.15, 0.01, 0.5), 0.042)
    drawing.hand((-0.15, 0.03, 0.51), fingers=0, arm=(0, 0.25, 0.15))
    assert_hands(drawing.frame(), [np.array([-0.15, 0.01, 0.47])], tolerance=0.04)


def test_hand_with_holes() -> None:
    drawing = Drawing()
    drawing.person()
    middle = drawing.hand((-0.1, 0, 0.5))
    frame = drawing.frame()
    lost = np.random.default_rng(0).random((240, 320)) < 0.04
    depth = np.where(np.kron(lost, np.ones((2, 2), bool)), 0, frame.depth).astype(np.uint16)
    assert_hands(replace(frame, depth=depth), [middle])


@pytest.mark.parametrize(
    ("intrinsics", "depth_scale"),
    [
        (Intrinsics(320, 240, 240.0, 240.0, 160.0, 120.0), 0.001),
        (Intrinsics(848, 480, 430.0, 430.0, 424.0, 240.0), 0.0001),
        (Intrinsics(1280, 720, 640.0, 640.0, 640.0, 360.0), 0.000125),
    ],
)
def test_any_camera(intrinsics: Intrinsics, depth_scale: float) -> None:
    drawing = Drawing(intrinsics, depth_scale)
    drawing.plane((0, 0, 1.2), (0, 0, 1))
    middle = drawing.hand((0.05, 0.02, 0.45))
    assert_hands(drawing.frame(), [middle])


def test_no_hand_on_a_person_a_desk_or_in_nothing() -> None:
    person, desk, wall = Drawing(), Drawing(), Drawing()
    person.person()
    desk.plane((0, 0.2, 0.8), (0, 1, 0.3))
    desk.sphere((0.1, 0.15, 0.7), 0.06)
    wall.plane((0, 0, 0.9), (0.2, 0, 1))
    nothing = Drawing()
    for drawing in (person, desk, wall, nothing):
        assert find_hands(drawing.frame()) == []


def test_limit_and_excluded_cubes() -> None:
    drawing = Drawing()
    left, right = drawing.hand((-0.15, 0, 0.5)), drawing.hand((0.15, 0, 0.55))
    frame = drawing.frame()
    assert len(find_hands(frame, limit=1)) == 1
    (other,) = find_hands(frame, exclude=[Cube((float(left[0]), float(left[1]), float(left[2])))])
    assert np.linalg.norm(other.center - right) < 0.035
    assert find_hands(frame, exclude=[Cube((float(p[0]), float(p[1]), float(p[2]))) for p in (left, right)]) == []


def test_an_excluded_hand_leaves_no_elbow_behind() -> None:
    drawing = Drawing()
    middle = drawing.hand((-0.05, -0.05, 0.5), arm=(0.02, 0.22, 0.02), fingers=0)
    cube = Cube((float(middle[0]), float(middle[1]), float(middle[2])), 0.22)
    assert find_hands(drawing.frame(), exclude=[cube]) == []


def test_depth_jumps_are_cut_on_the_far_side() -> None:
    depth = np.full((9, 9), 0.6, np.float32)
    depth[3:6, 3:6] = 0.5
    depth[0, 0] = 0
    solid = cut_jumps(depth)
    assert solid[3:6, 3:6].all()
    assert not solid[2, 2:7].any()
    assert not solid[0, 0]
    assert solid[1, 1]


def test_desk_is_found_without_the_hand_on_it() -> None:
    drawing = Drawing()
    drawing.plane((0, 0, 0.6), (0, 0, 1))
    drawing.hand((0, 0, 0.58), arm=(0, 0.4, 0))
    image = silhouette(drawing.frame())
    desk = find_desk(image.points, image.focal)
    row, column = np.rint(np.array([240, 320]) / image.step).astype(int)
    assert not desk[row, column]
    assert desk[:20].all()


def test_isolated_hand_keeps_a_bent_finger_and_loses_the_body() -> None:
    drawing = Drawing()
    drawing.hand((0, 0, 0.5))
    drawing.capsule((0.02, -0.04, 0.45), (0.02, 0.0, 0.45), 0.009)
    hand_alone = drawing.frame().depth > 0
    drawing.plane((0, 0, 0.6), (0, 0, 1))
    frame = drawing.frame()
    joints = np.array(
        [(x, y, 0.5) for x in (-0.03, 0, 0.03) for y in (-0.1, -0.07, -0.03, 0.03)] + [(np.nan,) * 3], np.float32
    )
    mask = isolate(frame, Cube((0, -0.03, 0.5)), joints)
    rows = np.arange(480)[:, None] < 280  # above the wrist
    assert mask[hand_alone & rows].mean() > 0.97
    assert not mask[~hand_alone].any()
    without_seeds = isolate(frame, Cube((0, -0.03, 0.5)), np.full((21, 3), np.nan, np.float32))
    assert without_seeds[~hand_alone].any()


def test_isolate_outside_the_image_is_empty() -> None:
    frame = Drawing().frame()
    assert not isolate(frame, Cube((2.0, 0, 0.4)), np.array([[2.0, 0, 0.4]], np.float32)).any()
    assert not isolate(frame, Cube((0.0, 0, 0.4)), np.array([[0.0, 0, 0.4]], np.float32)).any()


def test_simulated_person() -> None:
    """Every gesture of the vocabulary, fists among them, with a stereo camera's noise."""
    intrinsics = Intrinsics(640, 480, 385.0, 385.0, 319.5, 239.5)
    sensor, rng = StereoNoise(480, 640, seed=1), np.random.default_rng(1)
    hits = 0
    times = [(seed, 0.4 + 1.7 * step) for seed in (11, 12, 13) for step in range(8)]
    for seed, time in times:
        depth, truth = Scene(seed).depth(time, intrinsics)
        frame = DepthFrame(sensor(depth, rng).copy(), 0.001, intrinsics, 0, 0, 0)
        middles = np.array([hand.joints.mean(axis=0) for hand in truth])
        for hand in find_hands(frame):
            distance = float(np.linalg.norm(middles - hand.center, axis=1).min())
            assert distance < 0.1, f"false hand, seed {seed}, {time:.1f} s"
            hits += distance < 0.06
    assert hits >= 0.93 * 2 * len(times)


def recording(name: str) -> list[DepthFrame]:
    if not (REAL / name).is_dir():
        pytest.skip(f"the real recording {name} is not here")
    with open_recording_folder(REAL / name) as camera:
        return list(camera)


@pytest.mark.parametrize(
    ("name", "at_least", "place", "reach"),
    [
        ("sr305_230536", 8, (0.0, -0.02, 0.54), 0.17),
        ("sr305_231615", 11, (0.01, 0.06, 0.6), 0.08),
        ("face_behind_hand", 8, (0.0, -0.03, 0.46), 0.12),
        ("kinect2_person", 38, (0.05, -0.12, 0.63), 0.08),
    ],
)
def test_real_hands_and_nothing_else(name: str, at_least: int, place: tuple[float, ...], reach: float) -> None:
    frames = recording(name)
    found = 0
    for frame in frames:
        hands = find_hands(frame)
        assert len(hands) <= 1, f"frame {frame.number}"
        for hand in hands:
            assert np.linalg.norm(hand.center - place) < reach, f"frame {frame.number}"
        found += len(hands)
    assert found >= at_least


def test_real_hand_before_a_face_against_its_labels() -> None:
    frames = recording("face_behind_hand")
    masks = sorted((REAL / "face_behind_hand" / "hand_mask").glob("*.png"))
    errors, overlaps = [], []
    for frame, path in zip(frames, masks, strict=True):
        assert frame.truth is not None
        middle = np.nanmean(frame.truth[0].joints, axis=0)
        region = find_hands(frame)[0]
        labelled = (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) > 0) & (frame.depth > 0)
        errors.append(region.center - middle)
        overlaps.append((labelled & region.mask).sum() / (labelled | region.mask).sum())
        x, y, z = (float(c) for c in middle)
        followed = isolate(frame, Cube((x, y, z)), frame.truth[0].joints)
        assert followed[labelled].mean() > 0.9  # the labels miss a fingertip in two frames
    distances = np.linalg.norm(errors, axis=1)
    assert np.median(distances) < 0.02
    assert distances.max() < 0.045
    assert np.linalg.norm(np.mean(errors, axis=0)) < 0.015
    assert min(overlaps) > 0.85
