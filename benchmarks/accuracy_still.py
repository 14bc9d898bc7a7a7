"""What the filter gives and costs: jitter of still hands, lag of moving ones, as `filtering.py` measures them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from accuracy_run import Method
from accuracy_tables import Table, number
from filtering import lag, published, variance, watch
from numpy.typing import NDArray

from tracker.tracking.one_euro import FilterConfig

SEEDS = range(24, 40)
"""Of identities and poses: others than those (0 to 23) that the filter was tuned or tried on."""
FRAMES = 90
"""Of each hand, still and moving."""
WAYS: dict[str, FilterConfig | None] = {"on settled bones": None, "filtered, as published": FilterConfig()}


def still_figures(method: Method, seeds: Sequence[int] = SEEDS, count: int = FRAMES) -> dict[str, Any]:
    """Jitter (mm) and lag (ms) of the network's own joints, of those on settled bones, and of the published ones.

    seeds: of identities and poses. count: frames of each. Raises TrackerError, also where no hand is held on to.
    """
    # What the network itself says; the filter is applied to it afterwards.
    with replace(method, hands=1, raw=True).open(None) as tracker:
        still, moving = watch(tracker, seeds, count)
        engine = f"{tracker.engine.name} on {tracker.engine.device}"
    ways = {"network": {**_jitter([seen.joints for seen in still]), "lag_ms": 0.0}}
    for name, config in WAYS.items():
        late = float(np.mean([lag(seen.joints, published(seen, config), seen.time_ns) for seen in moving]))
        ways[name] = {**_jitter([published(seen, config) for seen in still]), "lag_ms": 1e3 * late}
    return {"engine": engine, "hands": len(seeds), "still": len(still), "moving": len(moving), "ways": ways}


def _jitter(hands: Sequence[NDArray[np.float32]]) -> dict[str, float]:
    """Of hands' joints (frames, 21, 3), metres: RMS over all, and of the median hand."""
    squares = [variance(joints) for joints in hands]
    return {"jitter_mm": 1e3 * float(np.sqrt(np.mean(squares))), "median_mm": 1e3 * float(np.sqrt(np.median(squares)))}


def still_tables(methods: dict[str, dict[str, Any]]) -> list[Table]:
    """One table. methods: name to what `still_figures` gives."""
    first = next(iter(methods.values()))
    targets = {"filtered, as published": "0.7 mm, 15 ms"}
    rows = [
        [way, targets.get(way, "")] + [cell for each in methods.values() for cell in _cells(each["ways"][way])]
        for way in first["ways"]
    ]
    header = [
        "",
        "target",
        *(f"{name}: {what}" for name in methods for what in ("jitter", "of the median hand", "lag at 1 m/s")),
    ]
    held = f"{first['still']} still and {first['moving']} moving hands of {first['hands']}, at 0.5 m"
    return [Table(held, header, rows)]


def _cells(way: dict[str, float]) -> list[str]:
    return [number(way["jitter_mm"], 2, " mm"), number(way["median_mm"], 2, " mm"), number(way["lag_ms"], 1, " ms")]
