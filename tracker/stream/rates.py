"""Frame rate and latency percentiles in constant memory: of the last second, and of a whole run."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tracker.stream.message import Percentiles

UNKNOWN: Final = Percentiles(math.nan, math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class Rate:
    """fps: frames per second. latency_ms: percentiles of their latency, NaN if there were none."""

    fps: float
    latency_ms: Percentiles


class LatencyWindow:
    """The last second of frames. Times are seconds of any clock that only goes forward."""

    MOST = 1024
    """Frames remembered: at higher rates than this the window is shorter than a second."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self._frames: deque[tuple[float, float]] = deque(maxlen=self.MOST)

    def add(self, now: float, latency_ms: float) -> None:
        """Note a frame that was done at `now`."""
        self._frames.append((now, latency_ms))

    def rate(self, now: float) -> Rate:
        """What the last second was like, seen from `now`."""
        while self._frames and self._frames[0][0] < now - self.seconds:
            self._frames.popleft()
        if not self._frames:
            return Rate(0.0, UNKNOWN)
        # From the first frame to the last: a count in the window would be one frame too high or too low.
        span = self._frames[-1][0] - self._frames[0][0]
        fps = (len(self._frames) - 1) / span if span > 0 else 1 / self.seconds
        p50, p95, p99 = np.percentile([latency for _, latency in self._frames], [50, 95, 99])
        return Rate(fps, Percentiles(float(p50), float(p95), float(p99)))


class LatencyHistogram:
    """Percentiles over any number of frames, within 1 %: a histogram with bins that grow by 1 % (0.01 ms to 100 s)."""

    LEAST_MS = 0.01
    GROWTH = math.log(1.01)
    BINS = 1620

    def __init__(self) -> None:
        self._counts: NDArray[np.int64] = np.zeros(self.BINS, np.int64)

    def add(self, latency_ms: float) -> None:
        """Count a frame; what lies outside the range counts as the range's end."""
        place = math.log(max(latency_ms, self.LEAST_MS) / self.LEAST_MS) / self.GROWTH
        self._counts[min(int(place), self.BINS - 1)] += 1

    def percentiles(self) -> Percentiles:
        """Of all frames so far; NaN if there were none."""
        running = np.cumsum(self._counts)
        if running[-1] == 0:
            return UNKNOWN
        places = (int(np.searchsorted(running, share * running[-1])) for share in (0.50, 0.95, 0.99))
        p50, p95, p99 = (self.LEAST_MS * math.exp((place + 0.5) * self.GROWTH) for place in places)
        return Percentiles(p50, p95, p99)
