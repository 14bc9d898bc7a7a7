"""Figures of merit of joint errors, as the field reports them. All of them are pure functions of one array.

`error_mm` is always (n, J), n frames of J joints, in millimetres: NaN where the truth is not known (left out of every
figure), infinite where the truth is known and a method found nothing. What was not found counts in the shares and the
areas, and is left out of means and medians, beside which `missed` says how much that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

CURVE_LIMIT = 80.0
"""Curves and the areas under them run from 0 to this error, mm."""
TABLE_THRESHOLDS = (10.0, 20.0, 30.0, 40.0, 50.0)

Errors = NDArray[np.floating]


def mean_error(error_mm: Errors) -> float:
    """Mean over all joints of all frames, the field's first figure; NaN if there are none."""
    found = error_mm[np.isfinite(error_mm)]
    return float(found.mean(dtype=np.float64)) if found.size else float("nan")


def median_error(error_mm: Errors) -> float:
    """Median over all joints of all frames; NaN if there are none."""
    found = error_mm[np.isfinite(error_mm)]
    return float(np.median(found)) if found.size else float("nan")


def max_error(error_mm: Errors) -> float:
    """The largest error of any joint; NaN if there are none."""
    found = error_mm[np.isfinite(error_mm)]
    return float(found.max()) if found.size else float("nan")


def joint_means(error_mm: Errors) -> NDArray[np.float64]:
    """Mean of each joint, (J,); NaN for a joint that is never known."""
    found = np.isfinite(error_mm)
    total = np.where(found, error_mm, 0).sum(axis=0, dtype=np.float64)
    count = found.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def missed(error_mm: Errors) -> float:
    """Share of the known joints that were not found."""
    known = ~np.isnan(error_mm)
    return float(np.isinf(error_mm).sum() / known.sum()) if known.any() else float("nan")


def worst_joints(error_mm: Errors) -> NDArray[np.float64]:
    """Error of the worst known joint of each frame, (m,); frames without any known joint are left out."""
    known = ~np.isnan(error_mm)
    return np.where(known, error_mm, -np.inf).max(axis=1, initial=-np.inf)[known.any(axis=1)].astype(np.float64)


def _share_within(values: NDArray[np.floating], thresholds_mm: ArrayLike) -> NDArray[np.float64]:
    limits = np.asarray(thresholds_mm, np.float64)
    if not values.size:
        return np.full(limits.shape, np.nan)
    return np.searchsorted(np.sort(values), limits, side="right") / values.size


def _area(values: NDArray[np.floating], limit_mm: float) -> float:
    # The share within t is a staircase; a value v adds the part of [0, limit] that lies beyond v.
    if not values.size:
        return float("nan")
    return float(np.clip(1 - values.astype(np.float64) / limit_mm, 0, None).mean())


def frames_within(error_mm: Errors, thresholds_mm: ArrayLike) -> NDArray[np.float64]:
    """Share of the frames whose worst joint is within each threshold (Taylor et al., CVPR 2012), 0..1."""
    return _share_within(worst_joints(error_mm), thresholds_mm)


def joints_within(error_mm: Errors, thresholds_mm: ArrayLike) -> NDArray[np.float64]:
    """Share of the joints within each threshold (PCK, the share of correct keypoints), 0..1."""
    return _share_within(error_mm[~np.isnan(error_mm)], thresholds_mm)


def frames_area(error_mm: Errors, limit_mm: float = CURVE_LIMIT) -> float:
    """Area under the curve of `frames_within` from 0 to `limit_mm`, divided by `limit_mm`: 1 is perfect. Exact."""
    return _area(worst_joints(error_mm), limit_mm)


def joints_area(error_mm: Errors, limit_mm: float = CURVE_LIMIT) -> float:
    """Area under the curve of `joints_within` from 0 to `limit_mm`, divided by `limit_mm`: 1 is perfect. Exact."""
    return _area(error_mm[~np.isnan(error_mm)], limit_mm)


def figures(error_mm: Errors, joint_names: Sequence[str]) -> dict[str, Any]:
    """All figures of one method as plain numbers, for tables and JSON; None where there is nothing to measure."""
    steps = np.arange(int(CURVE_LIMIT) + 1)

    def plain(value: float) -> float | None:
        return round(float(value), 4) if np.isfinite(value) else None

    return {
        "frames": len(error_mm),
        "joints_known": int((~np.isnan(error_mm)).sum()),
        "mean_mm": plain(mean_error(error_mm)),
        "median_mm": plain(median_error(error_mm)),
        "max_mm": plain(max_error(error_mm)),
        "missed": plain(missed(error_mm)),
        "joint_mean_mm": dict(zip(joint_names, map(plain, joint_means(error_mm)))),
        "frames_within": {f"{t:g}": plain(s) for t, s in zip(steps, frames_within(error_mm, steps))},
        "joints_within": {f"{t:g}": plain(s) for t, s in zip(steps, joints_within(error_mm, steps))},
        "area_limit_mm": CURVE_LIMIT,
        "frames_area": plain(frames_area(error_mm)),
        "joints_area": plain(joints_area(error_mm)),
    }
