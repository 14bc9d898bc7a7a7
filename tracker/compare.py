"""`python -m tracker compare A B`: how two runs over the same frames differ."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tracker.errors import StreamError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tracker.stream.message import Hand, HandsMessage

SAME_HAND: Final = 0.1
"""Metres: hands whose joints are further apart than this, on average, are not the same one."""
IMPOSSIBLE: Final = 1e3


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """How a run B differs from a run A.

    frames_both, frames_only_a, frames_only_b: messages, by frame number.
    missed: hands of A that B lacks in frames of both. extra: hands of B that A lacks. other_side, other_id: of hands in
    both. id_changes: how often a hand of A goes on as another hand of B; 0 where only the counting differs.
    distances: (hands in both, joints) metres between their joints, NaN where one of the runs has no estimate.
    unknown: joints of these hands that only one of the runs has an estimate for.
    latency_a, latency_b: (frames,) ms, `total` of every message.
    """

    frames_both: int
    frames_only_a: int
    frames_only_b: int
    missed: int
    extra: int
    other_side: int
    other_id: int
    id_changes: int
    unknown: int
    joint_names: tuple[str, ...]
    distances: NDArray[np.float32]
    latency_a: NDArray[np.float64]
    latency_b: NDArray[np.float64]

    def within(self, millimetres: float) -> bool:
        """Whether both have the same frames, hands and sides, and no joint is further apart than so much."""
        same_frames = self.frames_both > 0 and not (self.frames_only_a or self.frames_only_b)
        same_hands = not (self.missed or self.extra or self.other_side or self.id_changes or self.unknown)
        return same_frames and same_hands and not (self.distances * 1e3 > millimetres).any()


def compare(a: Iterable[HandsMessage], b: Iterable[HandsMessage]) -> Comparison:
    """Compare two runs, matched by frame number. Both are read once, in step.

    Raises StreamError where frame numbers do not increase, or where skeletons or frames of reference differ.
    """
    import numpy as np

    from tracker.hand.skeleton import JOINT_NAMES

    latency: tuple[list[float], list[float]] = ([], [])
    streams = [_in_order(run, name, times) for run, name, times in zip((a, b), "AB", latency)]
    heads = [next(stream, None) for stream in streams]
    only, both = [0, 0], 0
    missed = extra = other_side = other_id = id_changes = unknown = 0
    distances: list[NDArray[np.float32]] = []
    partners: dict[int, int] = {}
    names: tuple[str, ...] = JOINT_NAMES
    while (first := heads[0]) is not None and (second := heads[1]) is not None:
        if first.frame != second.frame:
            behind = int(second.frame < first.frame)
            only[behind] += 1
            heads[behind] = next(streams[behind], None)
            continue
        _check_alike(first, second)
        if both and names != joint_names(first):
            raise StreamError(f"the skeleton changes at frame {first.frame}: give messages of one skeleton")
        names = joint_names(first)
        both += 1
        pairs = match_hands(first.hands, second.hands)
        missed += len(first.hands) - len(pairs)
        extra += len(second.hands) - len(pairs)
        for hand, other in pairs:
            other_side += hand.side != other.side
            other_id += hand.id != other.id
            id_changes += partners.get(hand.id, other.id) != other.id
            partners[hand.id] = other.id
            apart = np.linalg.norm(hand.joints - other.joints, axis=1)
            unknown += int((np.isnan(hand.joints).any(axis=1) ^ np.isnan(other.joints).any(axis=1)).sum())
            distances.append(apart)
        heads = [next(stream, None) for stream in streams]
    for run, head in enumerate(heads):
        only[run] += (head is not None) + sum(1 for _ in streams[run])
    return Comparison(
        frames_both=both,
        frames_only_a=only[0],
        frames_only_b=only[1],
        missed=missed,
        extra=extra,
        other_side=other_side,
        other_id=other_id,
        id_changes=id_changes,
        unknown=unknown,
        joint_names=names,
        distances=np.array(distances, np.float32).reshape(-1, len(names)),
        latency_a=np.array(latency[0]),
        latency_b=np.array(latency[1]),
    )


def match_hands(a: tuple[Hand, ...], b: tuple[Hand, ...]) -> list[tuple[Hand, Hand]]:
    """The hands of two messages that are the same: the nearest ones, at equal distance those of the same id.

    Ids alone do not tell: each run counts for itself.
    """
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    if not a or not b:
        return []
    cost = np.full((len(a), len(b)), IMPOSSIBLE)
    for row, hand in enumerate(a):
        for column, other in enumerate(b):
            apart = np.linalg.norm(hand.joints - other.joints, axis=1)
            known = apart[np.isfinite(apart)]
            distance = float(known.mean()) if len(known) else (0.0 if hand.id == other.id else IMPOSSIBLE)
            if distance <= SAME_HAND:
                cost[row, column] = distance + 1e-9 * (hand.id != other.id)
    rows, columns = linear_sum_assignment(cost)
    return [(a[row], b[column]) for row, column in zip(rows, columns) if cost[row, column] < IMPOSSIBLE]


def _in_order(run: Iterable[HandsMessage], name: str, latency: list[float]) -> Iterator[HandsMessage]:
    last = -1
    for message in run:
        if message.frame <= last:
            raise StreamError(
                f"{name} has frame {message.frame} after frame {last}: give the messages of one camera and one run only"
            )
        last = message.frame
        latency.append(message.latency_ms.total)
        yield message


def _check_alike(a: HandsMessage, b: HandsMessage) -> None:
    for what in ("skeleton", "space"):
        if getattr(a, what) != getattr(b, what):
            raise StreamError(
                f"frame {a.frame} has the {what} {getattr(a, what)} in A and {getattr(b, what)} in B: "
                "joints of different kinds cannot be compared; make both runs with the same options"
            )


def joint_names(message: HandsMessage) -> tuple[str, ...]:
    """Of the skeleton of a message."""
    from tracker.hand.skeleton import JOINT_NAMES, SKELETON

    if message.skeleton == SKELETON:
        return JOINT_NAMES
    from tracker.stream.openxr import OPENXR_NAMES

    return OPENXR_NAMES


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """For `--json`: counts, millimetres per joint, latency; null where there is nothing to measure."""
    rows = dict(zip((*comparison.joint_names, "all"), _rows(comparison)))
    return {
        "frames": {
            "both": comparison.frames_both,
            "only_a": comparison.frames_only_a,
            "only_b": comparison.frames_only_b,
        },
        "hands": {
            "both": len(comparison.distances),
            "missed": comparison.missed,
            "extra": comparison.extra,
            "other_side": comparison.other_side,
            "other_id": comparison.other_id,
            "id_changes": comparison.id_changes,
            "joints_unknown_in_one": comparison.unknown,
        },
        "joints_mm": {name: None if row is None else dict(zip(_FIGURES, row)) for name, row in rows.items()},
        "latency_ms": {"a": _latency(comparison.latency_a), "b": _latency(comparison.latency_b)},
    }


_FIGURES: Final = ("mean", "median", "max")


def _rows(comparison: Comparison) -> list[tuple[float, float, float] | None]:
    """Mean, median and maximum in millimetres of every joint, then of all; None where nothing is known."""
    import numpy as np

    columns = [*comparison.distances.T, comparison.distances.ravel()]
    rows: list[tuple[float, float, float] | None] = []
    for column in columns:
        known = column[np.isfinite(column)].astype(np.float64) * 1e3
        rows.append((float(known.mean()), float(np.median(known)), float(known.max())) if len(known) else None)
    return rows


def _latency(milliseconds: NDArray[np.float64]) -> dict[str, float] | None:
    import numpy as np

    if not len(milliseconds):
        return None
    return dict(zip(("p50", "p95", "p99"), np.percentile(milliseconds, (50, 95, 99)).tolist()))


def as_table(comparison: Comparison, a: str, b: str) -> str:
    """For people. a, b: what the runs are called."""
    c = comparison
    lines = []
    for letter, name, latency in (("A", a, c.latency_a), ("B", b, c.latency_b)):
        figures = _latency(latency)
        times = " / ".join(f"{value:.1f}" for value in figures.values()) if figures else "-"
        lines.append(f"{letter}  {name}: {len(latency)} frames, latency {times} ms (p50 / p95 / p99)")
    lines += [
        f"frames      {c.frames_both} in both, {c.frames_only_a} only in A, {c.frames_only_b} only in B",
        f"hands       {len(c.distances)} in both, {c.missed} missing in B, {c.extra} only in B",
        f"of those    {c.other_side} of another side, {c.other_id} with another id, {c.id_changes} changes of id",
    ]
    if c.unknown:
        lines.append(f"joints      {c.unknown} with an estimate in one run only")
    lines += ["", f"{'joint':12s} {'mean mm':>9s} {'median':>9s} {'max':>9s}"]
    for name, row in zip((*c.joint_names, "all"), _rows(c)):
        lines.append(f"{name:12s} " + (" ".join(f"{value:9.3f}" for value in row) if row else f"{'-':>9s}" * 3))
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `compare`."""
    parser.add_argument("a", metavar="A", type=Path, help="messages: FILE.jsonl, or a recording that has them")
    parser.add_argument("b", metavar="B", type=Path, help="what is compared with A")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="MM",
        help="exit with status 1 unless frames, hands and sides are the same and no joint is further apart",
    )


def run(options: argparse.Namespace) -> int:
    """Print how B differs from A; returns the exit status. Raises StreamError, CameraError."""
    from tracker.kept_messages import read_messages

    if options.tolerance is not None and not options.tolerance >= 0:
        raise StreamError(f"--tolerance must be 0 or more millimetres, is {options.tolerance}")
    comparison = compare(read_messages(options.a), read_messages(options.b))
    if options.json:
        print(json.dumps(as_dict(comparison)))
    else:
        print(as_table(comparison, str(options.a), str(options.b)))
    if options.tolerance is None or comparison.within(options.tolerance):
        return 0
    if not options.json:
        print(f"\nA and B differ by more than {options.tolerance:g} mm, or in their frames or hands")
    return 1
