"""Where the hand is in an image of a data set that does not say so."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import DepthFrame
from tracker.tracking.finder import find_hands

FRONT_AREA = 4e-4
"""Square metres of surface that must lie before something counts as near: less is noise."""
HAND_DEPTH = 0.12
"""Metres that a hand reaches behind its nearest point."""
ROUNDS = 3


def found_center(frame: DepthFrame, near: NDArray[np.floating] | None, edge: float) -> NDArray[np.floating] | None:
    """The middle of a hand, metres, camera frame, as the live tracker finds it; None if nothing is there.

    near: (3,) the labels' middle, which says which of two hands is meant; None without labels.
    Where the tracker finds no hand, the nearest thing is taken.
    """
    hands = find_hands(frame, limit=2 if near is not None else 1)
    if not hands:
        return nearest_center(frame, near, edge)
    centers = [hand.center for hand in hands]
    if near is None:
        return centers[0]
    return min(centers, key=lambda center: float(np.linalg.norm(center - near)))


def nearest_center(frame: DepthFrame, near: NDArray[np.floating] | None, edge: float) -> NDArray[np.floating] | None:
    """The middle of the nearest thing, metres, camera frame; for images in which that is the hand. None if empty.

    near: not used; the same arguments as `found_center`. The mean of the points in a cube is taken again around
    itself, as Oberweger and Lepetit (2017) do.
    """
    points = frame.points()
    depth = points[..., 2]
    seen = depth[depth > 0]
    if not len(seen):
        return None
    order = np.sort(seen)
    area = np.cumsum(np.square(order, dtype=np.float64)) / (frame.intrinsics.fx * frame.intrinsics.fy)
    front = order[min(int(np.searchsorted(area, FRONT_AREA)), len(order) - 1)]
    mask = ((depth > 0) & (depth < front + HAND_DEPTH)).astype(np.uint8)
    _, piece, boxes, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    largest = 1 + int(boxes[1:, cv2.CC_STAT_AREA].argmax())
    center = points[piece == largest].mean(axis=0)
    cloud = points[depth > 0]
    for _ in range(ROUNDS):
        inside = (np.abs(cloud - center) < edge / 2).all(axis=1)
        if not inside.any():
            break
        center = cloud[inside].mean(axis=0)
    return np.asarray(center)


def only_box(frame: DepthFrame, box: NDArray[np.floating]) -> DepthFrame:
    """The frame with readings inside a box only: left, top, right, bottom in pixels."""
    k = frame.intrinsics
    left, top, right, bottom = (round(float(value)) for value in box)
    rows = slice(max(top, 0), min(max(bottom, 0), k.height))
    columns = slice(max(left, 0), min(max(right, 0), k.width))
    depth = np.zeros_like(frame.depth)
    depth[rows, columns] = frame.depth[rows, columns]
    return replace(frame, depth=depth)
