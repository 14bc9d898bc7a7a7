"""The segmentation network, its weights files and engines, and the hands that are made of its labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tracker import Tracker, TrackerConfig
from tracker.camera.frame import DepthFrame, Intrinsics
from tracker.engine.segmenting import Segment, open_segmenter
from tracker.errors import EngineError, WeightsError
from tracker.hand.cube import Cube
from tracker.network.segmenter import ARM, LEFT, RIGHT, Segmenter, SegmenterConfig
from tracker.network.weights import (
    find_weights,
    load_segmenter,
    load_weights,
    save_segmenter,
    save_weights,
    shipped_weights,
)
from tracker.tracking.belief import UNKNOWN_LIKENESS
from tracker.tracking.coarse import coarse_depth, coarse_grid, pick
from tracker.tracking.segmentation import FOREARM, forearm, full_mask, hands_in, heading, segment
from tracker.tracking.sight import BLIND_FRAMES, Expected, GeometricSight, Known, NetworkSight, Place, open_sight

TINY = SegmenterConfig(width=32, height=24, channels=(4, 8), deep=1)
SIZE = SegmenterConfig()
CAMERA = Intrinsics(640, 480, 500.0, 500.0, 320.0, 240.0)
CAMERAS = [
    CAMERA,
    Intrinsics(848, 480, 420.0, 420.0, 421.0, 243.0),
    Intrinsics(512, 424, 365.0, 365.0, 256.0, 212.0),
    Intrinsics(160, 120, 110.0, 110.0, 80.0, 60.0),
    Intrinsics(240, 640, 300.0, 300.0, 120.0, 320.0),
]


class Picture:
    """A frame before a wall at 2 m, with its true labels; a network that sees nothing but the truth."""

    def __init__(self) -> None:
        self.depth = np.full((480, 640), 2.0, np.float32)
        self.labels = np.zeros((480, 640), np.uint8)

    def disc(self, x: float, y: float, z: float, radius: float, label: int) -> Picture:
        """A disc that faces the camera, metres."""
        row, column = np.mgrid[:480, :640]
        u, v = CAMERA.project(np.array([x, y, z]))
        inside = (column - u) ** 2 + (row - v) ** 2 < (radius * CAMERA.fx / z) ** 2
        inside &= self.depth > z
        self.depth[inside], self.labels[inside] = z, label
        return self

    @property
    def frame(self) -> DepthFrame:
        return DepthFrame((self.depth * 1000).astype(np.uint16), 0.001, CAMERA, 0, 0, 0)

    @property
    def network(self) -> Segment:
        labels = pick(self.labels, coarse_grid(CAMERA, SIZE.width, SIZE.height))

        def sees(depth: NDArray[np.float32], focal: float) -> NDArray[np.float32]:
            return np.eye(4, dtype=np.float32)[labels].transpose(2, 0, 1)

        return sees


def blind(depth: NDArray[np.float32], focal: float) -> NDArray[np.float32]:
    """A network that sees no hand."""
    probability = np.zeros((4, *depth.shape), np.float32)
    probability[0] = 1
    return probability


def expected(x: float, y: float, z: float, side: str = "right") -> Expected:
    """A followed hand whose joints lie on a disc of 4 cm."""
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    ring = 0.04 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    joints = np.concatenate([[[0, 0, 0]], ring]) + np.array([x, y, z])
    return Expected(Cube((x, y, z), side="right" if side == "right" else "left"), joints.astype(np.float32))


def known(hand: Expected, place: Place) -> Known:
    """A followed hand that was found where it was expected."""
    return Known(hand.cube, hand.joints, place.mask)


def test_there_is_a_score_for_each_pixel_and_class() -> None:
    network = Segmenter(TINY).eval()
    depth = torch.rand(2, 24, 32) * (torch.rand(2, 24, 32) < 0.8)
    logits = network(depth, torch.tensor([20.0, 30.0]))
    assert logits.shape == (2, 4, 24, 32)
    assert torch.isfinite(logits).all()


def test_a_frame_takes_a_few_hundred_million_multiplications() -> None:
    network, products = Segmenter(SIZE).eval(), 0

    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal products
        products += output[0, 0].numel() * module.weight.numel()  # type: ignore[union-attr, operator]

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)  # type: ignore[arg-type]
    network(torch.ones(1, 144, 192), torch.tensor([150.0]))
    assert products < 250e6
    assert sum(parameter.numel() for parameter in network.parameters()) < 0.7e6


@pytest.mark.parametrize(
    "wrong", [{"width": 100}, {"channels": (8,)}, {"channels": (8, 0)}, {"deep": 0}, {"height": 0}]
)
def test_networks_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"want two levels|multiples of"):
        SegmenterConfig(**wrong)  # type: ignore[arg-type]


def test_weights_come_back_as_they_were_saved(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Segmenter(TINY).eval()
    save_segmenter(tmp_path / "w.safetensors", network, {"note": "x"})
    again = load_segmenter(tmp_path / "w.safetensors")
    depth, focal = torch.rand(1, 24, 32), torch.tensor([20.0])
    assert again.config == TINY
    assert not again.training
    assert again(depth, focal).allclose(network(depth, focal), atol=0.01)
    assert '"note": "x"' in (tmp_path / "w.json").read_text()


def test_weights_of_the_two_networks_are_not_mixed_up(tmp_path: Path) -> None:
    save_segmenter(tmp_path / "w.safetensors", Segmenter(TINY), {})
    with pytest.raises(WeightsError, match="another network"):
        load_weights(tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="another network"):
        load_segmenter(find_weights("v2v-lite"))
    assert "segmenter" not in shipped_weights()


def test_the_engines_say_the_same() -> None:
    torch.manual_seed(0)
    network = Segmenter(TINY).eval()
    depth = np.random.default_rng(0).uniform(0.3, 2, (24, 32)).astype(np.float32)
    given = [open_segmenter(network, engine)(depth, 30.0).copy() for engine in ("torch", "openvino", "auto")]
    assert given[0].shape == (4, 24, 32)
    assert given[0].sum(axis=0) == pytest.approx(1, abs=1e-3)
    assert np.abs(given[1] - given[0]).max() < 0.02
    assert np.abs(given[2] - given[0]).max() < 0.02


def test_weights_files_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    network = Segmenter(TINY).eval()
    torch.nn.init.constant_(network.head.weight, float("inf"))
    save_segmenter(tmp_path / "w.safetensors", network, {})
    with pytest.raises(WeightsError, match=r"not finite \(head.weight\).*train again"):
        load_segmenter(tmp_path / "w.safetensors")
    pose = load_weights(find_weights("v2v-lite"))
    torch.nn.init.constant_(next(pose.v2v.parameters()), float("nan"))
    save_weights(tmp_path / "v.safetensors", pose, {})
    with pytest.raises(WeightsError, match="not finite"):
        load_weights(tmp_path / "v.safetensors")


def test_damaged_weights_do_not_start() -> None:
    network = Segmenter(TINY).eval()
    torch.nn.init.constant_(network.head.weight, float("nan"))
    with pytest.raises(EngineError, match="not finite"):
        open_segmenter(network, "torch")


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: f"{camera.width}x{camera.height}")
def test_a_coarse_pixel_looks_where_its_pixel_looked(camera: Intrinsics) -> None:
    row, column = np.mgrid[: camera.height, : camera.width]
    grid = coarse_grid(camera, 192, 144)
    k = grid.intrinsics
    u, v = pick(column, grid)[grid.window], pick(row, grid)[grid.window]
    left, top = np.arange(k.width)[grid.window[1]], np.arange(k.height)[grid.window[0]]
    # Within a pixel of either image.
    limit = max(1.0, grid.step) / camera.fx
    assert np.abs((left - k.cx) / k.fx - (u - camera.cx) / camera.fx).max() < limit
    assert np.abs((top - k.cy)[:, None] / k.fy - (v - camera.cy) / camera.fy).max() < limit
    assert (len(grid.columns) == 192) or (len(grid.rows) == 144)
    assert grid.coarse_index(0, camera.width, grid.left)[grid.columns] == pytest.approx(left, abs=0.51)


def test_neighbours_stand_in_where_the_grid_hits_a_hole() -> None:
    frame = Picture().frame
    grid = coarse_grid(CAMERA, 192, 144)
    depth = frame.depth.copy()
    depth[grid.rows[:, None], grid.columns] = 0
    holes = DepthFrame(depth, 0.001, CAMERA, 0, 0, 0)
    assert coarse_depth(holes, grid) == pytest.approx(coarse_depth(frame, grid))


def test_hands_are_found_with_their_side_and_without_their_arm() -> None:
    picture = Picture().disc(-0.15, 0, 0.6, 0.05, RIGHT).disc(-0.2, 0.1, 0.62, 0.05, ARM).disc(0.2, 0, 0.8, 0.05, LEFT)
    image = segment(picture.frame, picture.network, SIZE)
    hands = sorted(hands_in(image), key=lambda hand: hand.center[0])
    assert [hand.side_odds > 2 for hand in hands] == [True, False]
    assert hands[1].side_odds < -2
    assert hands[0].center == pytest.approx((-0.15, 0, 0.61), abs=0.02)
    assert hands[1].center == pytest.approx((0.2, 0, 0.81), abs=0.02)
    assert hands[1].area == pytest.approx(np.pi * 0.05**2, rel=0.1)
    for hand, label in zip(hands, (RIGHT, LEFT)):
        mask, true = full_mask(image, hand, forearm(image, hand)) & (picture.labels != ARM), picture.labels == label
        assert (mask & true).sum() / (mask | true).sum() > 0.93
        assert not (mask & (picture.labels == 0)).any()  # the wall behind stays out, to the pixel


def test_of_its_own_forearm_a_hand_keeps_what_is_next_to_it() -> None:
    picture = Picture().disc(0, 0, 0.6, 0.05, RIGHT).disc(0.3, 0, 0.6, 0.03, ARM)
    for step in range(10):
        picture.disc(0, 0.06 + 0.02 * step, 0.6, 0.02, ARM)
    picture.disc(-0.06, 0, 0.69, 0.03, ARM)  # beside it in the image, but behind
    picture.disc(0.06, 0, 0.645, 0.03, ARM)  # nearer, but another arm that passes by
    frame = picture.frame
    image = segment(frame, picture.network, SIZE)
    (hand,) = hands_in(image)
    kept = full_mask(image, hand, forearm(image, hand)) & (picture.labels == ARM)
    points = frame.points()
    assert points[kept][:, 1].max() == pytest.approx(0.05 + FOREARM, abs=0.008)
    assert points[kept][:, 2].max() < 0.61
    near = (picture.labels == ARM) & (points[..., 1] < 0.1) & (points[..., 1] > 0.05)
    assert kept[near].mean() > 0.95
    way = heading(image, hand, forearm(image, hand))
    assert way is not None
    assert -way[1] > 0.95 * np.linalg.norm(way)
    assert heading(image, hand, forearm(image, hand)[:4]) is None  # so little may be anything


def test_a_near_hand_fills_its_mask() -> None:
    picture = Picture().disc(0, 0, 0.2, 0.06, RIGHT)
    image = segment(picture.frame, picture.network, SIZE)
    mask, true = full_mask(image, hands_in(image)[0], forearm(image, hands_in(image)[0])), picture.labels == RIGHT
    assert (mask & true).sum() / (mask | true).sum() > 0.95


def test_hands_that_touch_are_two() -> None:
    picture = Picture().disc(-0.04, 0, 0.6, 0.05, RIGHT).disc(0.04, 0, 0.605, 0.05, LEFT)
    hands = hands_in(segment(picture.frame, picture.network, SIZE))
    assert sorted(hand.side_odds > 0 for hand in hands) == [False, True]


def test_a_finger_before_its_palm_is_of_the_same_hand_and_neither_specks_nor_heads_are_hands() -> None:
    picture = Picture().disc(0, 0, 0.6, 0.05, RIGHT).disc(0.01, 0.01, 0.52, 0.012, RIGHT)
    picture.disc(0.3, 0.1, 0.7, 0.01, LEFT)
    picture.disc(-0.6, 0.1, 1.9, 0.02, LEFT)  # large enough, but few pixels
    picture.disc(-0.2, -0.1, 0.7, 0.13, LEFT)  # as large as a head
    hands = hands_in(segment(picture.frame, picture.network, SIZE))
    assert len(hands) == 1
    assert hands[0].points[:, 2].min() < 0.53


def test_a_followed_hand_is_given_its_own_pixels() -> None:
    picture = Picture().disc(-0.04, 0, 0.6, 0.05, RIGHT).disc(0.05, 0, 0.6, 0.05, LEFT)
    sight = NetworkSight(picture.network, SIZE)
    places = sight.follow(picture.frame, [expected(0.05, 0, 0.6, "left"), expected(-0.04, 0, 0.6)])
    assert places[0].side_odds < -2
    assert places[1].side_odds > 2
    assert not (places[0].mask & places[1].mask).any()
    assert (places[1].mask & (picture.labels == LEFT)).sum() < 0.05 * places[1].mask.sum()


def test_two_followed_hands_that_are_seen_as_one_share_its_pixels() -> None:
    picture = Picture().disc(-0.045, 0, 0.6, 0.05, RIGHT).disc(0.045, 0, 0.6, 0.05, RIGHT)
    places = NetworkSight(picture.network, SIZE).follow(
        picture.frame, [expected(-0.045, 0, 0.6), expected(0.045, 0, 0.6, "left")]
    )
    assert [place.side_odds for place in places] == [0, 0]
    columns = [np.nonzero(place.mask.any(axis=0))[0] for place in places]
    assert columns[0].max() < columns[1].min() + 12
    assert places[0].mask.sum() == pytest.approx(places[1].mask.sum(), rel=0.1)


def test_the_cube_goes_after_a_hand_that_moved_away() -> None:
    picture = Picture().disc(0.1, 0, 0.6, 0.05, RIGHT)
    sight = NetworkSight(picture.network, SIZE)
    near, far = (sight.follow(picture.frame, [expected(x, 0, 0.6)])[0] for x in (0.08, 0.0))
    assert near.center == pytest.approx((0.08, 0, 0.6))
    assert far.center == pytest.approx((0.1, 0, 0.61), abs=0.01)


def test_geometry_stands_in_where_the_network_is_blind() -> None:
    picture = Picture().disc(0.1, 0, 0.6, 0.05, RIGHT)
    hand = expected(0.1, 0, 0.6)
    seen = NetworkSight(blind, SIZE).follow(picture.frame, [hand])[0]
    assert seen.mask.sum() > 1000
    assert (seen.mask == GeometricSight().follow(picture.frame, [hand])[0].mask).all()
    assert seen.side_odds == 0


def test_a_search_finds_a_further_hand_once_it_was_seen_twice() -> None:
    picture = Picture().disc(-0.15, 0, 0.6, 0.05, RIGHT).disc(0.15, 0, 0.6, 0.05, LEFT)
    sight = NetworkSight(picture.network, SIZE)
    for number in range(2):
        frame = picture.frame
        place = sight.follow(frame, [expected(-0.15, 0, 0.6)])[0]
        found = sight.search(frame, 2, [known(expected(-0.15, 0, 0.6), place)])
        assert len(found) == number
    assert found[0].side_odds < 0
    assert found[0].center == pytest.approx((0.15, 0, 0.61), abs=0.02)
    assert len(NetworkSight(picture.network, SIZE).search(frame, 2, [])) == 2


def test_a_hand_that_touches_a_known_one_is_looked_for_beyond_its_joints() -> None:
    both = Picture().disc(-0.05, 0, 0.6, 0.05, RIGHT).disc(0.06, 0, 0.6, 0.05, RIGHT)
    one = Picture().disc(-0.05, 0, 0.6, 0.05, RIGHT)
    for picture, number in ((both, 1), (one, 0)):
        sight = NetworkSight(picture.network, SIZE)
        for _ in range(2):
            frame, hand = picture.frame, expected(-0.05, 0, 0.6)
            (place,) = sight.follow(frame, [hand])
            found = sight.search(frame, 2, [known(hand, place)])
        assert len(found) == number
        if found:
            assert place.mask[240, 370]  # both were seen as one
            assert found[0].center == pytest.approx((0.065, 0, 0.61), abs=0.015)
            assert found[0].side_odds == 0
            own = found[0].mask & (both.frame.points()[..., 0] < -0.02)
            assert not own.any()


def test_likeness_is_how_much_the_surface_about_the_bones_looks_like_a_hand() -> None:
    picture = Picture().disc(-0.15, 0, 0.6, 0.05, RIGHT).disc(0.15, 0, 0.6, 0.05, ARM)
    sight = NetworkSight(picture.network, SIZE)
    frame = picture.frame
    sight.follow(frame, [])
    places = ((-0.15, 0, 0.6), (0.15, 0, 0.6), (0, 0, 1))
    hand, arm, nothing = (sight.likeness(frame, expected(*place).joints) for place in places)
    assert hand > 0.8
    assert arm < 0.2
    assert nothing == 0
    assert GeometricSight().likeness(frame, expected(0.15, 0, 0.6).joints) == UNKNOWN_LIKENESS


def test_another_stream_has_a_past_of_its_own() -> None:
    picture = Picture().disc(-0.15, 0, 0.6, 0.05, RIGHT).disc(0.15, 0, 0.6, 0.05, LEFT)
    sight = NetworkSight(picture.network, SIZE)
    sight.search(picture.frame, 2, [])
    sight.reset()
    frame = picture.frame
    place = sight.follow(frame, [expected(-0.15, 0, 0.6)])[0]
    assert sight.search(frame, 2, [known(expected(-0.15, 0, 0.6), place)]) == []


def test_a_tracker_that_is_reset_forgets_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    with Tracker(engine="torch", device="cpu", config=TrackerConfig(segmentation="geometric")) as tracker:
        forgotten: list[bool] = []
        monkeypatch.setattr(tracker._sight, "reset", lambda: forgotten.append(True))
        tracker.reset()
    assert forgotten == [True]


def test_an_image_that_is_all_surface_holds_no_hand(recwarn: pytest.WarningsRecorder) -> None:
    assert GeometricSight().search(Picture().frame, 2, []) == []
    assert not recwarn.list


def test_geometry_is_asked_while_nothing_believable_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def count(frame: DepthFrame, most: int, cubes: object) -> list[object]:
        asked.append(frame)
        return []

    monkeypatch.setattr("tracker.tracking.sight.find_hands", count)
    doubtful = Picture().disc(0, 0, 0.6, 0.017, RIGHT)
    assert len(hands_in(segment(doubtful.frame, doubtful.network, SIZE))) == 1
    sight = NetworkSight(doubtful.network, SIZE)
    for _ in range(BLIND_FRAMES + 1):
        assert sight.search(doubtful.frame, 2, []) == []
    assert len(asked) == 2
    # One that is followed is a hand.
    sight.reset()
    place = sight.follow(doubtful.frame, [expected(0, 0, 0.6)])[0]
    sight.search(doubtful.frame, 2, [known(expected(0, 0, 0.6), place)])
    assert len(asked) == 2
    # Nor is it asked more often where a thing is now taken for a hand and now not.
    clear = Picture().disc(0, 0, 0.6, 0.05, RIGHT)
    sight = NetworkSight(lambda depth, focal: (clear if number % 2 else doubtful).network(depth, focal), SIZE)
    for number in range(BLIND_FRAMES + 3):
        sight.search((clear if number % 2 else doubtful).frame, 2, [])
    assert len(asked) == 4


def test_nobody_has_two_right_hands() -> None:
    picture = Picture().disc(-0.1, 0, 0.6, 0.05, RIGHT).disc(0.1, 0, 0.6, 0.03, RIGHT).disc(0.25, 0, 0.6, 0.03, LEFT)
    found = NetworkSight(picture.network, SIZE).search(picture.frame, 3, [])
    assert [round(float(place.center[0]), 1) for place in found] == [-0.1, pytest.approx(0.25, abs=0.06)]


def test_ways_to_see_are_opened_by_name(tmp_path: Path) -> None:
    assert isinstance(open_sight("geometric"), GeometricSight)
    save_segmenter(tmp_path / "own.safetensors", Segmenter(TINY), {})
    assert isinstance(open_sight(str(tmp_path / "own.safetensors"), "torch"), NetworkSight)
    for wrong in ("nonsense", ""):
        with pytest.raises(WeightsError, match=f"no segmentation '{wrong}': give network, geometric"):
            open_sight(wrong)


def test_the_way_to_see_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", logger="tracker"):
        open_sight("geometric")
        open_sight("network", "torch")
    assert [record.getMessage() for record in caplog.records] == [
        "segmentation: geometric",
        "segmentation: network (segmenter.safetensors)",
    ]
