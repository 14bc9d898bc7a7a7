"""Simulated depth cameras beside real ones: how rough, how holed and how ragged a hand comes out.

    python benchmarks/sensors.py --cameras 150
    python benchmarks/sensors.py --real FOLDER --cameras 150

Everything is measured in a square of 26 cm about the hand. Roughness: median RMS residual of planes through 3x3
pixels. Holes: share of the hand's pixels without a reading that have readings about them. Isolated pixels: those with
at most one neighbour within 1 cm, for each pixel of the hand's outline. A real recording gives the median over its
frames; simulated cameras, drawn at random, the 10th to 90th percentile. Of real frames only these numbers are kept.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import accuracy_real
import cv2
import numpy as np
from accuracy_run import Source
from accuracy_tables import Table, show
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from tqdm import tqdm

from tracker.camera.frame import DepthFrame, Intrinsics
from tracker.errors import TrackerError
from tracker.simulation.cameras import random_camera
from tracker.simulation.scene import Scene
from tracker.simulation.sensing import sense

EDGE = 0.26
"""Metres of the square about a hand."""
DEEP = 0.1
"""Metres before and behind its middle in which a pixel is the hand's."""
FLAT = 0.012
"""Metres by which the pixels of a plane may differ: more is an edge."""
JUMP = 0.03
"""Metres to a neighbour from which a pixel is one of the outline."""
SEED = 5

Figures = tuple[float, float, float]
"""Roughness in mm, holes and isolated pixels in %."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, metavar="FOLDER", help="recordings, as of accuracy.py --set real")
    parser.add_argument("--cameras", type=int, default=150, metavar="N", help="simulated ones (default: 150)")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    options = parser.parse_args()
    if options.cameras < 1:
        parser.error(f"--cameras must be at least 1, is {options.cameras}")
    try:
        rows = [_real_row(source) for source in accuracy_real.sources(options.real)] if options.real else []
    except TrackerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    found: dict[str, list[Figures]] = defaultdict(list)
    for name, figures in tqdm(simulated(options.cameras), total=options.cameras, unit="camera"):
        found[name].append(figures)
    every = [figures for each in found.values() for figures in each]
    rows += [_simulated_row(name, found[name]) for name in sorted(found)] + [_simulated_row("any", every)]
    header = ["", "images", "roughness, mm", "holes, %", "isolated pixels, %"]
    print(show([Table("Hands as cameras see them", header, rows)], options.markdown))
    return 0


def _real_row(source: Source) -> list[str]:
    """A recording. Raises TrackerError."""
    seen = []
    for view in source.views(None):
        middle = whereabouts(view.frame, source.name)
        if middle is not None:
            seen.append(measure(*_about(view.frame.metres(), view.frame.intrinsics, middle)))
    if not seen:
        return [f"real: {source.name}", "0", "-", "-", "-"]
    return [f"real: {source.name}", str(len(seen)), *(f"{value:.2f}" for value in np.nanmedian(seen, axis=0))]


def _simulated_row(name: str, seen: list[Figures]) -> list[str]:
    low, high = np.nanpercentile(seen, [10, 90], axis=0)
    return [f"simulated: {name}", str(len(seen)), *(f"{a:.2f} to {b:.2f}" for a, b in zip(low, high))]


def whereabouts(frame: DepthFrame, name: str) -> NDArray[np.floating] | None:
    """Middle of the hand (3,), metres, camera frame: of its labels, or of the readings where it is known to be."""
    if frame.truth:
        return np.nanmean(frame.truth[0].joints, axis=0)
    place = accuracy_real.KNOWN.get(name, accuracy_real.Known()).place
    if place is None:
        return None
    low, high = np.array(place).T
    points = frame.points().reshape(-1, 3)
    inside = points[((points > low) & (points < high)).all(axis=1)]
    return np.median(inside, axis=0) if len(inside) else None


def simulated(count: int) -> Iterator[tuple[str, Figures]]:
    """Name and figures of random cameras that look at one of seven persons."""
    rng = np.random.default_rng(SEED)
    for number in range(count):
        model = random_camera(rng)
        depth, truth = Scene(number % 7).depth(0.5 + number, model.intrinsics)
        metres = sense(model, depth, rng) * np.float32(model.depth_scale)
        yield model.name, measure(*_about(metres, model.intrinsics, truth[0].joints.mean(axis=0)))


def _about(
    metres: NDArray[np.float32], intrinsics: Intrinsics, middle: NDArray[np.floating]
) -> tuple[NDArray[np.float32], float]:
    """The square of an image (h, w) about a point (3,), and the distance of the point, metres."""
    side = int(EDGE * intrinsics.fx / middle[2])
    u, v = intrinsics.project(middle[None])[0]
    top, left = max(int(v - side / 2), 0), max(int(u - side / 2), 0)
    return metres[top : top + side, left : left + side], float(middle[2])


def measure(metres: NDArray[np.float32], distance: float) -> Figures:
    """Figures of a hand `distance` metres away in an image (h, w) in metres; nan where nothing can be measured."""
    hand = (metres > distance - DEEP) & (metres < distance + DEEP)
    if not hand.any():
        return np.nan, np.nan, np.nan
    closed = cv2.morphologyEx(
        hand.astype(np.uint8), cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    )
    holes = ((closed > 0) & (metres == 0)).sum() / (closed > 0).sum()

    around = sliding_window_view(np.pad(metres, 1), (3, 3)).reshape(*metres.shape, 9)
    planes = around[hand & (around > 0).all(axis=2) & (np.ptp(around, axis=2) < FLAT)].astype(np.float64)
    grid = np.array([[row, column, 1] for row in (-1, 0, 1) for column in (-1, 0, 1)], float)
    residual = planes @ (np.eye(9) - grid @ np.linalg.pinv(grid))
    # A plane takes three of the nine degrees of freedom.
    rough = np.median(np.sqrt((residual**2).sum(axis=1) / 6)) if len(planes) else np.nan

    neighbours = np.delete(around, 4, axis=2)
    apart = np.abs(neighbours - metres[..., None])
    outline = hand & (apart > JUMP).any(axis=2)
    company = ((apart < 0.01) & (neighbours > 0)).sum(axis=2)
    # Pixels that fly behind the hand count as well, the background does not.
    lonely = (metres > 0) & (metres < distance + 3 * DEEP) & (company <= 1)
    return 1e3 * float(rough), 100 * float(holes), 100 * float(lonely.sum() / max(outline.sum(), 1))


if __name__ == "__main__":
    sys.exit(main())
