"""Throw random and mutated messages at the reader of messages: it may raise StreamError, and nothing else.

    python benchmarks/fuzz.py
    python benchmarks/fuzz.py --messages 10000 --seed 7

Four kinds in turn: noise; real messages with bytes changed, cut or doubled; real messages with a field replaced by
something hostile (deep, huge, of another type, not finite); and wrong numbers of parts. About every hundredth message
travels through a socket to a Subscriber as well. Prints what happened; exits with 1 if a message raised anything else,
or took more than `--slowest` milliseconds of processor time to read.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Callable

import msgpack
import zmq

from tracker.errors import StreamError
from tracker.stream.fields import MAX_BYTES
from tracker.stream.message import HandsMessage, read_parts
from tracker.stream.schema import example_hands, example_status
from tracker.stream.subscriber import Subscriber

TOPICS = (b"hands.simulated", b"status.simulated", b"hands.", b"status.", b"", b"hands.\xff\xfe", b"other")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slowest", type=float, default=1000.0, help="milliseconds that one message may take")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    counts: Counter[str] = Counter()
    slowest = 0.0
    start = time.perf_counter()
    with zmq.Context() as context, context.socket(zmq.PUB) as publisher:
        publisher.setsockopt(zmq.SNDHWM, 0)
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        with Subscriber(f"tcp://127.0.0.1:{port}") as subscriber:
            wait_for_connection(publisher, subscriber)
            memory = resident_bytes()
            for number in range(options.messages):
                parts = KINDS[number % len(KINDS)](rng)
                before = time.thread_time()
                outcome = read(lambda parts=parts: read_parts(parts))
                slowest = max(slowest, time.thread_time() - before)
                if outcome.startswith("bug"):
                    print(f"{outcome}: {parts!r}", file=sys.stderr)
                    return 1
                counts[outcome] += 1
                if number % 101 == 0 and parts:
                    publisher.send_multipart(parts)
                    outcome = read(lambda: subscriber.receive(0))
                    if outcome.startswith("bug"):
                        print(f"{outcome}, through a socket", file=sys.stderr)
                        return 1
                    counts[f"socket: {outcome}"] += 1
            grown = resident_bytes() - memory
    seconds = time.perf_counter() - start
    print(f"{options.messages} messages in {seconds:.0f} s, seed {options.seed}; nothing but StreamError was raised")
    print(f"slowest {slowest * 1e3:.1f} ms, memory grew by {grown / 1e6:.1f} MB")
    for outcome, count in counts.most_common():
        print(f"{count:9} {outcome}")
    return int(slowest * 1e3 > options.slowest)


def read(action: Callable[[], object]) -> str:
    """What came of it, in few words."""
    try:
        message = action()
    except StreamError as error:
        text = str(error)
        if not text.isprintable() or len(text) > 300:
            return f"bug: the error's text {text!r}"
        return "refused"
    except Exception as error:
        return f"bug: {type(error).__name__}: {error}"
    if message is None:
        return "nothing there"
    return "read as hands" if isinstance(message, HandsMessage) else "read as status"


def noise(rng: random.Random) -> list[bytes]:
    """Bytes without a meaning."""
    return [rng.choice(TOPICS[:2]), rng.randbytes(rng.randrange(1, 400))]


def mutated(rng: random.Random) -> list[bytes]:
    """A real message with bytes changed, cut away, put in or doubled."""
    topic, data = sample(rng)
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        place = rng.randrange(len(changed))
        action = rng.randrange(6)
        if action == 0:
            del changed[place : place + rng.randrange(1, 50)]
        elif action == 1:
            changed[place:place] = rng.randbytes(rng.randrange(1, 10))
        elif action == 2:
            changed += changed[: min(place, 2000)]
        else:
            changed[place] = rng.randrange(256)
        if not changed:
            break
    return [topic, bytes(changed)]


def hostile(rng: random.Random) -> list[bytes]:
    """A real message with some field replaced by, or made to hold, what no tracker sends."""
    topic, data = sample(rng)
    fields = msgpack.unpackb(data)
    for _ in range(rng.randrange(1, 4)):
        place = fields
        while True:
            keys = list(place) if isinstance(place, dict) else range(len(place))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.7:
                place = place[key]
            elif isinstance(place, dict) and rng.random() < 0.1:
                del place[key]
                break
            else:
                place[key] = rng.choice(VALUES)(rng)
                break
    return [topic, msgpack.packb(fields, default=lambda value: None)[: 2 * MAX_BYTES]]


def wrong_parts(rng: random.Random) -> list[bytes]:
    """None, one, three or more parts, or an odd topic."""
    topic, data = sample(rng)
    odd = rng.choice(TOPICS)
    return rng.choice(
        [[], [data], [topic], [topic, data, data], [odd, data], [data, topic], [topic, b""], [b"", b""], [topic] * 50]
    )


def nested(rng: random.Random) -> object:
    """Lists or maps within each other, as deep as MessagePack packs them."""
    value: object = 0
    in_lists = rng.random() < 0.5
    for _ in range(rng.randrange(2, 500)):
        value = [value] if in_lists else {"x": value}
    return value


KINDS = (noise, mutated, hostile, wrong_parts)
VALUES: tuple[Callable[[random.Random], object], ...] = (
    nested,
    lambda rng: rng.choice([math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324, -0.0]),
    lambda rng: rng.choice([2**64 - 1, -(2**63), 2**63, 2**31, -1, 0, 1, 2, 21, 26]),
    lambda rng: rng.choice([None, True, False, "", "hand21", "openxr26", "m", "\x1b[2J", "x" * 5000, "\u202e"]),
    lambda rng: rng.randbytes(rng.randrange(0, 200)),
    lambda rng: [0] * rng.choice([0, 1, 20, 21, 22, 26, 33, 10_000]),
    lambda rng: [[0.5] * rng.choice([2, 3, 4])] * rng.choice([20, 21, 26]),
    lambda rng: {str(key): key for key in range(rng.choice([0, 1, 3000]))},
    lambda rng: msgpack.ExtType(rng.randrange(128), rng.randbytes(8)),
    lambda rng: msgpack.Timestamp(rng.randrange(2**34), rng.randrange(10**9)),
)


def sample(rng: random.Random) -> tuple[bytes, bytes]:
    """Topic and bytes of a real message."""
    return rng.choice(SAMPLES)


def wait_for_connection(publisher: zmq.Socket[bytes], subscriber: Subscriber) -> None:
    """Until what is sent arrives."""
    while subscriber.receive(0.02) is None:
        publisher.send_multipart(SAMPLES[0])


def resident_bytes() -> int:
    """Memory of this process (Linux; 0 elsewhere)."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096
    except OSError:
        return 0


def samples() -> list[tuple[bytes, bytes]]:
    """Real messages: both skeletons, with and without hands, and a status."""
    from tracker.stream.message import pack
    from tracker.stream.openxr import to_openxr, to_openxr_status

    hands, status = example_hands(), example_status()
    return [
        *((TOPICS[0], pack(message)) for message in (hands, to_openxr(hands))),
        *((TOPICS[1], pack(message)) for message in (status, to_openxr_status(status))),
    ]


SAMPLES = samples()

if __name__ == "__main__":
    sys.exit(main())
