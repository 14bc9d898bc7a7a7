"""Training curves of a run: `log.jsonl` to `curves.png`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from trainer.showing.event_log import FILE, read_log

PICTURE: Final = "curves.png"


def draw_curves(folder: Path) -> None:
    """Draw loss, learning rate, dev error and speed over the steps of the run in `folder`, as `curves.png`.

    The picture is replaced as a whole, so that a viewer never meets half of one. Raises DataError if the log is
    missing or damaged, OSError if the picture cannot be written.
    """
    events = read_log(folder / FILE)
    train = [event for event in events if event.get("event") == "train"]
    dev = [event for event in events if event.get("event") == "dev"]
    figure = Figure(figsize=(11, 7), layout="constrained")
    FigureCanvasAgg(figure)
    loss, rate, error, speed = figure.subplots(2, 2).flat
    _panel(loss, train, {"loss": "loss"}, "training loss", log_scale=True)
    _panel(rate, train, {"learning_rate": "learning rate"}, "learning rate")
    _panel(error, dev, {"dev_mean_mm": "mean", "dev_median_mm": "median"}, "error on dev data (mm)")
    error.set_ylim(bottom=0)
    _panel(speed, train, {"samples_per_second": "samples a second"}, "samples a second")
    speed.set_ylim(bottom=0)
    wait = speed.twinx()
    steps, share = _values(train, "data_wait")
    wait.plot(steps, 100 * share, color="tab:orange", linewidth=1)
    wait.set_ylim(0, 100)
    wait.set_ylabel("waiting for data (%)", color="tab:orange")
    partial = folder / f".{PICTURE}.partial"
    figure.savefig(partial, format="png", dpi=90)
    partial.replace(folder / PICTURE)


def _panel(
    axes: Axes, events: Sequence[Mapping[str, Any]], keys: Mapping[str, str], title: str, log_scale: bool = False
) -> None:
    axes.set_title(title)
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    for key, name in keys.items():
        steps, values = _values(events, key)
        known = values[np.isfinite(values)]
        marker = "." if len(steps) < 60 else ""
        axes.plot(
            steps, values, marker=marker, linewidth=1.2, label=f"{name}, last {known[-1]:.4g}" if len(known) else name
        )
        if log_scale and len(known) and known.min() > 0:
            axes.set_yscale("log")
    axes.legend(fontsize="small")


def _values(events: Sequence[Mapping[str, Any]], key: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps and values of a key, (n,) each; NaN where an event has null."""
    pairs = [(event["step"], event[key]) for event in events if "step" in event and key in event]
    both = np.array(pairs, np.float64).reshape(-1, 2)
    return both[:, 0], both[:, 1]
