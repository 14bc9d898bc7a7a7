"""How long a message takes from publish to receive, how many fit in a second, and what a stopped subscriber costs.

    python benchmarks/stream.py
    python benchmarks/stream.py --seconds 30 --rate 30

Every receiver is a process of its own on this machine. The reference is bare pyzmq, sending as many bytes in as many
parts and doing nothing with them; the others pack and unpack a message with two hands as well. The arrangements take
turns, a second each, so that whatever else the machine does meets all of them; times are from just before packing to
just after unpacking. Before that, the publisher with a stopped subscriber sends `--stuck` messages, so that the stopped
one's queues are full.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import zmq
from fuzz import resident_bytes
from machine import machine

from tracker.stream.keys import make_keys, read_client_keys, read_server_keys
from tracker.stream.message import HandsMessage, pack
from tracker.stream.proxy import Proxy
from tracker.stream.publisher import QUEUE, Publisher
from tracker.stream.schema import example_hands
from tracker.stream.subscriber import Subscriber

ANY_PORT = "tcp://127.0.0.1:*"
TOPIC = b"hands.simulated"
UNCOUNTED, COUNTED, LAST = 0, 1, 2
PROCESSES = multiprocessing.get_context("spawn")


@dataclass
class Arrangement:
    """A way from a sender to a receiver in another process. send: a message of a kind (UNCOUNTED, COUNTED, LAST)."""

    name: str
    send: Callable[[int], None]
    results: Connection

    def finish(self) -> tuple[np.ndarray, float]:
        """Times of the counted messages, ms, and their rate at the receiver, in messages a second."""
        while not self.results.poll(0.05):  # the last one may be dropped, too
            self.send(LAST)
        times, seconds = self.results.recv()
        return np.array(times) * 1e-6, max(len(times) - 1, 0) / max(seconds, 1e-9)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10, help="of each arrangement")
    parser.add_argument("--rate", type=float, default=90.0, help="messages a second")
    parser.add_argument("--burst", type=int, default=20_000, help="messages of the throughput test")
    parser.add_argument("--stuck", type=int, default=100_000, help="messages sent past a stopped subscriber")
    options = parser.parse_args()
    message = two_hands()
    print(machine())
    print(f"pyzmq {zmq.__version__}, libzmq {zmq.zmq_version()}; a message of {len(pack(message))} bytes\n")
    with tempfile.TemporaryDirectory() as folder:
        make_keys(Path(folder) / "keys", ("client",))
        latency(options, message, Path(folder) / "keys")
        throughput(options.burst, message, Path(folder) / "keys")
    return 0


def latency(options: argparse.Namespace, message: HandsMessage, keys: Path) -> None:
    """The table of latencies, after the test with the stopped subscriber."""
    with ExitStack() as stack:
        arrangements = open_all(stack, message, keys)
        beside = stack.enter_context(beside_stopped(message))
        memory = resident_bytes()
        calls = np.empty(options.stuck)
        for number in range(options.stuck):
            start = time.perf_counter()
            beside.send(UNCOUNTED)
            calls[number] = time.perf_counter() - start
            if number == 2 * QUEUE:  # its queue is full
                memory = resident_bytes()
        print(
            f"{options.stuck} messages past a stopped subscriber: the publisher's memory grew by "
            f"{(resident_bytes() - memory) / 1e6:.1f} MB after the first {2 * QUEUE}, "
            f"a call took {np.median(calls) * 1e3:.3f} ms (p99.9 {np.percentile(calls, 99.9) * 1e3:.3f} ms)\n"
        )
        arrangements.append(beside)
        time.sleep(1.0)  # its healthy subscriber catches up
        for _ in range(options.seconds):
            for arrangement in arrangements:
                for _ in range(round(options.rate)):
                    time.sleep(1 / options.rate)
                    arrangement.send(COUNTED)
        print(f"publish to receive at {options.rate:g} messages a second")
        print(f"{'':44} {'p50 ms':>8} {'p99 ms':>8} {'ratio p50':>10} {'received':>9}")
        reference = math.nan
        for arrangement in arrangements:
            times, _ = arrangement.finish()
            p50, p99 = np.percentile(times, [50, 99]) if len(times) else (math.nan, math.nan)
            reference = p50 if math.isnan(reference) else reference
            share = len(times) / (options.seconds * round(options.rate))
            print(f"{arrangement.name:44} {p50:8.3f} {p99:8.3f} {p50 / reference:10.2f} {share:9.1%}")


def throughput(count: int, message: HandsMessage, keys: Path) -> None:
    """The table of rates: sent as fast as the sender can, what arrives is counted."""
    print(f"\n{count} messages as fast as they can be sent")
    print(f"{'':44} {'received/s':>10} {'ratio':>6} {'dropped':>8}")
    reference = 0.0
    with ExitStack() as stack:
        for arrangement in open_all(stack, message, keys):
            for _ in range(count):
                arrangement.send(COUNTED)
            times, rate = arrangement.finish()
            reference = reference or rate
            dropped = 1 - len(times) / count
            print(f"{arrangement.name:44} {rate:10.0f} {rate / reference:6.2f} {dropped:8.1%}")


def open_all(stack: ExitStack, message: HandsMessage, keys: Path) -> list[Arrangement]:
    """The reference first."""
    return [
        stack.enter_context(bare("bare pyzmq (reference)", message, None)),
        stack.enter_context(bare("bare pyzmq, CURVE", message, keys)),
        stack.enter_context(tracker("Publisher to Subscriber", message, None)),
        stack.enter_context(tracker("Publisher to Subscriber, CURVE", message, keys)),
        stack.enter_context(through_proxy(message)),
    ]


@contextmanager
def bare(name: str, message: HandsMessage, keys: Path | None) -> Iterator[Arrangement]:
    """Two parts of the same length, whose first bytes are the time and the kind."""
    filling = pack(message)[16:]
    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        if keys is not None:
            own = read_server_keys(keys / "server").own
            socket.setsockopt(zmq.CURVE_SERVER, 1)
            socket.setsockopt(zmq.CURVE_SECRETKEY, own.secret)
        port = socket.bind_to_random_port("tcp://127.0.0.1")

        def send(kind: int) -> None:
            socket.send_multipart((TOPIC, struct.pack("<qq", time.time_ns(), kind) + filling))

        with receiving(receive_bare, f"tcp://127.0.0.1:{port}", keys, send) as results:
            yield Arrangement(name, send, results)


@contextmanager
def tracker(name: str, message: HandsMessage, keys: Path | None) -> Iterator[Arrangement]:
    """As `tracker run` and `Subscriber` do it."""
    with Publisher(ANY_PORT, "simulated", keys=keys and keys / "server") as publisher:
        send = sender(publisher, message)
        with receiving(receive_hands, publisher.endpoint, keys, send) as results:
            yield Arrangement(name, send, results)


@contextmanager
def through_proxy(message: HandsMessage) -> Iterator[Arrangement]:
    """The same with a proxy, in a process of its own, in between."""
    with Publisher(ANY_PORT, "simulated") as publisher:
        here, there = PROCESSES.Pipe()
        process = PROCESSES.Process(target=run_proxy, args=(publisher.endpoint, there), daemon=True)
        process.start()
        try:
            send = sender(publisher, message)
            with receiving(receive_hands, here.recv(), None, send) as results:
                yield Arrangement("Publisher to Subscriber through the proxy", send, results)
        finally:
            process.kill()
            process.join()


@contextmanager
def beside_stopped(message: HandsMessage) -> Iterator[Arrangement]:
    """The same with a second subscriber that is stopped in its tracks."""
    with Publisher(ANY_PORT, "simulated") as publisher:
        send = sender(publisher, message)
        with (
            receiving(receive_hands, publisher.endpoint, None, send, stopped=True),
            receiving(receive_hands, publisher.endpoint, None, send) as results,
        ):
            yield Arrangement("Publisher to Subscriber beside a stopped one", send, results)


def sender(publisher: Publisher, message: HandsMessage) -> Callable[[int], None]:
    """Publishes the message with the time and, as its frame number, the kind."""

    def send(kind: int) -> None:
        publisher.publish(replace(message, published_ns=time.time_ns(), frame=kind))

    return send


@contextmanager
def receiving(
    target: Callable[[str, Path | None, Connection], None],
    endpoint: str,
    keys: Path | None,
    send: Callable[[int], None],
    stopped: bool = False,
) -> Iterator[Connection]:
    """A connected receiver in its own process; gives the end of the pipe where its results arrive."""
    here, there = PROCESSES.Pipe()
    process = PROCESSES.Process(target=target, args=(endpoint, keys, there), daemon=True)
    process.start()
    try:
        while not here.poll(0.02):
            send(UNCOUNTED)
        here.recv()
        if stopped:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGSTOP)
        yield here
    finally:
        process.kill()
        process.join()


def receive_bare(endpoint: str, keys: Path | None, results: Connection) -> None:
    """The reference's receiver."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        if keys is not None:
            client = read_client_keys(keys / "client")
            socket.setsockopt(zmq.CURVE_PUBLICKEY, client.own.public)
            socket.setsockopt(zmq.CURVE_SECRETKEY, client.own.secret)
            socket.setsockopt(zmq.CURVE_SERVERKEY, client.server)
        socket.subscribe(TOPIC)
        socket.connect(endpoint)

        def receive() -> tuple[int, int]:
            _, data = socket.recv_multipart()
            sent, kind = struct.unpack("<qq", data[:16])
            return sent, kind

        report(receive, results)


def receive_hands(endpoint: str, keys: Path | None, results: Connection) -> None:
    """The receiver that unpacks."""
    with Subscriber(endpoint, keys=keys and keys / "client") as subscriber:

        def receive() -> tuple[int, int]:
            message = subscriber.receive()
            assert message is not None
            return message.published_ns, message.frame

        report(receive, results)


def report(receive: Callable[[], tuple[int, int]], results: Connection) -> None:
    """Say that something came, note the times of the counted messages until the last, and send them."""
    receive()
    results.send("connected")
    times: list[int] = []
    first = last = time.perf_counter()
    while True:
        sent, kind = receive()
        if kind == LAST:
            break
        if kind == COUNTED:
            times.append(time.time_ns() - sent)
            last = time.perf_counter()
            first = last if len(times) == 1 else first
    results.send((times, last - first))


def run_proxy(tracker: str, endpoint: Connection) -> None:
    """The proxy's process."""
    with Proxy((tracker,), ANY_PORT) as proxy:
        endpoint.send(proxy.endpoint)
        proxy.run()


def two_hands() -> HandsMessage:
    """The example message with a second hand."""
    message = example_hands()
    hand = message.hands[0]
    return replace(message, hands=(hand, replace(hand, id=hand.id + 1, side="left")))


if __name__ == "__main__":
    sys.exit(main())
