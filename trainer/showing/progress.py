"""What a person sees of a run that trains: a bar at a terminal, now and then a line anywhere else."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import Final, TextIO

from tqdm import tqdm

TICK_SECONDS: Final = 0.5
LINE_SECONDS: Final = 30.0
WINDOW_SECONDS: Final = 10.0
WIDE: Final = 110
"""Columns of a terminal that has room for a bar and whole words."""


@dataclass(frozen=True, slots=True)
class _Mark:
    """Sums since the start, at a time (seconds of the monotonic clock)."""

    time: float
    samples: int
    wait: float
    loss: float
    losses: int


class Progress:
    """Shows how a run goes on. Not for use by several threads.

    total_steps: of the whole run; None for a run by the clock, whose bar counts `total_minutes`, or per cent if they
    are not given either. initial: steps that were done before this process began. enabled: False shows nothing, for
    all processes but the first. stream: standard error if None; a bar is drawn on terminals only.
    """

    def __init__(
        self,
        total_steps: int | None,
        *,
        initial: int,
        enabled: bool,
        stream: TextIO | None = None,
        total_minutes: float | None = None,
    ) -> None:
        self._total_steps, self._total_minutes, self._step, self._enabled = total_steps, total_minutes, initial, enabled
        self._stream = sys.stderr if stream is None else stream
        self._bar: tqdm[None] | None = None
        if enabled and self._stream.isatty():
            self._bar = tqdm(
                total=total_steps or total_minutes or 100,
                initial=initial if total_steps else 0,
                file=self._stream,
                dynamic_ncols=True,
                bar_format="{percentage:3.0f}%|{bar}|",
            )
        self._told = initial
        self._epoch = 0
        self._done = 0.0
        self._samples, self._wait, self._loss, self._losses, self._last_loss = 0, 0.0, 0.0, 0, 0.0
        self._first: tuple[float, float] | None = None
        self._window: deque[_Mark] = deque()
        self._dev_mm: float | None = None
        self._next_tick = self._next_line = -math.inf
        self._last_update = time.monotonic()

    def update(self, steps: int, samples: int, wait_s: float, loss: float | None, epoch: int, done: float) -> None:
        """Tell what was done since the last call.

        steps, samples: how many more. wait_s: seconds of it spent waiting for data. loss: None where it was not read
        from the device. epoch: from 0 up. done: share of the whole run, 0..1.
        """
        if not self._enabled:
            return
        self._step += steps
        self._samples += samples
        self._wait += wait_s
        self._epoch, self._done = epoch, done
        if loss is not None and math.isfinite(loss):
            self._last_loss = loss
            self._loss += loss
            self._losses += 1
        self._last_update = now = time.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + TICK_SECONDS
            self._tick(now)

    def dev(self, mean_mm: float, median_mm: float) -> None:
        """Tell the result of an evaluation on dev data, in millimetres."""
        self._dev_mm = mean_mm
        # The time that the evaluation took says nothing of the speed of training.
        pause = time.monotonic() - self._last_update
        self._window = deque(replace(mark, time=mark.time + pause) for mark in self._window)
        self._told = self._step
        self.message(
            f"epoch {self._epoch + 1}, step {self._step}: error on dev data {mean_mm:.2f} mm mean, "
            f"{median_mm:.2f} mm median"
        )

    def message(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        if not self._enabled:
            return
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Leave the last state on the screen, or as a last line. Safe to call twice."""
        if self._bar is not None:
            self._draw(self._bar, time.monotonic())
            self._bar.close()
            self._bar = None
        elif self._enabled and self._step != self._told:
            self._next_line = -math.inf
            self._tick(self._last_update)
        self._enabled = False

    def _tick(self, now: float) -> None:
        if self._first is None:
            # From the end of the first step on: compiling and the first data are no measure for the rest.
            self._first = now, self._done
        self._window.append(_Mark(now, self._samples, self._wait, self._loss, self._losses))
        while len(self._window) > 2 and now - self._window[1].time > WINDOW_SECONDS:
            self._window.popleft()
        if self._bar is not None:
            self._draw(self._bar, now)
        elif now >= self._next_line:
            self._next_line, self._told = now + LINE_SECONDS, self._step
            self.message(f"{self._done:4.0%}, {self._state(now)}")

    def _draw(self, bar: tqdm[None], now: float) -> None:
        bar.n = self._step if self._total_steps else self._done * float(bar.total)
        width = bar.format_dict["ncols"]
        brief = width is not None and width < WIDE
        bar.bar_format = "{percentage:3.0f}% {desc}" if brief else "{percentage:3.0f}%|{bar}| {desc}"
        bar.set_description_str(self._state(now, brief), refresh=False)
        bar.refresh()

    def _state(self, now: float, brief: bool = False) -> str:
        """What is known, the most wanted first: a terminal that is too narrow cuts the end off."""
        found = [f"epoch {self._epoch + 1}", self._count(brief)]
        if self._first is not None and self._done > self._first[1]:
            left = (now - self._first[0]) * max(0.0, 1 - self._done) / (self._done - self._first[1])
            found.append(f"{tqdm.format_interval(round(left))} left")
        if not self._window:
            return ", ".join(found)
        then, last = self._window[0], self._window[-1]
        if last.losses:
            recent = last.losses - then.losses
            found.append(f"loss {(last.loss - then.loss) / recent if recent else self._last_loss:.3g}")
        if self._dev_mm is not None:
            found.append(f"dev {self._dev_mm:.1f} mm")
        if last.time > then.time:
            seconds = last.time - then.time
            speed = (last.samples - then.samples) / seconds
            found.append(f"{speed:.{0 if speed >= 10 else 1}f}{'/s' if brief else ' samples/s'}")
            found.append(f"{'wait' if brief else 'data wait'} {min(1.0, (last.wait - then.wait) / seconds):.0%}")
        return ", ".join(found)

    def _count(self, brief: bool) -> str:
        if self._total_steps is not None:
            return f"{'' if brief else 'step '}{self._step}/{self._total_steps}"
        if self._total_minutes is not None:
            return f"{self._done * self._total_minutes:.1f}/{self._total_minutes:g} min"
        return f"step {self._step}"
