"""What the commands show in the terminal: lines for people, one that is rewritten in place, and a closing summary."""

from __future__ import annotations

import math
import shutil
import sys
from typing import TextIO

import numpy as np

from tracker.hand.skeleton import PALM
from tracker.stream.message import Hand, HandsMessage, Percentiles
from tracker.stream.rates import LatencyHistogram, LatencyWindow, Rate

REDRAW_SECONDS = 0.1
PLAIN_SECONDS = 5.0
"""Without a terminal (a log file, a service) a whole line this often."""


def format_milliseconds(value: float) -> str:
    """A latency for people: one decimal, `-` where it is not known."""
    return "-" if math.isnan(value) else f"{value:.1f}"


def format_latency(latency: Percentiles) -> str:
    """The three percentiles with their names."""
    p50, p95, p99 = (format_milliseconds(value) for value in (latency.p50, latency.p95, latency.p99))
    return f"latency {p50} / {p95} / {p99} ms (p50 / p95 / p99)"


def format_hands(hands: tuple[Hand, ...]) -> str:
    """Sides and ids: `right #1, left #2`."""
    return ", ".join(f"{hand.side} #{hand.id}" for hand in hands) or "no hands"


def format_live(message: HandsMessage, rate: Rate) -> str:
    """The live line of `run`."""
    return (
        f"frame {message.frame}  {rate.fps:.1f} fps  "
        f"latency {format_milliseconds(rate.latency_ms.p50)} ms (p95 {format_milliseconds(rate.latency_ms.p95)})  "
        f"dropped {message.dropped}  {format_hands(message.hands)}"
    )


def format_message(message: HandsMessage, rate: Rate) -> str:
    """The line of `listen` for a frame, positions in metres."""
    hands = " | ".join(format_palm(hand) for hand in message.hands) or "no hands"
    camera = message.camera if message.camera.isprintable() else repr(message.camera)
    return (
        f"{camera} {message.frame}  {rate.fps:5.1f} fps  {message.latency_ms.total:6.1f} ms  "
        f"dropped {message.dropped}  {hands}"
    )


def format_palm(hand: Hand) -> str:
    """Side, id, confidence, and the middle of the palm's joints that have an estimate."""
    palm = hand.joints[list(PALM)]
    known = palm[np.isfinite(palm).all(axis=1)]
    where = "({:+.3f} {:+.3f} {:+.3f}) m".format(*known.mean(axis=0)) if len(known) else "(no palm)"
    return f"{hand.side} #{hand.id} {hand.confidence:3.0%} palm {where}"


class LiveLine:
    """Shows the newest message: rewritten in place on a terminal, a plain line every few seconds elsewhere.

    stream: where to write; standard error by default, so that standard output stays free for data.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._next = -math.inf
        self._width = 0

    def update(self, now: float, message: HandsMessage, window: LatencyWindow) -> None:
        """Show a message, unless the last one was shown a moment ago; `now` in seconds of the window's clock."""
        if now < self._next:
            return
        self._next = now + (REDRAW_SECONDS if self._terminal else PLAIN_SECONDS)
        try:
            self._show(format_live(message, window.rate(now)))
        except OSError:
            self._next = math.inf  # nobody reads it any more, which is no reason to stop tracking

    def _show(self, text: str) -> None:
        if self._terminal:
            # One column is left free: a full line would make some terminals scroll.
            text = text[: shutil.get_terminal_size().columns - 1]
            self._stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def close(self) -> None:
        """End the line, so that what follows starts on one of its own."""
        if self._width:
            self._stream.write("\n")
            self._stream.flush()
            self._width = 0


class Summary:
    """Counts a run for its closing line, in constant memory."""

    def __init__(self) -> None:
        self.frames = 0
        self.with_hands = 0
        self.dropped = 0
        self._latency = LatencyHistogram()

    def add(self, message: HandsMessage) -> None:
        """Count a message."""
        self.frames += 1
        self.with_hands += bool(message.hands)
        self.dropped = message.dropped
        self._latency.add(message.latency_ms.total)

    def text(self, seconds: float) -> str:
        """The closing line of a run that took so long."""
        fps = self.frames / seconds if seconds > 0 else 0.0
        return (
            f"{self.frames} frames in {seconds:.1f} s ({fps:.1f} fps), hands in {self.with_hands} of them, "
            f"{self.dropped} dropped, {format_latency(self._latency.percentiles())}"
        )
