"""People and things of the simulated scenes: their measures, their places, that a seed decides them."""

import numpy as np
import pytest

from tracker.camera.frame import Intrinsics
from tracker.simulation.gestures import GESTURES
from tracker.simulation.hand import HandModel, random_shape
from tracker.simulation.people import ASSET, random_person, sleeve, turned, upper_arm, watch
from tracker.simulation.render import Mesh, render
from tracker.simulation.rotations import random_rotation, turn
from tracker.simulation.things import ball, box, chair, clutter, grip, held, joined, lathe

K = Intrinsics(160, 120, 120.0, 120.0, 79.5, 59.5)


def volume(mesh: Mesh) -> float:
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def extent(mesh: Mesh) -> np.ndarray:
    return np.ptp(mesh.vertices, axis=0)


def distance_to_line(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    axis = (end - start) / np.linalg.norm(end - start)
    return np.linalg.norm(points - start - ((points - start) @ axis)[:, None] * axis, axis=1)


def test_people_have_human_measures() -> None:
    people = [random_person(np.random.default_rng(seed)) for seed in range(40)]
    sizes = np.array([person.size for person in people])
    assert 0.6 < sizes.min() < 0.95 < sizes.max() < 1.3
    assert abs(np.median(sizes) - 1) < 0.08
    for person in people:
        body = person.body
        assert np.isfinite(body.vertices).all()
        assert len(body.faces) < 2500
        assert len(person.dull) == len(body.faces)
        width, apart = extent(body)[0], person.shoulders["left"][0] - person.shoulders["right"][0]
        assert 0.22 * person.size < apart < 0.45 * person.size
        assert apart < width + 0.1
        assert np.allclose(person.shoulders["right"], -person.shoulders["left"])
        # The head stands 20 to 50 cm above the shoulders, the seat lies 35 to 75 cm below.
        assert 0.2 < -body.vertices[:, 1].min() / person.size < 0.5
        assert 0.35 < body.vertices[:, 1].max() / person.size < 1.1
        # An arm begins in the ball of each shoulder.
        for place in person.shoulders.values():
            assert np.linalg.norm(body.vertices - place, axis=1).min() < 0.08


def test_a_seed_decides_the_person_and_two_seeds_differ() -> None:
    one, again, other = (random_person(np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(one.body.vertices, again.body.vertices)
    assert np.abs(one.body.vertices - other.body.vertices).max() > 0.02


def test_a_person_faces_the_camera_and_thighs_point_forwards_when_sitting() -> None:
    noses, thighs, knees = [], [], []
    for seed in range(20):
        sits = random_person(np.random.default_rng(seed), sitting=True).body.vertices
        stands = random_person(np.random.default_rng(seed), sitting=False).body.vertices
        # Between shoulders and waist nobody's chest is behind the back: the chin and nose stick out towards -z.
        head = sits[sits[:, 1] < -0.12]
        noses.append(head[:, 2].min() - np.median(head[:, 2]))
        thighs.append(sits[:, 2].min())
        knees.append(stands[:, 1].max())
    assert np.mean(noses) < -0.05
    assert np.mean(thighs) < -0.25
    assert np.mean(knees) > 0.75


def test_some_people_are_dull_in_places_but_hardly_in_their_bare_face() -> None:
    shares, chins = [], []
    for seed in range(40):
        person = random_person(np.random.default_rng(seed))
        shares.append(float(person.dull.mean()))
        body = person.body
        middle = body.vertices[body.faces].mean(axis=1)
        # The chin: the foremost below the eyes and above the neck.
        head = (middle[:, 1] < -0.13 * person.size) & (middle[:, 1] > -0.2 * person.size)
        chin = head & (middle[:, 2] < np.quantile(middle[head, 2], 0.05))
        chins.append(float(person.dull[chin].mean()))
    assert np.mean(chins) < 0.05 < np.mean(shares)
    assert 8 < np.count_nonzero(shares) < 36
    assert max(shares) < 0.95


def test_turned_moves_body_and_shoulders_alike() -> None:
    rng = np.random.default_rng(1)
    person = random_person(rng)
    rotation, translation = random_rotation(rng), np.array([0.1, -0.2, 1.0])
    there = turned(person, rotation, translation)
    assert np.allclose(there.body.vertices, person.body.vertices @ rotation.T + translation, atol=1e-5)
    for side, place in person.shoulders.items():
        assert np.allclose(there.shoulders[side], rotation @ place + translation)
    back = turned(there, rotation.T, -rotation.T @ translation)
    assert np.allclose(back.body.vertices, person.body.vertices, atol=1e-5)


def test_a_person_is_seen_whole_by_a_camera() -> None:
    person = turned(random_person(np.random.default_rng(2)), np.eye(3), np.array([0.0, 0.0, 1.0]))
    depth = render([person.body], K)
    assert depth[60, 80] == pytest.approx(0.9, abs=0.15)  # the chest
    # No holes: between the first and the last pixel of each row through the chest the body is closed.
    for row in depth[58:72]:
        seen = np.nonzero(row)[0]
        assert len(seen) == seen[-1] - seen[0] + 1 > 15


def test_the_shipped_bodies_are_small() -> None:
    assert ASSET.stat().st_size < 700_000


@pytest.mark.parametrize("until", [0.0, 0.5])
def test_upper_arms_reach_from_elbow_to_shoulder(until: float) -> None:
    elbow, shoulder = np.array([0.1, 0.2, 0.7]), np.array([0.2, -0.05, 0.9])
    bare, dressed = upper_arm(elbow, shoulder, 0.045, None), upper_arm(elbow, shoulder, 0.045, 0.015, until)
    axis = (shoulder - elbow) / np.linalg.norm(shoulder - elbow)
    for mesh in (bare, dressed):
        along = (mesh.vertices - elbow) @ axis
        assert -0.06 < along.min() < 0
        assert along.max() > np.linalg.norm(shoulder - elbow)
    assert distance_to_line(bare.vertices, elbow, shoulder).max() < 0.06
    assert volume(dressed) > volume(bare) * (1.15 if until else 1.3)


def test_sleeves_and_watches_lie_around_the_forearm() -> None:
    for seed in range(6):
        hand = HandModel.load().rig(random_shape(np.random.default_rng(seed)))
        vertices, joints = hand.pose_with_elbow(GESTURES["open"], turn(0, 0.4), np.array([0.0, 0.0, 0.5]))
        wrist, elbow = joints[0].astype(float), joints[21].astype(float)
        cloth, band = sleeve(elbow, wrist, 0.06, 0.012), watch(wrist, elbow, 0.04)
        axis = (elbow - wrist) / np.linalg.norm(elbow - wrist)
        assert ((cloth.vertices - wrist) @ axis).min() == pytest.approx(0.06, abs=1e-3)
        assert ((band.vertices - wrist) @ axis).mean() == pytest.approx(0.04, abs=1e-3)
        height = (vertices - wrist) @ axis
        for mesh, low, high, room in ((cloth, 0.08, 0.16, 0.035), (band, 0.03, 0.05, 0.016)):
            arm = distance_to_line(vertices[(height > low) & (height < high)], wrist, elbow)
            assert arm.mean() < distance_to_line(mesh.vertices, wrist, elbow).max() < arm.mean() + room


def test_solids_are_closed_and_wound_outwards() -> None:
    assert extent(box(0.1, 0.2, 0.3)) == pytest.approx([0.1, 0.2, 0.3])
    assert volume(box(0.1, 0.2, 0.3)) == pytest.approx(0.006)
    assert volume(ball(0.1, 1.5)) == pytest.approx(1.5 * 4 / 3 * np.pi * 0.001, rel=0.1)
    two = joined([box(0.1, 0.1, 0.1), lathe([(0.2, 0.05), (0.3, 0.0)], 16)])
    assert volume(two) == pytest.approx(0.001 + np.pi * 0.05**2 * 0.1 / 3, rel=0.05)


@pytest.mark.parametrize("gesture", ["grab", "half_curl", "cup", "pinch_open", "hook"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_things_are_held_between_palm_and_fingers(gesture: str, side: str) -> None:
    hand = HandModel.load().rig(side=side)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        rotation, place = random_rotation(rng), np.array([0.0, 0.1, 0.5])
        _, joints = hand.pose(GESTURES[gesture], rotation, place)
        middle, axis, opens, free = grip(joints)
        assert 0 < free < 0.05
        assert abs(axis @ opens) < 1e-6
        assert np.linalg.norm(joints[5:] - middle, axis=1).min() < 0.06
        thing = held(np.random.default_rng(seed), joints)
        assert np.isfinite(thing.vertices).all()
        assert len(thing.faces) <= 1200
        assert 0.02 < extent(thing).max() < 0.75
        # The hand touches it: a fingertip or the palm is near its surface or inside.
        knuckles = 0.5 * (joints[0] + joints[9])
        near = [np.linalg.norm(thing_points(thing) - point, axis=1).min() for point in (*joints[1:], knuckles)]
        assert min(near) < 0.025
        # It goes along with the hand.
        _, elsewhere = hand.pose(GESTURES[gesture], turn(1, 0.7) @ rotation, place)
        again = held(np.random.default_rng(seed), elsewhere)
        assert np.allclose(again.vertices - place, (thing.vertices - place) @ turn(1, 0.7).T, atol=1e-4)


def thing_points(mesh: Mesh) -> np.ndarray:
    """Points spread over a mesh's faces."""
    shares = np.random.default_rng(0).dirichlet([1, 1, 1], 60)
    return np.einsum("sk,fkd->fsd", shares, mesh.vertices[mesh.faces]).reshape(-1, 3)


def test_clutter_has_the_size_asked_for_and_its_place() -> None:
    place = np.array([0.1, 0.2, 0.8])
    for seed in range(60):
        mesh = clutter(np.random.default_rng(seed), place, 0.1)
        assert volume(mesh) > 0
        assert len(mesh.faces) <= 1200
        # The longest edge of its box is 0.2 m, whichever way it is turned.
        assert 0.19 < np.ptp(mesh.vertices @ random_axes(), axis=0).max() < 0.36
        assert np.abs(mesh.vertices - place).max() < 0.18


def test_most_clutter_stands_upright() -> None:
    up = np.array([0.0, -0.8, -0.6])
    upright = 0
    for seed in range(60):
        mesh = clutter(np.random.default_rng(seed), np.zeros(3), 0.1, up)
        # Faces whose normal is the direction upwards: lids, tops. Balls have none.
        a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
        normals = np.cross(b - a, c - a)
        upright += bool((normals @ up > 0.999 * np.linalg.norm(normals, axis=1)).any())
    assert 32 <= upright < 60


def random_axes() -> np.ndarray:
    """Directions (3, 200) all over the sphere."""
    axes = np.random.default_rng(0).standard_normal((3, 200))
    return axes / np.linalg.norm(axes, axis=0)


def test_chairs_are_behind_the_person() -> None:
    for seed in range(10):
        mesh = chair(np.random.default_rng(seed))
        assert volume(mesh) > 0
        assert mesh.vertices[:, 2].max() > 0.1
        assert extent(mesh).max() < 1.2
