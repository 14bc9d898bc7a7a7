"""Pictures of joint errors, several methods side by side, as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainer.judging.metrics import (
    CURVE_LIMIT,
    Errors,
    frames_area,
    frames_within,
    joint_means,
    joints_within,
    mean_error,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def _figure(width: float, height: float) -> Figure:
    # Drawn without pyplot: no window, no display, no global state.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=130)


def _style(method: int) -> dict[str, object]:
    return {"color": f"C{method % 10}", "linestyle": ("-", "--", ":", "-.")[method // 10 % 4]}


def plot_curves(path: Path, methods: Mapping[str, Errors]) -> None:
    """Share of frames with all joints within a threshold, and share of joints within it, 0 to 80 mm.

    The legend tells the mean error and the area under the left curve.
    methods: name to (n, J) errors in mm, see `trainer.judging.metrics`.
    """
    columns = 2 if len(methods) < 9 else 3
    figure = _figure(10.5, 4.3 + 0.22 * -(-len(methods) // columns))
    left, right = figure.subplots(1, 2, sharey=True)
    steps = np.linspace(0, CURVE_LIMIT, 321)
    for method, (name, error_mm) in enumerate(methods.items()):
        left.plot(
            steps,
            100 * frames_within(error_mm, steps),
            label=f"{name}: {mean_error(error_mm):.3f} mm, area {frames_area(error_mm):.3f}",
            **_style(method),
        )
        right.plot(steps, 100 * joints_within(error_mm, steps), **_style(method))
    left.set(title="Frames with all joints within", ylabel="share, %")
    right.set(title="Joints within")
    for axes in (left, right):
        axes.set(xlabel="error threshold, mm", xlim=(0, CURVE_LIMIT), ylim=(0, 101))
        axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=columns, fontsize="small", frameon=False)
    _save(figure, path)


def plot_joints(path: Path, methods: Mapping[str, Errors], joint_names: Sequence[str]) -> None:
    """Mean error of each joint and of all, a bar for each method. methods: as for `plot_curves`."""
    groups = [*joint_names, "mean"]
    figure = _figure(min(18.0, max(6.0, 1.5 + 0.42 * len(groups) * max(1.0, 0.5 * len(methods)))), 4.4)
    axes = figure.subplots()
    width = 0.84 / len(methods)
    for method, (name, error_mm) in enumerate(methods.items()):
        heights = [*joint_means(error_mm), mean_error(error_mm)]
        places = np.arange(len(groups)) + (method - (len(methods) - 1) / 2) * width
        axes.bar(places, heights, width, label=name, color=f"C{method % 10}", hatch="//" if method >= 10 else None)
    axes.set_xticks(range(len(groups)), [name.replace("_", " ") for name in groups], rotation=45, ha="right")
    axes.set(ylabel="mean error, mm", xlim=(-0.6, len(groups) - 0.4))
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.axvline(len(joint_names) - 0.5, color="0.6", linewidth=0.8)
    axes.legend(fontsize="small", ncols=min(4, len(methods)), loc="lower left", bbox_to_anchor=(0, 1))
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    part = path.with_name(path.name + ".part")
    try:
        figure.savefig(part, format="png")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
