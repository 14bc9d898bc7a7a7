"""Who does what before which camera: the plan of a situation, drawn at random within what each kind allows.

Two frames of reference. The person's: origin between the shoulders, x right, y down, z backwards, metres, so that a
person who faces the camera upright looks along -z. The camera's: x right, y down, z forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import Intrinsics, Side
from tracker.simulation.arms import SUPINATION
from tracker.simulation.rotations import Matrix, turn

Array = NDArray[np.floating]
Range = tuple[float, float]

SIDES: Final[tuple[Side, Side]] = ("right", "left")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What varies in a kind of situation, for a person of mean size.

    azimuth (mean, sd), elevation (low, high): degrees, where the camera stands as seen from the hands: 0, 0 in front of
    the person. distance: metres from the hands. wrist: ranges of x outwards, y and z, person's frame.
    both: share of situations in which both hands act. body: whether the person is seen. desk: share with a desk.
    sway: how far the wrists move, metres. together: the hands act about one place, this far (range) from it.
    """

    share: float
    azimuth: tuple[float, float] = (0.0, 25.0)
    elevation: Range = (-15.0, 35.0)
    distance: Range = (0.25, 0.9)
    wrist: tuple[Range, Range, Range] = ((0.05, 0.32), (-0.25, 0.28), (-0.52, -0.25))
    both: float = 0.6
    body: bool = True
    desk: float = 0.3
    sway: float = 0.05
    together: Range | None = None


_LOW: Final = ((0.02, 0.27), (0.25, 0.41), (-0.52, -0.22))

KINDS: Final[dict[str, Kind]] = {
    "front": Kind(share=0.18),
    "desk": Kind(share=0.1, elevation=(25, 65), wrist=_LOW, desk=1.0),
    "above": Kind(share=0.09, elevation=(65, 90), azimuth=(0, 90), wrist=_LOW, desk=0.9),
    "side": Kind(share=0.08, azimuth=(80, 25), elevation=(-15, 40), desk=0.4),
    "face": Kind(
        share=0.12,
        wrist=((-0.04, 0.09), (-0.24, -0.04), (-0.44, -0.22)),
        both=0.3,
        azimuth=(0, 15),
        elevation=(-12, 15),
    ),
    "touching": Kind(share=0.1, both=1.0, together=(0.02, 0.09), wrist=((-0.1, 0.1), (-0.12, 0.3), (-0.45, -0.26))),
    "crossing": Kind(share=0.07, both=1.0, sway=0.2, wrist=((0.0, 0.16), (-0.1, 0.25), (-0.5, -0.28))),
    "holding": Kind(share=0.1),
    "far": Kind(share=0.07, distance=(0.9, 1.7), both=0.45),
    "own": Kind(share=0.05, wrist=((0.02, 0.24), (-0.12, 0.28), (-0.55, -0.3)), both=0.75),
    "alone": Kind(share=0.08, body=False, azimuth=(0, 80), elevation=(-40, 80), both=0.25, desk=0.15),
    "empty": Kind(share=0.03, wrist=((0.2, 0.28), (0.5, 0.62), (-0.1, 0.05)), both=1.0, distance=(0.5, 1.5)),
}
"""`own`: a camera on the person's own head. `empty`: the hands hang or lie outside the picture, mostly."""

HEAD: Final = np.array([0.0, -0.23, -0.13])
"""The face of a person of mean size, person's frame."""


@dataclass(frozen=True, slots=True, eq=False)
class ArmPlan:
    """How an arm moves. place: (3,) of the wrist, person's frame. extent, rate, phase: (5, 3), sines for x, y, z of the
    wrist, the supination and the swing of the elbow. supination: radians, about which it turns. pole: (3,), where the
    elbow points. sleeve: from the elbow to this many metres before the wrist, None for a bare arm. watch: metres above
    the wrist. acts: whether the hand gestures, else it rests. holds: whether there is something in the hand.
    """

    side: Side
    place: Array
    extent: Array
    rate: Array
    phase: Array
    supination: float
    pole: Array
    sleeve: float | None
    watch: float | None
    acts: bool
    holds: bool

    def wander(self, time: float) -> NDArray[np.float64]:
        """The five quantities at a time in seconds, as offsets."""
        return np.asarray((self.extent * np.sin(self.rate * time + self.phase)).sum(axis=1), np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """The plan of a situation.

    rotation (3, 3), translation (3,): person's frame to camera frame. middle: (3,) of the acting hands, camera frame.
    desk: height y of its top in the person's frame, None without one.
    """

    kind: str
    arms: tuple[ArmPlan, ...]
    rotation: Matrix
    translation: NDArray[np.float64]
    middle: NDArray[np.float64]
    desk: float | None

    def to_camera(self, points: Array) -> NDArray[np.float64]:
        """Points (..., 3) of the person's frame in the camera frame."""
        return points @ self.rotation.T + self.translation


def draw_kind(rng: np.random.Generator) -> str:
    """A kind of situation, by their shares."""
    shares = np.array([kind.share for kind in KINDS.values()])
    return str(rng.choice(list(KINDS), p=shares / shares.sum()))


def set_stage(
    rng: np.random.Generator, name: str, size: float, near: float, far: float, intrinsics: Intrinsics
) -> Stage:
    """A plan of the kind `name` for a person of a size (1: mean adult) and a camera that sees from near to far (m).

    Raises ValueError for an unknown kind.
    """
    if name not in KINDS:
        raise ValueError(f"there is no kind of situation {name!r}: take one of {', '.join(KINDS)}")
    kind = KINDS[name]
    desk = size * float(rng.uniform(0.4, 0.48)) if rng.random() < kind.desk else None
    arms = _arms(rng, name, kind, size, desk)
    acting = [arm.place for arm in arms if arm.acts] or [np.array([0.0, 0.05, -0.2])]
    # The hand is some way beyond the wrist: mostly up, or ahead on a desk.
    middle = np.mean(acting, axis=0) + size * (
        np.array([0, -0.07, 0]) if kind.wrist is not _LOW else np.array([0, 0, -0.07])
    )
    if name == "own":
        eye = size * (HEAD + rng.normal(0, 0.03, 3) + np.array([0, -0.08, 0.02]))
        toward = eye - middle
        distance = max(float(np.linalg.norm(toward)), near + 0.12)
        toward /= np.linalg.norm(toward)
    else:
        azimuth = np.radians(rng.normal(kind.azimuth[0] * rng.choice((-1, 1)), kind.azimuth[1]))
        elevation = np.radians(rng.uniform(*kind.elevation))
        toward = np.array(
            [np.sin(azimuth) * np.cos(elevation), -np.sin(elevation), -np.cos(azimuth) * np.cos(elevation)]
        )
        distance = float(np.clip(rng.uniform(*kind.distance), near + 0.12, max(0.8 * far, near + 0.15)))
    rotation = (
        _look(toward) if name != "above" else turn(2, float(rng.choice((0, 0.5, 1, 1.5)) * np.pi)) @ _look(toward)
    )
    if rng.random() < 0.04:  # a camera that was mounted on its side or its head
        rotation = turn(2, float(rng.choice((0.5, 1, 1.5)) * np.pi)) @ rotation
    rotation = turn(2, float(rng.normal(0, 0.12))) @ rotation
    # Hands are not always in the middle of the picture.
    half_x, half_y = intrinsics.width / 2 / intrinsics.fx, intrinsics.height / 2 / intrinsics.fy
    aside = np.array([rng.uniform(-0.6, 0.6) * half_x, rng.uniform(-0.6, 0.6) * half_y]) * rng.beta(1.5, 1.5)
    place = distance * np.array([aside[0], aside[1], 1.0])
    return Stage(name, arms, rotation, place - rotation @ middle, place, desk)


def _look(toward: Array) -> Matrix:
    """The rotation, person's to camera frame, of an upright camera in the direction `toward` from what it looks at."""
    z = -np.asarray(toward, np.float64)
    down = np.array([0.0, 1.0, 0.0]) if abs(z[1]) < 0.98 else np.array([0.0, 0.0, -1.0])
    x = np.cross(down, z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z])


def _arms(rng: np.random.Generator, name: str, kind: Kind, size: float, desk: float | None) -> tuple[ArmPlan, ...]:
    acting = SIDES if rng.random() < kind.both else (SIDES[int(rng.integers(2))],)
    center = np.array([rng.uniform(*span) for span in kind.wrist])
    long, rolled = rng.random() < 0.55, rng.random() < 0.4
    wears = str(rng.choice(SIDES)) if rng.random() < 0.25 else None
    arms = []
    for side in SIDES:
        acts = side in acting
        if not (acts or kind.body):
            continue
        outwards = -1.0 if side == "right" else 1.0
        if not acts or name == "empty":
            place = np.array([outwards * rng.uniform(0.18, 0.26), rng.uniform(0.48, 0.58), rng.uniform(-0.12, 0.02)])
        elif kind.together:
            offset = np.array([outwards * rng.uniform(*kind.together), rng.normal(0, 0.02), rng.normal(0, 0.02)])
            place = center + offset
        else:
            x, y, z = (rng.uniform(*span) for span in kind.wrist)
            place = np.array([outwards * x, y, z])
        place = place * size
        if desk is not None and acts:
            place[1] = min(place[1], desk - size * rng.uniform(0.02, 0.12))
        extent = np.array([kind.sway, 0.8 * kind.sway if name != "crossing" else 0.04, 0.05, 0.5, 0.3])
        extent = extent[:, None] * rng.uniform(0.5, 1.0, (5, 3)) * np.array([1.0, 0.6, 0.3])
        if name == "touching":
            extent[:3] *= 0.5
        if not acts:
            extent *= 0.2
        sleeve = None
        if long:
            sleeve = float(rng.uniform(0.1, 0.2)) if rolled else float(rng.uniform(-0.02, 0.06))
        holds = acts and (rng.random() < 0.04 or (name == "holding" and (side == acting[0] or rng.random() < 0.4)))
        arms.append(
            ArmPlan(
                side=side,
                place=place,
                extent=extent,
                rate=2 * np.pi * np.array([0.07, 0.17, 0.33]) * rng.uniform(0.7, 1.3, (5, 3)),
                phase=rng.uniform(0, 2 * np.pi, (5, 3)),
                supination=float(rng.uniform(*SUPINATION)) if rng.random() < 0.5 else float(rng.normal(-0.7, 0.5)),
                pole=np.array([outwards * rng.uniform(0.0, 1.0), rng.uniform(0.4, 1.0), rng.uniform(-0.2, 0.6)]),
                sleeve=sleeve,
                watch=float(rng.uniform(0.025, 0.07)) if side == wears else None,
                acts=acts,
                holds=holds,
            )
        )
    return tuple(arms)
