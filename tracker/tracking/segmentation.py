"""Hands in a depth image, as the segmentation network sees them: where, which pixels, and which side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from tracker.camera.frame import DepthFrame
from tracker.engine.segmenting import Segment
from tracker.network.segmenter import ARM, LEFT, RIGHT, SegmenterConfig
from tracker.tracking.coarse import Grid, coarse_depth, coarse_grid

FLESH: Final = 0.01
"""Metres from the visible surface to the middle of the hand."""
SAME_COARSE: Final = 0.04
"""Metres between neighbouring coarse pixels of one surface."""
SMALLEST: Final = 0.0008
"""Square metres: what is less is no hand, but may be a part of one."""
WIDEST: Final = 0.04
"""Square metres: what is more is no hand. A large one that is spread before the camera has 0.02."""
FEWEST: Final = 12
"""Coarse pixels: fewer are noise, whatever their area far away."""
LARGEST: Final = 0.13
"""Metres: pieces further than this from the middle of a hand are not of it."""
OWN_SIDE: Final = 0.3
"""A piece near a hand is another hand if it is of the other side and at least this share as large."""
CLEAR_SIDES: Final = 1.0
"""And if its side and the hand's, -1 (left) to 1 (right), differ at least so much, of 2."""
SAME_DEPTH: Final = 0.025
"""Metres (and 1 % of the depth) by which a pixel may differ from the coarse one whose label it takes."""
MOST_ODDS: Final = 4.0
"""Log odds of a side that one image can give: its pixels are all alike."""
FOREARM: Final = 0.06
"""Metres of the forearm that stay with a hand, for they show which way it points: without any, a fist may be turned
round (measured in docs/tracking.md)."""
APART: Final = 0.03
"""Metres between the middles of a hand and its forearm from which on they show which way it points."""
WINDOW_PIXELS: Final = 160
"""Rows or columns above which a hand's window is thinned out."""


@dataclass(frozen=True, slots=True, eq=False)
class Segmented:
    """A coarse depth image and what the network says of it.

    depth: (H, W) float32, metres, 0 = no reading. probability: (4, H, W) float32 of else, right, left, arm.
    points: (H, W, 3) float32, metres, camera frame.
    """

    frame: DepthFrame
    grid: Grid
    depth: NDArray[np.float32]
    probability: NDArray[np.float32]
    points: NDArray[np.float32]

    @property
    def labels(self) -> NDArray[np.uint8]:
        """(H, W) uint8, the likeliest class of each coarse pixel, 0 (else) where there is no reading."""
        return np.where(self.depth > 0, self.probability.argmax(axis=0), 0).astype(np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class SegmentedHand:
    """A hand that the network sees.

    pixels: (n, 2) int, row and column in the coarse image. points: (n, 3) float32, metres, camera frame: the same.
    center: (3,) float32, metres, camera frame: the middle of the hand, 1 cm behind the visible surface.
    side_odds: log odds that it is a right hand. score: 0..1, mean probability that its pixels are a hand's.
    area: square metres, of its surface as the camera sees it.
    """

    pixels: NDArray[np.int64]
    points: NDArray[np.float32]
    center: NDArray[np.float32]
    side_odds: float
    score: float
    area: float


def segment(frame: DepthFrame, network: Segment, config: SegmenterConfig) -> Segmented:
    """Run the segmentation network on a frame."""
    grid = coarse_grid(frame.intrinsics, config.width, config.height)
    depth = coarse_depth(frame, grid)
    probability = network(depth, grid.intrinsics.fx)
    k = grid.intrinsics
    x = ((np.arange(k.width) - k.cx) / k.fx).astype(np.float32)
    y = ((np.arange(k.height) - k.cy) / k.fy).astype(np.float32)
    points = np.stack([depth * x, depth * y[:, None], depth], axis=-1)
    return Segmented(frame, grid, depth, probability, points)


def hands_in(image: Segmented) -> list[SegmentedHand]:
    """The hands in an image, the largest and surest first.

    Pixels that are more likely a hand's than not fall into pieces that hang together, in the image and in depth, and
    are of one side; pieces near one another are one hand unless their sides say otherwise.
    """
    right, left = image.probability[RIGHT], image.probability[LEFT]
    row, column = np.nonzero((right + left > 0.5) & (image.depth > 0))
    if len(row) == 0:
        return []
    # One pixel says little of the side: its neighbours are asked, too.
    difference = cv2.blur(np.where(image.depth > 0, right - left, np.float32(0)), (9, 9))
    pixels = np.stack([row, column], axis=1)
    piece = _pieces(image.depth, pixels, difference[row, column] > 0)
    points = image.points[row, column]
    area = (points[:, 2] / image.grid.intrinsics.fx) ** 2
    hand = _joined(piece, points, area, (right - left)[row, column])
    found = [_hand(image, pixels[hand == number], points[hand == number]) for number in range(hand.max() + 1)]
    plausible = [one for one in found if SMALLEST < one.area < WIDEST and len(one.pixels) >= FEWEST]
    return sorted(plausible, key=lambda one: -one.score * min(one.area, 0.006))


def _pieces(depth: NDArray[np.float32], pixels: NDArray[np.int64], side: NDArray[np.bool_]) -> NDArray[np.integer]:
    """The number of the connected piece of each pixel (n, 2)."""
    number = np.full(depth.shape, -1, np.int64)
    row, column = pixels.T
    number[row, column] = np.arange(len(pixels))
    starts, ends = [], []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        inside = (row + down < depth.shape[0]) & (column + right < depth.shape[1]) & (column + right >= 0)
        here = np.nonzero(inside)[0]
        there = number[row[here] + down, column[here] + right]
        here, there = here[there >= 0], there[there >= 0]
        gap = np.abs(depth[row[here], column[here]] - depth[row[there], column[there]])
        joined = (gap < SAME_COARSE) & (side[here] == side[there])
        starts.append(here[joined])
        ends.append(there[joined])
    start, end = np.concatenate(starts), np.concatenate(ends)
    graph = coo_array((np.ones(len(start), np.bool_), (start, end)), shape=(len(pixels), len(pixels)))
    piece: NDArray[np.integer] = connected_components(graph, directed=False)[1]
    return piece


def _joined(
    piece: NDArray[np.integer], points: NDArray[np.float32], area: NDArray[np.float32], side: NDArray[np.float32]
) -> NDArray[np.int64]:
    """The number of the hand of each pixel: pieces, the largest first, that come together or found a hand."""
    size = np.bincount(piece, area)
    middle = np.stack([np.bincount(piece, area * points[:, axis]) / size for axis in range(3)], axis=1)
    sides = np.bincount(piece, area * side) / size
    hand_of_piece = np.zeros(len(size), np.int64)
    heads: list[int] = []
    for number in np.argsort(-size):
        best, nearest = -1, LARGEST
        for index, head in enumerate(heads):
            differ = abs(sides[number] - sides[head]) > CLEAR_SIDES
            other = differ and size[number] > max(OWN_SIDE * size[head], SMALLEST)
            away = float(np.linalg.norm(middle[number] - middle[head]))
            if not other and away < nearest:
                best, nearest = index, away
        if best < 0:
            best = len(heads)
            heads.append(int(number))
        hand_of_piece[number] = best
    return hand_of_piece[piece]


def _hand(image: Segmented, pixels: NDArray[np.int64], points: NDArray[np.float32]) -> SegmentedHand:
    row, column = pixels.T
    right, left = (float(image.probability[side, row, column].sum()) + 0.5 for side in (RIGHT, LEFT))
    # Each pixel counts by the surface that it shows.
    weight = points[:, 2] ** 2
    middle = np.average(points, axis=0, weights=weight)
    return SegmentedHand(
        pixels=pixels,
        points=points,
        center=(middle * (1 + FLESH / np.linalg.norm(middle))).astype(np.float32),
        side_odds=float(np.clip(math.log(right / left), -MOST_ODDS, MOST_ODDS)),
        score=(right + left - 1) / len(pixels),
        area=float(weight.sum()) / image.grid.intrinsics.fx**2,
    )


def part(image: Segmented, hand: SegmentedHand, chosen: NDArray[np.bool_]) -> SegmentedHand:
    """Some of a hand's pixels, as a hand of its own. chosen: (n,) bool, at least one of them True."""
    return _hand(image, hand.pixels[chosen], hand.points[chosen])


def largest_piece(image: Segmented, hand: SegmentedHand, chosen: NDArray[np.bool_]) -> SegmentedHand | None:
    """Of some of a hand's pixels, (n,) bool, those that hang together and show most, as a hand of its own."""
    numbers = np.nonzero(chosen)[0]
    if len(numbers) < FEWEST:
        return None
    piece = _pieces(image.depth, hand.pixels[numbers], np.zeros(len(numbers), np.bool_))
    largest = numbers[piece == np.bincount(piece).argmax()]
    return _hand(image, hand.pixels[largest], hand.points[largest]) if len(largest) >= FEWEST else None


def forearm(image: Segmented, hand: SegmentedHand) -> NDArray[np.int64]:
    """The coarse pixels (n, 2) of the arm within `FOREARM` of a hand."""
    row, column = np.nonzero((image.probability[ARM] > 0.5) & (image.depth > 0))
    points = image.points[row, column]
    near = (np.abs(points - hand.center) < LARGEST).all(axis=1)
    row, column, points = row[near], column[near], points[near]
    if len(points) == 0:
        return np.empty((0, 2), np.int64)
    away = KDTree(hand.points).query(points, distance_upper_bound=FOREARM)[0]
    arm = np.stack([row, column], axis=1)[away < FOREARM]
    # Another arm may pass by; where an arm hangs together with the hand, that one is its own.
    piece = _pieces(image.depth, np.concatenate([hand.pixels, arm]), np.zeros(len(hand.pixels) + len(arm), np.bool_))
    own = np.isin(piece[len(hand.pixels) :], piece[: len(hand.pixels)])
    return arm[own] if own.any() else arm


def heading(image: Segmented, hand: SegmentedHand, arm: NDArray[np.int64]) -> NDArray[np.floating] | None:
    """From the middle of a hand's forearm (its pixels, see `forearm`) to the middle of the hand, (3,) metres, camera
    frame; None if too little of the forearm is seen, or all about the hand.
    """
    if len(arm) < FEWEST:
        return None
    way: NDArray[np.floating] = hand.center - image.points[arm[:, 0], arm[:, 1]].mean(axis=0)
    return way if np.linalg.norm(way) > APART else None


def full_mask(image: Segmented, hand: SegmentedHand, arm: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(height, width) bool: the pixels of a hand and of its forearm (see `forearm`), at full resolution.

    A pixel is asked for among the four coarse pixels around it, as far as they lie as deep as itself, the nearer ones
    counting for more (joint bilateral upsampling, Kopf et al. 2007).
    """
    frame, grid = image.frame, image.grid
    mask = np.zeros(frame.depth.shape, np.bool_)
    row, column = np.concatenate([hand.pixels, arm]).T
    own = np.zeros(image.depth.shape, np.float32)
    own[row, column] = 1
    # The window of these and a coarse pixel around them, in pixels of the frame.
    height, width = frame.depth.shape
    top, bottom = _full_range(row, grid.top, grid.step, height)
    left, right = _full_range(column, grid.left, grid.step, width)
    thin = max(1, max(bottom - top, right - left) // WINDOW_PIXELS)
    window = np.s_[top:bottom:thin, left:right:thin]
    depth = frame.depth[window] * np.float32(frame.depth_scale)
    y = grid.coarse_index(top, bottom, grid.top)[::thin]
    x = grid.coarse_index(left, right, grid.left)[::thin]
    reach = np.float32(SAME_DEPTH) + np.float32(0.01) * depth
    votes = np.zeros((2, *depth.shape), np.float32)
    for rows, row_weight in _corners(y, image.depth.shape[0]):
        for columns, column_weight in _corners(x, image.depth.shape[1]):
            near = np.abs(image.depth[rows[:, None], columns] - depth) < reach
            weight = np.where(near, row_weight[:, None] * column_weight, np.float32(0))
            votes[0] += weight
            votes[1] += weight * own[rows[:, None], columns]
    seen = (votes[1] > 0.5 * votes[0]) & (depth > 0)
    if thin == 1:
        mask[window] = seen
        return mask
    surface = cv2.dilate(np.where(seen, depth, 0), np.ones((3, 3), np.uint8))
    surface = cv2.resize(surface, None, fx=thin, fy=thin, interpolation=cv2.INTER_NEAREST)
    whole = frame.depth[top:bottom, left:right] * np.float32(frame.depth_scale)
    surface = surface[: whole.shape[0], : whole.shape[1]]
    mask[top:bottom, left:right] = (whole > 0) & (np.abs(whole - surface) < SAME_DEPTH)
    return mask


def _full_range(coarse: NDArray[np.int64], start: int, step: float, size: int) -> tuple[int, int]:
    """First and last (exclusive) full pixel of some coarse ones, with one around them."""
    first = (int(coarse.min()) - start - 1) * step
    last = (int(coarse.max()) - start + 2) * step
    return max(int(first), 0), min(math.ceil(last), size)


def _corners(index: NDArray[np.float32], size: int) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Two neighbours of fractional indices (n,), and their bilinear weights."""
    low = np.floor(index)
    share = (index - low).astype(np.float32)
    first = low.astype(np.int64)
    return [(np.clip(first, 0, size - 1), 1 - share), (np.clip(first + 1, 0, size - 1), share)]
