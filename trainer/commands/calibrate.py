"""`python -m trainer calibrate`: make the confidence of weights mean something in the whole tracker."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.commands.arguments import card_of, command_line, commit, positive

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tracker.hand_tracker import Tracker
    from tracker.simulation.situations import Situation

FIRST_SEED = 801_000_000
"""Of the situations that are tracked here: neither training nor the test set draws them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `calibrate`."""
    parser.add_argument("weights", metavar="WEIGHTS", help="a weights file of `fit`, or the name of shipped ones")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where to write them (default: the file itself)")
    parser.add_argument(
        "--segmentation",
        default="network",
        metavar="FILE",
        help="weights of another segmentation network to find hands by",
    )
    parser.add_argument("--sequences", type=positive, default=120, help="situations to track (default: 120)")
    parser.add_argument("--frames", type=positive, default=30, help="of each (default: 30)")


def run(options: argparse.Namespace) -> int:
    """`python -m trainer calibrate WEIGHTS`."""
    from dataclasses import replace

    import numpy as np
    from scipy.special import expit, logit
    from tqdm import tqdm

    from tracker.errors import DataError
    from tracker.hand_tracker import Tracker
    from tracker.network.hand_network import HandNetwork, follow_curve
    from tracker.network.weights import SEGMENTER, find_weights, load_weights, save_weights, shipped_weights
    from tracker.simulation.cameras import CAMERAS
    from tracker.simulation.situations import Situation
    from tracker.simulation.stage import KINDS
    from tracker.tracking.config import TrackerConfig
    from trainer.judging.confidence import calibrated, calibration_error, fit_confidence, fit_curve

    if options.weights == SEGMENTER:
        raise DataError("the segmentation network has no confidence of joints: give weights of a hand network")
    shipped = options.weights in shipped_weights()
    if shipped and options.output is None:
        raise DataError("shipped weights are not changed in place: give --output FILE")
    if options.sequences < 2:
        raise DataError("--sequences must be at least 2: one half is fitted, the other judged")
    path = find_weights(options.weights)
    network = load_weights(path)
    card = card_of(path)
    target = options.output or path
    if target.suffix != ".safetensors" or not os.access(target.parent, os.W_OK):
        raise DataError(f"{target} cannot be written: give a file *.safetensors in a folder that can")
    slope, offset = network.config.calibration
    if slope == 0:
        raise DataError(f"{path} says the same confidence of every joint (slope 0): train it again")
    kinds, cameras = tuple(KINDS), tuple(CAMERAS.values())
    found: list[list[tuple[NDArray[np.floating], NDArray[np.floating]]]] = [[], []]
    with Tracker(str(path), config=TrackerConfig(segmentation=options.segmentation)) as tracker:
        tracker.curve = ()  # fitted anew
        for number in tqdm(range(options.sequences), unit="sequence", disable=None):
            # Kinds and cameras take turns; each is half fitted, half judged.
            rounds = number // len(kinds)
            camera = cameras[(number + rounds) % len(cameras)]
            situation = Situation(FIRST_SEED + number, kinds[number % len(kinds)], camera)
            found[(number + rounds) % 2] += _tracked(tracker, situation, options.frames)
    if not all(found):
        raise DataError("no hands were found in one half of the situations: take more --sequences, or train longer")
    (fit_p, fit_mm), (held_p, held_mm) = (tuple(map(np.concatenate, zip(*half))) for half in found)

    def raw(p: NDArray[np.floating]) -> NDArray[np.floating]:
        """What the network said before it was calibrated."""
        return expit((logit(np.clip(p.astype(np.float64), 1e-6, 1 - 1e-6)) - offset) / slope)

    new = fit_confidence(raw(fit_p), fit_mm)
    curve = fit_curve(calibrated(raw(fit_p), *new), fit_mm)
    before = calibration_error(follow_curve(network.config.curve, held_p), held_mm)
    logistic = calibrated(raw(held_p), *new)
    after = calibration_error(follow_curve(curve, logistic), held_mm)
    better = HandNetwork(replace(network.config, calibration=new, curve=curve))
    better.v2v.load_state_dict(network.v2v.state_dict())
    card["confidence"] = {
        "command": command_line(),
        "commit": commit(),
        "fitted_on": f"published joints of every other of {options.sequences} situations of {options.frames} frames, "
        f"kinds and cameras in turn, seeds from {FIRST_SEED}; judged on the rest",
        "calibration_error_before": round(before, 4),
        "calibration_error_without_curve": round(calibration_error(logistic, held_mm), 4),
        "calibration_error": round(after, 4),
    }
    save_weights(target, better, card)
    print(f"calibration error of published joints {before:.3f} -> {after:.3f} (held out); written to {target}")
    if not curve:
        print("no curve: too few joints were found to fit one; take more --sequences or --frames")
    if after > before:
        print("that is no better than it was: take more --sequences to be sure, or keep the weights as they were")
    return 0


def _tracked(
    tracker: Tracker, situation: Situation, frames: int
) -> Iterator[tuple[NDArray[np.floating], NDArray[np.floating]]]:
    """Confidence and error in mm of the joints (21,) of each published hand of a situation.

    Each begins somewhere in its gestures, so that all that hands do is met, not only what they do at first.
    """
    import numpy as np

    from tracker.simulation.situations import FRAMES_PER_SECOND, POSE_SECONDS
    from trainer.judging.pairing import pair

    tracker.reset()
    first = round(np.random.default_rng([situation.seed, 44]).uniform(0, 4 * POSE_SECONDS) * FRAMES_PER_SECOND)
    for number in range(first, first + frames):
        frame = situation.shot(number / FRAMES_PER_SECOND).frame
        truth = frame.truth or ()
        hands = tracker.track(frame).hands
        for known, published in pair(hands, truth).items():
            away = np.linalg.norm(hands[published].joints - truth[known].joints, axis=1)
            yield hands[published].joint_confidence, 1000 * away
