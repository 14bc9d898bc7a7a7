"""What the commands show in the terminal: lines for people, one that is rewritten in place, and a closing summary."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shutil
import sys
from collections import Counter, deque
from typing import TextIO

import numpy as np

from tracker.hand.skeleton import PALM
from tracker.stream.colors import GREEN, RED, YELLOW, has_colors, paint
from tracker.stream.message import Hand, HandsMessage, Percentiles
from tracker.stream.rates import LatencyHistogram, LatencyWindow, Rate

REDRAW_SECONDS = 0.1
PLAIN_SECONDS = 5.0
"""Without a terminal (a log file, a service) a whole line this often."""
STAGES = ("segment", "voxelise", "network")
RECENT_HANDS = 64
"""Hands that are remembered to be counted once; an id is not used again after its hand is lost."""


def format_milliseconds(value: float) -> str:
    """A latency for people: one decimal, `-` where it is not known."""
    return "-" if math.isnan(value) else f"{value:.1f}"


def format_latency(latency: Percentiles) -> str:
    """The three percentiles with their names."""
    p50, p95, p99 = (format_milliseconds(value) for value in (latency.p50, latency.p95, latency.p99))
    return f"latency {p50} / {p95} / {p99} ms (p50 / p95 / p99)"


Part = tuple[str, int | None]
"""A piece of the live line, and its colour or None."""


def format_live(message: HandsMessage, rate: Rate, width: int | None = None, stages: bool = False) -> list[Part]:
    """The live line of `run` in pieces: the most detailed that fits into `width` columns, the shortest one cut off.

    stages: with the milliseconds of each stage of this frame.
    """
    fps = f"{rate.fps:.1f} fps"
    p50, p95 = (format_milliseconds(value) for value in (rate.latency_ms.p50, rate.latency_ms.p95))
    dropped = f"dropped {message.dropped}"
    times = message.latency_ms
    layouts: list[tuple[str, ...]] = [
        (f"frame {message.frame}", fps, f"latency {p50} ms (p95 {p95})", dropped),
        (fps, f"latency {p50} ms", dropped),
        (fps, f"{p50} ms"),
        (),
    ]
    if stages:
        extra = f"segment {times.segment:.1f}, voxelise {times.voxelise:.1f}, network {times.network:.1f} ms"
        layouts.insert(0, (*layouts[0], extra))
    hands = _hand_parts(message.hands)
    lines: list[list[Part]] = [[*((f"{text}  ", None) for text in layout), *hands] for layout in layouts]
    if width is None:
        return lines[0]
    return next((line for line in lines if _length(line) <= width), _cut(hands, width))


def _hand_parts(hands: tuple[Hand, ...]) -> list[Part]:
    """Sides and ids, coloured as in the live view: the confidence from red over yellow to green."""
    parts: list[Part] = []
    for hand in hands:
        color = GREEN if hand.confidence >= 2 / 3 else YELLOW if hand.confidence >= 1 / 3 else RED
        parts += [(", ", None)] if parts else []
        parts.append((f"{hand.side} #{hand.id}", color))
    return parts or [("no hands", None)]


def _length(parts: list[Part]) -> int:
    return sum(len(text) for text, _ in parts)


def _cut(parts: list[Part], width: int) -> list[Part]:
    """What fits into so many columns."""
    kept: list[Part] = []
    for text, color in parts:
        kept.append((text[: max(0, width - _length(kept))], color))
    return kept


def printable(name: str) -> str:
    """A camera's name as it may be printed: one with control characters, which a terminal would obey, is quoted."""
    return name if name.isprintable() else repr(name)


def format_message(message: HandsMessage, rate: Rate) -> str:
    """The line of `listen` for a frame, positions in metres."""
    hands = " | ".join(format_palm(hand) for hand in message.hands) or "no hands"
    camera = printable(message.camera)
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


def _columns(stream: TextIO) -> int:
    """Of the terminal behind a stream; standard output, at which Python looks first, may go elsewhere."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except OSError:  # no terminal of the system's kind, as in a notebook
        columns = 0
    return columns or shutil.get_terminal_size().columns


class LiveLine:
    """Shows the newest message: rewritten in place on a terminal, a plain line every few seconds elsewhere.

    stream: where to write; standard error by default, so that standard output stays free for data.
    stages: with the milliseconds of each stage.
    """

    def __init__(self, stream: TextIO | None = None, stages: bool = False) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._stages = stages
        self._terminal = self._stream.isatty()
        self._colors = has_colors(self._stream)
        self._next = -math.inf
        self._width = 0
        if self._terminal:
            for handler in logging.getLogger().handlers:
                handler.addFilter(self._make_room)

    def update(self, now: float, message: HandsMessage, window: LatencyWindow) -> None:
        """Show a message, unless the last one was shown a moment ago; `now` in seconds of the window's clock."""
        if now < self._next:
            return
        self._next = now + (REDRAW_SECONDS if self._terminal else PLAIN_SECONDS)
        # One column is left free: a full line would make some terminals scroll.
        columns = _columns(self._stream) - 1 if self._terminal else None
        parts = format_live(message, window.rate(now), columns, self._stages)
        try:
            self._show(parts, columns)
        except OSError:
            self._next = math.inf  # nobody reads it any more, which is no reason to stop tracking

    def _show(self, parts: list[Part], columns: int | None) -> None:
        text = "".join(paint(text, color) if color and self._colors else text for text, color in parts)
        if columns is None:
            self._stream.write(text + "\n")
        else:
            length = _length(parts)
            rest = min(self._width, columns) - length
            self._width = length
            self._stream.write("\r" + text + " " * rest)
        self._stream.flush()

    def _make_room(self, record: logging.LogRecord) -> bool:
        """Before something is logged: wipe the line out, so that the two do not mix."""
        if self._width:
            with contextlib.suppress(OSError):
                self._stream.write("\r" + " " * self._width + "\r")
                self._stream.flush()
            self._width = 0
        return True

    def close(self) -> None:
        """End the line, so that what follows starts on one of its own."""
        for handler in logging.getLogger().handlers:
            handler.removeFilter(self._make_room)
        if self._width:
            self._width = 0
            with contextlib.suppress(OSError):
                self._stream.write("\n")
                self._stream.flush()


class Summary:
    """Counts a run for its closing lines, in constant memory."""

    def __init__(self) -> None:
        self.frames = 0
        self.with_hands = 0
        self.dropped = 0
        self._latency = LatencyHistogram()
        self._stages = {name: LatencyHistogram() for name in STAGES}
        self._side_frames: Counter[str] = Counter()
        self._side_hands: Counter[str] = Counter()
        self._recent: deque[tuple[int, str]] = deque(maxlen=RECENT_HANDS)

    def add(self, message: HandsMessage) -> None:
        """Count a message."""
        self.frames += 1
        self.with_hands += bool(message.hands)
        self.dropped = message.dropped
        self._latency.add(message.latency_ms.total)
        for name, histogram in self._stages.items():
            histogram.add(getattr(message.latency_ms, name))
        self._side_frames.update({hand.side for hand in message.hands})
        for hand in message.hands:
            if (hand.id, hand.side) not in self._recent:
                self._recent.append((hand.id, hand.side))
                self._side_hands[hand.side] += 1

    def text(self, seconds: float, stages: bool = False) -> str:
        """The closing lines of a run that took so long; `stages`: with the median of each stage."""
        fps = self.frames / seconds if seconds > 0 else 0.0
        latency = format_latency(self._latency.percentiles())
        lines = [f"{self.frames} frames in {seconds:.1f} s ({fps:.1f} fps), {self.dropped} dropped, {latency}"]
        sides = [
            f"{self._side_hands[side]} {side} (over {count} frames)"
            for side, count in sorted(self._side_frames.items())
        ]
        lines.append(f"hands in {self.with_hands} frames: {', '.join(sides)}" if sides else "no hands")
        if stages:
            medians = {name: format_milliseconds(counted.percentiles().p50) for name, counted in self._stages.items()}
            lines.append("p50 of the stages: " + ", ".join(f"{name} {ms} ms" for name, ms in medians.items()))
        return "\n".join(lines)
