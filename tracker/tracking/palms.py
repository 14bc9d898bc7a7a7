"""From the silhouette of limbs to hands: palms, the fingers and the forearm around each, and the cut at the wrist."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.tracking.shape_evidence import Evidence, weigh
from tracker.tracking.silhouette import Silhouette

PALM_RADIUS = (0.018, 0.056)
"""Metres: discs that fit into a palm, from an edge-on view to a large hand with the fingers closed."""
SMALLEST = 0.002
"""Square metres of limb that are seen at least; a hand edge-on has 30 cm2."""
USUAL_RADIUS = 0.04
BALL = 0.19
"""Metres around the palm that are looked at: a long hand's finger tips (130 mm) and the start of the forearm."""
ARM_REACH = 0.145
"""Metres from the palm: what goes on farther than any finger is a forearm."""
THIN_WRIST = 0.025
"""Metres: what is narrower is no wrist but a gap."""
EXIT_AREA = 2e-4
"""Square metres that must be seen of a forearm between `ARM_REACH` and `BALL`."""
FINGER_LENGTH = 0.02
"""Metres that a thin thing must stick out to be a finger."""
DESK_RISE = 0.01
"""Metres that the rim of a hand is above the desk that it lies on; the folds of a shirt rise more gently."""
WRIST = (0.9, 2.0)
"""Where the wrist is looked for: distances from the middle of the palm, in palm radii."""
CANDIDATES = 12


@dataclass(frozen=True, slots=True, eq=False)
class Palm:
    """A palm and the hand around it, in the thinned-out image.

    score: 0..1. point: (3,) float32, metres, camera frame, the middle of the palm on the surface. radius: metres.
    mask: bool, hand pixels of the window that starts at `corner` (row, column).
    arm: (3,) float32 unit vector toward the forearm, or None. fingers: how many thin things stick out.
    seen: what the score was made from.
    """

    score: float
    point: NDArray[np.float32]
    radius: float
    mask: NDArray[np.bool_]
    corner: tuple[int, int]
    arm: NDArray[np.float32] | None
    fingers: int
    seen: Evidence


def palm_pixels(image: Silhouette) -> list[tuple[int, int]]:
    """Rows and columns where a palm may be, nearest first: where the disc that fits into a limb is locally the largest.

    At most `CANDIDATES`. Places that are surrounded by their own surface on nearly all sides are left out: they are
    parts of a body.
    """
    smooth = cv2.GaussianBlur(np.where(image.limb, image.radius, 0).astype(np.float32), (5, 5), 0)
    peak = (smooth >= cv2.dilate(smooth, np.ones((9, 9), np.uint8))) & image.limb
    peak &= (image.radius > PALM_RADIUS[0]) & (image.radius < PALM_RADIUS[1])
    rows, columns = np.nonzero(peak)
    area = image.boxes[image.piece[rows, columns], 4] * (image.points[rows, columns, 2] / image.focal) ** 2
    rows, columns = rows[area > SMALLEST], columns[area > SMALLEST]
    kept = np.flatnonzero(_attached(image, rows, columns) < 0.8)
    kept = kept[np.argsort(-image.radius[rows[kept], columns[kept]])]
    places = np.empty((0, 3), np.float32)
    chosen = []
    for i in kept:
        point = image.points[rows[i], columns[i]]
        if len(places) == 0 or np.linalg.norm(places - point, axis=1).min() > 0.03:
            chosen.append((int(rows[i]), int(columns[i])))
            places = np.vstack([places, point])
    # The likeliest: of a palm's size, and near. Then those nearest first: a hand mostly comes before its elbow.
    size = np.array([image.radius[pixel] for pixel in chosen])
    likeliest = np.argsort(np.abs(size - USUAL_RADIUS) + 0.01 * places[:, 2])[:CANDIDATES]
    return [chosen[i] for i in sorted(likeliest, key=lambda i: float(places[i, 2]))]


def _attached(image: Silhouette, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
    """For each pixel (n,), the share of a circle of 1.6 palm radii around it that has readings of about its depth
    (a desk's apart: a hand may lie on it).
    """
    angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    depth = image.points[rows, columns, 2]
    pixels = (1.6 * image.radius[rows, columns] * image.focal / depth)[:, None]
    height, width = image.limb.shape
    row = np.rint(rows[:, None] + pixels * np.sin(angle)).astype(np.int64)
    column = np.rint(columns[:, None] + pixels * np.cos(angle)).astype(np.int64)
    row, column = row.clip(0, height - 1), column.clip(0, width - 1)
    same = np.abs(image.points[row, column, 2] - depth[:, None]) < 0.03
    return (same & ~image.desk[row, column]).mean(axis=1)


def examine(image: Silhouette, row: int, column: int) -> Palm | None:
    """Look at a place as a palm: the hand around it, and how much it looks like one; None if it clearly is none."""
    point = image.points[row, column].copy()
    radius = float(image.radius[row, column])
    window = _limb_window(image, row, column)
    top, left = window[0].start, window[1].start
    points, thin = image.points[window], image.thin[window]
    depth = points[..., 2]
    offset = points - point
    distance = np.sqrt(np.einsum("ijk,ijk->ij", offset, offset))
    pixel_area = (depth / np.float32(image.focal)) ** 2

    ball = image.limb[window] & (distance < BALL)
    _, labels = cv2.connectedComponents(ball.astype(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    own = labels == labels[row - top, column - left]
    own = own | _pieces_in_front(labels, own, distance, pixel_area)

    # An arm goes on farther than fingers, or leaves the image.
    leaving = _image_rim(image.limb.shape)[window] & (distance > 1.3 * radius)
    exits = _exits(own & ~thin & ((distance > ARM_REACH) | leaving), pixel_area)
    finger_middles = _fingers(own & thin & (distance > 0.8 * radius) & (distance < 0.15), offset, distance)
    arm = _arm_direction(exits, finger_middles, offset)
    if exits and arm is not None:  # slivers along the forearm are no fingers
        finger_middles = [middle for middle in finger_middles if middle @ arm < 0.5 * np.linalg.norm(middle)]
    if not (exits or finger_middles) or (len(exits) > 1 and len(finger_middles) < 3):
        return None
    hand = own & (distance < 0.15)
    narrowing = 1.0
    if arm is not None:
        along = offset @ arm
        wrist, wrist_width = _wrist(own, along, offset, arm, radius)
        hand &= along < wrist + 0.01
        narrowing = wrist_width / (2 * radius) if wrist_width > THIN_WRIST else 1.0
    free, hidden = _outline(hand, own, depth, image.desk[window])
    tips = hand if arm is None else hand & (along < 0)
    seen = Evidence(
        radius=radius,
        widest=float(image.radius[window][hand].max(initial=radius)),
        fingers=len(finger_middles),
        exits=len(exits),
        narrowing=narrowing,
        arm_depth=0.0 if arm is None else float(arm[2]),
        reach=float(distance[tips].max(initial=0)),
        free=free,
        hidden=hidden,
        ragged=_raggedness(hand),
        border=min(row, column, image.limb.shape[0] - 1 - row, image.limb.shape[1] - 1 - column)
        / image.focal
        * float(point[2]),
        depth=float(point[2]),
        prominence=_prominence(image, point),
    )
    score = math.prod(weigh(seen).values())
    return Palm(score, point, radius, hand, (top, left), arm, len(finger_middles), seen)


def _raggedness(hand: NDArray[np.bool_]) -> float:
    """Share of the mask that is thinner than three pixels: noise, and slivers of a body's rim."""
    mask = hand.astype(np.uint8)
    whole = int(cv2.countNonZero(mask))
    kept = int(cv2.countNonZero(cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))))
    return 1 - kept / max(whole, 1)


def _limb_window(image: Silhouette, row: int, column: int) -> tuple[slice, slice]:
    """Rows and columns that hold what can be within `BALL` of a pixel in its piece, and a finger more."""
    here = float(image.points[row, column, 2])
    reach = int(np.ceil(BALL * image.focal / max(here - 0.05, 0.15)))
    left, top, width, height, _ = (int(side) for side in image.boxes[image.piece[row, column]])
    pad = int(0.03 * image.focal / here)
    rows = slice(max(top - pad, row - reach, 0), min(top + height + pad, row + reach + 1, image.limb.shape[0]))
    columns = slice(
        max(left - pad, column - reach, 0), min(left + width + pad, column + reach + 1, image.limb.shape[1])
    )
    return rows, columns


def _pieces_in_front(
    labels: NDArray[np.int32],
    own: NDArray[np.bool_],
    distance: NDArray[np.float32],
    pixel_area: NDArray[np.float32],
) -> NDArray[np.bool_]:
    """Finger-sized pieces beside the hand that a depth jump cut off: fingers bent toward the camera."""
    if labels.max() < 2:
        return own
    border = cv2.dilate(own.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool) & ~own & (labels > 0)
    pieces = np.zeros_like(own)
    for label in np.unique(labels[border]):
        piece = labels == label
        if distance[piece].max() < 0.14 and pixel_area[piece].sum() < 0.004:
            pieces |= piece
    return pieces


def _image_rim(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """(height, width) bool, the outermost four pixels of an image."""
    rim = np.ones(shape, np.bool_)
    rim[4:-4, 4:-4] = False
    return rim


def _exits(far: NDArray[np.bool_], pixel_area: NDArray[np.float32]) -> list[NDArray[np.bool_]]:
    """The separate parts of what can only be a forearm (one, if it is a hand)."""
    count, parts = cv2.connectedComponents(far.astype(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    return [parts == part for part in range(1, count) if pixel_area[parts == part].sum() > EXIT_AREA]


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
) -> NDArray[np.float32] | None:
    """Unit vector from the palm to the forearm: to where a limb goes on, else away from the fingers."""
    away = np.zeros(3, np.float32)
    if len(finger_middles) >= 2:
        away = -np.sum([middle / np.linalg.norm(middle) for middle in finger_middles], axis=0)
    directions = [offset[part].mean(axis=0) for part in exits]
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
) -> tuple[float, float]:
    """Where the arm is narrowest: how far from the palm toward the arm, and how wide; metres.

    along: distances from the palm toward the arm. The width of each 6 mm slice is taken across arm and line of sight.
    """
    across = np.array([arm[1], -arm[0], 0], np.float32)
    across /= max(float(np.linalg.norm(across)), 1e-6)
    slices = np.arange(WRIST[0] * radius, WRIST[1] * radius, 0.006)
    slice_of = np.floor((along[own] - slices[0]) / 0.006).astype(np.int64)
    inside = (slice_of >= 0) & (slice_of < len(slices))
    slice_of, side = slice_of[inside], (offset[own] @ across)[inside]
    lowest, highest = np.full(len(slices), np.inf), np.full(len(slices), -np.inf)
    np.minimum.at(lowest, slice_of, side)
    np.maximum.at(highest, slice_of, side)
    widths = np.maximum(highest - lowest, 0)  # an empty slice is no width at all
    # Slender forearms widen so little that noise decides; a wrist is about 1.4 palm radii away.
    narrowest = int(np.argmin(widths + 0.25 * np.abs(slices - 1.4 * radius)))
    return float(slices[narrowest]) + 0.006, float(widths[narrowest])


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


def _prominence(image: Silhouette, point: NDArray[np.float32]) -> float:
    """How far (metres) a palm is before the body beside it; 0.1 where no body is seen."""
    beside = image.body_points[np.abs(image.body_points[:, :2] - point[:2]).max(axis=1) < 0.5]
    return float(np.percentile(beside[:, 2], 25) - point[2]) if len(beside) > 10 else 0.1
