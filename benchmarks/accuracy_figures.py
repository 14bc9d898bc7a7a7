"""The figures of a tally as plain numbers, for tables and JSON; None where there is nothing to measure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from accuracy_tally import Tally
from numpy.typing import NDArray

from tracker.hand.skeleton import JOINT_NAMES
from trainer.judging.confidence import calibration_error
from trainer.judging.metrics import joint_means, joints_within, mean_error, median_error

WITHIN_MM = 10.0
"""What `joint_confidence` promises: the joint lies within this."""
DISTANCES = (0.0, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, np.inf)
"""Metres of depth: edges of the bins."""
HIDDEN_SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, np.inf)
"""Share of a hand's joints that are hidden: edges of the bins."""
CONFIDENCE_BINS = 10


def figures(tally: Tally) -> dict[str, Any]:
    """All figures of one method."""
    found, known = tally.found, ~np.isnan(tally.error)
    measured = known & found[:, None] & np.isfinite(tally.error)
    hidden = tally.hidden == 1
    seen = tally.hidden == 0
    tracked = tally.tracked & found[:, None]
    switches = id_switches(tally)
    unfounded = tally.false_confidence[np.isfinite(tally.false_confidence)]
    return {
        **group(tally),
        "frames": len(tally.kind),
        "whole_frames": share(tally.whole),
        "false_a_frame": ratio(tally.false.sum(), len(tally.kind)),
        "false_hands": int(tally.false.sum()),
        "id_switches": switches,
        "id_switches_per_1000": ratio(1000 * switches, found.sum()),
        "mean_mm_interval": interval(tally),
        "centred_mean_mm": plain(mean_error(tally.centred)),
        "centred_median_mm": plain(median_error(tally.centred)),
        "within_10_mm": plain(float(joints_within(tally.error, [10.0])[0])),
        "within_20_mm": plain(float(joints_within(tally.error, [20.0])[0])),
        "joints_within": [plain(value) for value in joints_within(tally.error, np.arange(51.0))],
        "seen_joints_mm": plain(mean_error(np.where(seen, tally.error, np.nan))),
        "hidden_joints_mm": plain(mean_error(np.where(hidden, tally.error, np.nan))),
        "tracked_joints_mm": plain(mean_error(np.where(tracked, tally.error, np.nan))),
        "inferred_joints_mm": plain(mean_error(np.where(tracked, np.nan, tally.error))),
        "tracked_precision": ratio((tracked & seen)[found].sum(), (tracked & (seen | hidden))[found].sum()),
        "tracked_recall": ratio((tracked & seen)[found].sum(), seen[found].sum()),
        "calibration_error": plain(calibration_error(tally.confidence[measured], tally.error[measured]))
        if measured.any()
        else None,
        # A joint of a hand that is not there is within 10 mm of nothing.
        "calibration_error_with_false": plain(
            calibration_error(
                np.concatenate([tally.confidence[measured], unfounded]),
                np.concatenate([tally.error[measured], np.full(unfounded.shape, np.inf)]),
            )
        )
        if measured.any()
        else None,
        "mean_confidence": plain(tally.confidence[measured].mean()) if measured.any() else None,
        "reliability": reliability(tally.confidence[measured], tally.error[measured]),
        "joint_mean_mm": dict(zip(JOINT_NAMES, map(plain, joint_means(tally.error)))),
        "segment_ms_mean": plain(tally.segment_ms.mean()) if len(tally.segment_ms) else None,
        "segment_ms_p95": plain(np.percentile(tally.segment_ms, 95)) if len(tally.segment_ms) else None,
        "by_distance": by_bins(tally, tally.distance, DISTANCES),
        "by_hidden": by_bins(tally, np.nanmean(tally.hidden, axis=1), HIDDEN_SHARES) if _hidden_known(tally) else {},
        "by_kind": {str(kind): frames_group(tally.of_frames(tally.kind == kind)) for kind in np.unique(tally.kind)},
        "by_camera": {
            str(name): frames_group(tally.of_frames(tally.camera == name)) for name in np.unique(tally.camera)
        },
    }


def side_by_side(tallies: Mapping[str, Tally]) -> dict[str, dict[str, Any]]:
    """All figures of methods that saw the same frames, and the errors on those hands that every one of them found:
    who finds only what is easy is good at that.
    """
    measured = {name: figures(tally) for name, tally in tallies.items()}
    if len(tallies) > 1:
        common = np.logical_and.reduce([tally.found for tally in tallies.values()])
        for name, tally in tallies.items():
            same = group(tally.of_hands(common))
            measured[name] |= {f"common_{key}": same[key] for key in ("hands", "mean_mm", "median_mm")}
    return measured


def group(tally: Tally) -> dict[str, Any]:
    """The figures that make sense of any choice of true hands."""
    found = tally.found
    return {
        "hands": len(found),
        "found": int(found.sum()),
        "recall": share(found),
        "side_errors": share(tally.wrong_side[found & tally.sided]),
        "mean_mm": plain(mean_error(tally.error)),
        "median_mm": plain(median_error(tally.error)),
    }


def frames_group(tally: Tally) -> dict[str, Any]:
    """The figures that make sense of any choice of frames."""
    return {
        **group(tally),
        "frames": len(tally.kind),
        "false_a_frame": ratio(tally.false.sum(), len(tally.kind)),
        "id_switches": id_switches(tally),
    }


def by_bins(tally: Tally, values: NDArray[np.float64], edges: tuple[float, ...]) -> dict[str, Any]:
    """Groups of true hands whose value (t,) lies in [low, high); empty bins are left out."""
    result = {}
    for low, high in pairwise(edges):
        chosen = (values >= low) & (values < high)
        if chosen.any():
            result[f"{low:g}+" if np.isinf(high) else f"{low:g}-{high:g}"] = group(tally.of_hands(chosen))
    return result


def reliability(confidence: NDArray[np.float64], error_mm: NDArray[np.float64]) -> list[dict[str, float]]:
    """Bins of confidence: what was promised, and the share (n,) of the joints that kept it."""
    which = np.minimum((confidence * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)
    return [
        {
            "from": float(b / CONFIDENCE_BINS),
            "to": float((b + 1) / CONFIDENCE_BINS),
            "joints": int((which == b).sum()),
            "confidence": float(confidence[which == b].mean()),
            "within_10_mm": float((error_mm[which == b] <= WITHIN_MM).mean()),
        }
        for b in np.unique(which)
    ]


def id_switches(tally: Tally) -> int:
    """How often a true hand was found under another id than the last time (Bernardin and Stiefelhagen, 2008)."""
    last: dict[str, int] = {}
    switches = 0
    for who, identity in zip(tally.who[tally.found], tally.id[tally.found]):
        switches += last.get(who, identity) != identity
        last[who] = identity
    return int(switches)


def share(flags: NDArray[np.bool_]) -> float | None:
    """The share of the flags that are set."""
    return ratio(flags.sum(), flags.size)


def ratio(part: float, whole: float) -> float | None:
    """A quotient, None of nothing."""
    return plain(part / whole) if whole else None


def plain(value: float) -> float | None:
    """A float for JSON, None if it is not a number."""
    return round(float(value), 5) if np.isfinite(value) else None


def _hidden_known(tally: Tally) -> bool:
    return tally.hidden.size > 0 and bool(np.isfinite(tally.hidden).all())


def interval(tally: Tally, seed: int = 0, rounds: int = 1000) -> list[float] | None:
    """95 % interval of the mean joint error, mm, from drawing the sequences anew (bootstrap).

    The frames of a sequence are alike: the number of sequences is what says how sure the mean is.
    """
    errors = [tally.error[tally.sequence == name] for name in np.unique(tally.sequence)]
    errors = [each[np.isfinite(each)] for each in errors]
    sums, counts = np.array([e.sum() for e in errors]), np.array([e.size for e in errors])
    if len(errors) < 2 or not counts.sum():
        return None
    drawn = np.random.default_rng(seed).integers(len(errors), size=(rounds, len(errors)))
    total = counts[drawn].sum(axis=1)
    means = sums[drawn].sum(axis=1)[total > 0] / total[total > 0]
    low, high = np.percentile(means, [2.5, 97.5])
    return [round(float(low), 5), round(float(high), 5)]
