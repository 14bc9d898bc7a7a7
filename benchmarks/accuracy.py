"""How well hands are tracked where the truth is known: the simulated camera, or a recording with joints.jsonl.

    python benchmarks/accuracy.py --camera simulated --frames 300
    python benchmarks/accuracy.py --camera PATH

Runs the whole tracker, every frame, and compares the published joints with the truth of the same frame.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise, permutations

import numpy as np
from machine import machine
from numpy.typing import NDArray

from tracker import Tracker, TrackerConfig, open_camera
from tracker.camera.frame import HandTruth
from tracker.errors import TrackerError
from tracker.hand.skeleton import JOINT_NAMES
from tracker.stream.message import Hand
from trainer.judging.evaluate import calibration_error

FAR = 0.10
"""Metres: a published hand whose joints are further from every true hand than this on average is a false hand."""


@dataclass
class Tally:
    """What is counted over a run."""

    frames: int = 0
    true_hands: int = 0
    found: int = 0
    false: int = 0
    whole_frames: int = 0
    wrong_side: int = 0
    ids: dict[int, list[int]] = field(default_factory=dict)
    errors: list[NDArray[np.float32]] = field(default_factory=list)
    centred: list[NDArray[np.float32]] = field(default_factory=list)
    confidence: list[NDArray[np.float32]] = field(default_factory=list)
    tracked: list[NDArray[np.bool_]] = field(default_factory=list)

    def add(self, hands: Sequence[Hand], truth: Sequence[HandTruth]) -> None:
        """Count a frame."""
        self.frames += 1
        self.true_hands += len(truth)
        matched = match(hands, truth)
        self.false += len(hands) - len(matched)
        self.found += len(matched)
        self.whole_frames += len(matched) == len(truth) and len(hands) == len(truth)
        for index, hand in matched:
            known = truth[index]
            self.ids.setdefault(index, []).append(hand.id)
            self.wrong_side += known.side is not None and hand.side != known.side
            offset = hand.joints - known.joints
            self.errors.append(np.linalg.norm(offset, axis=1))
            self.centred.append(np.linalg.norm(offset - np.nanmean(offset, axis=0), axis=1))
            self.confidence.append(hand.joint_confidence)
            self.tracked.append(hand.joint_tracked)


def match(hands: Sequence[Hand], truth: Sequence[HandTruth]) -> list[tuple[int, Hand]]:
    """The pairing of published and true hands with the most pairs, and of these the nearest."""
    cost = np.array([[float(np.nanmean(np.linalg.norm(h.joints - t.joints, axis=1))) for h in hands] for t in truth])
    best: list[tuple[int, Hand]] = []
    best_cost = np.inf
    for order in permutations(range(len(hands)), min(len(hands), len(truth))):
        for rows in permutations(range(len(truth)), len(order)):
            pairs = [(row, hands[column]) for row, column in zip(rows, order) if cost[row, column] < FAR]
            total = sum(cost[row, column] for row, column in zip(rows, order) if cost[row, column] < FAR)
            if (-len(pairs), total) < (-len(best), best_cost):
                best, best_cost = pairs, total
    return best


def report(tally: Tally) -> list[str]:
    """The table."""
    lines = [
        f"frames                     {tally.frames}",
        f"true hands found           {100 * tally.found / max(tally.true_hands, 1):.1f} % of {tally.true_hands}",
        f"frames with every hand     {100 * tally.whole_frames / max(tally.frames, 1):.1f} %",
        f"false hands a frame        {tally.false / max(tally.frames, 1):.3f}",
        f"wrong side                 {100 * tally.wrong_side / max(tally.found, 1):.1f} %",
    ]
    if not tally.errors:
        return lines
    changes = sum(sum(a != b for a, b in pairwise(ids)) for ids in tally.ids.values())
    stable = sum(max(ids.count(i) for i in set(ids)) for ids in tally.ids.values())
    errors = np.stack(tally.errors) * 1000
    centred = np.stack(tally.centred) * 1000
    known = np.isfinite(errors)
    confidence = np.stack(tally.confidence)
    p, right = confidence[known], errors[known] <= 10
    tracked = np.stack(tally.tracked)
    lines += [
        f"id changes                 {changes}",
        f"hands under their main id  {100 * stable / max(tally.true_hands, 1):.1f} % of the true hands",
        f"joint error, mean          {np.nanmean(errors):.1f} mm",
        f"joint error, median        {np.nanmedian(errors):.1f} mm",
        f"  after removing the mean  {np.nanmean(centred):.1f} mm",
        f"  of joints that are seen  {np.nanmean(np.where(tracked, errors, np.nan)):.1f} mm",
        f"  of inferred joints       {np.nanmean(np.where(tracked, np.nan, errors)) if (~tracked).any() else 0:.1f} mm",
        f"share within 10 mm         {100 * right.mean():.1f} %, mean confidence {100 * p.mean():.1f} %",
        f"calibration error          {calibration_error(confidence, errors):.3f}",
        "mean error of each joint, mm:",
    ]
    each = np.nanmean(np.where(np.isfinite(errors).any(axis=0), errors, 0), axis=0)
    lines += [
        "  " + "  ".join(f"{n:>10} {e:5.1f}" for n, e in list(zip(JOINT_NAMES, each))[i : i + 4])
        for i in range(0, 21, 4)
    ]
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--camera", default="simulated", help="a source with known joints (default: simulated)")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--model", default="auto")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--hands", type=int, default=2)
    parser.add_argument("--raw", action="store_true", help="without the One Euro filter (for frames far apart in time)")
    options = parser.parse_args()
    tally = Tally()
    try:
        config = TrackerConfig(hands=options.hands, filter=None if options.raw else TrackerConfig().filter)
        with (
            Tracker(options.model, options.engine, config=config) as tracker,
            open_camera(options.camera, realtime=False) as camera,
        ):
            for _ in range(options.frames):
                frame = camera.read()
                if frame is None:
                    break
                if frame.truth is None:
                    raise TrackerError(f"{options.camera} does not know where its hands are (joints.jsonl is missing)")
                tally.add(tracker.track(frame, camera.name).hands, frame.truth)
            name = f"{camera.name}, model {tracker.model}, engine {tracker.engine.name} on {tracker.engine.device}"
    except TrackerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(name, machine(), *report(tally), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
