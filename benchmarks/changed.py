"""Real recordings, changed: mirrored, turned, seen from elsewhere, by a worse camera, in another room.

    python benchmarks/changed.py [--real FOLDER] [--model M] [--segmentation S] [--only NAME ...] [--write FILE.md]

There are few real recordings whose hands are known. Each change makes others of them, in which a tracker should find
the same hands: its published hands are mapped back and judged as those of the recordings themselves (`accuracy.py --set
real`). Views from elsewhere are the points that were measured, seen anew, with holes where nothing was.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import accuracy_real
import cv2
import numpy as np
from accuracy_run import Method, Source
from accuracy_tables import check_region, replace_region
from accuracy_tally import Observation
from machine import machine
from numpy.typing import NDArray

from tracker import Tracker
from tracker.camera.frame import DepthFrame, Intrinsics
from tracker.errors import TrackerError
from tracker.stream.message import Hand

MIDDLE = np.array([0.0, 0.0, 0.55])
"""About where the hands of the recordings are: views from elsewhere turn about it."""
ACROSS = 0.05
"""Metres: a pixel so far behind most of its neighbours shows what is behind a gap between points."""


@dataclass(frozen=True, slots=True)
class Change:
    """turned, moved: what happens to the world, p -> turned @ p + moved, metres, camera frame; seen: what the camera
    then makes of the frame.
    """

    seen: Callable[[DepthFrame], DepthFrame]
    turned: NDArray[np.floating]
    moved: NDArray[np.floating]

    def back(self, hand: Hand) -> Hand:
        """A published hand as it is in the recording."""
        joints = ((hand.joints - self.moved) @ self.turned).astype(np.float32)
        mirrored = np.linalg.det(self.turned) < 0
        return replace(
            hand, joints=joints, side=("left" if hand.side == "right" else "right") if mirrored else hand.side
        )


def in_image(seen: Callable[[DepthFrame], DepthFrame]) -> Change:
    """The world as it is."""
    return Change(seen, np.eye(3), np.zeros(3))


def mirrored(frame: DepthFrame) -> DepthFrame:
    """Right and left exchanged."""
    k = frame.intrinsics
    return replace(
        frame, depth=np.ascontiguousarray(frame.depth[:, ::-1]), intrinsics=replace(k, cx=k.width - 1 - k.cx)
    )


def rolled(quarters: int) -> Change:
    """The camera turned about its axis, clockwise, by quarters."""

    def seen(frame: DepthFrame) -> DepthFrame:
        for _ in range(quarters):
            k = frame.intrinsics
            turned = Intrinsics(k.height, k.width, k.fy, k.fx, k.cy, k.width - 1 - k.cx)
            frame = replace(frame, depth=np.ascontiguousarray(np.rot90(frame.depth)), intrinsics=turned)
        return frame

    quarter = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    return Change(seen, np.linalg.matrix_power(quarter, quarters), np.zeros(3))


def from_elsewhere(turned: NDArray[np.floating], moved: NDArray[np.floating]) -> Change:
    """The points that were measured, each a pixel, before one another."""

    def seen(frame: DepthFrame) -> DepthFrame:
        points = frame.points().reshape(-1, 3).astype(np.float64)
        points = points[points[:, 2] > 0] @ turned.T + moved
        points = points[points[:, 2] > 0.1]
        k = frame.intrinsics
        column, row = np.rint(k.project(points)).astype(np.int64).T
        inside = (column >= 0) & (column < k.width) & (row >= 0) & (row < k.height)
        far = 10.0
        depth = np.full(k.width * k.height, far)
        np.minimum.at(depth, row[inside] * k.width + column[inside], points[inside, 2])
        image = depth.reshape(k.height, k.width).astype(np.float32)
        # Points have drawn apart: what lies between them is what most of the neighbours are.
        most = cv2.medianBlur(image, 3)
        image = np.where((image - most > ACROSS) & (most < far), most, image)
        counts = np.where(image < far, np.rint(image / frame.depth_scale), 0)
        return replace(frame, depth=np.clip(counts, 0, 65535).astype(np.uint16))

    return Change(seen, turned, moved)


def about(axis: int, degrees: float) -> Change:
    """The camera elsewhere on a circle about the hands. axis: 0 above or below, 1 to the left or the right."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned = np.eye(3)
    one, other = [i for i in range(3) if i != axis]
    turned[[one, one, other, other], [one, other, one, other]] = c, -s, s, c
    return from_elsewhere(turned, MIDDLE - turned @ MIDDLE)


def measured(change: Callable[[NDArray[np.float32], np.random.Generator], NDArray[np.floating]]) -> Change:
    """Another depth image, metres, from the one that is there. The same for the same frame number."""

    def seen(frame: DepthFrame) -> DepthFrame:
        metres = change(frame.metres(), np.random.default_rng(frame.number))
        counts = np.rint(np.clip(metres / frame.depth_scale, 0, 65535))
        return replace(frame, depth=counts.astype(np.uint16))

    return in_image(seen)


def halved(frame: DepthFrame) -> DepthFrame:
    """Every other row and column."""
    k, depth = frame.intrinsics, np.ascontiguousarray(frame.depth[::2, ::2])
    return replace(
        frame,
        depth=depth,
        intrinsics=Intrinsics(depth.shape[1], depth.shape[0], k.fx / 2, k.fy / 2, k.cx / 2, k.cy / 2),
    )


def _holes(z: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    noise = cv2.GaussianBlur(random.normal(size=z.shape).astype(np.float32), (0, 0), 3)
    return np.where(noise < np.quantile(noise, 0.15), np.float32(0), z)


def _noisy(z: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.floating]:
    return np.where(z > 0, z + random.normal(size=z.shape) * 0.01 * z**2, 0)


CHANGES = {
    "as it is": in_image(lambda frame: frame),
    "mirrored": Change(mirrored, np.diag([-1.0, 1.0, 1.0]), np.zeros(3)),
    "camera on its left side": rolled(1),
    "upside down": rolled(2),
    "on its right side": rolled(3),
    "0.2 m further away": from_elsewhere(np.eye(3), np.array([0, 0, 0.2])),
    "0.4 m further away": from_elsewhere(np.eye(3), np.array([0, 0, 0.4])),
    "25 degrees from above": about(0, 25),
    "from below": about(0, -25),
    "from one side": about(1, 25),
    "from the other": about(1, -25),
    "every other pixel": in_image(halved),
    "10 mm of noise at 1 m": measured(_noisy),
    "15 % in holes": measured(_holes),
    "30 % of the pixels gone": measured(lambda z, random: np.where(random.random(z.shape) < 0.3, 0, z)),
    "in steps of 6 mm": measured(lambda z, random: np.rint(z / 0.006) * 0.006),
    "nothing beyond 0.8 m": measured(lambda z, random: np.where(z > 0.8, 0, z)),
    "a wall at 1.2 m, nothing from 0.9 m on": measured(lambda z, random: np.where((z > 0.9) | (z == 0), 1.2, z)),
}


def tracked(tracker: Tracker, source: Source, change: Change) -> list[Observation]:
    """What a tracker says of a changed recording, as if of the recording. Raises CameraError."""
    tracker.reset()
    result = []
    for place, view in enumerate(source.views(None)):
        hands = tracker.track(replace(change.seen(view.frame), truth=None), source.camera).hands
        result.append(
            Observation(
                sequence=source.name,
                kind=source.kind,
                camera=source.camera,
                number=view.frame.number,
                place=place,
                truth=view.frame.truth or (),
                hidden=None,
                partial=(),
                hands=tuple(change.back(hand) for hand in hands),
                segment_ms=0.0,
                labelled=view.frame.truth is not None,
            )
        )
    return result


def cell(figures: dict[str, object], frames: int) -> str:
    """What came of a recording, as text."""
    if "found" not in figures:
        return f"{figures['published']} published in {frames}"  # nobody knows what hands are there
    parts = [f"{figures['found']} of {frames}"]
    if figures.get("false_hands"):
        parts.append(f"{figures['false_hands']} false")
    if figures.get("found_side", figures.get("found")) != figures.get("found"):
        parts.append(f"side {figures['found_side']}")
    trusted = figures.get("trusted") or figures.get("labelled")
    if isinstance(trusted, dict) and trusted["median_mm"] is not None:
        parts.append(f"{trusted['median_mm']:.1f} mm")
    return ", ".join(parts)


def main() -> int:
    """Run the benchmark; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, default=accuracy_real.DEFAULT, metavar="FOLDER", help="of recordings")
    parser.add_argument("--model", default="v2v-lite")
    parser.add_argument("--segmentation", default="network", help="network, geometric, or a weights file")
    parser.add_argument("--only", nargs="+", choices=list(CHANGES), default=list(CHANGES), metavar="NAME")
    parser.add_argument("--write", type=Path, metavar="FILE.md", help="rewrite the table in a document")
    options = parser.parse_args()
    if options.write and len(options.only) < len(CHANGES):
        parser.error("--write keeps the whole table only: leave --only out")
    lines: list[str] = []

    def tell(*more: str) -> None:
        lines.extend(more)
        print(*more, sep="\n", flush=True)

    try:
        if options.write:
            check_region(options.write, "changed")
        recordings = accuracy_real.sources(options.real)
        method = Method("", options.model, options.segmentation)
        with method.open(None) as tracker:
            tell(f"{machine()}; {method.described(tracker.engine.name)}", "")
            tell(f"| | {' | '.join(source.name for source in recordings)} |", "|---" * (1 + len(recordings)) + "|")
            for name in options.only:
                seen = [(source.name, tracked(tracker, source, CHANGES[name])) for source in recordings]
                cells = [cell(accuracy_real.real_figures(of, all_of), len(all_of)) for of, all_of in seen]
                tell(f"| {name} | {' | '.join(cells)} |")
        if options.write:
            replace_region(options.write, "changed", "\n".join(lines))
    except TrackerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
