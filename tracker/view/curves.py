"""Curves of the frame rate and the latency, for the page of the live view."""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tracker.stream.rates import Rate

SECONDS: Final = 30.0
REDRAW_SECONDS: Final = 0.25
MOST: Final = int(SECONDS / REDRAW_SECONDS) + 1
GREY: Final = "#999999"
FPS_COLOR: Final = "#4dabf7"
P50_COLOR: Final = "#51cf66"
P95_COLOR: Final = "#fcc419"


class Curves:
    """Frames a second, and p50 and p95 of the latency, over the last half minute. Times: seconds, a forward clock."""

    def __init__(self, gui: Any) -> None:
        self._rates: deque[tuple[float, Rate]] = deque(maxlen=MOST)
        self._next = -math.inf
        empty = np.zeros(1)
        look: dict[str, Any] = {"scales": SCALES, "axes": AXES, "height": 120, "legend": {"show": False}}
        self._fps = gui.add_uplot(
            (empty, empty), ({}, series(FPS_COLOR)), title="frames a second, over the last 30 s", **look
        )
        self._latency = gui.add_uplot(
            (empty, empty, empty),
            ({}, series(P50_COLOR), series(P95_COLOR)),
            title="latency, ms: p50 green, p95 yellow",
            **look,
        )

    def add(self, now: float, rate: Rate) -> None:
        """Note a rate, and redraw a few times a second."""
        if now < self._next:
            return
        self._next = now + REDRAW_SECONDS
        self._rates.append((now, rate))
        ago, fps, p50, p95 = self.table(now)
        self._fps.data = (ago, fps)
        self._latency.data = (ago, p50, p95)

    def table(self, now: float) -> NDArray[np.float64]:
        """(4, n): seconds before now (negative), fps, and latency p50 and p95 in milliseconds."""
        rows = [(then - now, rate.fps, rate.latency_ms.p50, rate.latency_ms.p95) for then, rate in self._rates]
        return np.array(rows).T


def series(color: str) -> dict[str, Any]:
    """A line of a chart."""
    return {"stroke": color, "width": 2, "points": {"show": False}}


SCALES: Final[dict[str, Any]] = {"x": {"time": False, "range": [-SECONDS, 0]}, "y": {"range": [0, None]}}
AXIS: Final[dict[str, Any]] = {"stroke": GREY, "grid": {"stroke": "#444444", "width": 1}, "ticks": {"show": False}}
AXES: Final = ({**AXIS, "show": True}, {**AXIS, "size": 55})
