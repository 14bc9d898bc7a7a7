"""Real recordings: what is known of each, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accuracy_figures import figures
from accuracy_run import Source, View
from accuracy_tally import Observation, tally

from tracker.camera.frame import Side
from tracker.camera.opening import open_recording
from tracker.camera.recording import read_header
from tracker.errors import CameraError, DataError
from tracker.stream.message import Hand

DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "real"
"""Beside the checkout."""

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a recording in which one hand is held out, beyond its labels.

    side: of the hand. place: ranges of x, y and z, metres, camera frame, in which the middle of its joints stays; other
    parts of the body are outside. suspect: frames with wrong labels.
    """

    side: Side | None = None
    place: tuple[Range, Range, Range] | None = None
    suspect: tuple[int, ...] = ()

    def is_there(self, hand: Hand) -> bool:
        """Whether a published hand is where the hand is."""
        middle = np.nanmean(hand.joints, axis=0)
        return self.place is not None and all(low < c < high for c, (low, high) in zip(middle, self.place))


KNOWN = {
    "face_behind_hand": Known(suspect=(3, 6)),
    "sr305_230536": Known(side="right", place=((-0.16, 0.1), (-0.14, 0.2), (0.42, 0.66))),
    "sr305_231615": Known(side="right", place=((-0.14, 0.08), (-0.08, 0.12), (0.48, 0.7))),
    "kinect2_person": Known(place=((-0.08, 0.14), (-0.25, -0.05), (0.52, 0.74))),
}


def sources(folder: Path) -> list[Source]:
    """The recording folders in a folder, or the one that it is. Raises DataError."""
    headers = [path for pattern in ("camera.json", "*/camera.json") for path in folder.resolve().glob(pattern)]
    found = sorted(path.parent for path in headers)
    if not found:
        raise DataError(f"{folder} has no recording folders: name a folder of recordings with --real")
    return [Source(path.name, path.name, _camera(path), partial(views, path)) for path in found]


def _camera(path: Path) -> str:
    try:
        return read_header(path / "camera.json").name
    except CameraError:
        return path.name  # what is wrong is told when its frames are read


def views(path: Path, places: Sequence[int] | None = None) -> Iterator[View]:
    """The frames of a recording, or some of them. Raises CameraError."""
    with open_recording(path) as camera:
        for number, frame in enumerate(camera):
            if places is None or number in places:
                yield View(frame)


def real_figures(name: str, observations: Sequence[Observation]) -> dict[str, Any]:
    """What came of a recording.

    published: hands. second: frames with more than one hand. Where the place of the hand is known: found, found_side
    (with the right side, if that is known), false_hands. Where there are labels: all figures, as `labelled`, and as
    `trusted` without the frames whose labels are wrong.
    """
    known = KNOWN.get(name, Known())
    result: dict[str, Any] = {
        "frames": len(observations),
        "published": sum(len(seen.hands) for seen in observations),
        "second": sum(len(seen.hands) > 1 for seen in observations),
    }
    if known.place is not None:
        there = [[hand for hand in seen.hands if known.is_there(hand)] for seen in observations]
        result["found"] = sum(len(hands) > 0 for hands in there)
        result["false_hands"] = result["published"] - result["found"]
        if known.side is not None:
            result["found_side"] = sum(any(hand.side == known.side for hand in hands) for hands in there)
    labelled = [seen for seen in observations if seen.labelled]
    if any(seen.truth for seen in labelled):
        result["labelled"] = figures(tally(labelled))
        result["found"] = result["labelled"]["found"]
        result["false_hands"] = result["labelled"]["false_hands"]
        if known.suspect:
            trusted = [seen for seen in labelled if seen.number not in known.suspect]
            result["trusted"] = figures(tally(trusted))
    return result
