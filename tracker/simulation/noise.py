"""What a stereo depth camera makes of a true depth image."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SUBPIXEL = 32
"""Disparity steps per pixel (Intel, Subpixel Linearity Improvement for Intel RealSense Depth Camera D400 Series)."""


def cheap_noise(
    depth: NDArray[np.float32],
    focal: float,
    rng: np.random.Generator,
    *,
    baseline: float = 0.05,
    jitter: float | None = None,
    depth_scale: float = 0.001,
) -> NDArray[np.uint16]:
    """Depth (h, w) in metres, 0 = nothing, to a sensor's uint16 of `depth_scale` metres, for training.

    Disparity (focal * baseline / z; pixels, metres) gets normal noise of `jitter` pixels (None: 0.02 to 0.3 at random),
    smooth over some pixels as block matching makes it, and is rounded to 1/32 pixel; outlines move by up to a pixel.
    """
    if jitter is None:
        jitter = float(np.exp(rng.uniform(np.log(0.02), np.log(0.3))))
    seen = depth
    ragged = rng.random()
    if ragged < 0.7:
        # A pixel takes over its neighbour's reading, or loses its own, in patches of a few pixels.
        patch = _smooth_field(rng, depth.shape, 5)
        grown = cv2.dilate(np.where(depth > 0, 1 / np.maximum(depth, 1e-3), 0).astype(np.float32), np.ones((3, 3)))
        grown = np.where(grown > 0, 1 / np.maximum(grown, 1e-3), 0)
        level = rng.normal(0.2, 0.6)
        seen = np.where(patch > level, grown, depth)
        eaten = cv2.erode(depth, np.ones((3, 3))) == 0
        seen = np.where(eaten & (patch < level - rng.uniform(0.6, 2.0)), 0, seen)
    valid = seen > 0
    disparity = focal * baseline / np.where(valid, seen, 1)
    disparity += jitter * _smooth_field(rng, depth.shape, int(rng.choice((0, 3, 5))))
    disparity = np.rint(disparity * SUBPIXEL) / SUBPIXEL
    valid &= disparity > 0.5
    z = focal * baseline / np.where(valid, disparity, 1) / depth_scale
    return np.where(valid & (z < 65535), np.rint(z), 0).astype(np.uint16)


def _smooth_field(rng: np.random.Generator, shape: tuple[int, ...], blur: int) -> NDArray[np.float32]:
    """Normal noise (h, w) of unit variance, box-blurred over `blur` pixels (0: independent pixels)."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    return cv2.blur(noise, (blur, blur)) * np.float32(blur) if blur > 1 else noise
