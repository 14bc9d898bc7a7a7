"""Into which cubes to look for a hand: where it may be, of which side, and which way up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import Side
from tracker.hand.cube import Cube, hand_axis, roll_of, triple, upright_roll
from tracker.tracking.sight import Place

SIDES: Final[Sequence[Side]] = ("right", "left")
MOST_BENT: Final = math.radians(100)
"""No wrist bends a hand further away from its forearm."""


@dataclass(frozen=True, slots=True)
class Aim:
    """edge: of the cubes, metres. upright: whether the network wants them turned by the hand (see `Cube`)."""

    edge: float
    upright: bool

    def new(self, place: Place) -> list[Cube]:
        """For a hand of which no joints are known yet, as either side; the way its forearm points, or both ways up."""
        if not self.upright:
            return self._both_sides(place, None)
        center = triple(place.center)
        if place.heading is not None:
            return self._both_sides(place, roll_of(place.heading, center))
        return [*self._both_sides(place, 0.0), *self._both_sides(place, math.pi)]

    def again(self, place: Place, joints: NDArray[np.floating]) -> list[Cube]:
        """For a hand whose joints (21, 3), metres, camera frame, are known roughly, as either side."""
        return self._both_sides(place, upright_roll(joints, triple(place.center)) if self.upright else None)

    def followed(self, place: Place, joints: NDArray[np.floating], side: Side, doubt: bool) -> list[Cube]:
        """For a hand of a side that is followed. joints: where they should be. doubt: whether to look both ways up.

        In a cube that is turned by its joints, joints that were found the wrong way up are believed again and again.
        So it is looked as the forearm says, too, where that tells otherwise; where none is seen, there should be doubt
        now and then.
        """
        center = triple(place.center)
        if not self.upright:
            return [Cube(center, self.edge, side)]
        roll = upright_roll(joints, center)
        rolls = [roll]
        if place.heading is None:
            rolls += [roll + math.pi] if doubt else []
        elif _angle(place.heading, hand_axis(joints)) > MOST_BENT:
            rolls += [roll_of(place.heading, center)]
        return [Cube(center, self.edge, side, one) for one in rolls]

    def _both_sides(self, place: Place, roll: float | None) -> list[Cube]:
        return [Cube(triple(place.center), self.edge, side, roll) for side in SIDES]


def _angle(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Radians between two vectors (3,); 0 if one is not finite or has no length."""
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return math.acos(float(np.clip(one @ other / length, -1, 1))) if length > 0 and math.isfinite(length) else 0.0
