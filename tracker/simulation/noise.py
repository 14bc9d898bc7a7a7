"""What a stereo depth camera makes of a true depth image."""

from __future__ import annotations

from statistics import NormalDist

import cv2
import numpy as np
from numpy.typing import NDArray

SUBPIXEL = 32
"""Disparity steps per pixel (Intel, Subpixel Linearity Improvement for Intel RealSense Depth Camera D400 Series)."""

_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
_EMPTY = np.empty(0, np.uint16)
_NORMAL = NormalDist()


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
    # Outlines: some sensors fatten them, others eat them, in patches of a few pixels and up to two pixels deep.
    seen, patches = depth, _smooth_field(rng, depth.shape, 5)
    grows, eats = rng.uniform(-0.4, 0.6), rng.uniform(-0.4, 0.9)
    if grows > 0:
        near = cv2.dilate(np.where(depth > 0, 1 / np.maximum(depth, 1e-3), 0).astype(np.float32), _CROSS)
        grown = np.where(near > 0, 1 / np.maximum(near, 1e-3), 0)
        seen = np.where(patches > _NORMAL.inv_cdf(1 - grows), grown, seen)
    if eats > 0:
        rim = cv2.erode(depth, _CROSS, iterations=1 if rng.random() < 0.7 else 2) == 0
        seen = np.where(rim & (patches < _NORMAL.inv_cdf(eats)), 0, seen)
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


class StereoNoise:
    """The D400 family's errors, for whole images at camera rate: the state is a stock of random fields.

    Model: fattened outlines, jittered look-up, half-occlusion beside near things, spatially correlated disparity
    noise, 1/32 pixel steps, holes on slopes and in blobs. After Barron and Malik 2013 (look-up jitter, disparity
    noise), Handa et al. 2014 (ICL-NUIM) and Intel's description of the D400 (matching windows, subpixel steps).
    """

    def __init__(
        self,
        height: int,
        width: int,
        seed: int = 0,
        *,
        focal: float = 385.0,
        baseline: float = 0.05,
        jitter: float = 0.08,
    ) -> None:
        """focal: pixels. baseline: metres. jitter: disparity noise, pixels RMS."""
        self.focal_baseline, self.jitter = np.float32(focal * baseline), jitter
        self.height, self.width = height, width
        rng = np.random.default_rng(seed)
        stock = (height + 64, width + 64)
        # Drawing normal numbers for every frame would cost more than all the rest: shifted windows of a stock serve.
        fine = _smooth_field(rng, stock, 3)
        self._matching = (0.8 * _smooth_field(rng, stock, 7) + 0.6 * _smooth_field(rng, stock, 3)) * np.float32(jitter)
        self._patches = _smooth_field(rng, stock, 9)
        self._blobs = _smooth_field(rng, stock, 15)
        rows, columns = np.indices((height, width), dtype=np.float32)
        self._lookups = []
        for _ in range(4):
            shift_x, shift_y = (0.55 * _smooth_field(rng, (height, width), 3) for _ in range(2))
            self._lookups.append(
                cv2.convertMaps(columns + shift_x, rows + shift_y, cv2.CV_16SC2, nninterpolation=True)[0]
            )
        self._slope_limit = np.maximum(1.8 + 0.6 * self._patches + 0.6 * fine, 0.7)
        # As far to the right as a thing 0.25 m away can hide something at infinity.
        self._right_of = np.ones((1, int(focal * baseline / 0.25) + 2), np.uint8)
        self._columns = np.arange(width, dtype=np.float32)
        # Fresh memory for each of the steps would cost as much as the steps.
        self._buffers = [np.empty((height, width), np.float32) for _ in range(4)]
        self._holes, self._mask = (np.empty((height, width), np.bool_) for _ in range(2))

    def __call__(
        self, depth: NDArray[np.float32], rng: np.random.Generator, depth_scale: float = 0.001
    ) -> NDArray[np.uint16]:
        """True depth (height, width) in metres, 0 = nothing, to the sensor's uint16 of `depth_scale` metres."""
        disparity, grown, looked_up, spare = self._buffers
        holes, mask = self._holes, self._mask
        with np.errstate(divide="ignore", invalid="ignore"):
            np.divide(self.focal_baseline, depth, out=disparity)
            np.copyto(disparity, 0, where=np.equal(depth, 0, out=mask))
            # Matching windows that hold an outline mostly find the nearer side.
            patches = self._window(self._patches, rng)
            cv2.dilate(disparity, _CROSS, dst=grown)
            np.copyto(disparity, grown, where=np.greater(patches, 0.3, out=mask))
            cv2.dilate(grown, _CROSS, dst=spare)
            np.copyto(disparity, spare, where=np.greater(patches, 1.3, out=mask))
            lookup = self._lookups[rng.integers(len(self._lookups))]
            cv2.remap(disparity, lookup, _EMPTY, cv2.INTER_NEAREST, dst=looked_up, borderMode=cv2.BORDER_REPLICATE)

            # Seen by the left imager but not by the right one: what lies left of near things.
            landing = np.subtract(self._columns, looked_up, out=disparity)
            cv2.erode(landing, self._right_of, dst=spare, anchor=(0, 0))
            outside = np.less(landing, 0, out=mask)
            # Matching windows still find part of a thin strip.
            np.greater(np.subtract(landing, spare, out=spare), 1.5, out=holes)
            holes |= outside

            # Steep slopes and the far side of outlines: a matching window sees no single disparity there.
            cv2.dilate(looked_up, _CROSS, dst=grown)
            steepness = np.subtract(grown, looked_up, out=grown)
            holes |= np.greater(steepness, self._window(self._slope_limit, rng), out=mask)
            holes |= np.greater(self._window(self._blobs, rng), 3.2, out=mask)
            looked_up += self._window(self._matching, rng)
            steps = np.rint(np.multiply(looked_up, np.float32(SUBPIXEL), out=looked_up), out=looked_up)
            holes |= np.less(steps, 2 * SUBPIXEL, out=mask)
            np.divide(self.focal_baseline * np.float32(SUBPIXEL / depth_scale), steps, out=spare)
            spare[holes] = 0
            np.rint(np.minimum(spare, 65535, out=spare), out=spare)
        return spare.astype(np.uint16)

    def _window(self, field: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        top, left = rng.integers(64, size=2)
        return field[top : top + self.height, left : left + self.width]
