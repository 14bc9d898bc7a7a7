from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import msgpack
import numpy as np
import pytest
import zmq
from stream_samples import ANY_PORT, LISTEN, ROOT, connect, make_message, make_status, publishing

from tracker.errors import StreamError
from tracker.loop import _publish_status
from tracker.stream.message import HandsMessage, pack
from tracker.stream.publisher import Publisher
from tracker.stream.rates import LatencyWindow
from tracker.stream.subscriber import Subscriber


def test_every_message_arrives_in_order_and_whole():
    with Publisher(ANY_PORT, "simulated") as publisher, connect(publisher) as subscriber:
        sent = [make_message(frame=i, hands=i % 3) for i in range(300)]
        for message in sent:
            publisher.publish(message)
        received = [subscriber.receive(2.0) for _ in sent]
    assert [message.frame for message in received] == list(range(300))
    assert [len(message.hands) for message in received] == [i % 3 for i in range(300)]
    np.testing.assert_array_equal(received[2].hands[1].joints, sent[2].hands[1].joints)


def test_wire_is_two_parts_with_topics_that_filter_by_camera():
    context = zmq.Context()
    with Publisher(ANY_PORT, "my camera") as publisher:
        raw = context.socket(zmq.SUB)
        raw.connect(publisher.endpoint)
        raw.subscribe(b"")
        topics = set()
        for _ in range(200):
            publisher.publish(make_message(camera="my camera"))
            publisher.status(make_status("my camera"))
            while raw.poll(10):
                topic, data = raw.recv_multipart()
                topics.add((topic, "hands" in msgpack.unpackb(data)))
            if len(topics) == 2:
                break
        raw.close(0)
    context.term()
    assert topics == {(b"hands.my camera", True), (b"status.my camera", False)}


def test_last_messages_arrive_although_the_publisher_closes_at_once(monkeypatch):
    message = make_message(frame=5)
    data = pack(message)
    for _ in range(8):
        with Publisher(ANY_PORT, "simulated") as publisher:
            subscriber = connect(publisher)
            with monkeypatch.context() as fast:  # A burst that outruns the socket's thread.
                fast.setattr("tracker.stream.publisher.pack", lambda message: data)
                for _ in range(900):
                    publisher.publish(message)
        received = [subscriber.receive(0.5) for _ in range(900)]
        subscriber.close()
        assert None not in received


def test_late_joiner_gets_the_stream_from_then_on():
    with Publisher(ANY_PORT, "simulated") as publisher, publishing(publisher):
        time.sleep(0.2)
        with Subscriber(publisher.endpoint) as subscriber:
            first = subscriber.receive(2.0)
            second = subscriber.receive(2.0)
    assert first.frame > 5
    assert second.frame == first.frame + 1


def test_subscriber_may_come_first_and_outlives_a_restart():
    with Publisher(ANY_PORT, "simulated") as publisher:
        endpoint = publisher.endpoint
    with Subscriber(endpoint) as subscriber:
        for _ in range(2):
            with Publisher(endpoint, "simulated") as publisher, publishing(publisher):
                assert subscriber.receive(5.0) is not None
            while subscriber.receive(0.1) is not None:
                pass


def test_latest_skips_what_is_old():
    with Publisher(ANY_PORT, "simulated") as publisher, connect(publisher) as subscriber:
        for frame in range(1, 101):
            publisher.publish(make_message(frame=frame))
        time.sleep(0.2)
        assert subscriber.latest(1.0).frame == 100
        assert subscriber.latest(0.05) is None


def test_latest_is_the_newest_after_a_pause_that_overfills_the_queue():
    with Publisher(ANY_PORT, "simulated") as publisher, connect(publisher) as subscriber:
        for frame in range(1, 2501):
            publisher.publish(make_message(frame=frame))
            if frame % 100 == 0:
                time.sleep(0.01)
        time.sleep(0.2)
        assert subscriber.latest(1.0).frame == 2500


def test_one_camera_is_not_mixed_up_with_one_whose_name_begins_the_same():
    with Publisher(ANY_PORT, "simulated2") as publisher, Subscriber(publisher.endpoint, "simulated") as subscriber:
        with connect(publisher) as everything:
            publisher.publish(make_message(frame=5))
            assert everything.receive(2.0).frame == 5
        assert subscriber.receive(0.1) is None


def test_status_is_kept_while_messages_are_read():
    with Publisher(ANY_PORT, "simulated") as publisher, connect(publisher) as subscriber:
        assert subscriber.status is None
        publisher.status(make_status())
        publisher.publish(make_message())
        assert subscriber.receive(2.0) is not None
        assert subscriber.status == make_status()


def test_receive_gives_up_on_time():
    with Subscriber("tcp://127.0.0.1:9") as subscriber:
        start = time.monotonic()
        assert subscriber.receive(0.2) is None
        assert 0.15 < time.monotonic() - start < 1.0


@contextmanager
def foreign_publisher() -> Iterator[tuple[str, Callable[[list[bytes]], None]]]:
    """A publisher that can send anything, and the way to send it."""
    with zmq.Context() as context, context.socket(zmq.PUB) as publisher:
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        yield f"tcp://127.0.0.1:{port}", publisher.send_multipart


def first_error(parts: list[bytes]) -> str:
    with foreign_publisher() as (endpoint, send), Subscriber(endpoint) as subscriber:
        for _ in range(200):
            send(parts)
            try:
                subscriber.receive(0.02)
            except StreamError as error:
                return str(error)
    return "no error"


def test_foreign_messages_are_stream_errors():
    newer = msgpack.packb({"version": 2})
    assert "protocol version 2" in first_error([b"hands.x", newer])
    assert "protocol version 2" in first_error([b"status.x", newer])
    assert "not MessagePack" in first_error([b"hands.x", b"\xc1"])
    assert "not a hand tracker" in first_error([b"hands.x"])
    assert "too long" in first_error([b"hands.x", bytes(100_000)])


@pytest.mark.skipif(os.name == "nt", reason="needs SIGSTOP")
def test_stopped_process_does_not_take_the_stream_from_others():
    with Publisher(ANY_PORT, "simulated") as publisher, connect(publisher) as healthy:
        listener = subprocess.Popen([*LISTEN, publisher.endpoint], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        try:
            with publishing(publisher, pace=0.002):
                listener.stdout.readline()
                listener.send_signal(signal.SIGSTOP)
                while healthy.receive(0) is not None:
                    pass
                frames = [healthy.receive(2.0).frame for _ in range(500)]
        finally:
            listener.kill()
            listener.communicate()
    assert frames == list(range(frames[0], frames[0] + 500))


def test_none_publishes_nothing():
    with Publisher("none", "simulated") as publisher:
        publisher.publish(make_message())
        publisher.status(make_status())
        assert publisher.endpoint == "none"


def test_port_in_use_says_what_to_do():
    with (
        Publisher(ANY_PORT, "a") as publisher,
        pytest.raises(StreamError, match=r"is in use.*--bind tcp://127\.0\.0\.1:5557"),
    ):
        Publisher(publisher.endpoint, "b")


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ("5556", "write tcp://HOST:PORT"),
        ("", "write tcp://HOST:PORT"),
        ("tcp://127.0.0.1", "write tcp://HOST:PORT"),
        ("tcp://127.0.0.1:abc", "write tcp://HOST:PORT"),
        ("ws://127.0.0.1:5556", "write tcp://HOST:PORT"),
        ("tcp://127.0.0.1:99999", "no such port"),
        ("tcp://127.0.0.1:0", "no such port"),
    ],
)
def test_misspelled_endpoint_is_refused_at_both_ends(endpoint, says):
    with pytest.raises(StreamError, match=says):
        Publisher(endpoint, "simulated")
    with pytest.raises(StreamError, match=says):
        Subscriber(endpoint)


def test_address_of_another_machine_cannot_be_bound():
    with pytest.raises(StreamError, match="not an address of this machine"):
        Publisher("tcp://203.0.113.7:5556", "simulated", insecure=True)


def test_port_without_permission_is_explained(monkeypatch):
    def refuse(self: zmq.Socket, endpoint: str) -> None:
        raise zmq.ZMQError(13)

    monkeypatch.setattr(zmq.Socket, "bind", refuse)
    with pytest.raises(StreamError, match="rights"):
        Publisher("tcp://127.0.0.1:80", "simulated")


def test_ipc_in_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(StreamError, match="cannot be used"):
        Publisher(f"ipc://{tmp_path}/missing/socket", "simulated")


def test_endpoint_open_to_the_network_is_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        Publisher(ANY_PORT, "simulated").close()
        assert caplog.text == ""
        Publisher("tcp://*:*", "simulated", insecure=True).close()
    assert "not encrypted" in caplog.text


@pytest.mark.skipif(not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists(), reason="no IPv6 here")
def test_ipv6_loopback():
    with Publisher("tcp://[::1]:*", "simulated") as publisher, connect(publisher) as subscriber:
        publisher.publish(make_message(frame=4))
        assert subscriber.receive(2.0).frame == 4


def frames_of(messages: list[HandsMessage]) -> list[int]:
    return [message.frame for message in messages]


def test_iteration_yields_every_message():
    with Publisher(ANY_PORT, "simulated") as publisher, connect(publisher) as subscriber:
        for frame in range(5):
            publisher.publish(make_message(frame=frame))
        stream = iter(subscriber)
        assert frames_of([next(stream) for _ in range(5)]) == [0, 1, 2, 3, 4]


def test_the_status_keeps_its_pace_whatever_the_frames_take(monkeypatch):
    sent = []
    clock = iter([0.0, 0.4, 1.3, 1.7, 2.4, 3.2, 9.0, 9.5, 10.1])
    monkeypatch.setattr("tracker.loop.time.monotonic", lambda: next(clock))
    engine = SimpleNamespace(name="none", device="none")
    camera, tracker = SimpleNamespace(name="walk", dropped=0), SimpleNamespace(model="none", engine=engine)
    publisher = SimpleNamespace(status=lambda message: sent.append(message.uptime_s))
    due = 0.0
    for _ in range(9):
        due = _publish_status(publisher, camera, tracker, LatencyWindow(), 0.0, due)
    assert sent == [0.0, 1.3, 2.4, 3.2, 9.0, 10.1]
