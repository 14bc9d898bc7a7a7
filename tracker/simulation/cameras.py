"""The depth cameras that the simulation knows: their geometry, their units, and what they do wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np

from tracker.camera.frame import Intrinsics
from tracker.simulation.noise import SUBPIXEL


@dataclass(frozen=True, slots=True)
class CameraModel:
    """A depth camera. Lengths in metres; "pixels" are those of the full image, also for a model made by `scaled`.

    Geometry: depth_scale is the unit of the uint16 image, nothing nearer than `near` or farther than `far` is reported.
    Each of the parameters after them is one kind of error, 0 is without it; `sensing.sense` says how they act together.

    baseline: from the imager to the second imager or to the light. What only one of them sees is a shadow: left of
        near things where the baseline is positive, right of them where it is negative.
    shadow: share of that shadow without a reading. jitter: disparity noise, pixels RMS. steps: disparities per pixel.
    noise: of the depth at 1 m, metres RMS; grows with the distance squared. correlation: pixels over which noise hangs
        together. steady: share of the noise's variance that is the same in every frame. wobble, stripes: metres RMS of
        slow distortions over the image, of whole rows.
    outline: pixels by which outlines of near things grow (negative: are eaten). ragged: its spread in pixels, in
        patches of `patch` pixels. gap: pixels beside a jump in depth without a reading. flying: share of the pixels at
        a jump with a depth between both sides. trail: metres by which surfaces fall back towards a jump.
    slant: tangent of the slope at which a surface vanishes. reach: distance at which a surface of mean reflectance
        that faces the camera vanishes. contrast: spread of the logarithm of the reflectance. vignette: logarithm of
        the light lost in the corners. holes: share of the image in blobs without a reading. speckle, salt: share of
        the pixels without a reading, with any reading.
    rounding: share of the way towards the mean of the surface around. smooth: radius in pixels of a mean within
        surfaces. median: 0, 3 or 5 pixels. fill: width in pixels of holes that are filled. step: coarser steps of the
        depth than depth_scale.
    seed: of what is the same in every frame. pixel: pixels of this model per pixel of the full image, a side.
    """

    name: str
    intrinsics: Intrinsics
    depth_scale: float
    near: float
    far: float
    baseline: float = 0.05
    shadow: float = 0.9
    jitter: float = 0.0
    steps: float = 0.0
    noise: float = 0.0
    correlation: float = 3.0
    steady: float = 0.3
    wobble: float = 0.0
    stripes: float = 0.0
    outline: float = 0.0
    ragged: float = 0.5
    patch: float = 5.0
    gap: float = 0.0
    flying: float = 0.0
    trail: float = 0.0
    slant: float = 6.0
    reach: float = 6.0
    contrast: float = 0.4
    vignette: float = 0.0
    holes: float = 0.001
    speckle: float = 0.0
    salt: float = 0.0
    rounding: float = 0.0
    smooth: float = 0.0
    median: int = 0
    fill: float = 0.0
    step: float = 0.0
    seed: int = 0
    pixel: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.near < self.far:
            raise ValueError(
                f"a camera sees from near to far metres, 0 <= near < far; not from {self.near} to {self.far}"
            )
        if not (self.depth_scale > 0 and self.pixel > 0):
            raise ValueError(f"depth_scale and pixel must be positive, are {self.depth_scale} and {self.pixel}")
        if self.far / self.depth_scale > 65535.5:  # half a count for rounding
            raise ValueError(f"16 bits of {self.depth_scale} m do not reach to {self.far} m: lower far")
        if self.median not in (0, 3, 5):
            raise ValueError(f"median must be 0, 3 or 5 pixels, is {self.median}")
        for share in ("shadow", "steady", "flying", "holes", "speckle", "salt", "rounding"):
            if not 0 <= getattr(self, share) <= 1:
                raise ValueError(f"{share} is a share from 0 to 1, not {getattr(self, share)}")


def _view(width: int, height: int, focal: float) -> Intrinsics:
    return Intrinsics(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)


# Geometry from the makers' data sheets (Intel D400 family, SR300/SR305, L515; Microsoft Kinect v2), errors from the
# papers named in `sensing`, as orders of magnitude: `random_camera` goes far to both sides of them.
_D435: Final = CameraModel(
    "d435",
    _view(640, 480, 385.0),
    depth_scale=0.001,
    near=0.17,
    far=10.0,
    baseline=0.05,
    jitter=0.08,
    steps=SUBPIXEL,
    correlation=6,
    outline=0.7,
    ragged=0.8,
    patch=7,
    slant=5.0,
    reach=9.0,
    holes=0.001,
)
_SR305: Final = CameraModel(
    "sr305",
    _view(640, 480, 475.0),
    depth_scale=0.000125,
    near=0.2,
    far=1.5,
    baseline=-0.05,
    shadow=1.0,
    jitter=0.03,
    correlation=7,
    outline=-0.5,
    ragged=0.7,
    patch=3,
    flying=0.1,
    slant=3.5,
    reach=2.0,
    contrast=0.5,
    holes=0.0005,
    smooth=1.5,
    median=3,
)
CAMERAS: Final[dict[str, CameraModel]] = {
    "d435": _D435,
    "d405": replace(
        _D435,
        name="d405",
        intrinsics=_view(640, 480, 380.0),
        depth_scale=0.0001,
        near=0.07,
        far=1.5,
        baseline=0.018,
        jitter=0.04,
        outline=0.4,
        ragged=0.6,
        # Without a projector: surfaces without texture have no disparity.
        holes=0.002,
        contrast=0.6,
    ),
    "d455": replace(_D435, name="d455", intrinsics=_view(640, 480, 388.0), near=0.3, baseline=0.095),
    "sr305": _SR305,
    "l515": CameraModel(
        "l515",
        _view(640, 480, 460.0),
        depth_scale=0.00025,
        near=0.25,
        far=9.0,
        baseline=0.012,
        noise=0.0025,
        correlation=2,
        ragged=0.4,
        patch=2,
        gap=0.3,
        flying=0.35,
        trail=0.003,
        slant=7.0,
        reach=5.0,
        contrast=0.6,
        holes=0.001,
        wobble=0.001,
        rounding=0.2,
    ),
    "kinect2": CameraModel(
        "kinect2",
        _view(512, 424, 365.0),
        depth_scale=0.001,
        near=0.5,
        far=4.5,
        baseline=0.03,
        noise=0.003,
        correlation=2,
        ragged=0.4,
        patch=2,
        gap=1.4,
        flying=0.7,
        trail=0.015,
        slant=8.0,
        reach=6.0,
        contrast=0.6,
        vignette=1.5,
        holes=0.0005,
        speckle=0.001,
        salt=0.0005,
        wobble=0.002,
        stripes=0.001,
        rounding=0.4,
        smooth=1.0,
    ),
    "qvga": replace(
        _SR305,
        name="qvga",
        intrinsics=_view(320, 240, 240.0),
        depth_scale=0.001,
        near=0.15,
        far=2.0,
        jitter=0.03,
        correlation=4,
        outline=0.0,
        ragged=0.35,
        slant=5.0,
        reach=2.5,
        smooth=1.0,
        median=0,
    ),
}
"""Cameras by name: d435, d405, d455, sr305, l515, kinect2, and qvga, a structured-light camera of 320x240 pixels."""

_STREAMS: Final = {
    **dict.fromkeys(("d435", "d405", "d455"), ((848, 480, 1.1), (640, 360, 0.83), (424, 240, 0.55))),
    "l515": ((320, 240, 0.5),),
}
"""Other image sizes of a camera and their focal length as a multiple of the usual one."""
_NOISE: Final = tuple(field.name for field in fields(CameraModel) if field.name not in (
    "name", "intrinsics", "depth_scale", "near", "far", "seed", "pixel",
))  # fmt: skip


def random_camera(rng: np.random.Generator) -> CameraModel:
    """One of CAMERAS with everything about it varied widely; one in twelve, named "other", is a mixture of several."""
    names = list(CAMERAS)
    base = CAMERAS[names[rng.integers(len(names))]]
    if rng.random() < 1 / 12:
        parents = {field: CAMERAS[names[rng.integers(len(names))]] for field in (*_NOISE, "depth_scale")}
        mixed = {field: getattr(parent, field) for field, parent in parents.items()}
        base = replace(base, name="other", **mixed | {"far": min(base.far, 65535 * mixed["depth_scale"])})

    def times(factor: float) -> float:
        return float(np.exp(rng.uniform(-math.log(factor), math.log(factor))))

    def either(share: float, low: float, high: float, otherwise: float = 0.0) -> float:
        """Log-uniform between low and high in a share of the cameras."""
        return float(np.exp(rng.uniform(math.log(low), math.log(high)))) if rng.random() < share else otherwise

    depth_scale = either(0.2, 0.0001, 0.001, base.depth_scale)
    far = base.far * rng.uniform(0.6, 1.2)
    # Many programs cut the background away, and weak projectors do not light it.
    far = min(either(0.15, 0.7, 1.6, far), 65535 * depth_scale)
    # The light of structured light and of flying light can be on either side; stereo images are the left one's.
    turned = base.steps != SUBPIXEL and rng.random() < 0.3
    return replace(
        base,
        intrinsics=_random_view(base, rng),
        depth_scale=depth_scale,
        near=min(base.near * rng.uniform(0.6, 1.05), 0.5 * far),
        far=far,
        baseline=base.baseline * times(1.4) * (-1 if turned else 1),
        shadow=float(rng.uniform(0.3, 1)) if rng.random() < 0.5 else base.shadow,
        jitter=base.jitter * times(5),
        steps=either(0.15, 8, 64, base.steps),
        noise=base.noise * times(5),
        correlation=base.correlation * times(2),
        steady=float(rng.uniform(0, 0.7)),
        wobble=either(0.3, 0.0003, 0.005, base.wobble),
        stripes=either(0.15, 0.0001, 0.0015, base.stripes),
        outline=base.outline + float(rng.normal(0, 0.5)),
        ragged=base.ragged * times(2.5),
        patch=base.patch * times(2),
        gap=either(0.25, 0.3, 2.5, base.gap * times(2)),
        flying=min(either(0.35, 0.03, 1.2, base.flying * times(3)), 1),
        trail=either(0.15, 0.002, 0.03, base.trail * times(3)),
        slant=base.slant * times(2),
        reach=base.reach * times(1.6),
        contrast=base.contrast * times(1.6),
        vignette=base.vignette * times(2),
        holes=min(base.holes * times(10), 0.05),
        speckle=either(0.2, 0.0003, 0.02, base.speckle),
        salt=either(0.1, 0.0001, 0.005, base.salt),
        rounding=either(0.2, 0.1, 0.8, base.rounding),
        smooth=either(0.3, 0.7, 3, base.smooth),
        median=int(rng.choice((0, 3, 5))) if rng.random() < 0.3 else base.median,
        fill=either(0.2, 1, 8),
        step=0.005 if rng.random() < 0.03 else 0.0,
        seed=int(rng.integers(2**31)),
    )


def _random_view(base: CameraModel, rng: np.random.Generator) -> Intrinsics:
    view = base.intrinsics
    streams = _STREAMS.get(base.name, ())
    if streams and rng.random() < 0.4:
        width, height, share = streams[rng.integers(len(streams))]
        view = _view(width, height, view.fx * share)
    focal = view.fx * rng.uniform(0.92, 1.08)
    return Intrinsics(
        view.width,
        view.height,
        focal,
        focal * rng.uniform(0.995, 1.005),
        view.cx + view.width * rng.uniform(-0.04, 0.04),
        view.cy + view.height * rng.uniform(-0.04, 0.04),
    )


def scaled(model: CameraModel, factor: float) -> CameraModel:
    """The same camera with `factor` times as many pixels a side; its errors keep their size in full pixels.

    So it is an image of which only every 1/factor-th pixel of each row and column was kept.
    """
    view = model.intrinsics
    width, height = max(round(view.width * factor), 1), max(round(view.height * factor), 1)
    x, y = width / view.width, height / view.height
    intrinsics = Intrinsics(
        width, height, view.fx * x, view.fy * y, (view.cx + 0.5) * x - 0.5, (view.cy + 0.5) * y - 0.5
    )
    return replace(model, intrinsics=intrinsics, pixel=model.pixel * factor)
