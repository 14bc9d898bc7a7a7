"""A subscriber that is stopped or never reads: nobody else notices, and nothing grows."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import zmq
from stream_samples import ANY_PORT, make_message, resident_bytes, running_proxy

from tracker.stream.message import pack
from tracker.stream.publisher import Publisher

MESSAGES = 100_000
BURST = 200
MEGABYTE = 1 << 20

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc and SIGSTOP")

SLOW_READER = """
import sys, zmq
socket = zmq.Context().socket(zmq.SUB)
socket.subscribe(b"")
socket.connect(sys.argv[1])
socket.recv_multipart()
print("connected", flush=True)
while True:
    socket.recv_multipart()
"""


@contextmanager
def stopped_process(publisher: Publisher, endpoint: str) -> Iterator[None]:
    """A subscribed process that is then stopped in its tracks."""
    process = subprocess.Popen([sys.executable, "-c", SLOW_READER, endpoint], stdout=subprocess.PIPE, text=True)
    try:
        connected = threading.Event()
        threading.Thread(target=lambda: process.stdout.readline() and connected.set(), daemon=True).start()
        while not connected.wait(0.02):
            publisher.publish(make_message(frame=0))
        process.send_signal(signal.SIGSTOP)
        yield
    finally:
        process.kill()
        process.communicate()


@contextmanager
def socket_that_never_reads(publisher: Publisher, endpoint: str) -> Iterator[None]:
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.subscribe(b"")
        socket.connect(endpoint)
        while not socket.poll(20):
            publisher.publish(make_message(frame=0))
        yield


@contextmanager
def healthy_socket(publisher: Publisher, endpoint: str) -> Iterator[zmq.Socket[bytes]]:
    """A bare socket, because unpacking a hundred thousand messages would take longer than all the rest."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.subscribe(b"hands.")
        socket.connect(endpoint)
        while not socket.poll(20):
            publisher.publish(make_message(frame=0))
        yield socket


def publish_many(
    publisher: Publisher, healthy: zmq.Socket[bytes], processes: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> dict[str, int]:
    """Publish MESSAGES in bursts that the healthy subscriber answers for; returns the growth of each process, bytes.

    Memory is taken as flat from the first tenth on: until then the stuck one's queue fills, which is what it is for.
    """
    while healthy.poll(100):
        healthy.recv_multipart()
    message = make_message()
    data = pack(message)
    monkeypatch.setattr("tracker.stream.publisher.pack", lambda message: data)
    before: dict[str, int] = {}
    for burst in range(MESSAGES // BURST):
        if burst == MESSAGES // BURST // 10:
            before = {name: resident_bytes(process) for name, process in processes.items()}
        for _ in range(BURST):
            publisher.publish(message)
        for _ in range(BURST):
            assert healthy.poll(5000), "the healthy subscriber misses messages"
            assert healthy.recv_multipart()[1] == data
    return {name: resident_bytes(process) - before[name] for name, process in processes.items()}


def test_publisher_stays_flat_and_others_get_everything(monkeypatch):
    with (
        Publisher(ANY_PORT, "simulated") as publisher,
        healthy_socket(publisher, publisher.endpoint) as healthy,
        stopped_process(publisher, publisher.endpoint),
        socket_that_never_reads(publisher, publisher.endpoint),
    ):
        growth = publish_many(publisher, healthy, {"publisher": os.getpid()}, monkeypatch)
    assert growth["publisher"] < 8 * MEGABYTE


def test_proxy_stays_flat_and_others_get_everything(monkeypatch):
    with (
        Publisher(ANY_PORT, "simulated") as publisher,
        running_proxy(publisher.endpoint, f"--bind={ANY_PORT}") as (endpoint, proxy),
        healthy_socket(publisher, endpoint) as healthy,
        stopped_process(publisher, endpoint),
    ):
        growth = publish_many(publisher, healthy, {"publisher": os.getpid(), "proxy": proxy.pid}, monkeypatch)
    assert growth["publisher"] < 8 * MEGABYTE
    assert growth["proxy"] < 8 * MEGABYTE
