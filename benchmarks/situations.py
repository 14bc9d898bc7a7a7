"""A sheet of simulated situations, a row a kind: what the networks are trained on and judged by.

    python benchmarks/situations.py --output situations.png

Depth as grey, near bright. Right hands red, left ones blue, arms green; joints yellow, hidden ones red.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.simulation.situations import Shot, Situation
from tracker.simulation.stage import KINDS

WIDTH, HEIGHT = 240, 180
TINTS = np.array([[1.0, 1.0, 1.0], [0.4, 0.4, 1.0], [1.0, 0.5, 0.4], [0.5, 0.9, 0.5]])
"""Blue, green, red that grey is multiplied by for what the pixels are."""


def picture(shot: Shot, title: str) -> NDArray[np.uint8]:
    """One shot, (HEIGHT, WIDTH, 3) uint8."""
    metres, k = shot.frame.metres(), shot.frame.intrinsics
    seen = metres[metres > 0]
    near, far = np.percentile(seen, (1, 97)) if len(seen) else (0.0, 1.0)
    grey = np.where(metres > 0, 255 - 215 * np.clip((metres - near) / max(far - near, 1e-3), 0, 1), 0)
    tinted = (grey[:, :, None] * TINTS[shot.labels]).astype(np.uint8)
    scale = min(WIDTH / k.width, HEIGHT / k.height)
    small = cv2.resize(tinted, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    tile = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    tile[: small.shape[0], : small.shape[1]] = small[:HEIGHT, :WIDTH]
    for hand, hidden in zip(shot.frame.truth or (), shot.hidden):
        for (u, v), behind in zip(k.project(hand.joints) * scale, hidden):
            cv2.circle(tile, (int(u), int(v)), 1, (0, 0, 255) if behind else (0, 255, 255), -1)
    cv2.putText(tile, title, (3, 11), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (0, 255, 0), 1, cv2.LINE_AA)
    return tile


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("situations.png"))
    parser.add_argument("--seed", type=int, default=1, help="of the first")
    parser.add_argument("--columns", type=int, default=6)
    options = parser.parse_args()
    if options.columns < 1 or options.seed < 0 or options.output.suffix != ".png":
        parser.error("--columns must be from 1 up, --seed from 0 up, and --output must end in .png")
    rows = []
    for row, kind in enumerate(KINDS):
        situations = [Situation(options.seed + 1000 * row + column, kind) for column in range(options.columns)]
        rows.append(np.hstack([picture(s.shot(2.0 + n), f"{kind}, {s.camera.name}") for n, s in enumerate(situations)]))
    if not cv2.imwrite(str(options.output), np.vstack(rows)):
        raise SystemExit(f"error: {options.output} cannot be written")
    print(options.output)


if __name__ == "__main__":
    main()
