"""Which cubes are looked into for a hand, and which way up."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tracker.camera.frame import Side
from tracker.hand.cube import Cube, hand_axis
from tracker.tracking.aiming import Aim
from tracker.tracking.sight import Place

CENTER = (0.1, -0.05, 0.5)
NOTHING = np.zeros((4, 4), np.bool_)


def place(heading: tuple[float, float, float] | None = None) -> Place:
    return Place(np.array(CENTER), NOTHING, 0.0, None if heading is None else np.array(heading))


def hand(towards: tuple[float, float, float]) -> np.ndarray:
    """Joints whose knuckles lie in a direction from the wrist."""
    joints = np.tile(np.array(CENTER), (21, 1))
    joints[0] -= 0.05 * np.array(towards)
    joints[5:] += 0.05 * np.array(towards)
    return joints


def up(cube: Cube) -> np.ndarray:
    """What is up in a cube, in the camera frame."""
    return -cube.axes[1]


def sides(cubes: list[Cube]) -> list[Side]:
    return [cube.side for cube in cubes]


def test_networks_that_want_no_turned_cubes_get_none() -> None:
    aim = Aim(0.26, False)
    joints = hand((1, 0, 0))
    cubes = [*aim.new(place((1, 0, 0))), *aim.again(place(), joints), *aim.followed(place(), joints, "left", True)]
    assert sides(cubes) == ["right", "left", "right", "left", "left"]
    assert all(cube == Cube(CENTER, 0.26, cube.side) for cube in cubes)


def test_a_new_hand_is_looked_at_the_way_its_forearm_points() -> None:
    cubes = Aim(0.26, True).new(place((1, 0, 0)))
    assert sides(cubes) == ["right", "left"]
    for cube in cubes:
        assert up(cube) @ (1, 0, 0) > 0.95


def test_a_new_hand_without_a_forearm_is_looked_at_both_ways_up() -> None:
    cubes = Aim(0.26, True).new(place())
    assert sorted(sides(cubes)) == ["left", "left", "right", "right"]
    for side in ("right", "left"):
        one, other = (up(cube) for cube in cubes if cube.side == side)
        assert one @ other == pytest.approx(-1)


def test_a_hand_is_looked_at_as_its_joints_say() -> None:
    joints = hand((0.6, 0.8, 0))
    for cube in (*Aim(0.26, True).again(place(), joints), *Aim(0.26, True).followed(place(), joints, "left", False)):
        inside = cube.normalise(joints)
        assert hand_axis(inside)[0] == pytest.approx(0, abs=1e-5)
        assert hand_axis(inside)[1] < 0


@pytest.mark.parametrize(("bent", "believed"), [(0, True), (80, True), (130, False), (180, False)])
def test_joints_that_no_wrist_allows_are_doubted(bent: float, believed: bool) -> None:
    joints = hand((math.cos(math.radians(bent)), math.sin(math.radians(bent)), 0))
    cube, *others = Aim(0.26, True).followed(place((1, 0, 0)), joints, "right", True)
    assert up(cube) @ hand_axis(joints) / np.linalg.norm(hand_axis(joints)) > 0.95
    assert len(others) == (0 if believed else 1)
    assert all(up(other) @ (1, 0, 0) > 0.95 for other in others)


def test_where_no_forearm_is_seen_it_is_doubted_now_and_then_which_way_up_a_hand_is() -> None:
    aim, joints = Aim(0.26, True), hand((0, -1, 0))
    assert len(aim.followed(place(), joints, "left", False)) == 1
    one, other = aim.followed(place(), joints, "left", True)
    assert sides([one, other]) == ["left", "left"]
    assert up(one) @ up(other) == pytest.approx(-1)


def test_nothing_is_known_of_joints_that_are_not_finite() -> None:
    joints = np.full((21, 3), np.nan)
    (cube,) = Aim(0.26, True).followed(place((0, 1, 0)), joints, "right", False)
    assert cube.roll == 0
