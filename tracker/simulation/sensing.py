"""What a depth camera of `cameras` makes of a true depth image."""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.simulation.cameras import CameraModel

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

_SQUARE: Final = np.ones((3, 3), np.uint8)
_NORMAL: Final = NormalDist()
_STOCK: Final = 1024
_SCALES: Final = (1, 2, 3, 5, 7, 11, 17, 29)
_REACH: Final = 3
"""Pixels that an outline can move, or a gap beside it can be wide."""
_JUMP: Final = 0.015
"""Metres between neighbours from which on they belong to two surfaces, with what slanted surfaces have on top."""


def sense(model: CameraModel, depth: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint16]:
    """True depth (h, w) in metres, 0 = nothing, to the camera's counts of `model.depth_scale`, 0 = no reading.

    depth: the camera's image or any window of it. Deterministic for a state of rng; what is `steady` of the noise is
    the same for every call with a window of this size. In order: outlines grow or are eaten; surfaces that slant, are
    dark, far or in the shadow of near things vanish; disparity (stereo and structured light: Barron and Malik 2013,
    Handa et al. 2014) or depth (time of flight: Sarbolandi et al. 2015) gets noise and steps; pixels at jumps vanish
    or fly; then the camera's own smoothing and filling.
    """
    fields = _Fields(model, depth.shape, rng)
    true = np.ascontiguousarray(depth, np.float32)
    near = np.divide(1, true, out=np.zeros_like(true), where=true > 0)
    near, lost = _outlines(model, near, fields)
    z = np.divide(1, near, out=np.zeros_like(near), where=near > 0)
    tangent = _tangent(model, z)
    lost |= _unlit(model, z, tangent, fields)
    lost |= _shadow(model, near, fields)
    edge, behind, before = _jumps(model, near, z)
    if model.rounding:
        around = _mean_of_surface(z, max(round(7 * model.pixel), 3), 0.03)
        z += np.float32(model.rounding) * (around - z)
    if model.gap:
        lost |= _gap(model, z, edge, behind, before, fields)
    if model.trail:
        # Light from both sides of a jump meets in one pixel.
        z += np.float32(model.trail) * _blurred(edge.astype(np.float32)) * (z > 0)
    z = _noisy(model, z, tangent, fields)
    _fly(model, z, edge, behind, before, rng)
    z[lost] = 0
    z = _mended(model, z)
    return _counts(model, z, rng)


class _Fields:
    """Random fields of unit variance for one image: windows of a stock, as drawing them would cost too much."""

    def __init__(self, model: CameraModel, shape: tuple[int, ...], rng: np.random.Generator) -> None:
        self._model, self._shape, self._rng = model, shape, rng
        self._steady_rng = np.random.default_rng(model.seed)

    def frame(self, blur: float) -> Image:
        """(h, w), new in every frame, hanging together over `blur` full pixels."""
        return _window(blur * self._model.pixel, self._shape, self._rng)

    def steady(self, blur: float) -> Image:
        """(h, w), the same in every frame."""
        return _window(blur * self._model.pixel, self._shape, self._steady_rng)

    def mixed(self, blur: float) -> Image:
        """(h, w), of which a part is the same in every frame."""
        share = self._model.steady
        new, old = self.frame(blur), self.steady(blur)
        return np.asarray(cv2.addWeighted(new, (1 - share) ** 0.5, old, share**0.5, 0), np.float32)


@lru_cache(maxsize=len(_SCALES))
def _stock(blur: int) -> Image:
    noise = np.random.default_rng(blur).standard_normal((_STOCK, _STOCK), dtype=np.float32)
    if blur > 1:
        # Twice a box, that is nearly a Gaussian's look.
        smooth = cv2.blur(cv2.blur(noise, (blur, blur)), (blur // 2 + 1, blur // 2 + 1))
        return np.asarray(smooth / smooth.std(), np.float32)
    return noise


def _window(blur: float, shape: tuple[int, ...], rng: np.random.Generator) -> Image:
    """A random window of the stock whose blur is nearest."""
    stock = _stock(min(_SCALES, key=lambda scale: abs(scale - blur)))
    top, left = (int(number) for number in rng.integers(_STOCK, size=2))
    height, width = shape
    rows, columns = slice(top % max(_STOCK - height, 1), None), slice(left % max(_STOCK - width, 1), None)
    window = stock[rows, columns][:height, :width]
    if window.shape != shape:
        window = np.tile(stock, (height // _STOCK + 1, width // _STOCK + 1))[:height, :width]
    return window


def _below(field: Image, share: float) -> Mask | np.bool_:
    """Where a field of unit variance is among its lowest `share`."""
    if share <= 0 or share >= 1:
        return np.bool_(share > 0)
    return field < np.float32(_NORMAL.inv_cdf(share))


def _dilated(image: Image) -> Image:
    return np.asarray(cv2.dilate(image, _SQUARE), np.float32)


def _eroded(image: Image) -> Image:
    return np.asarray(cv2.erode(image, _SQUARE), np.float32)


def _blurred(image: Image) -> Image:
    return np.asarray(cv2.blur(image, (3, 3)), np.float32)


def _outlines(model: CameraModel, near: Image, fields: _Fields) -> tuple[Image, Mask]:
    """The nearness 1/z with outlines of near things moved, and where they were eaten."""
    offset = np.float32(model.pixel * model.ragged) * fields.mixed(model.patch) + np.float32(
        model.pixel * model.outline
    )
    if model.pixel < 1:
        # A share of a coarse pixel moves that share of the pixels.
        offset += np.float32(0.29 * (1 - model.pixel)) * fields.frame(1)
    most, least = float(offset.max()), float(offset.min())
    lost = np.zeros(near.shape, np.bool_)
    moved, grown, shrunk = near, near, near
    for ring in range(_REACH):
        if most > ring + 0.5:
            grown = _dilated(grown)
            # Across jumps only: slopes would get steps.
            further = (grown - near > grown * grown * np.float32(_JUMP / 2 * (ring + 1))) & (offset > ring + 0.5)
            moved = np.where(further, grown, moved)
        if least < -ring - 0.5:
            shrunk = _eroded(shrunk)
            lost |= (near - shrunk > near * near * np.float32(2 * _JUMP * (ring + 1))) & (offset < -ring - 0.5)
    return moved, lost


def _tangent(model: CameraModel, z: Image) -> Image:
    """Slope of the surface towards the image plane, (h, w); at a jump that of the side the pixel lies on."""
    squares = np.zeros_like(z)
    for axis, focal in ((1, model.intrinsics.fx), (0, model.intrinsics.fy)):
        step = np.abs(np.diff(z, axis=axis, prepend=np.take(z, [0], axis), append=np.take(z, [-1], axis)))
        # Ends of the window have one neighbour only.
        first, last = (slice(None),) * axis + (slice(0, 1),), (slice(None),) * axis + (slice(-1, None),)
        step[first], step[last] = np.inf, np.inf
        one, other = ((slice(None),) * axis + (part,) for part in (slice(0, -1), slice(1, None)))
        slope = np.minimum(step[one], step[other])
        slope *= np.float32(focal)
        squares += slope * slope
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(np.sqrt(squares, out=squares) / z, copy=False, nan=0.0, posinf=0.0)


def _unlit(model: CameraModel, z: Image, tangent: Image, fields: _Fields) -> Mask:
    """Where too little comes back: far, dark, slanted, in the corners; and blobs without a cause."""
    material = fields.mixed(29)
    # Things at different distances are different things.
    other = np.sin(z * np.float32(2 * np.pi / 0.4) + np.float32(model.seed % 64))
    light = np.float32(model.contrast) * (material + other)
    with np.errstate(divide="ignore"):
        light -= np.log(z * z * np.float32(model.reach**-2) * np.sqrt(1 + tangent * tangent))
    view = model.intrinsics
    if model.vignette and z.shape == (view.height, view.width):
        x = (np.arange(view.width, dtype=np.float32) * 2 / view.width - 1) ** 2
        y = (np.arange(view.height, dtype=np.float32) * 2 / view.height - 1) ** 2
        light -= np.float32(model.vignette) * ((x + y[:, None]) / 2) ** 2
    white = fields.frame(1)
    lost = light < np.float32(0.4) * white
    spread = 1 + np.float32(0.25) * material + np.float32(0.1) * white
    lost |= tangent > np.float32(model.slant) * np.maximum(spread, np.float32(0.3))
    lost |= _below(fields.mixed(11), model.holes)
    return lost


def _shadow(model: CameraModel, near: Image, fields: _Fields) -> Mask | np.bool_:
    """What the second imager does not see or the light does not reach: beside near things, and at the image's side."""
    if model.shadow == 0 or model.baseline == 0:
        return np.bool_(False)
    order = slice(None, None, 1 if model.baseline > 0 else -1)
    width = near.shape[1]
    landing = np.arange(width, dtype=np.float32) - near[:, order] * np.float32(
        model.intrinsics.fx * abs(model.baseline)
    )
    leftmost = np.minimum.accumulate(landing[:, ::-1], axis=1)[:, ::-1]
    # Matching windows still find part of a thin strip.
    hidden = landing - leftmost > 0.5 + model.pixel
    if near.shape == (model.intrinsics.height, model.intrinsics.width):
        hidden |= landing < 0
    hidden = hidden[:, order]
    return hidden & _below(fields.mixed(7), model.shadow)


def _jumps(model: CameraModel, near: Image, z: Image) -> tuple[Mask, Image, Image]:
    """Pixels (h, w) beside a jump in depth, and the nearness of the farthest and the nearest pixel around each."""
    behind, before = _eroded(near), _dilated(near)
    # Two pixels on, a surface of 76 degrees is this much farther: no jump.
    allowed = np.float32(_JUMP) + z * np.float32(8 / model.intrinsics.fx)
    return (before - behind) > allowed * before * before, behind, before


def _noisy(model: CameraModel, z: Image, tangent: Image, fields: _Fields) -> Image:
    """Depth with noise, (h, w) metres; 0 where there is nothing."""
    seen = z > 0
    slanted = np.minimum(tangent, np.float32(5))
    if model.jitter or model.steps:
        focal_baseline = np.float32(model.intrinsics.fx / model.pixel * max(abs(model.baseline), 1e-3))
        disparity = np.divide(focal_baseline, z, out=np.ones_like(z), where=seen)
        disparity += np.float32(model.jitter) * fields.mixed(model.correlation) * (1 + np.float32(0.25) * slanted)
        if model.steps:
            disparity = np.rint(disparity * np.float32(model.steps)) * np.float32(1 / model.steps)
        # Matching gives up on a quarter of a pixel.
        seen &= disparity > 0.25
        z = np.divide(focal_baseline, disparity, out=np.zeros_like(z), where=seen)
    if model.noise:
        z = z + np.float32(model.noise) * (np.float32(0.4) + np.float32(0.6) * z * z) * (
            1 + np.float32(0.3) * slanted
        ) * fields.mixed(model.correlation)
    if model.wobble:
        z = z + np.float32(model.wobble) * fields.mixed(29)
    if model.stripes:
        z = z + np.float32(model.stripes) * fields.mixed(1)[:, :1]
    z[~seen] = 0
    return z


def _fly(model: CameraModel, z: Image, edge: Mask, behind: Image, before: Image, rng: np.random.Generator) -> None:
    """Moves pixels at jumps to somewhere between both sides, in place."""
    if not model.flying:
        return
    pixels = np.flatnonzero(edge)
    # At a lower resolution fewer of the pixels lie at an edge's full pixel.
    pixels = pixels[rng.random(len(pixels)) < model.flying * min(model.pixel, 1)]
    front, back = 1 / before.ravel()[pixels], behind.ravel()[pixels]
    way, beyond = rng.random((2, len(pixels)), dtype=np.float32)
    # Before nothing they trail off.
    depth = np.where(back > 0, 1 / np.maximum(back, 1e-3), front + np.float32(0.12) * beyond)
    z.ravel()[pixels] = front + way * way * (depth - front)


def _gap(model: CameraModel, z: Image, edge: Mask, behind: Image, before: Image, fields: _Fields) -> Mask:
    """Pixels on the far side of a jump that the camera takes for flying ones, rightly or not."""
    width = np.float32(model.gap * model.pixel) + np.float32(0.3) * fields.frame(2)
    rim = edge & (z * (behind + before) <= 2) & (z > 0)
    wide = edge & ~rim
    lost = wide & (width > 0.5)
    for ring in range(1, _REACH):
        wide = (_dilated(wide.astype(np.float32)) > 0) & ~rim
        lost |= wide & (width > ring + 0.5)
    return lost


def _mean_of_surface(z: Image, size: int, reach: float) -> Image:
    """Mean over size x size pixels where it lies within `reach` metres of the pixel's own depth, else that."""
    seen = (z > 0).astype(np.float32)
    mean = cv2.blur(z, (size, size)) / np.maximum(cv2.blur(seen, (size, size)), np.float32(1e-3))
    return np.where(np.abs(mean - z) < reach, mean, z)


def _mended(model: CameraModel, z: Image) -> Image:
    """The camera's own clean-up: median, mean within surfaces, filled holes."""
    if model.median and model.pixel > 0.5:
        z = np.asarray(cv2.medianBlur(z, model.median), np.float32)
    radius = model.smooth * model.pixel
    if radius > 0.3:
        # Holes are at 0, too far away in depth to weigh anything.
        z = np.asarray(cv2.bilateralFilter(z, 2 * int(np.ceil(radius)) + 1, 0.015, radius), np.float32)
    width = round(model.fill * model.pixel)
    if width > 0:
        closed = cv2.morphologyEx(z, cv2.MORPH_CLOSE, np.ones((1, 2 * ((width + 1) // 2) + 1), np.uint8))
        z = np.where(z > 0, z, closed)
    return z


def _counts(model: CameraModel, z: Image, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Metres to counts; the last single pixels without or with any reading; nothing out of range."""
    if model.step:
        z = np.rint(z * np.float32(1 / model.step)) * np.float32(model.step)
    flat = z.reshape(-1)
    for share, low, high in ((model.speckle, 0.0, 0.0), (model.salt, model.near, model.far)):
        pixels = rng.integers(z.size, size=rng.binomial(z.size, share)) if share else None
        if pixels is not None:
            flat[pixels] = rng.uniform(low, high, len(pixels))
    counts = np.rint(flat.reshape(z.shape) * np.float32(1 / model.depth_scale))
    counts[(counts < np.ceil(model.near / model.depth_scale)) | (counts > model.far / model.depth_scale)] = 0
    return counts.astype(np.uint16)
