from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jsonschema
import msgpack
import numpy as np
import pytest
from stream_samples import ROOT, make_message, make_status

from tracker import Tracker, open_camera
from tracker.loop import run
from tracker.stream.definition import HANDS, STATUS, hand_record
from tracker.stream.fields import Field, Record
from tracker.stream.message import HandsMessage, Percentiles, StatusMessage, pack, to_json_line
from tracker.stream.openxr import to_openxr, to_openxr_status
from tracker.stream.publisher import Publisher
from tracker.stream.schema import example_hands, example_status, schema_text, schemas

FOLDER = ROOT / "docs" / "schema"
PROTOCOL = ROOT / "docs" / "protocol.md"


def check(name: str, message: HandsMessage | StatusMessage) -> None:
    """Both forms of a message satisfy the committed schema."""
    schema = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    for fields in (json.loads(to_json_line(message)), msgpack.unpackb(pack(message))):
        jsonschema.validate(fields, schema, jsonschema.Draft202012Validator)


class Collecting(Publisher):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__("none", "simulated")
        self.messages: list[HandsMessage] = []
        self.statuses: list[StatusMessage] = []

    def publish(self, message: HandsMessage) -> None:
        self.messages.append(message)

    def status(self, status: StatusMessage) -> None:
        self.statuses.append(status)


def test_committed_schemas_are_those_of_the_code():
    assert sorted(path.name for path in FOLDER.glob("*.json")) == sorted(schemas())
    for name, schema in schemas().items():
        assert (FOLDER / name).read_text(encoding="utf-8") == schema_text(schema), (
            "run: python -m tracker.stream.schema docs/schema"
        )
        jsonschema.Draft202012Validator.check_schema(schema)


def test_every_field_of_the_schemas_is_explained():
    def explained(schema: dict[str, Any]) -> bool:
        properties = schema.get("properties", {})
        return all(field["description"] and explained(field) for field in properties.values()) and (
            "items" not in schema or explained(schema["items"])
        )

    assert all(explained(schema) for schema in schemas().values())


def test_messages_of_a_real_run_satisfy_the_schemas():
    publisher = Collecting()
    with Tracker() as tracker, open_camera("simulated") as camera:
        run(camera, tracker, publisher, frames=4)
    assert len(publisher.messages) == 4
    assert publisher.statuses
    for message in publisher.messages:
        check("hands.schema.json", message)
        check("hands-openxr26.schema.json", to_openxr(message))
    for status in publisher.statuses:
        check("status.schema.json", status)
        check("status.schema.json", to_openxr_status(status))


def test_edge_cases_satisfy_the_schemas():
    check("hands.schema.json", make_message(hands=0))
    check("hands.schema.json", example_hands())
    check("status.schema.json", example_status())
    check("status.schema.json", replace(make_status(), latency_ms=Percentiles(math.nan, math.nan, math.nan)))
    hand = replace(make_message().hands[0], joints=np.full((21, 3), np.nan, np.float32))
    check("hands-openxr26.schema.json", to_openxr(replace(make_message(), hands=(hand,))))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), 2),
        (("frame",), -1),
        (("unit",), "mm"),
        (("skeleton",), "openxr26"),
        (("hands", 0, "side"), "both"),
        (("hands", 0, "confidence"), 1.5),
        (("hands", 0, "joints"), [[0, 0, 0]] * 20),
        (("hands", 0, "joints", 0), [0, 0]),
        (("hands", 0, "joint_tracked", 0), 1),
    ],
)
def test_what_the_subscriber_refuses_the_schema_refuses(path, value):
    fields = json.loads(to_json_line(make_message()))
    place = fields
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(fields, schemas()["hands.schema.json"])


def test_the_example_in_the_documentation_is_the_one_that_the_code_makes():
    text = PROTOCOL.read_text(encoding="utf-8")
    for message in (example_hands(), example_status()):
        assert f"\n{to_json_line(message)}\n" in text


def test_every_field_and_its_meaning_are_in_the_documentation():
    def fields(record: Record) -> Iterator[tuple[str, Field]]:
        for name, field in record.fields.items():
            yield name, field
            if isinstance(field.kind, Record):
                yield from ((f"{name}.{inner}", inner_field) for inner, inner_field in fields(field.kind))

    text = PROTOCOL.read_text(encoding="utf-8")
    for record in (*HANDS.values(), *(hand_record(skeleton) for skeleton in HANDS), STATUS):
        for name, field in fields(record):
            assert f"`{name}`" in text, name
            assert field.meaning in text, name
