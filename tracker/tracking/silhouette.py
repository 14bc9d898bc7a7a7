"""A depth image seen as silhouettes: continuous surfaces, how wide they are in metres, and which are bodies."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import DepthFrame, ray_slopes
from tracker.tracking.regions import cut_jumps

NEAR, FAR = 0.15, 1.5
"""Metres: hands are looked for between these."""
WORKING_FOCAL = 220.0
"""Pixels: images of a longer focal length are thinned out to this one (2.3 mm a pixel at 0.5 m), so that the time does
not grow with the camera's resolution."""
BODY_RADIUS = 0.058
"""Metres: a disc of this radius fits into no hand, but into heads, trunks and desks."""
BENT_FINGER = 0.06
"""Metres that a bent finger stands out before the palm."""
FINGER_RADIUS = 0.0135
"""Metres: half the width of a thick finger, with the sensor's blur."""
HOLE_AREA = 8e-4
"""Square metres: holes without reading, up to this size and within one surface, are taken as part of it."""
SPECK = 6
"""Pixels: holes up to this size are noise, wherever they are."""
PLANE_AREA = 0.06
"""Square metres of a flat surface that make it a desk."""
PLANE_TRIES = 64
PLANE_DISTANCE = 0.009
"""Metres around its plane that belong to the desk."""


@dataclass(frozen=True, slots=True, eq=False)
class Silhouette:
    """A thinned-out depth image and what was seen in it; all arrays (height, width) of the thinned-out image.

    step: full-resolution pixels per pixel, 1 or more; not always whole. focal: pixels.
    points: (height, width, 3) float32, metres, camera frame, z = 0 where no reading in range.
    limb: bool, surfaces that are too narrow to be a body, head or desk, cut at depth jumps.
    body: bool, surfaces that are wide. desk: bool, the large flat one.
    thin: bool, parts of the limbs that are no wider than a finger.
    radius: float32, metres: the largest disc around the pixel within its surface.
    body_points: (n, 3) float32, metres, camera frame: a thin sample of the bodies.
    piece: int32, which connected piece of the limbs, 0 for none. boxes: (pieces, 5) int32, left, top, width, height and
    number of pixels of each piece.
    """

    step: float
    focal: float
    points: NDArray[np.float32]
    limb: NDArray[np.bool_]
    body: NDArray[np.bool_]
    desk: NDArray[np.bool_]
    thin: NDArray[np.bool_]
    radius: NDArray[np.float32]
    body_points: NDArray[np.float32]
    piece: NDArray[np.int32]
    boxes: NDArray[np.int32]


def silhouette(frame: DepthFrame) -> Silhouette:
    """Thin out a frame, cut it at depth jumps, and tell narrow surfaces from wide ones."""
    step = max(1.0, frame.intrinsics.fx / WORKING_FOCAL)
    focal = frame.intrinsics.fx / step
    height, width = frame.depth.shape
    rows, columns = thinned(height, step), thinned(width, step)
    raw = cv2.medianBlur(np.ascontiguousarray(frame.depth[rows[:, None], columns]), 3)
    depth = raw.astype(np.float32) * np.float32(frame.depth_scale)
    depth[(depth < NEAR) | (depth > FAR)] = 0
    x_slope, y_slope = ray_slopes(frame.intrinsics)
    points = np.empty((*depth.shape, 3), np.float32)
    np.multiply(depth, x_slope[columns], out=points[..., 0])
    np.multiply(depth, y_slope[rows, None], out=points[..., 1])
    points[..., 2] = depth

    desk = find_desk(points, focal)
    # Fingers bent over a palm make jumps, too. So small jumps are cut only where a surface is too wide for a hand: they
    # may be all that is between a hand and the body.
    solid = cut_jumps(depth, BENT_FINGER) & ~desk
    whole = fill_holes(solid, depth, focal)
    radius = _radius(whole, depth, focal)
    body = _wide(solid, radius, depth, focal)
    if body.any():
        cut = body & ~cut_jumps(depth)
        solid &= ~cut
        radius = _radius(whole & ~cut, depth, focal)
        body = _wide(solid, radius, depth, focal)
    limb = solid & ~body
    thin = limb & ~_opened(radius, depth, focal, FINGER_RADIUS, 1.3)
    _, piece, boxes, _ = cv2.connectedComponentsWithStats(limb.astype(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    return Silhouette(
        step=step,
        focal=focal,
        points=points,
        limb=limb,
        body=body,
        desk=desk,
        thin=thin,
        radius=radius,
        body_points=points[::8, ::8][body[::8, ::8]],
        piece=piece.astype(np.int32, copy=False),
        boxes=boxes.astype(np.int32, copy=False),
    )


def thinned(size: int, step: float) -> NDArray[np.int64]:
    """Which of `size` rows or columns are in the thinned-out image."""
    return (np.arange(int((size - 1) / step) + 1) * step).astype(np.int64)


def _radius(whole: NDArray[np.bool_], depth: NDArray[np.float32], focal: float) -> NDArray[np.float32]:
    """Distance of each pixel to the end of its surface, metres; the image's border is no end."""
    framed = cv2.copyMakeBorder(whole.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    return np.minimum(cv2.distanceTransform(framed, cv2.DIST_L2, 5)[1:-1, 1:-1], 1e6) * depth / np.float32(focal)


def _wide(
    solid: NDArray[np.bool_], radius: NDArray[np.float32], depth: NDArray[np.float32], focal: float
) -> NDArray[np.bool_]:
    """Pixels of surfaces that are too wide for a hand, and not of one before them."""
    core = radius > BODY_RADIUS
    if not core.any():
        return core
    _, surface = cv2.connectedComponents(solid.astype(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    bulky = np.zeros(int(surface.max()) + 1, np.bool_)
    bulky[surface[core]] = True
    bulky[0] = False
    # The slack leaves a rim for the corners that discs do not reach.
    wide = bulky[surface] & _opened(radius, depth, focal, BODY_RADIUS, 1.15)
    return wide & (depth > _mean_where(depth, core, focal) - BODY_RADIUS)


def _opened(
    radius: NDArray[np.float32], depth: NDArray[np.float32], focal: float, size: float, slack: float
) -> NDArray[np.bool_]:
    """What discs of a radius `size` (metres) cover: a morphological opening that keeps its size in metres."""
    core = radius > size
    if not core.any():
        return core
    distance = cv2.distanceTransform((~core).astype(np.uint8), cv2.DIST_L2, 3)
    return distance * depth < size * slack * focal


def _mean_where(depth: NDArray[np.float32], where: NDArray[np.bool_], focal: float) -> NDArray[np.float32]:
    """Mean depth (metres) of the marked pixels within a hand's breadth of each pixel; infinite where there are none."""
    coarse_depth, coarse = depth[::4, ::4], where[::4, ::4]
    size = 2 * math.ceil(0.02 * focal / float(np.median(depth[where]))) + 1
    weight = cv2.boxFilter(coarse.astype(np.float32), -1, (size, size))
    total = cv2.boxFilter(np.where(coarse, coarse_depth, 0), -1, (size, size))
    mean = np.full_like(weight, np.inf)
    np.divide(total, weight, out=mean, where=weight > 1e-6)
    return cv2.resize(mean, depth.shape[::-1], interpolation=cv2.INTER_NEAREST).astype(np.float32, copy=False)


def fill_holes(solid: NDArray[np.bool_], depth: NDArray[np.float32], focal: float) -> NDArray[np.bool_]:
    """Close small holes that lie within one surface (eyes in a face, a reflection on a ring).

    solid: (height, width) bool. depth: (height, width) float32, metres, 0 = no reading. focal: pixels.
    A gap between surfaces at different depths (the shadow beside a hand) stays open.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats((~solid).astype(np.uint8), connectivity=4)
    height, width = solid.shape
    left, top, w, h, area = stats.T
    inner = (left > 0) & (top > 0) & (left + w < width) & (top + h < height)
    inner &= area < HOLE_AREA * (focal / NEAR) ** 2
    inner[0] &= not solid[0, 0]
    whole = solid | (inner & (area <= SPECK))[labels]
    for hole in np.flatnonzero(inner & (area > SPECK)):
        window = np.s_[top[hole] - 1 : top[hole] + h[hole] + 1, left[hole] - 1 : left[hole] + w[hole] + 1]
        around = depth[window][solid[window]]
        if len(around) == 0:
            continue
        low, high = float(around.min()), float(around.max())
        if high - low < BENT_FINGER and area[hole] * (low / focal) ** 2 < HOLE_AREA:
            whole[window] |= labels[window] == hole
    return whole


def find_desk(points: NDArray[np.float32], focal: float) -> NDArray[np.bool_]:
    """Pixels of the largest flat surface, if it is large enough to be a desk or a wall.

    points: (height, width, 3) float32, metres. Planes through three random readings are compared by how many of a
    sample lie near them (RANSAC, Fischler and Bolles 1981); the best is fitted again to its own readings.
    Only connected parts of the plane count, so that a hand that the plane merely runs through stays.
    """
    height, width = points.shape[:2]
    none = np.zeros((height, width), np.bool_)
    sample = points[4::8, 4::8].reshape(-1, 3)
    sample = sample[sample[:, 2] > 0]
    if len(sample) < 100:
        return none
    random = np.random.default_rng(0)  # the same image gives the same hands
    corner = sample[random.integers(len(sample), size=(3, PLANE_TRIES))]
    normal = np.cross(corner[1] - corner[0], corner[2] - corner[0])
    length = np.linalg.norm(normal, axis=1)
    usable = length > 1e-3  # three readings within a few centimetres say nothing about a desk
    if not usable.any():
        return none
    normal = normal[usable] / length[usable, None]
    offset = np.einsum("ij,ij->i", normal, corner[0][usable])
    near = np.abs(sample @ normal.T - offset) < PLANE_DISTANCE
    best = int(np.count_nonzero(near, axis=0).argmax())
    inliers = sample[near[:, best]]
    if len(inliers) < 40:
        return none
    middle = inliers.mean(axis=0)
    axis = np.linalg.svd(inliers - middle, full_matrices=False)[2][2]
    axis = axis if axis @ middle < 0 else -axis  # toward the camera

    seen = points[..., 2] > 0
    above = points @ axis - np.float32(middle @ axis)
    flat = (np.abs(above) < PLANE_DISTANCE) & seen
    coarse, coarse_points = flat[::2, ::2], points[::2, ::2]
    count, labels = cv2.connectedComponents(coarse.astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    # A surface seen at a slant covers fewer pixels: its area is divided by the cosine.
    on_plane = coarse_points[coarse]
    slant = np.abs(on_plane @ axis) / np.linalg.norm(on_plane, axis=1)
    area = np.bincount(labels[coarse], (2 * on_plane[:, 2] / focal) ** 2 / np.maximum(slant, 0.1), count)
    large = (area > PLANE_AREA).astype(np.uint8)
    if not large.any():
        return none
    around = cv2.dilate(large[labels], np.ones((3, 3), np.uint8))  # the pixels left out beside the others
    desk = flat & (cv2.resize(around, flat.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0)
    # What falls away behind the plane beside it is the rest of the same thing: the flank of a trunk, a desk's edge.
    # Only what rises toward the camera can be a hand that lies on it.
    beside = cv2.distanceTransform((~desk).astype(np.uint8), cv2.DIST_L2, 3) * (points[..., 2] / np.float32(focal))
    return desk | ((above < 0) & (above > -0.15) & (beside < BODY_RADIUS) & seen)
