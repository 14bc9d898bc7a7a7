"""The part of a depth image that is one hand, and how to keep to it while the hand is followed."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import DepthFrame
from tracker.hand.cube import Cube

SEED_REACH = 0.065
"""Metres around the last joints in which the hand may be now: flesh (15 mm) and the way a fast hand goes in a frame."""
WINDOW_PIXELS = 180
"""Rows or columns above which a window is thinned out."""
SAME_SURFACE = 0.02
"""Metres between neighbouring pixels of a hand."""
MINIMUM_SHARE = 0.5
"""A depth-connected piece is the hand's if at least this share of it lies within reach of the last joints."""


@dataclass(frozen=True, slots=True, eq=False)
class HandRegion:
    """One hand in one depth image.

    center: (3,) float32, metres, camera frame: the middle of the hand, about 1 cm behind the visible surface.
    mask: (height, width) bool, the hand's pixels at full resolution; a few centimetres of forearm may stay.
    score: 0..1, how much it looks like a hand.
    palm: (3,) float32, metres, camera frame: the middle of the palm (or back of the hand) on the visible surface.
    arm: (3,) float32 unit vector from the hand toward the forearm, camera frame; None where no forearm is seen.
    """

    center: NDArray[np.float32]
    mask: NDArray[np.bool_]
    score: float
    palm: NDArray[np.float32]
    arm: NDArray[np.float32] | None


def cut_jumps(depth: NDArray[np.float32], smallest: float = 0.02) -> NDArray[np.bool_]:
    """Pixels with a reading that are not on the far side of a depth jump.

    depth: (height, width) float32, metres, 0 = no reading. smallest: metres; a jump is a difference between neighbours
    of more than this and 1.5 % of the depth, as noise and the pixels' footprint grow with it. Taking the far side's
    pixels only leaves the thin things in front (fingers) whole. Returns (height, width) bool: what touches there is one
    continuous surface.
    """
    filled = np.where(depth > 0, depth, np.float32(np.inf))
    nearest = cv2.erode(filled, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE)
    return (depth > 0) & (depth < nearest * np.float32(1.015) + np.float32(smallest))


def isolate(frame: DepthFrame, cube: Cube, seeds: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The pixels of a hand that is being followed, without the head, body or desk behind it.

    cube: where the hand is expected. seeds: (n, 3) float32, metres, camera frame: its last joints; those that are not
    finite are left out. The window falls into continuous surfaces; one belongs to the hand if most of it lies within
    `SEED_REACH` of the nearest seed, in the image and in depth. A finger before the palm is such a surface of its own.
    Of each, what is out of reach is left out (the forearm, or a body that the hand touches).

    Returns (height, width) bool, full resolution, False outside the cube's window; no seed at all leaves it to the
    cube: every reading in its window and depth range.
    """
    mask = np.zeros(frame.depth.shape, np.bool_)
    rows, columns = cube.window(frame.intrinsics)
    depth = frame.depth[rows, columns].astype(np.float32)
    if depth.size == 0:
        return mask
    depth *= np.float32(frame.depth_scale)
    depth[np.abs(depth - np.float32(cube.center[2])) > np.float32(cube.edge / 2)] = 0
    seeds = seeds[np.isfinite(seeds).all(axis=1)]
    seeds = seeds[seeds[:, 2] > 0.05]
    if len(seeds) == 0:
        mask[rows, columns] = depth > 0
        return mask

    # A close hand fills the window with more pixels than are needed to tell it from the rest.
    step = -(-max(depth.shape) // WINDOW_PIXELS)
    whole, depth = depth, depth[::step, ::step]
    pixels = np.rint((frame.intrinsics.project(seeds) - (columns.start, rows.start)) / step).astype(np.int64)
    # The image distance is measured to the seeds in the window; one outside is moved to its border.
    column = np.clip(pixels[:, 0], 0, depth.shape[1] - 1)
    row = np.clip(pixels[:, 1], 0, depth.shape[0] - 1)
    away = np.ones(depth.shape, np.uint8)
    away[row, column] = 0
    distance, nearest = cv2.distanceTransformWithLabels(away, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    seed_depth = np.zeros(len(seeds) + 1, np.float32)
    seed_depth[nearest[row, column]] = seeds[:, 2]
    gap = depth - seed_depth[nearest]
    pixel_reach = SEED_REACH * frame.intrinsics.fx / step / float(np.median(seeds[:, 2]))
    reach = (depth > 0) & (np.abs(gap) < SEED_REACH) & (distance < pixel_reach)

    count, labels = cv2.connectedComponents(cut_jumps(depth).astype(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    size = np.bincount(labels.ravel(), minlength=count)
    within = np.bincount(labels[reach], minlength=count)
    # A large surface counts by how much of it is in reach, too: a hand that touches the body is one with it.
    own = (within > MINIMUM_SHARE * size) | (within > 0.3 * max(int(within[1:].sum()), 1))
    own[0] = False
    hand = own[labels] & reach
    if step > 1:
        surface = cv2.dilate(np.where(hand, depth, 0), np.ones((3, 3), np.uint8))
        surface = cv2.resize(surface, None, fx=step, fy=step, interpolation=cv2.INTER_NEAREST)
        hand = np.abs(whole - surface[: whole.shape[0], : whole.shape[1]]) < SAME_SURFACE
        hand &= whole > 0
    mask[rows, columns] = hand
    return mask
