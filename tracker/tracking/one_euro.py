"""The One Euro filter: smooth while a hand is still, quick while it moves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAP, JOINT_LEAP = 2.0, 1.0
"""Metres a second beyond which the hand's middle, or a joint against it, is taken as it is."""
NEW_POSE = 0.4
"""And metres a second, RMS over the joints against the middle, the sure ones counting for more, beyond which all of
them are: frames are missing, or far apart."""
DOUBT = 0.9
"""Share of the confidence of the frame before below which a hand that was at rest waits for a second frame of such a
pose: of poses that it mistakes for a single frame, the network is less sure."""
WHOLE_HAND = 3.0
"""How many times more closely the hand's middle is followed than a finger: the mean of all joints trembles less."""
STILL_HAND, STILL_JOINT = 0.12, 0.30
"""Metres a second: slower motion of the hand's middle, and of joints against it, is mostly noise."""

SURE, LEAST_TRUST = 0.3, 0.1
"""Confidence from which a joint is followed as it moves, and the share of that for one that nothing is known of: where
a hidden joint is said to be jumps from frame to frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterConfig:
    """Casiez, Roussel, Vogel: "1 Euro Filter", CHI 2012.

    min_cutoff: Hz, of a still joint; lower is smoother. beta: Hz per m/s; higher follows a moving joint more closely.
    derivative_cutoff: Hz, of the speed estimate.
    """

    min_cutoff: float = 0.3
    beta: float = 45.0
    derivative_cutoff: float = 1.0

    def __post_init__(self) -> None:
        finite = all(math.isfinite(value) for value in (self.min_cutoff, self.beta, self.derivative_cutoff))
        if not finite or self.min_cutoff <= 0 or self.beta < 0 or self.derivative_cutoff <= 0:
            raise ValueError(f"filter cut-offs must be above 0 Hz and beta at least 0: {self}")


class OneEuro:
    """State of the filter for the joints of one hand.

    Not quite the paper's: where the hand is, and how its joints lie about its middle, are filtered apart, as most fast
    motion is the whole hand's; the cut-off rises with the square of the speed while that may be noise; and joints that
    the network is unsure of are followed less closely.
    """

    def __init__(self, config: FilterConfig) -> None:
        self.config = config
        self._value: NDArray[np.float64] | None = None
        self._velocity: NDArray[np.float64] | None = None
        self._time_ns = 0
        self._sure, self._leapt = 0.0, False

    def __call__(
        self, joints: NDArray[np.floating], time_ns: int, confidence: NDArray[np.floating] | None = None
    ) -> NDArray[np.float32]:
        """Filtered joints (n, 3), metres.

        time_ns: capture time; a time that does not advance starts anew. confidence: (n,), 0..1; all sure if not given.
        """
        middle = np.mean(joints, axis=0, keepdims=True, dtype=np.float64)
        raw = np.concatenate([joints - middle, middle])
        elapsed = (time_ns - self._time_ns) * 1e-9
        self._time_ns = time_ns
        before, self._sure = self._sure, 1.0 if confidence is None else float(np.mean(confidence))
        if self._value is None or self._velocity is None or not 0 < elapsed < 0.5:
            self._leapt = False
            self._value, self._velocity = raw, np.zeros_like(raw)
            return np.asarray(joints, np.float32)
        change = raw - self._value
        trust = np.ones(len(joints)) if confidence is None else np.clip(confidence / SURE, LEAST_TRUST, 1)
        another_pose = np.sqrt(np.average((change[:-1] ** 2).sum(axis=1), weights=trust)) > NEW_POSE * elapsed
        doubted = another_pose and not self._leapt and self._sure < DOUBT * before
        self._leapt = bool(another_pose)
        if doubted:
            change[:-1] = 0
        elif not another_pose:
            change[:-1] *= trust[:, None]
        self._velocity += _share(self.config.derivative_cutoff, elapsed) * (change / elapsed - self._velocity)
        # One cut-off per joint, from its speed in space: the axes of the camera mean nothing to a hand.
        speed = np.linalg.norm(self._velocity, axis=1, keepdims=True)
        slow = np.full_like(speed, STILL_JOINT)
        beta = np.full_like(speed, self.config.beta)
        slow[-1], beta[-1] = STILL_HAND, WHOLE_HAND * self.config.beta
        share = _share(self.config.min_cutoff + beta * speed**2 / (speed + slow), elapsed)
        # A leap is not noise; the smoothed speed would notice it only some frames later.
        step = np.linalg.norm(change, axis=1, keepdims=True) / elapsed
        leap = step > JOINT_LEAP
        leap[-1] = step[-1] > LEAP
        leap[:-1] |= another_pose  # of one that is doubted, there is no change
        self._value = self._value + np.where(leap, 1.0, share) * change
        return (self._value[:-1] + self._value[-1]).astype(np.float32)


def _share(cutoff: NDArray[np.float64] | float, elapsed: float) -> NDArray[np.float64] | float:
    """Weight of the new value in an exponential smoother with a cut-off in Hz."""
    return 1 / (1 + 1 / (2 * math.pi * cutoff * elapsed))
