"""Places that were looked at in vain: they are looked at again, but not in every frame, for looking takes time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

SAME_PLACE: Final = 0.1
"""Metres: what is this near is the same."""
FIRST_REST: Final = 5
"""Frames for which a place rests when it was refused; twice as many each further time,"""
LONGEST_REST: Final = 15
"""at most so many: half a second in which a hand may have opened there."""


@dataclass(slots=True)
class _Refused:
    """center: (3,) metres, camera frame. due: frame from which on it is looked at again."""

    center: NDArray[np.floating]
    rest: int
    due: int


class Refusals:
    """The places that were refused of late. Frames are counted from any number on."""

    def __init__(self) -> None:
        self._places: list[_Refused] = []

    def rests(self, center: NDArray[np.floating], frame: int) -> bool:
        """Whether a place, (3,) metres, camera frame, was refused and is not yet to be looked at again."""
        known = self._near(center)
        return known is not None and frame < known.due

    def resting(self, frame: int) -> int:
        """How many places are not yet to be looked at again."""
        return sum(frame < one.due for one in self._places)

    def note(self, center: NDArray[np.floating], frame: int) -> None:
        """A place was refused in a frame."""
        # What was not refused again soon after its rest is no longer there, or is a hand now.
        self._places = [one for one in self._places if frame < one.due + LONGEST_REST]
        known = self._near(center)
        rest = FIRST_REST if known is None else min(2 * known.rest, LONGEST_REST)
        self._places = [one for one in self._places if one is not known]
        self._places.append(_Refused(center, rest, frame + rest))

    def _near(self, center: NDArray[np.floating]) -> _Refused | None:
        near = [one for one in self._places if np.linalg.norm(one.center - center) < SAME_PLACE]
        return min(near, key=lambda one: float(np.linalg.norm(one.center - center)), default=None)
