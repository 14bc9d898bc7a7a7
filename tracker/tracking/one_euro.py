"""The One Euro filter: smooth while a hand is still, quick while it moves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAP = 2.0
"""Metres a second beyond which a joint is taken as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterConfig:
    """Casiez, Roussel, Vogel: "1 Euro Filter", CHI 2012.

    min_cutoff: Hz, of a still joint; lower is smoother. beta: Hz per m/s; higher follows a moving joint more closely.
    derivative_cutoff: Hz, of the speed estimate.
    """

    min_cutoff: float = 1.2
    beta: float = 12.0
    derivative_cutoff: float = 2.0

    def __post_init__(self) -> None:
        if self.min_cutoff <= 0 or self.beta < 0 or self.derivative_cutoff <= 0:
            raise ValueError(f"filter cut-offs must be above 0 Hz and beta at least 0: {self}")


class OneEuro:
    """State of the filter for the joints of one hand."""

    def __init__(self, config: FilterConfig) -> None:
        self.config = config
        self._value: NDArray[np.float64] | None = None
        self._velocity: NDArray[np.float64] | None = None
        self._time_ns = 0

    def __call__(self, joints: NDArray[np.floating], time_ns: int) -> NDArray[np.float32]:
        """Filtered joints (n, 3), metres. time_ns: capture time; a time that does not advance starts anew."""
        raw = np.asarray(joints, np.float64)
        elapsed = (time_ns - self._time_ns) * 1e-9
        self._time_ns = time_ns
        if self._value is None or self._velocity is None or not 0 < elapsed < 0.5:
            self._value, self._velocity = raw.copy(), np.zeros_like(raw)
            return raw.astype(np.float32)
        velocity = (raw - self._value) / elapsed
        self._velocity += _share(self.config.derivative_cutoff, elapsed) * (velocity - self._velocity)
        # One cut-off per joint, from its speed in space: the axes of the camera mean nothing to a hand.
        speed = np.linalg.norm(self._velocity, axis=1, keepdims=True)
        share = _share(self.config.min_cutoff + self.config.beta * speed, elapsed)
        # A leap is not noise; the smoothed speed would notice it only some frames later.
        leap = np.linalg.norm(raw - self._value, axis=1, keepdims=True) > LEAP * elapsed
        self._value += np.where(leap, 1.0, share) * (raw - self._value)
        return self._value.astype(np.float32)


def _share(cutoff: NDArray[np.float64] | float, elapsed: float) -> NDArray[np.float64] | float:
    """Weight of the new value in an exponential smoother with a cut-off in Hz."""
    return 1 / (1 + 1 / (2 * math.pi * cutoff * elapsed))
