"""From the silhouette of limbs to hands: palms, the fingers and the forearm around each, and the cut at the wrist."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.tracking.silhouette import Silhouette

PALM_RADIUS = (0.018, 0.056)
"""Metres: discs that fit into a palm, from an edge-on view to a large hand with the fingers closed."""
BALL = 0.19
"""Metres around the palm that are looked at: a long hand's finger tips (130 mm) and the start of the forearm."""
ARM_REACH = 0.145
"""Metres from the palm: what goes on farther than any finger is a forearm."""
ARM_WIDTH = 0.12
"""Metres: no forearm is wider, with its sleeve."""
FINGER_LENGTH = 0.02
"""Metres that a thin thing must stick out to be a finger."""
DESK_RISE = 0.01
"""Metres that the rim of a hand is above the desk that it lies on; the folds of a shirt rise more gently."""
WRIST = (0.9, 2.2)
"""Where the wrist is looked for: distances from the middle of the palm, in palm radii."""
CANDIDATES = 12


@dataclass(frozen=True, slots=True, eq=False)
class Palm:
    """A palm and the hand around it, in the thinned-out image.

    score: 0..1. point: (3,) float32, metres, camera frame, the middle of the palm on the surface. radius: metres.
    mask: bool, hand pixels of the window that starts at `corner` (row, column).
    arm: (3,) float32 unit vector toward the forearm, or None. fingers: how many thin things stick out.
    free: share of the outline that stands out before what is behind it.
    """

    score: float
    point: NDArray[np.float32]
    radius: float
    mask: NDArray[np.bool_]
    corner: tuple[int, int]
    arm: NDArray[np.float32] | None
    fingers: int
    free: float


def palm_pixels(image: Silhouette) -> list[tuple[int, int]]:
    """Rows and columns where a palm may be: where the disc that fits into a limb is locally the largest."""
    smooth = cv2.GaussianBlur(np.where(image.limb, image.radius, 0).astype(np.float32), (5, 5), 0)
    peak = (smooth >= cv2.dilate(smooth, np.ones((9, 9), np.uint8))) & image.limb
    peak &= (image.radius > PALM_RADIUS[0]) & (image.radius < PALM_RADIUS[1])
    rows, columns = np.nonzero(peak)
    order = np.argsort(-image.radius[rows, columns])
    chosen: list[tuple[int, int]] = []
    places = np.empty((0, 3), np.float32)
    for row, column in zip(rows[order], columns[order]):
        point = image.points[row, column]
        if len(places) == 0 or np.linalg.norm(places - point, axis=1).min() > 0.03:
            chosen.append((int(row), int(column)))
            places = np.vstack([places, point])
        if len(chosen) == CANDIDATES:
            break
    return chosen


def examine(image: Silhouette, row: int, column: int) -> Palm:
    """Look at a place as a palm: the hand around it, and how much it looks like one."""
    point = image.points[row, column].copy()
    radius = float(image.radius[row, column])
    reach = int(np.ceil(BALL * image.focal / max(float(point[2]) - 0.05, 0.15)))
    height, width = image.limb.shape
    top, left = max(row - reach, 0), max(column - reach, 0)
    window = np.s_[top : min(row + reach + 1, height), left : min(column + reach + 1, width)]
    points, limb, thin = image.points[window], image.limb[window], image.thin[window]
    depth = points[..., 2]
    offset = points - point
    distance = np.sqrt(np.einsum("ijk,ijk->ij", offset, offset))
    pixel_area = (depth / np.float32(image.focal)) ** 2

    ball = limb & (distance < BALL)
    _, labels = cv2.connectedComponents(ball.astype(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    own = labels == labels[row - top, column - left]
    own |= _pieces_in_front(labels, own, distance, pixel_area)

    exits = _exits(own & (distance > 1.3 * radius), thin, distance, pixel_area)
    finger_middles = _fingers(own & thin & (distance > 0.8 * radius) & (distance < 0.15), offset, distance)
    arm = _arm_direction(exits, finger_middles, offset, distance)
    hand = own & (distance < 0.15)
    if arm is not None:
        along = offset @ arm
        hand &= along < _wrist(own, along, offset, arm, radius)
    free, hidden = _outline(hand, own, depth, image.desk[window])
    border = min(row, column, height - 1 - row, width - 1 - column) / image.focal * float(point[2])
    score = _score(radius, len(finger_middles), len(exits), free, hidden)
    score *= float(np.interp(border, [0.5 * radius, 1.1 * radius], [0.3, 1.0]))
    tips = own if arm is None else own & (along < 0)
    score *= float(np.interp(distance[tips].max(), [0.125, 0.16], [1.0, 0.6]))
    if arm is not None and len(finger_middles) < 2:
        # An elbow looks like a fist at the end of an arm; but it is seldom nearer to the camera than the rest.
        score *= float(np.interp(arm[2], [-0.4, 0.2], [0.6, 1.0]))
    return Palm(score, point, radius, hand, (top, left), arm, len(finger_middles), free)


def _pieces_in_front(
    labels: NDArray[np.int32],
    own: NDArray[np.bool_],
    distance: NDArray[np.float32],
    pixel_area: NDArray[np.float32],
) -> NDArray[np.bool_]:
    """Finger-sized pieces beside the hand that a depth jump cut off: fingers bent toward the camera."""
    border = cv2.dilate(own.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool) & ~own & (labels > 0)
    pieces = np.zeros_like(own)
    for label in np.unique(labels[border]):
        piece = labels == label
        if distance[piece].max() < 0.14 and pixel_area[piece].sum() < 0.004:
            pieces |= piece
    return pieces


def _exits(
    beyond: NDArray[np.bool_],
    thin: NDArray[np.bool_],
    distance: NDArray[np.float32],
    pixel_area: NDArray[np.float32],
) -> list[NDArray[np.bool_]]:
    """The parts beyond the palm that go on farther than fingers: forearms (one, if it is a hand)."""
    far = beyond & (distance > ARM_REACH)
    if not far.any():
        return []
    _, parts = cv2.connectedComponents(beyond.astype(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    exits = []
    for part in np.unique(parts[far]):
        outside = far & (parts == part)
        if thin[outside].mean() < 0.5 and pixel_area[outside].sum() > 2e-4:
            exits.append(parts == part)
    return exits


def _fingers(
    thin: NDArray[np.bool_], offset: NDArray[np.float32], distance: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    """The middles of thin things that are long enough for fingers, from the palm, (3,) float32 metres each."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(thin.astype(np.uint8), connectivity=8)
    middles = []
    for label in range(1, len(stats)):
        left, top, width, height, area = stats[label]
        if area < 8:
            continue
        box = np.s_[top : top + height, left : left + width]
        place = offset[box][labels[box] == label]
        far = distance[box][labels[box] == label]
        if far.max() - far.min() > FINGER_LENGTH and far.max() > 0.045:
            middles.append(place.mean(axis=0))
    return middles


def _arm_direction(
    exits: list[NDArray[np.bool_]],
    finger_middles: list[NDArray[np.float32]],
    offset: NDArray[np.float32],
    distance: NDArray[np.float32],
) -> NDArray[np.float32] | None:
    """Unit vector from the palm to the forearm: to where a limb goes on, else away from the fingers."""
    away = np.zeros(3, np.float32)
    if len(finger_middles) >= 2:
        away = -np.sum([middle / np.linalg.norm(middle) for middle in finger_middles], axis=0)
    directions = [offset[part & (distance > 0.08)].mean(axis=0) for part in exits]
    if directions:
        away = max(directions, key=lambda direction: float(direction @ away))
    length = float(np.linalg.norm(away))
    return (away / length).astype(np.float32) if length > 1e-3 else None


def _wrist(
    own: NDArray[np.bool_],
    along: NDArray[np.float32],
    offset: NDArray[np.float32],
    arm: NDArray[np.float32],
    radius: float,
) -> float:
    """How far from the palm toward the arm to cut: at the narrowest place, and 1 cm on.

    along: distances from the palm toward the arm. The width of each 6 mm slice is taken across arm and line of sight.
    """
    across = np.array([arm[1], -arm[0], 0], np.float32)
    across /= max(float(np.linalg.norm(across)), 1e-6)
    slices = np.arange(WRIST[0] * radius, WRIST[1] * radius, 0.006)
    slice_of = np.digitize(along[own], slices)
    side = offset[own] @ across
    widths = [np.ptp(side[slice_of == i]) if (slice_of == i).any() else 0.0 for i in range(1, len(slices))]
    return float(slices[1 + int(np.argmin(widths))]) + 0.01


def _outline(
    hand: NDArray[np.bool_], own: NDArray[np.bool_], depth: NDArray[np.float32], desk: NDArray[np.bool_]
) -> tuple[float, float]:
    """Shares of the hand's outline that stand out (nothing close behind), and that are hidden by something in front.

    The forearm is no outline. A hand may lie on a desk, and its rim then stands out less.
    """
    kernel = np.ones((5, 5), np.uint8)
    surface = cv2.dilate(np.where(hand, depth, 0), kernel)
    ring = (surface > 0) & ~own
    if not ring.any():
        return 0.0, 0.0
    gap = (depth - surface)[ring]
    unseen = depth[ring] == 0
    stands_out = unseen | (gap > np.where(desk[ring], DESK_RISE, 0.03))
    return float(stands_out.mean()), float((~unseen & (gap < -0.03)).mean())


def _score(radius: float, fingers: int, exits: int, free: float, hidden: float) -> float:
    score = float(np.interp(fingers, [0, 1, 2, 3], [0.5, 0.75, 0.95, 1.0]))
    score *= {0: 0.45 if fingers < 2 else 0.85, 1: 1.0}.get(exits, 0.2 if fingers < 3 else 0.5)
    score *= float(np.interp(radius, [0.018, 0.028, 0.036, 0.048, 0.058], [0.5, 0.9, 1.0, 1.0, 0.6]))
    score *= float(np.interp(free, [0.5, 0.85], [0.0, 1.0]))
    score *= float(np.interp(hidden, [0.05, 0.3], [1.0, 0.0]))
    return score
