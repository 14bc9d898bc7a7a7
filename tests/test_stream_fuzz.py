from __future__ import annotations

import os
import subprocess
import sys

import msgpack
import pytest
from stream_samples import ROOT, make_message, make_status

from tracker.errors import StreamError
from tracker.stream.message import pack, read_parts


def test_tens_of_thousands_of_hostile_messages_raise_nothing_but_stream_errors():
    result = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "fuzz.py"), "--messages", "30000", "--seed", "5"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.startswith("30000 messages")
    assert "read as hands" in result.stdout
    assert "read as status" in result.stdout


def deep(levels: int) -> object:
    value: object = 0
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("camera", deep(400)),
        ("hands", [deep(400)]),
        ("hands", [{"id": deep(400)}]),
        ("latency_ms", {"x" * 1000: [0] * 10_000}),
        ("hands", [0] * 30_000),
        ("skeleton", deep(300)),
        ("version", deep(300)),
    ],
)
def test_deep_and_huge_values_are_refused_in_a_short_line(key, value):
    fields = msgpack.unpackb(pack(make_message()))
    fields[key] = value
    with pytest.raises(StreamError) as caught:
        read_parts([b"hands.x", msgpack.packb(fields)])
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    "data",
    [
        b"\x91" * 60_000,
        b"\x81\xa1x" * 20_000,
        b"\xdd\xff\xff\xff\xff" * 100,
        b"\xdf\xff\xff\xff\xff\xa1x\x00",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\x81\xa1\xff\x00",
        b"\x81\xa7version\xa2\xc3\x28",
    ],
    ids=lambda data: data[:8].hex(),
)
def test_bytes_that_claim_to_be_huge_or_deep_or_text_are_refused(data):
    for topic in (b"hands.x", b"status.x"):
        with pytest.raises(StreamError, match="not MessagePack"):
            read_parts([topic, data])


@pytest.mark.parametrize(
    "parts",
    [[], [b"hands.x"], [b"hands.x", pack(make_message()), b""], [b"other", pack(make_message())], [b"\xff\xfe", b""]],
)
def test_other_parts_and_topics_are_refused(parts):
    with pytest.raises(StreamError, match="not a hand tracker"):
        read_parts(parts)


def test_a_message_under_the_other_topic_is_refused():
    with pytest.raises(StreamError, match="lacks the field"):
        read_parts([b"status.x", pack(make_message())])
    with pytest.raises(StreamError, match="lacks the field"):
        read_parts([b"hands.x", pack(make_status())])
