"""How well and how fast hands are told from the rest of the image: the segmentation network and the geometric finder.

    python benchmarks/segmenter.py [--weights FILE ...] [--images 100] [--threads N]

Held-out situations, one image of each at up to 640 x 480 pixels, the same for all methods: figures of pixels and hands;
hands found and false regions by the score from which a region is taken for a hand; and times, of the first weights and
of the finder in the same run, so that their ratio says something on a busy machine, too.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from machine import machine

from tracker.camera.frame import DepthFrame
from tracker.engine.segmenting import open_segmenter
from tracker.errors import TrackerError
from tracker.network.weights import load_segmenter, shipped_segmenter
from tracker.tracking.finder import find_hands
from tracker.tracking.segmentation import forearm, full_mask, hands_in, segment
from tracker.tracking.sight import NEW_AREA
from trainer.data.segmentation import DEV_SEEDS, shots
from trainer.judging.segmentation import judge_geometry, judge_network, judge_scores, table

SCORES = (0.5, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--weights", type=Path, nargs="+", default=[shipped_segmenter()], help="one or several (default: those shipped)"
    )
    parser.add_argument("--images", type=int, default=100, help="situations (default: 100)")
    parser.add_argument("--threads", type=int, help="of OpenVINO (default: its own choice)")
    options = parser.parse_args()
    if not 1 <= options.images <= len(DEV_SEEDS):
        parser.error(f"--images must be from 1 to {len(DEV_SEEDS)}, is {options.images}")
    if options.threads is not None and options.threads < 1:
        parser.error(f"--threads must be at least 1, is {options.threads}")
    try:
        networks = [load_segmenter(path) for path in options.weights]
        engines = [open_segmenter(one, threads=options.threads) for one in networks]
    except TrackerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    network, run = networks[0], engines[0]
    taken = [shots(seed, 1, 640, 0.0)[0] for seed in DEV_SEEDS[-options.images :]]
    print(f"{len(taken)} images of held-out situations, on {machine()}\n")
    for number, path in enumerate(options.weights, start=1):
        print(f"{number}: {path.name if path == shipped_segmenter() else path}")
    several = list(enumerate(zip(engines, networks), start=1))
    judged = {f"network {number}": judge_network(taken, engine, one.config) for number, (engine, one) in several}
    print("", table({**judged, "geometric": judge_geometry(taken)}), sep="\n")
    print(f"\nof regions larger than {NEW_AREA * 1e4:.0f} cm2, by score")
    print(f"found, false/image           {''.join(f'{score:>14.2f}' for score in SCORES)}")
    for number, (engine, one) in several:
        curve = judge_scores(taken, engine, one.config, SCORES).values()
        print(f"network {number:<20}" + "".join(f"{each.recall:>8.3f} {each.false_regions:.3f}" for each in curve))

    def whole(frame: DepthFrame) -> None:
        image = segment(frame, run, network.config)
        for hand in hands_in(image)[:2]:
            full_mask(image, hand, forearm(image, hand))

    steps: dict[str, Callable[[DepthFrame], object]] = {
        "network": lambda frame: segment(frame, run, network.config),
        "network, hands, masks": whole,
        "geometric": find_hands,
    }
    ms: dict[str, list[float]] = {name: [] for name in steps}
    for shot in taken:
        for name, step in steps.items():
            start = time.perf_counter()
            step(shot.frame)
            ms[name].append(1e3 * (time.perf_counter() - start))
    finder = np.median(ms["geometric"])
    print("\nms a frame (network 1) median    least   share of the geometric finder's")
    for name, values in ms.items():
        print(f"{name:<22} {np.median(values):>6.2f}  {min(values):>7.2f}   {np.median(values) / finder:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
