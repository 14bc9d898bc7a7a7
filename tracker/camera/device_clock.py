"""From the time stamps of a depth camera to Unix time."""

from __future__ import annotations

WINDOW_NS = 10_000_000_000
"""Within 10 s a crystal drifts by half a millisecond at most (50 ppm)."""


class DeviceClock:
    """Maps a camera's own clock to the host's, and keeps capture times increasing.

    A frame arrives some milliseconds after its capture, never before, so the smallest (arrival - stamp) is the nearest
    to the truth: it is off by the quickest transfer, about a millisecond over USB. The minimum is taken over the last
    one to two windows, so that it follows the drift of the camera's crystal.
    """

    def __init__(self) -> None:
        self._last_ns = 0
        self._last_stamp_ns = 0
        self._window_start_ns: int | None = None
        self._smallest: tuple[int, int] = (0, 0)

    def from_host_stamp(self, stamp_ms: float) -> int:
        """Capture time, Unix epoch ns, of a stamp in the host's time (librealsense's global and system domains)."""
        return self._increasing(round(stamp_ms * 1e6))

    def from_device_stamp(self, stamp_ms: float, arrival_ns: int) -> int:
        """Capture time, Unix epoch ns, of a stamp of the camera's own clock and the frame's arrival, Unix epoch ns."""
        stamp_ns = round(stamp_ms * 1e6)
        offset = arrival_ns - stamp_ns
        if self._window_start_ns is None or stamp_ns < self._last_stamp_ns:  # the first frame, or the camera restarted
            self._window_start_ns = arrival_ns
            self._smallest = (offset, offset)
        elif arrival_ns - self._window_start_ns > WINDOW_NS:
            self._window_start_ns = arrival_ns
            self._smallest = (self._smallest[1], offset)
        before, current = self._smallest
        self._smallest = (before, min(current, offset))
        self._last_stamp_ns = stamp_ns
        return self._increasing(stamp_ns + min(self._smallest))

    def _increasing(self, captured_ns: int) -> int:
        self._last_ns = max(captured_ns, self._last_ns + 1)
        return self._last_ns
