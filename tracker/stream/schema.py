"""JSON Schema of the messages, made from their definition, and example messages.

    python -m tracker.stream.schema docs/schema

writes the schemas of the `hands` message (with our skeleton and with OpenXR's) and of the `status` message. They hold
for the lines of `--output`, and for unpacked MessagePack alike.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np

from tracker.hand.skeleton import JOINT_COUNT, SKELETON
from tracker.stream.definition import HANDS, OPENXR, STATUS, VERSION
from tracker.stream.fields import Record
from tracker.stream.message import Hand, HandsMessage, Percentiles, Stages, StatusMessage

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, dict[str, Any]]:
    """File name and JSON Schema of each kind of message."""
    return {
        "hands.schema.json": _schema("hands message", HANDS[SKELETON]),
        "hands-openxr26.schema.json": _schema("hands message with OpenXR's joints", HANDS[OPENXR]),
        "status.schema.json": _schema("status message", STATUS),
    }


def schema_text(schema: dict[str, Any]) -> str:
    """A schema as it stands in its file."""
    return json.dumps(schema, indent=2) + "\n"


def example_hands() -> HandsMessage:
    """A message with a hand, always the same one: for the documentation, and for tests of other programs."""
    finger, bone = np.divmod(np.arange(JOINT_COUNT - 1), 4)
    joints = np.zeros((JOINT_COUNT, 3))
    joints[1:] = np.stack([-0.04 + 0.02 * finger, -0.03 * (bone + 1), np.full(JOINT_COUNT - 1, 0.02)], axis=1)
    joints += (0.05, 0.12, 0.4)
    joints[20] = math.nan
    confidence = np.full(JOINT_COUNT, 0.75)
    confidence[20] = 0.0
    hand = Hand(
        id=3,
        side="right",
        side_confidence=0.98,
        confidence=0.91,
        joints=joints.astype(np.float32),
        joint_confidence=confidence.astype(np.float32),
        joint_tracked=np.arange(JOINT_COUNT) < 19,
    )
    return HandsMessage(
        camera="simulated",
        frame=152,
        captured_ns=1_700_000_000_000_000_000,
        published_ns=1_700_000_000_021_500_000,
        dropped=2,
        latency_ms=Stages(segment=2.5, voxelise=0.75, network=12.25, total=18.5),
        hands=(hand,),
    )


def example_status() -> StatusMessage:
    """The status that goes with it."""
    return StatusMessage(
        camera="simulated",
        model="v2v-lite",
        engine="openvino",
        device="cpu",
        fps=29.75,
        dropped=2,
        uptime_s=5.25,
        latency_ms=Percentiles(18.5, 22.0, 25.5),
    )


def main() -> int:
    """Write the schemas to a folder."""
    parser = argparse.ArgumentParser(prog="python -m tracker.stream.schema", description=main.__doc__)
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, schema in schemas().items():
        (folder / name).write_text(schema_text(schema), encoding="utf-8")
    return 0


def _schema(title: str, record: Record) -> dict[str, Any]:
    # No additionalProperties: version 1 may gain keys, and a reader ignores those that it does not know.
    return {"$schema": _DIALECT, "title": f"{title}, version {VERSION}", **record.schema()}


if __name__ == "__main__":
    sys.exit(main())
