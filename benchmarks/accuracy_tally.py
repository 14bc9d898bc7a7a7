"""What a tracker said beside what is true: published hands paired with true ones, a row for each true hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import HandTruth
from tracker.hand.skeleton import JOINT_COUNT
from tracker.stream.message import Hand
from trainer.judging.pairing import pair

MOST_HANDS = 4
"""That a tracker publishes of a frame."""


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What was published of one frame, and what is true of it.

    sequence: its name. kind: of situation. camera: the camera's name. number: of the
    frame; place: how many frames of the sequence came before it.
    truth: the hands that are there. hidden: of each of them the joints (21,) that cannot be seen; None if not known.
    partial: hands of which too little is seen to ask for them; a published hand that is one of them is not false.
    hands: as published. segment_ms: time spent on finding them.
    labelled: False where nobody knows what hands are there.
    """

    sequence: str
    kind: str
    camera: str
    number: int
    place: int
    truth: tuple[HandTruth, ...]
    hidden: tuple[NDArray[np.bool_], ...] | None
    partial: tuple[HandTruth, ...]
    hands: tuple[Hand, ...]
    segment_ms: float
    labelled: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Everything that figures are made of.

    Of each frame (f,): kind, camera, false (published hands that are nobody's), whole (every hand found and none
    false), segment_ms; false_confidence (f, 4, 21) of the joints of its false hands, NaN beyond these.

    Of each true hand (t,): hand_frame (index of its frame), sequence, who (text, the same hand in a sequence), sided
    (its side is known), wrong_side (found, with the other side), id (-1 where it was not found), distance (metres).

    Of its joints (t, 21): error and centred (after removing the mean offset), mm, infinite where the hand was not
    found, NaN where the truth is not known; confidence, tracked; hidden (1, 0, NaN: not known).
    """

    kind: NDArray[np.str_]
    camera: NDArray[np.str_]
    false: NDArray[np.int64]
    whole: NDArray[np.bool_]
    segment_ms: NDArray[np.float64]
    false_confidence: NDArray[np.float64]
    hand_frame: NDArray[np.int64]
    sequence: NDArray[np.str_]
    who: NDArray[np.str_]
    sided: NDArray[np.bool_]
    wrong_side: NDArray[np.bool_]
    id: NDArray[np.int64]
    distance: NDArray[np.float64]
    error: NDArray[np.float64]
    centred: NDArray[np.float64]
    confidence: NDArray[np.float64]
    tracked: NDArray[np.bool_]
    hidden: NDArray[np.float64]

    @property
    def found(self) -> NDArray[np.bool_]:
        """Which true hands were found, (t,)."""
        return self.id >= 0

    def of_hands(self, chosen: NDArray[np.bool_]) -> Tally:
        """The tally with some of the true hands (t,) only; the frames stay."""
        return self._with({name: getattr(self, name)[chosen] for name in _HAND_COLUMNS})

    def of_frames(self, chosen: NDArray[np.bool_]) -> Tally:
        """The tally of some of the frames (f,) only, with their hands."""
        hands = self.of_hands(chosen[self.hand_frame])
        changed = {name: getattr(self, name)[chosen] for name in _FRAME_COLUMNS}
        return hands._with(changed | {"hand_frame": (np.cumsum(chosen) - 1)[hands.hand_frame]})

    def _with(self, changed: dict[str, NDArray[Any]]) -> Tally:
        return Tally(**{name: getattr(self, name) for name in _FRAME_COLUMNS + _HAND_COLUMNS} | changed)


_FRAME_COLUMNS = ("kind", "camera", "false", "whole", "segment_ms", "false_confidence")
_HAND_COLUMNS = tuple(field.name for field in fields(Tally) if field.name not in _FRAME_COLUMNS)


def tally(observations: Sequence[Observation]) -> Tally:
    """Count the frames of one method, in the order in which they were seen."""
    frames: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for index, seen in enumerate(observations):
        pairs = pair(seen.hands, (*seen.truth, *seen.partial))
        nobodys = [hand for number, hand in enumerate(seen.hands) if number not in pairs.values()]
        false = len(nobodys)
        whole = false == 0 and all(number in pairs for number in range(len(seen.truth)))
        frame = {"kind": seen.kind, "camera": seen.camera, "segment_ms": seen.segment_ms}
        unfounded = np.full((MOST_HANDS, JOINT_COUNT), np.nan)
        unfounded[:false] = [hand.joint_confidence for hand in nobodys] or unfounded[:0]
        frames.append(frame | {"false": false, "whole": whole, "false_confidence": unfounded})
        before: Counter[str | None] = Counter()
        for number, known in enumerate(seen.truth):
            hand = seen.hands[pairs[number]] if number in pairs else None
            row = _row(hand, known, None if seen.hidden is None else seen.hidden[number])
            # There is one left and one right hand; where sides are not known, the order tells hands apart.
            row |= {"who": f"{seen.sequence} {known.side} {before[known.side]}", "sequence": seen.sequence}
            rows.append(row | {"hand_frame": index})
            before[known.side] += 1
    return Tally(**_columns(frames, _FRAME_COLUMNS), **_columns(rows, _HAND_COLUMNS))


def _columns(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Rows to arrays of the right type and shape, also where there are no rows."""
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(_JOINT_COLUMNS, (len(rows), JOINT_COUNT))
    shapes["false_confidence"] = (len(rows), MOST_HANDS, JOINT_COUNT)
    return {
        name: np.array([row[name] for row in rows], _TYPES.get(name, float)).reshape(shapes.get(name, (len(rows),)))
        for name in names
    }


_JOINT_COLUMNS = ("error", "centred", "confidence", "hidden", "tracked")
_TYPES: dict[str, type] = dict.fromkeys(("kind", "camera", "sequence", "who"), str)
_TYPES |= dict.fromkeys(("false", "hand_frame", "id"), np.int64)
_TYPES |= dict.fromkeys(("whole", "sided", "wrong_side", "tracked"), np.bool_)
"""Of the columns that are no floats."""


def _row(hand: Hand | None, known: HandTruth, hidden: NDArray[np.bool_] | None) -> dict[str, Any]:
    """The columns of one true hand; `hand`: the published one that is it, None if it was not found."""
    is_known = np.isfinite(known.joints).all(axis=1)
    row: dict[str, Any] = {
        "sided": known.side is not None,
        "distance": float(known.joints[is_known, 2].mean()) if is_known.any() else np.nan,
        "hidden": np.full(JOINT_COUNT, np.nan) if hidden is None else hidden.astype(float),
    }
    if hand is None:
        error = np.where(is_known, np.inf, np.nan)
        blank = {"confidence": np.full(JOINT_COUNT, np.nan), "tracked": np.zeros(JOINT_COUNT, bool)}
        return row | blank | {"wrong_side": False, "id": -1, "error": error, "centred": error}
    offset = (hand.joints - known.joints).astype(float) * 1000
    # A joint for which nothing was published, though its hand was, is not found either.
    lost = is_known & ~np.isfinite(offset).all(axis=1)
    middle = offset[is_known & ~lost].mean(axis=0)
    return row | {
        "wrong_side": known.side is not None and hand.side != known.side,
        "id": hand.id,
        "error": np.where(lost, np.inf, np.linalg.norm(offset, axis=1)),
        "centred": np.where(lost, np.inf, np.linalg.norm(offset - middle, axis=1)),
        "confidence": hand.joint_confidence.astype(float),
        "tracked": hand.joint_tracked,
    }
