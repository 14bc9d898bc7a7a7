"""Confidence that means something: of the joints with confidence p, a share p lies within 10 mm."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.special import expit, logit

PULL = 1e-3
"""Weight of the squares of slope and offset beside the loss of all joints."""
PIECES, FEWEST_PIECES = 12, 4
LEAST_JOINTS = 500
"""Of a piece of the curve; those of a hand, and of a sequence, are alike."""
CLOSE = 1e-3
"""Confidences that are nearer than this are one point of the curve."""


def fit_confidence(confidence: NDArray[np.floating], error_mm: NDArray[np.floating]) -> tuple[float, float]:
    """Slope and offset that turn uncalibrated confidences into the share of joints within 10 mm (Platt 1999).

    confidence, error_mm: any equal shapes; joints without truth are left out. Newton's method on the logistic loss with
    a little pull towards 0, so that nothing runs away where confidence and error are unrelated, or all alike.
    """
    known = ~np.isnan(error_mm)
    odds = _log_odds(confidence[known])
    x = np.stack([odds, np.ones(len(odds))], axis=1)
    y = (error_mm[known] <= 10).astype(np.float64)

    def loss(theta: NDArray[np.float64]) -> float:
        z = x @ theta
        return float((np.logaddexp(0, z) - y * z).sum() + PULL / 2 * (theta @ theta))

    theta = np.array([1.0, 0.0])
    for _ in range(50):
        p = expit(x @ theta)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + PULL * np.eye(2)
        step = np.linalg.solve(hessian, x.T @ (y - p) - PULL * theta)
        # Where hardly a joint is within 10 mm the loss is flat, and a whole step would go far beyond its lowest place.
        now = loss(theta)
        while loss(theta + step) > now and np.abs(step).max() >= 1e-8:
            step /= 2
        theta += step
        if np.abs(step).max() < 1e-8:
            break
    return float(theta[0]), float(theta[1])


def fit_curve(confidence: NDArray[np.floating], error_mm: NDArray[np.floating]) -> tuple[tuple[float, float], ...]:
    """The points of a curve that never falls, from calibrated confidences to the share of joints within 10 mm.

    confidence, error_mm: any equal shapes; joints without truth are left out. A slope and an offset leave the middle
    too sure and the upper part too modest, or the other way round: isotonic regression (Zadrozny and Elkan, KDD 2002),
    on the means of at most `PIECES` equal shares of the joints, so that it does not follow chance; none of fewer joints
    than `FEWEST_PIECES` take.
    """
    known = ~np.isnan(error_mm)
    p, right = confidence[known].astype(np.float64), error_mm[known] <= 10
    count = min(p.size // LEAST_JOINTS, PIECES)
    if count < FEWEST_PIECES:
        return ()
    pieces = np.array_split(np.argsort(p, kind="stable"), count)
    share = isotonic_regression([right[each].mean() for each in pieces], weights=[len(each) for each in pieces]).x
    points = [(0.0, 0.0)]
    for piece, height in zip(pieces, share):
        place = min(float(p[piece].mean()), 1.0)
        if place > points[-1][0] + CLOSE:
            points.append((place, float(height)))
    if points[-1][0] < 1 - CLOSE:
        points.append((1.0, points[-1][1]))
    return tuple((round(place, 4), round(height, 4)) for place, height in points)


def calibrated(confidence: NDArray[np.floating], slope: float, offset: float) -> NDArray[np.float64]:
    """Uncalibrated confidences, any shape, by the slope and offset of `fit_confidence`."""
    better: NDArray[np.float64] = expit(slope * _log_odds(confidence) + offset)
    return better


def calibration_error(confidence: NDArray[np.floating], error_mm: NDArray[np.floating], bins: int = 10) -> float:
    """Expected calibration error: mean gap, over bins of confidence, to the share of joints within 10 mm."""
    known = ~np.isnan(error_mm)
    p, right = confidence[known], error_mm[known] <= 10
    which = np.minimum((p * bins).astype(int), bins - 1)
    gaps = [abs(p[which == b].mean() - right[which == b].mean()) * (which == b).mean() for b in np.unique(which)]
    return float(np.sum(gaps))


def _log_odds(confidence: NDArray[np.floating]) -> NDArray[np.float64]:
    """Finite ones, also of 0 and 1."""
    odds: NDArray[np.float64] = logit(np.clip(confidence.astype(np.float64), 1e-4, 1 - 1e-4))
    return odds
