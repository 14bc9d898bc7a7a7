"""Where the hands of a frame are and which pixels are theirs: two ways to see it, by a network and by geometry."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from tracker.camera.frame import DepthFrame
from tracker.engine.segmenting import Segment, open_segmenter
from tracker.errors import WeightsError
from tracker.hand.cube import Cube
from tracker.network.segmenter import LEFT, RIGHT, SegmenterConfig
from tracker.network.weights import load_segmenter, shipped_segmenter
from tracker.tracking.belief import UNKNOWN_LIKENESS
from tracker.tracking.finder import find_hands
from tracker.tracking.flesh import flesh_points, squared_distances
from tracker.tracking.regions import isolate
from tracker.tracking.segmentation import (
    SMALLEST,
    Segmented,
    SegmentedHand,
    forearm,
    full_mask,
    hands_in,
    heading,
    largest_piece,
    part,
    segment,
)

log = logging.getLogger(__name__)

Mask = NDArray[np.bool_]
"""(height, width): some pixels of a frame."""

GATE: Final = 0.15
"""Metres from where a followed hand is expected within which a seen hand may be it."""
OTHER_SIDE: Final = 0.06
"""Metres that a seen hand of the other side counts as further away."""
OFF: Final = 0.06
"""Metres from the expected place from which on the cube goes to where the hand is seen."""
OVERLAP: Final = 0.5
"""A seen hand is known if at least this share of it belongs to a known one."""
NEW_AREA: Final = 0.0012
"""Square metres that a hand shows at least that is not followed yet."""
BEYOND: Final = 0.03
"""Metres from the bones of a known hand from which on a surface is not its own."""
LEFT_AREA: Final = 0.0025
"""Square metres of such a surface that may be another hand, which touches the known one."""
AROUND: Final = 0.15
"""Metres from the middle of a hand within which its surface lies."""
ONE_PERSON: Final = 0.35
"""Metres within which a second hand of the same side is not believed: nobody has two right hands."""
CLEAR_ODDS: Final = 1.0
"""Log odds from which a side is clear."""
AGAIN: Final = 0.1
"""A hand beside known ones is new only if one was seen this near (metres) in the frame before."""
BLIND_FRAMES: Final = 15
"""Geometry is asked in one of so many searches at most, and only where the network sees no hand that could be one to
follow."""


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A hand in a frame.

    center: (3,) float, metres, camera frame: about the middle of its joints. mask: (height, width) bool, its pixels.
    side_odds: log odds that it is a right hand, 0 where that is not known.
    heading: from the forearm to the hand, (3,) metres, camera frame; None where no forearm is seen.
    """

    center: NDArray[np.floating]
    mask: NDArray[np.bool_]
    side_odds: float
    heading: NDArray[np.floating] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """A hand that was found in the frame: the cube it is in, its joints (21, 3) metres, camera frame, and the mask of
    its place, which may show another hand as well.
    """

    cube: Cube
    joints: NDArray[np.float32]
    mask: Mask


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """A followed hand: the cube it should be in, and its joints (21, 3) metres, camera frame."""

    cube: Cube
    joints: NDArray[np.float32]


class Sight(ABC):
    """One way to see hands. Frames come in the order of a stream, `follow` before `search`."""

    @abstractmethod
    def reset(self) -> None:
        """Forget what was seen, as before another stream."""

    @abstractmethod
    def follow(self, frame: DepthFrame, hands: Sequence[Expected]) -> list[Place]:
        """Where hands that are followed are now, one place for each."""

    @abstractmethod
    def search(self, frame: DepthFrame, most: int, known: Sequence[Known]) -> list[Place]:
        """At most `most` other hands in the whole image, the surest first.

        known: those that were found already.
        """

    @abstractmethod
    def likeness(self, frame: DepthFrame, joints: NDArray[np.float32]) -> float:
        """How much the surface about a hand's joints (21, 3), metres, camera frame, looks like a hand's, 0..1."""


class GeometricSight(Sight):
    """By the shapes of palms, fingers and arms: see `finder` and `regions`."""

    def reset(self) -> None:
        """Nothing: each frame is seen for itself."""

    def follow(self, frame: DepthFrame, hands: Sequence[Expected]) -> list[Place]:
        """See `Sight`."""
        return [_isolated(frame, hand) for hand in hands]

    def search(self, frame: DepthFrame, most: int, known: Sequence[Known]) -> list[Place]:
        """See `Sight`."""
        return [
            Place(region.center, region.mask, 0.0, None if region.arm is None else -region.arm)
            for region in find_hands(frame, most, [hand.cube for hand in known])
        ]

    def likeness(self, frame: DepthFrame, joints: NDArray[np.float32]) -> float:
        """See `Sight`; by shape alone, that is not known."""
        return UNKNOWN_LIKENESS


class NetworkSight(Sight):
    """By the segmentation network. Where it sees nothing of a followed hand, geometry stands in; now and then too while
    it sees none that could be one to follow.
    """

    def __init__(self, network: Segment, config: SegmenterConfig) -> None:
        self._network, self._config = network, config
        self.reset()

    def reset(self) -> None:
        """See `Sight`."""
        self._rest = 0
        self._frame: DepthFrame | None = None
        self._before: list[SegmentedHand] = []
        self._seen: tuple[Segmented, list[SegmentedHand]] | None = None

    def _look(self, frame: DepthFrame) -> tuple[Segmented, list[SegmentedHand]]:
        """What is seen in a frame; the network runs once for each."""
        if self._seen is None or self._frame is not frame:
            self._before = self._seen[1] if self._seen else []
            self._frame = frame
            image = segment(frame, self._network, self._config)
            self._seen = image, hands_in(image)
        return self._seen

    def follow(self, frame: DepthFrame, hands: Sequence[Expected]) -> list[Place]:
        """See `Sight`."""
        image, seen = self._look(frame)
        places = []
        for expected, own in zip(hands, _shared_out(image, seen, hands)):
            if own is None:
                places.append(_isolated(frame, expected))
                continue
            center = np.asarray(expected.cube.center)
            off = float(np.linalg.norm(own.center - center)) > OFF
            places.append(_seen(image, own, own.center if off else center))
        return places

    def search(self, frame: DepthFrame, most: int, known: Sequence[Known]) -> list[Place]:
        """See `Sight`."""
        image, seen = self._look(frame)
        large = [hand for hand in seen if hand.area > NEW_AREA]
        followed = [hand for hand in seen if any(_covered(image, hand, one.mask) > OVERLAP for one in known)]
        # A thing that is never believed to be a hand may be in the image for ever: it is no sign that hands are seen.
        self._rest = max(self._rest - 1, 0)
        if not (large or followed or self._rest):
            self._rest = BLIND_FRAMES
            return GeometricSight().search(frame, most, known)
        new = [hand for hand in large if all(hand is not other for other in followed)]
        new = [hand for hand in new if not any(_surpasses(other, hand) for other in seen)]
        new += _left_over(image, followed, known)
        if known:
            new = [hand for hand in new if any(_apart(hand, earlier) < AGAIN for earlier in self._before)]
        return [_seen(image, hand, hand.center) for hand in new[:most]]

    def likeness(self, frame: DepthFrame, joints: NDArray[np.float32]) -> float:
        """See `Sight`: the mean probability of a hand within `BEYOND` of the bones, 0 where no surface is."""
        image, _ = self._look(frame)
        middle = joints.mean(axis=0)
        window = _window(image, middle)
        points = image.points[window]
        near = (points[..., 2] > 0) & (np.abs(points - middle) < AROUND).all(axis=-1)
        about = squared_distances(points[near], flesh_points(joints)) < BEYOND**2
        hand = (image.probability[RIGHT][window] + image.probability[LEFT][window])[near][about]
        return float(hand.mean()) if len(hand) else 0.0


def open_sight(segmentation: str, engine: str = "auto", threads: int | None = None) -> Sight:
    """segmentation: `network` for the shipped weights, a weights file, or `geometric`. engine, threads: see
    `open_segmenter`. Raises WeightsError.
    """
    if segmentation == "geometric":
        log.debug("segmentation: geometric")
        return GeometricSight()
    path = shipped_segmenter() if segmentation == "network" else Path(segmentation)
    if segmentation != "network" and not path.is_file():
        raise WeightsError(f"no segmentation {segmentation!r}: give network, geometric, or a .safetensors file")
    network = load_segmenter(path)
    log.debug("segmentation: network (%s)", path.name if segmentation == "network" else path)
    return NetworkSight(open_segmenter(network, engine, threads), network.config)


def _seen(image: Segmented, hand: SegmentedHand, center: NDArray[np.floating]) -> Place:
    arm = forearm(image, hand)
    return Place(center, full_mask(image, hand, arm), hand.side_odds, heading(image, hand, arm))


def _window(image: Segmented, middle: NDArray[np.float32]) -> tuple[slice, slice]:
    """Rows and columns of the coarse image that show what is within `AROUND` of a point (3,), metres, camera frame."""
    k, (height, width) = image.grid.intrinsics, image.depth.shape
    z = max(float(middle[2]), 2 * AROUND)
    corners = middle + AROUND * np.array([(x, y, d) for x in (-1, 1) for y in (-1, 1) for d in (-1, 1)])
    corners[:, 2] = np.where(corners[:, 2] > middle[2], z + AROUND, z - AROUND)
    pixels = k.project(corners)
    left, top = np.clip(np.floor(pixels.min(axis=0)), 0, (width, height)).astype(int)
    right, bottom = np.clip(np.ceil(pixels.max(axis=0)) + 1, 0, (width, height)).astype(int)
    return slice(top, bottom), slice(left, right)


def _isolated(frame: DepthFrame, hand: Expected) -> Place:
    return Place(np.asarray(hand.cube.center), isolate(frame, hand.cube, hand.joints), 0.0)


def _apart(one: SegmentedHand, other: SegmentedHand) -> float:
    return float(np.linalg.norm(one.center - other.center))


def _surpasses(one: SegmentedHand, other: SegmentedHand) -> bool:
    """Whether the first is so clearly the person's hand of that side that the second cannot be."""
    same = one.side_odds * other.side_odds > 0 and min(abs(one.side_odds), abs(other.side_odds)) > CLEAR_ODDS
    return same and one.area * one.score > 2 * other.area * other.score and _apart(one, other) < ONE_PERSON


def _covered(image: Segmented, hand: SegmentedHand, mask: NDArray[np.bool_]) -> float:
    """The share of a hand's coarse pixels that lie in a mask of the frame."""
    grid = image.grid
    row, column = hand.pixels.T
    return float(mask[grid.rows[row - grid.top], grid.columns[column - grid.left]].mean())


def _left_over(image: Segmented, seen: Sequence[SegmentedHand], known: Sequence[Known]) -> list[SegmentedHand]:
    """Of seen hands that are known, what is too far from the joints of these to be theirs: hands that touch them."""
    if not known:
        return []
    flesh = np.concatenate([flesh_points(hand.joints) for hand in known])
    rest = []
    for hand in seen:
        beyond = squared_distances(hand.points, flesh) > BEYOND**2
        piece = largest_piece(image, hand, beyond)
        if piece is not None and piece.area > LEFT_AREA:
            # What is seen as one thing says nothing of two sides.
            rest.append(replace(piece, side_odds=0.0))
    return rest


def _shared_out(
    image: Segmented, seen: Sequence[SegmentedHand], hands: Sequence[Expected]
) -> list[SegmentedHand | None]:
    """Which of the seen hands each followed one is; two that are seen as one share its pixels."""
    if not seen or not hands:
        return [None] * len(hands)
    cost = np.array([[_cost(expected, one) for one in seen] for expected in hands])
    owner: dict[int, list[int]] = {}
    rows, columns = linear_sum_assignment(np.minimum(cost, 2 * GATE))
    taken = dict(zip(rows.tolist(), columns.tolist()))
    for number in range(len(hands)):
        index = taken.get(number)
        if index is None or cost[number, index] > GATE:
            # Another may have been given what is seen of both.
            index = int(cost[number].argmin())
        if cost[number, index] <= GATE:
            owner.setdefault(index, []).append(number)
    result: list[SegmentedHand | None] = [None] * len(hands)
    for index, numbers in owner.items():
        if len(numbers) == 1:
            result[numbers[0]] = seen[index]
            continue
        points = seen[index].points
        away = np.stack([squared_distances(points, hands[number].joints) for number in numbers])
        for place, number in enumerate(numbers):
            chosen = away.argmin(axis=0) == place
            share = part(image, seen[index], chosen) if chosen.any() else None
            # What is seen as one thing says nothing of two sides.
            result[number] = replace(share, side_odds=0.0) if share is not None and share.area > SMALLEST else None
    return result


def _cost(expected: Expected, hand: SegmentedHand) -> float:
    """Metres between a followed and a seen hand, with what their sides say."""
    away = float(np.linalg.norm(hand.center - np.asarray(expected.cube.center)))
    right = expected.cube.side == "right"
    against = -hand.side_odds if right else hand.side_odds
    return away + OTHER_SIDE * float(np.tanh(max(against, 0.0)))
