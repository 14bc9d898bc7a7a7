"""The frozen synthetic test set: which sequences it has, how each is made, and whether they are still the same; and
further sets, to tune on and to measure on once, which are not checked.

`accuracy_set.json` lists the sequences and has fingerprints of their first and last frames: what no other processor's
rounding changes, but another generator does.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from time import time_ns
from typing import Any

import numpy as np
from accuracy_run import Source, View

from tracker.camera.frame import DepthFrame, HandTruth
from tracker.camera.opening import open_recording
from tracker.camera.recording_header import RecordingHeader
from tracker.camera.recording_writer import RecordingFolderWriter
from tracker.errors import CameraError, DataError

FROZEN = Path(__file__).with_name("accuracy_set.json")
SEQUENCES = 40
TUNING_SEEDS = range(870_000_000, 870_000_060)
"""Of the situations that choices are made on: neither training nor the frozen set nor `trainer calibrate` has them."""
FURTHER_SEEDS = range(870_000_060, 870_000_200)
"""Of others of the same sort, to see whether a choice holds elsewhere (and for `belief.py`)."""
FRESH_SEEDS = range(900_000_080, 900_000_120)
"""Of the situations that the shipped weights are measured in once, when every choice has been made; the next weights
take the next forty. Like those of the frozen set nothing else has them."""
FRAMES = 50
RATE = 30
"""Frames a second."""
CHECKED = (0, FRAMES - 1)
"""Frames that have a fingerprint."""
GRID = (3, 4)
"""Rows and columns of a fingerprint's mean depths."""
BESIDE = "hidden.json"
"""In a folder of the cache: hidden joints and partial hands of each frame."""


@dataclass(frozen=True, slots=True)
class FrozenSequence:
    """One sequence of the set. prints: fingerprints of the frames `CHECKED`."""

    seed: int
    kind: str
    camera: str
    prints: tuple[dict[str, Any], ...]

    @property
    def name(self) -> str:
        """A name that is a folder's, too."""
        return f"{self.seed}-{self.kind}-{self.camera}"


def plan(seeds: Sequence[int] | None = None) -> list[FrozenSequence]:
    """Sequences without fingerprints, kinds and cameras spread evenly. seeds: those that are frozen by `freeze` if not
    given.
    """
    from tracker.simulation.cameras import CAMERAS
    from tracker.simulation.situations import TEST_SEEDS
    from tracker.simulation.stage import KINDS

    kinds, cameras = tuple(KINDS), tuple(CAMERAS)
    # The cameras move on by one with each round of kinds, so that each kind meets several of them.
    return [
        FrozenSequence(seed, kinds[i % len(kinds)], cameras[(i + i // len(kinds)) % len(cameras)], ())
        for i, seed in enumerate(TEST_SEEDS[:SEQUENCES] if seeds is None else seeds)
    ]


def freeze(sequences: Sequence[FrozenSequence], path: Path = FROZEN) -> None:
    """Write the list with the fingerprints that the generator makes now. Raises DataError."""
    entries = []
    for each in sequences:
        entries.append(asdict(each) | {"prints": [fingerprint(view.frame) for view in rendered(each, CHECKED)]})
    lines = ",\n".join("  " + json.dumps(entry) for entry in entries)
    try:
        path.write_text(f'{{"frames": {FRAMES}, "rate": {RATE}, "sequences": [\n{lines}\n]}}\n', encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}") from error


def frozen(path: Path = FROZEN) -> list[FrozenSequence]:
    """The list as it was frozen. Raises DataError."""
    from tracker.simulation.situations import TEST_SEEDS

    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        if (entries["frames"], entries["rate"]) != (FRAMES, RATE):
            raise ValueError(f"it is of {entries['frames']} frames at {entries['rate']} a second")
        sequences = [FrozenSequence(**entry | {"prints": tuple(entry["prints"])}) for entry in entries["sequences"]]
        if any(each.seed not in TEST_SEEDS for each in sequences):
            raise ValueError("it has seeds that training uses")
        return sequences
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no frozen test set ({error}): make one with --freeze") from error


def sources(sequences: Sequence[FrozenSequence], cache: Path | None) -> list[Source]:
    """The sequences as sources. cache: a folder in which rendered frames are kept, None: rendered each time."""
    return [
        Source(each.name, each.kind, each.camera, partial(views, each, cache), partial(differs, each))
        for each in sequences
    ]


def views(sequence: FrozenSequence, cache: Path | None, places: Sequence[int] | None = None) -> Iterator[View]:
    """The frames of a sequence, or some of them; kept in `cache` the first time. Raises CameraError, DataError."""
    if cache is None:
        return rendered(sequence, places)
    folder = cache / sequence.name
    if folder.exists() and differs(sequence, 0, next(_kept(folder)).frame) is not None:
        shutil.rmtree(folder, ignore_errors=True)  # kept by another generator, before the set was frozen anew
    if not folder.exists():
        _keep(sequence, folder)
    return (view for number, view in enumerate(_kept(folder)) if places is None or number in places)


def rendered(sequence: FrozenSequence, places: Sequence[int] | None = None) -> Iterator[View]:
    """The frames of a sequence, or some of them, made as they are asked for. Raises DataError."""
    from tracker.simulation.cameras import CAMERAS
    from tracker.simulation.situations import Situation
    from tracker.simulation.stage import KINDS

    if sequence.kind not in KINDS or sequence.camera not in CAMERAS:
        raise DataError(
            f"the generator has no longer the kind {sequence.kind!r} or the camera {sequence.camera!r} of the frozen "
            "test set: use the generator that it was frozen with, or freeze it anew with --freeze"
        )
    situation = Situation(sequence.seed, sequence.kind, CAMERAS[sequence.camera])
    for number in range(FRAMES) if places is None else places:
        shot = situation.shot(number / RATE)
        captured = round(number * 1e9 / RATE)
        frame = replace(shot.frame, number=number, captured_ns=captured, received_ns=time_ns())
        yield View(frame, shot.hidden, shot.partial)


def fingerprint(frame: DepthFrame) -> dict[str, Any]:
    """What is characteristic of a frame and hardly changes with rounding.

    Mean depths of `GRID` (mm, row after row, 0 where less than a twentieth has readings), the share of pixels with
    readings, the mean step between neighbours on a surface (mm), and wrist and middle fingertip of each hand (mm).
    """
    metres = frame.metres()
    cells = [cell for rows in np.array_split(metres, GRID[0]) for cell in np.array_split(rows, GRID[1], axis=1)]
    means = [float(cell[cell > 0].mean()) if (cell > 0).mean() > 0.05 else 0.0 for cell in cells]
    step = np.abs(np.diff(metres, axis=1))
    surface = (metres[:, 1:] > 0) & (metres[:, :-1] > 0) & (step < 0.02)
    return {
        "mm": [round(1000 * mean) for mean in means],
        "readings": round(float((metres > 0).mean()), 3),
        "step_mm": round(1000 * float(step[surface].mean()), 3) if surface.any() else 0.0,
        "hands": [
            [hand.side, *np.rint(1000 * hand.joints[[0, 12]]).astype(int).ravel().tolist()]
            for hand in frame.truth or ()
        ],
    }


def differs(sequence: FrozenSequence, number: int, frame: DepthFrame) -> str | None:
    """How the frame of a number is not the one that was frozen; None if it is, or has no fingerprint."""
    if number not in CHECKED or not sequence.prints:
        return None
    want, have = sequence.prints[CHECKED.index(number)], fingerprint(frame)
    where = f"sequence {sequence.name}, frame {number}"
    if [hand[0] for hand in want["hands"]] != [hand[0] for hand in have["hands"]]:
        return f"{where}: other hands"
    moved = np.abs(_numbers(want["hands"]) - _numbers(have["hands"]))
    if moved.max(initial=0) > 2:
        return f"{where}: a hand is {moved.max():.0f} mm away from where it was"
    if abs(want["readings"] - have["readings"]) > 0.01:
        return f"{where}: {have['readings']:.1%} of the pixels have readings, {want['readings']:.1%} had"
    depth = np.abs(np.array(want["mm"]) - have["mm"])
    if (depth > 5 + 0.01 * np.array(want["mm"])).any():
        return f"{where}: the depth of a part of the image has changed by {depth.max():.0f} mm"
    if abs(want["step_mm"] - have["step_mm"]) > 0.02 + 0.05 * want["step_mm"]:
        return f"{where}: other noise: {have['step_mm']:.2f} mm between neighbours, it was {want['step_mm']:.2f} mm"
    return None


def _numbers(hands: Sequence[Sequence[Any]]) -> np.ndarray:
    return np.array([hand[1:] for hand in hands], float)


def _keep(sequence: FrozenSequence, folder: Path) -> None:
    """Render a sequence into a recording folder; it gets its name when it is whole."""
    # Not another process's: it may be keeping the same sequence.
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    beside = []
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        with contextlib.ExitStack() as stack:
            writer: RecordingFolderWriter | None = None
            for view in rendered(sequence):
                if writer is None:
                    header = RecordingHeader(sequence.camera, view.frame.intrinsics, view.frame.depth_scale)
                    writer = RecordingFolderWriter(part, header)
                    stack.callback(writer.close)
                writer.append(view.frame)
                hidden = [each.tolist() for each in view.hidden or ()]
                partial_hands = [{"side": hand.side, "joints": hand.joints.tolist()} for hand in view.partial]
                beside.append({"hidden": hidden, "partial": partial_hands})
        (part / BESIDE).write_text(json.dumps(beside), encoding="utf-8")
        _rename(part, folder)
    except OSError as error:
        raise DataError(f"cannot keep frames in {folder.parent}: {error.strerror}") from error


def _rename(part: Path, folder: Path) -> None:
    """Give a whole folder its name, unless another run was first."""
    try:
        part.rename(folder)
    except OSError:
        if not (folder / BESIDE).is_file():
            raise
        shutil.rmtree(part, ignore_errors=True)


def _kept(folder: Path) -> Iterator[View]:
    """The frames of a sequence that was kept. Raises CameraError."""
    damaged = CameraError(f"{folder} is no part of a cache: remove it, or give another --cache")
    try:
        beside = json.loads((folder / BESIDE).read_text(encoding="utf-8"))
        known = [
            (
                tuple(np.array(each, bool) for each in extra["hidden"]),
                tuple(HandTruth(np.array(one["joints"], np.float32), one["side"]) for one in extra["partial"]),
            )
            for extra in beside
        ]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise damaged from error
    with open_recording(folder) as camera:
        count = 0
        for count, frame in enumerate(camera, start=1):
            if count > len(known):
                raise damaged
            yield View(frame, *known[count - 1])
        if count != len(known) or not count:
            raise damaged
