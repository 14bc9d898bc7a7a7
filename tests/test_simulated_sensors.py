"""The depth cameras of the simulation: what they make of a true depth image."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tracker.simulation.cameras import CAMERAS, CameraModel, random_camera, scaled
from tracker.simulation.sensing import sense

PERFECT = CameraModel(
    "perfect",
    CAMERAS["d435"].intrinsics,
    depth_scale=0.001,
    near=0.1,
    far=10.0,
    baseline=0.05,
    shadow=0.0,
    ragged=0.0,
    slant=1e6,
    reach=1e3,
    contrast=0.0,
    holes=0.0,
)
"""A camera that does nothing wrong: each test adds the one error it is about."""


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def square(near: float, far: float, size: int = 200) -> NDArray[np.float32]:
    """A square thing before a wall, which it covers the middle quarter of."""
    depth = np.full((size, size), far, np.float32)
    depth[size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = near
    return depth


def inside(image: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """The thing of `square`, without its outline."""
    size = len(image)
    return image[size // 4 + 8 : 3 * size // 4 - 8, size // 4 + 8 : 3 * size // 4 - 8]


@pytest.mark.parametrize("name", CAMERAS)
def test_each_camera_sees_a_thing_where_it_is_in_its_unit(name: str) -> None:
    model = CAMERAS[name]
    near = 0.6 if model.near < 0.55 else model.near + 0.1
    counts = sense(model, square(near, 1.0), rng())
    assert counts.dtype == np.uint16
    assert counts.shape == (200, 200)
    seen = inside(counts).astype(float) * model.depth_scale
    assert (seen > 0).mean() > 0.9
    assert np.median(seen[seen > 0]) == pytest.approx(near, abs=0.003)
    assert np.quantile(np.abs(seen[seen > 0] - near), 0.95) < 0.01


def test_a_camera_without_errors_gives_the_truth() -> None:
    model = replace(PERFECT, depth_scale=0.000125, far=8.0)
    depth = np.linspace(0.3, 2.0, 150 * 100, dtype=np.float32).reshape(100, 150)
    depth[:, 70:80] = 0
    counts = sense(model, depth, rng())
    assert np.abs(counts * model.depth_scale - depth).max() <= 0.51 * model.depth_scale


@pytest.mark.parametrize("name", ["d435", "kinect2", "sr305"])
def test_the_same_seed_gives_the_same_image_and_another_one_another(name: str) -> None:
    depth = square(0.6, 1.2)
    images = [sense(CAMERAS[name], depth, rng(seed)) for seed in (1, 1, 2)]
    assert (images[0] == images[1]).all()
    assert (images[0] != images[2]).mean() > 0.05


def test_the_steady_part_of_the_noise_stays_from_frame_to_frame() -> None:
    wall, frames = np.full((120, 160), 0.8, np.float32), rng()

    def likeness(steady: float) -> float:
        model = replace(PERFECT, jitter=0.2, steady=steady)
        one, two = (sense(model, wall, frames).astype(float).ravel() for _ in range(2))
        return float(np.corrcoef(one, two)[0, 1])

    assert abs(likeness(0.0)) < 0.2
    assert likeness(0.9) > 0.7


@pytest.mark.parametrize("name", ["d435", "d405", "d455", "sr305"])
def test_the_error_of_triangulation_grows_with_the_distance_squared(name: str) -> None:
    model = replace(CAMERAS[name], steps=0.0, smooth=0.0, median=0, reach=100.0, far=5.0, depth_scale=0.0001)

    def error(distance: float) -> float:
        seen = sense(model, np.full((200, 200), distance, np.float32), rng()) * model.depth_scale
        return float((seen[seen > 0] - distance).std())

    assert error(1.2) / error(0.4) == pytest.approx(9, rel=0.25)
    # The disparity's noise, from pixels to metres: z^2 / (focal length * baseline).
    pixels = model.jitter * 0.4**2 / (model.intrinsics.fx * abs(model.baseline))
    assert error(0.4) == pytest.approx(pixels, rel=0.25)


def test_disparity_comes_in_steps() -> None:
    model = replace(PERFECT, jitter=0.1, steps=32.0, depth_scale=0.0001, far=6.0)
    seen = sense(model, np.full((200, 200), 1.5, np.float32), rng()) * model.depth_scale
    disparity = model.intrinsics.fx * model.baseline / seen * 32
    assert np.abs(disparity - np.rint(disparity)).max() < 0.05
    assert len(np.unique(seen)) < 40


@pytest.mark.parametrize("name", CAMERAS)
def test_nothing_is_nearer_than_near_or_farther_than_far(name: str) -> None:
    model = replace(CAMERAS[name], salt=0.02, flying=0.5)
    ramp = np.repeat(np.linspace(0.02, 12, 240, dtype=np.float32)[None], 90, axis=0)
    counts = sense(model, ramp, rng())
    seen = counts[counts > 0] * model.depth_scale
    assert len(seen) > 0
    assert seen.min() >= model.near - 1e-9
    assert seen.max() <= model.far + 1e-9


def test_the_shadow_lies_left_of_near_things_or_right_where_the_light_comes_from_the_left() -> None:
    depth = square(0.5, 1.5)
    for baseline in (0.05, -0.05):
        holes = sense(replace(PERFECT, shadow=1.0, baseline=baseline), depth, rng())[60:140] == 0
        left, right = holes[:, :50].sum(1), holes[:, 150:].sum(1)
        # Disparity of the thing less that of the wall, in pixels; the matching forgives some.
        width = 385 * 0.05 * (1 / 0.5 - 1 / 1.5)
        full, none = (left, right) if baseline > 0 else (right, left)
        assert full.mean() == pytest.approx(width, abs=3)
        assert none.sum() == 0


def test_outlines_grow_or_are_eaten() -> None:
    depth = square(0.5, 1.5)

    def covered(outline: float) -> float:
        counts = sense(replace(PERFECT, outline=outline), depth, rng())
        return float(np.sqrt(((counts > 0) & (counts < 700)).sum()))

    assert covered(0.0) == pytest.approx(100, abs=0.7)
    assert covered(1.5) == pytest.approx(103, abs=1.2)
    assert covered(-1.5) == pytest.approx(97, abs=1.2)


def test_pixels_fly_between_both_sides_of_a_jump_only() -> None:
    depth = square(0.6, 1.2)
    counts = sense(replace(PERFECT, flying=0.6), depth, rng())
    between = (counts > 620) & (counts < 1180)
    assert 150 < between.sum() < 600
    rows, columns = np.nonzero(between)
    to_outline = np.minimum.reduce([np.abs(axis - edge) for axis in (rows, columns) for edge in (49.5, 149.5)])
    assert to_outline.max() < 2.5


def test_steep_and_far_surfaces_vanish() -> None:
    ramp = np.repeat(np.linspace(0.4, 0.7, 100, dtype=np.float32)[None], 100, axis=0)
    assert (sense(replace(PERFECT, slant=8.0), ramp, rng()) > 0).mean() > 0.99
    # 3 mm farther from pixel to pixel, which are 1.4 mm apart at 0.55 m.
    assert (sense(replace(PERFECT, slant=1.0), ramp, rng()) > 0).mean() < 0.05
    for distance, share in ((1.0, 1.0), (3.0, 0.0)):
        wall = np.full((100, 100), distance, np.float32)
        assert (sense(replace(PERFECT, reach=2.0), wall, rng()) > 0).mean() == pytest.approx(share, abs=0.05)


def test_windows_of_any_size_and_empty_images() -> None:
    model = replace(CAMERAS["kinect2"], median=5, fill=6.0)
    for shape in ((1, 1), (3, 7), (1200, 30)):
        assert sense(model, np.full(shape, 0.8, np.float32), rng()).shape == shape
    view = model.intrinsics
    nothing = sense(replace(model, salt=0.0), np.zeros((view.height, view.width), np.float32), rng())
    assert nothing.max() == 0


def test_a_scaled_camera_sees_what_is_left_of_the_full_image() -> None:
    model = CAMERAS["d435"]
    small = scaled(model, 0.25)
    assert (small.intrinsics.width, small.intrinsics.height) == (160, 120)
    corner = np.array([[0.2, -0.1, 0.7]])
    # Pixel (u, v) of the small image is the middle of 4 x 4 pixels.
    assert (small.intrinsics.project(corner) + 0.5) * 4 - 0.5 == pytest.approx(model.intrinsics.project(corner))
    full = sense(model, square(0.5, 1.0, 400), rng())[::4, ::4]
    coarse = sense(small, square(0.5, 1.0, 100), rng())
    assert inside(coarse)[inside(coarse) > 0].std() == pytest.approx(inside(full)[inside(full) > 0].std(), rel=0.3)
    assert (coarse == 0).mean() == pytest.approx((full == 0).mean(), abs=0.03)


def test_random_cameras_differ_and_all_of_them_work() -> None:
    dice, depth = rng(3), square(0.62, 1.0, 96)
    models = [random_camera(dice) for _ in range(150)]
    assert {model.name for model in models} == {*CAMERAS, "other"}
    assert len({model.depth_scale for model in models}) > 20
    shares = []
    for model in models:
        counts = sense(model, depth, dice)
        seen = inside(counts)
        shares.append((seen > 0).mean())
        middle = np.median(seen[seen > 0]) * model.depth_scale
        assert middle == pytest.approx(0.62, abs=0.02), model
    assert np.mean(shares) > 0.9
    assert min(shares) > 0.1


def test_the_same_random_camera_from_the_same_seed() -> None:
    assert random_camera(rng(5)) == random_camera(rng(5))


@pytest.mark.parametrize(
    ("change", "mend"),
    [
        ({"near": 2.0, "far": 1.0}, "near < far"),
        ({"depth_scale": 0.0}, "positive"),
        ({"depth_scale": 0.0001, "far": 7.0}, "lower far"),
        ({"median": 4}, "0, 3 or 5"),
        ({"flying": 1.5}, "from 0 to 1"),
    ],
)
def test_impossible_cameras_are_refused(change: dict[str, Any], mend: str) -> None:
    with pytest.raises(ValueError, match=mend):
        replace(PERFECT, **change)
