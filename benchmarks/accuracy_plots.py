"""Curves of the synthetic set, several methods side by side: errors within a threshold, promises of confidence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

CURVE_MM = 50.0
"""Curves run from 0 to this error."""


def draw_plots(path: Path, methods: Mapping[str, Mapping[str, Any]]) -> None:
    """Two panels as PNG. methods: name to what `accuracy_figures.figures` gives. Raises OSError.

    Left: the share of all true joints that were found within an error; what was missed keeps the curve below 100 %.
    Right: the share of joints within 10 mm at each `joint_confidence`; dots are as large as they have joints.
    """
    figure = Figure(figsize=(10, 4.2), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    right.plot([0, 100], [0, 100], color="0.6", linewidth=0.8, linestyle="--")
    for number, (name, figures) in enumerate(methods.items()):
        color, shares = f"C{number % 10}", np.array(figures["joints_within"], float)
        left.plot(np.linspace(0, CURVE_MM, len(shares)), 100 * shares, color=color, label=name)
        bins = figures["reliability"]
        joints = np.array([each["joints"] for each in bins], float)
        promised = [100 * each["confidence"] for each in bins]
        kept = [100 * each["within_10_mm"] for each in bins]
        right.plot(
            promised, kept, color=color, linewidth=1, label=f"{name}, error {figures['calibration_error'] or 0:.3f}"
        )
        right.scatter(promised, kept, 150 * joints / max(joints.sum(), 1) + 4, color=color)
    left.set(title="True joints found within", xlabel="error, mm", ylabel="share, %", xlim=(0, CURVE_MM), ylim=(0, 101))
    right.set(
        title="Promised and kept", xlabel="joint_confidence, %", ylabel="within 10 mm, %", xlim=(0, 100), ylim=(0, 101)
    )
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
