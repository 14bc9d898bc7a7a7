"""Pictures of what was tracked well, middling and badly: the hands of a frame with true and published skeletons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from accuracy_run import Source
from accuracy_tally import Observation, tally
from numpy.typing import NDArray

from tracker.camera.frame import DepthFrame
from tracker.draw import FINGER_COLORS
from tracker.errors import DataError
from tracker.hand.skeleton import BONES
from trainer.judging.metrics import mean_error
from trainer.judging.pairing import pair

Picture = NDArray[np.uint8]

TILE = 300
"""Pixels a side."""
COLUMNS = 5
MARGIN = 0.06
"""Metres shown around the hands."""
SMALLEST = 0.30
"""Metres: side of the part of the space that a tile shows, at least."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A frame with its mean joint error, mm (NaN where no hand was found), and how many hands were missed and false.

    focus: joints (n, 3) that a picture must show, metres: of the hand with the largest error where all were found.
    """

    seen: Observation
    error: float
    missed: int
    false: int
    focus: NDArray[np.float32]

    @property
    def caption(self) -> str:
        """What a picture says below."""
        error = "" if np.isnan(self.error) else f"{self.error:.1f} mm"
        bad = f"{self.missed} missed" * bool(self.missed) + " " + f"{self.false} false" * bool(self.false)
        where = " ".join(dict.fromkeys((self.seen.kind, self.seen.camera)))
        return f"{where} #{self.seen.number} {error} {bad}".strip()


def judge(observations: Sequence[Observation], labelled: bool = True) -> list[Judged]:
    """The frames with their errors. labelled: whether the joints of all hands are known; otherwise
    none that is found is called false.
    """
    judged = []
    for seen in observations:
        counted = tally([seen])
        missed, false = int((~counted.found).sum()), int(counted.false[0]) * labelled
        skeletons = [*(known.joints for known in seen.truth), *(hand.joints for hand in seen.hands)]
        if len(seen.truth) and not missed and not false:
            worst = int(np.argmax(np.nanmean(counted.error, axis=1)))
            skeletons = [
                seen.truth[worst].joints,
                seen.hands[pair(seen.hands, (*seen.truth, *seen.partial))[worst]].joints,
            ]
        focus = np.concatenate(skeletons) if skeletons else np.empty((0, 3), np.float32)
        focus = focus[np.isfinite(focus).all(axis=1) & (focus[:, 2] > 0.05)]
        judged.append(Judged(seen, mean_error(counted.error), missed, false, focus))
    return judged


def choose(judged: Sequence[Judged]) -> dict[str, list[Judged]]:
    """Rows of a sheet: the best, the median and the worst frames, and those with missed or false hands, which are never
    among the best.

    A row has a sequence only once, as long as there are others.
    """
    measured = sorted((each for each in judged if np.isfinite(each.error)), key=lambda each: each.error)
    middle = measured[len(measured) // 2].error if measured else 0.0
    rows = {
        "best": _first([each for each in measured if not each.missed + each.false]),
        "median": _first(sorted(measured, key=lambda each: abs(each.error - middle))),
        "worst": _first(measured[::-1]),
        "missed or false": _first(sorted(judged, key=lambda each: -each.missed - each.false)),
    }
    rows["missed or false"] = [each for each in rows["missed or false"] if each.missed + each.false]
    return {name: row for name, row in rows.items() if row}


def evenly(judged: Sequence[Judged], rows: int = 4) -> dict[str, list[Judged]]:
    """Rows of a sheet: frames of one recording at equal distances, in order."""
    count = min(len(judged), rows * COLUMNS)
    chosen = [judged[number * len(judged) // count] for number in range(count)]
    return {
        f"frames from {row[0].seen.number} on": row
        for row in (chosen[i : i + COLUMNS] for i in range(0, count, COLUMNS))
    }


def _first(ordered: Sequence[Judged]) -> list[Judged]:
    taken: dict[str, Judged] = {}
    for each in ordered:
        taken.setdefault(each.seen.sequence, each)
    chosen = list(taken.values())[:COLUMNS]
    rest = [each for each in ordered if all(each is not other for other in chosen)]
    return chosen + rest[: COLUMNS - len(chosen)]


def sheet(rows: Mapping[str, Sequence[Judged]], sources: Sequence[Source]) -> Picture:
    """The rows as one picture. The frames are fetched from their sources once more."""
    by_name = {source.name: source for source in sources}
    bands = []
    for name, row in rows.items():
        tiles = [_labelled(tile(_frame(by_name[each.seen.sequence], each.seen), each), each.caption) for each in row]
        tiles += [np.zeros_like(tiles[0])] * (COLUMNS - len(tiles))
        title = np.full((26, TILE * COLUMNS, 3), 60, np.uint8)
        _write(title, name, (8, 18), 0.5)
        bands += [title, np.hstack(tiles)]
    return np.vstack(bands)


def _frame(source: Source, seen: Observation) -> DepthFrame:
    view = next(source.views([seen.place]), None)
    if view is None:
        raise DataError(f"{source.name} has no frame {seen.number} any more: was it changed while the benchmark ran?")
    return view.frame


def tile(frame: DepthFrame, judged: Judged) -> Picture:
    """The hands of a frame, (TILE, TILE, 3) uint8 BGR: depth in grey, the truth thin and white, fingers in colours."""
    k, seen = frame.intrinsics, judged.seen
    joints = judged.focus if len(judged.focus) else np.array([[0.0, 0.0, 0.6]])
    pixels, depth = k.project(joints), float(np.median(joints[:, 2]))
    side = max(float(np.ptp(pixels, axis=0).max()) + 2 * MARGIN * k.fx / depth, SMALLEST * k.fx / depth)
    corner = (pixels.max(axis=0) + pixels.min(axis=0)) / 2 - side / 2
    scale = TILE / side
    matrix = np.array([[scale, 0, -scale * corner[0]], [0, scale, -scale * corner[1]]])
    metres = cv2.warpAffine(frame.metres(), matrix, (TILE, TILE), flags=cv2.INTER_NEAREST)
    low = float(joints[:, 2].min()) - 0.06
    shade = 220 - 190 * np.clip((metres - low) / max(float(np.ptp(joints[:, 2])) + 0.25, 0.3), 0, 1)
    picture = np.repeat(np.where(metres > 0, shade, 0).astype(np.uint8)[..., None], 3, axis=2)
    for hand in seen.hands:
        _bones(picture, (k.project(hand.joints) - corner) * scale, 2, None)
    for known in seen.truth:
        _bones(picture, (k.project(known.joints) - corner) * scale, 1, (255, 255, 255))
    return picture


def _bones(picture: Picture, pixels: NDArray[np.floating], width: int, color: tuple[int, int, int] | None) -> None:
    """Lines between joints (21, 2). color: None: a colour for each finger."""
    known = np.isfinite(pixels).all(axis=1)
    points = np.rint(np.where(known[:, None], pixels, 0) * 16).clip(-(2**20), 2**20).astype(int)
    for number, (parent, child) in enumerate(BONES):
        if known[parent] and known[child]:
            ends = tuple(map(int, points[parent])), tuple(map(int, points[child]))
            cv2.line(picture, *ends, color or FINGER_COLORS[number // 4], width, cv2.LINE_AA, shift=4)


def _labelled(picture: Picture, text: str) -> Picture:
    picture[-20:] //= 3
    _write(picture, text, (5, TILE - 6), 0.4)
    picture[:, -1] = 60
    return picture


def _write(picture: Picture, text: str, place: tuple[int, int], size: float) -> None:
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), 1, cv2.LINE_AA)


def save(path: Path, picture: Picture) -> None:
    """Write a PNG. Raises DataError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}") from error
