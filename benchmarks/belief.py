"""What tells hands from what is only taken for one: fits the weights of `tracker/tracking/belief.py`.

    python benchmarks/belief.py [--cache DIR] [--frames N] [--model M] [--segmentation S]

The tracker follows everything that it takes for a hand, however doubtful, in the tuning situations and 140 further ones
(seeds 870,000,000 to 870,000,199: neither training nor the frozen test set has them). Of each estimate is noted what
the networks say, and whether it is a true hand. A logistic regression of the one on the other is fitted to all of them;
the table is of situations that a fit to the other half of them did not see: which share of the hands, and how many
others a frame, have these log odds and more.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import accuracy_set
import numpy as np
from machine import machine
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from tqdm import tqdm

from tracker import Tracker, TrackerConfig
from tracker.camera.frame import DepthFrame
from tracker.errors import TrackerError
from tracker.stream.message import HandsMessage
from tracker.tracking import belief
from tracker.tracking.hypotheses import Estimate
from tracker.tracking.track import Track
from trainer.judging.pairing import FAR, pair

LEAST = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class Noted:
    """An estimate. values: its `evidence`. real: whether it is a true hand."""

    situation: int
    values: tuple[float, float, float]
    real: bool


class Noting(Tracker):
    """A tracker that notes what it looks at, and refuses nothing."""

    def track(self, frame: DepthFrame, camera: str = "", dropped: int = 0) -> HandsMessage:
        """See `Tracker`."""
        self.looked: list[tuple[Estimate, tuple[float, float, float]]] = []
        return super().track(frame, camera, dropped)

    def _believed(self, frame: DepthFrame, chosen: Sequence[tuple[Track, Estimate]]) -> list[tuple[Track, Estimate]]:
        for _, estimate in chosen:
            self.looked.append((estimate, belief.evidence(estimate, self._sight.likeness(frame, estimate.joints))))
        return super()._believed(frame, chosen)


def noted(tracker: Noting, cache: Path | None, frames: int) -> tuple[list[Noted], int]:
    """All estimates of the situations, and of how many frames they are. Raises TrackerError."""
    plan = accuracy_set.plan(accuracy_set.TUNING_SEEDS) + accuracy_set.plan(accuracy_set.FURTHER_SEEDS)
    result, count = [], 0
    for number, source in enumerate(tqdm(accuracy_set.sources(plan, cache), unit="situation", disable=None)):
        tracker.reset()
        for view in islice(source.views(None), frames):
            tracker.track(view.frame)  # what is published is fitted to bones; here the estimates count
            count += 1
            partial = [hand.joints for hand in view.partial]
            estimates = [estimate for estimate, _ in tracker.looked]
            true = set(pair(estimates, view.frame.truth or ()).values())
            for place, (estimate, values) in enumerate(tracker.looked):
                far = (np.linalg.norm(estimate.joints - joints, axis=1).mean() > FAR for joints in partial)
                if place in true or all(far):
                    result.append(Noted(number, values, place in true))
    return result, count


def fitted(values: NDArray[np.floating], real: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Weights (k,) of the values (n, k) and the offset after them, (k + 1,): logistic regression, weak ridge."""
    scale = values.std(axis=0)
    middle = values.mean(axis=0)
    inputs = np.column_stack([(values - middle) / scale, np.ones(len(values))])
    sign = np.where(real, 1.0, -1.0)

    def cost(weights: NDArray[np.floating]) -> tuple[float, NDArray[np.floating]]:
        margin = sign * (inputs @ weights)
        ridge = 0.5 * np.append(weights[:-1], 0)
        return float(np.logaddexp(0, -margin).sum() + ridge @ weights), 2 * ridge - inputs.T @ (sign * expit(-margin))

    best = minimize(cost, np.zeros(inputs.shape[1]), jac=True, method="BFGS").x
    slopes = best[:-1] / scale
    return np.append(slopes, best[-1] - slopes @ middle)


def main() -> int:
    """Run the benchmark; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, help="keep rendered frames here")
    parser.add_argument("--frames", type=int, default=12, help="of each situation (default: 12)")
    parser.add_argument("--model", default="v2v-lite")
    parser.add_argument("--segmentation", default="network", help="network, or a weights file")
    options = parser.parse_args()
    if options.frames < 1:
        parser.error("--frames must be at least 1")
    belief.FURTHER = belief.LONE = -math.inf  # type: ignore[misc]
    try:
        with Noting(options.model, config=TrackerConfig(segmentation=options.segmentation)) as tracker:
            estimates, frames = noted(tracker, options.cache, options.frames)
    except TrackerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    values = np.array([each.values for each in estimates])
    real = np.array([each.real for each in estimates])
    half = np.array([each.situation % 2 for each in estimates])
    odds = np.empty(len(real))
    for fold in (0, 1):
        weights = fitted(values[half != fold], real[half != fold])
        odds[half == fold] = values[half == fold] @ weights[:-1] + weights[-1]
    used = values @ (belief.PRESENCE, belief.CONFIDENCE, belief.LIKENESS) + belief.OFFSET
    print(f"{machine()}\n\n{frames} frames, {real.sum()} estimates of true hands, {(~real).sum()} others\n")
    names = ("presence", "confidence", "likeness", "offset")
    print(", ".join(f"{name} {weight:.2f}" for name, weight in zip(names, fitted(values, real))), "\n")
    print(
        "| log odds at least | hands, fitted to the other half | others a frame | hands, as shipped | others a frame |"
    )
    print("|---|---|---|---|---|")
    for least in LEAST:
        cells = [f"{(o[real] >= least).mean():.1%} | {(o[~real] >= least).sum() / frames:.3f}" for o in (odds, used)]
        print(f"| {least:g} | {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
