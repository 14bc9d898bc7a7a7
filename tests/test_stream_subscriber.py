from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import zmq
from stream_samples import ANY_PORT, ROOT, connect, make_message, make_status, publishing

from tracker.errors import StreamError
from tracker.stream.message import pack
from tracker.stream.publisher import Publisher
from tracker.stream.subscriber import QUEUE, Subscriber


def test_subscriber_is_imported_without_torch():
    code = "import sys; from tracker import Subscriber; Subscriber; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_latest_is_the_newest_after_any_pause_and_is_given_once():
    with Publisher(ANY_PORT, "simulated") as publisher, connect(publisher) as subscriber:
        for frame in range(1, 6 * QUEUE):
            publisher.publish(make_message(frame=frame, hands=0))
            if frame % 100 == 0:
                time.sleep(0.005)
        time.sleep(0.3)
        assert subscriber.latest(1.0).frame == 6 * QUEUE - 1
        assert subscriber.latest(0) is None
        assert subscriber.receive(0) is None


def test_latest_while_messages_come_faster_than_anyone_reads_does_not_hang():
    with Publisher(ANY_PORT, "simulated") as publisher, connect(publisher) as subscriber, publishing(publisher, 0.0005):
        for _ in range(5):
            time.sleep(0.1)
            start = time.monotonic()
            message = subscriber.latest(5.0)
            assert time.monotonic() - start < 2.0
            assert time.time_ns() - message.published_ns < 1e9


def test_a_program_that_is_behind_misses_the_oldest_messages():
    with Publisher(ANY_PORT, "simulated") as publisher, connect(publisher) as subscriber:
        for frame in range(1, 2 * QUEUE + 1):
            publisher.publish(make_message(frame=frame, hands=0))
            if frame % 100 == 0:
                time.sleep(0.005)
        time.sleep(0.3)
        frames = [message.frame for message in iter(lambda: subscriber.receive(0.1), None)]
        assert frames == list(range(QUEUE + 1, 2 * QUEUE + 1))


@pytest.mark.skipif(os.name == "nt", reason="needs SIGSTOP")
def test_latest_is_new_after_the_program_itself_was_stopped():
    code = (
        "import os, signal, sys, time; from tracker import Subscriber\n"
        "subscriber = Subscriber(sys.argv[1]); subscriber.receive()\n"
        "print('ready', flush=True); time.sleep(1.0)\n"  # it is stopped meanwhile
        "input(); message = subscriber.latest(5.0); print((time.time_ns() - message.published_ns) / 1e6)\n"
    )
    with Publisher(ANY_PORT, "simulated") as publisher:
        program = subprocess.Popen(
            [sys.executable, "-c", code, publisher.endpoint],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            with publishing(publisher, 0.002):
                assert program.stdout.readline() == "ready\n"
                program.send_signal(signal.SIGSTOP)
                time.sleep(1.5)
                program.send_signal(signal.SIGCONT)
                age_ms, _ = program.communicate("\n", timeout=20)
        finally:
            program.kill()
            program.wait()
    assert float(age_ms) < 1000  # what waited from before the stop is older than 1500


def is_found(subscriber: Subscriber) -> bool:
    """Whether a status arrives within two seconds."""
    deadline = time.monotonic() + 2
    while not subscriber.is_alive(0.2) and time.monotonic() < deadline:
        time.sleep(0.01)
    return subscriber.is_alive(0.2)


def test_liveness_follows_the_status_even_without_frames():
    with Publisher(ANY_PORT, "simulated") as publisher, connect(publisher) as subscriber:
        time.sleep(0.3)
        assert not subscriber.is_alive(0.2)
        publisher.status(make_status())
        assert is_found(subscriber)
        assert subscriber.status.camera == "simulated"


def test_a_subscriber_that_heard_nothing_is_not_alive():
    with Subscriber("tcp://127.0.0.1:9") as subscriber:
        assert not subscriber.is_alive()


PUBLISHING = """
import itertools, sys, time
sys.path.insert(0, "tests")
from stream_samples import make_message, make_status
from tracker.stream.publisher import Publisher
with Publisher(sys.argv[1], "simulated") as publisher:
    print(publisher.endpoint, flush=True)
    for frame in itertools.count():
        publisher.publish(make_message(frame=frame))
        publisher.status(make_status())
        time.sleep(0.01)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_tracker_that_is_killed_and_started_again_is_found_again():
    endpoint = ANY_PORT
    subscriber = None
    for _ in range(3):
        tracker = subprocess.Popen(
            [sys.executable, "-c", PUBLISHING, endpoint], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        try:
            endpoint = tracker.stdout.readline().strip()
            subscriber = subscriber or Subscriber(endpoint)
            assert subscriber.receive(10.0) is not None
            assert is_found(subscriber)
        finally:
            tracker.kill()
            tracker.communicate()
        while subscriber.receive(0.3) is not None:
            pass
        assert not subscriber.is_alive(0.2)
    subscriber.close()


def test_iteration_goes_on_after_a_broken_message():
    with zmq.Context() as context, context.socket(zmq.PUB) as publisher:
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        with Subscriber(f"tcp://127.0.0.1:{port}") as subscriber:
            while subscriber.receive(0.01) is None:
                publisher.send_multipart([b"hands.x", pack(make_message(frame=1))])
            publisher.send_multipart([b"hands.x", b"\xc1"])
            publisher.send_multipart([b"hands.x", pack(make_message(frame=2))])
            errors = 0
            while True:
                try:
                    if next(subscriber).frame == 2:
                        break
                except StreamError:
                    errors += 1
    assert errors == 1


def test_closing_ends_whoever_waits():
    subscriber = Subscriber("tcp://127.0.0.1:9")
    frames: list[object] = []
    reader = threading.Thread(target=lambda: frames.extend(subscriber))
    reader.start()
    time.sleep(0.1)
    subscriber.close()
    subscriber.close()
    reader.join(timeout=3)
    assert not reader.is_alive()
    with pytest.raises(StreamError, match="is closed"):
        subscriber.receive(0)


@pytest.mark.skipif(os.name == "nt", reason="SIGINT to a child")
def test_ctrl_c_ends_a_program_that_waits_without_a_timeout():
    code = (
        "from tracker import Subscriber\n"
        "with Subscriber('tcp://127.0.0.1:9') as subscriber:\n"
        "    print('waiting', flush=True)\n"
        "    try: subscriber.receive()\n"
        "    except KeyboardInterrupt: print('interrupted')\n"
    )
    program = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert program.stdout.readline() == "waiting\n"
    time.sleep(0.2)
    program.send_signal(signal.SIGINT)
    assert program.communicate(timeout=5)[0] == "interrupted\n"


@pytest.mark.parametrize("size", [200_000, 50_000_000])
def test_a_message_longer_than_any_real_one_is_dropped_with_its_connection_and_the_stream_goes_on(size):
    with zmq.Context() as context, context.socket(zmq.PUB) as publisher:
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        with Subscriber(f"tcp://127.0.0.1:{port}") as subscriber:
            good = [b"hands.x", pack(make_message())]
            while subscriber.receive(0.01) is None:
                publisher.send_multipart(good)
            while subscriber.receive(0.1) is not None:
                pass
            publisher.send_multipart([b"hands.x", bytes(size)])
            deadline = time.monotonic() + 5
            while (message := subscriber.receive(0.05)) is None and time.monotonic() < deadline:
                publisher.send_multipart(good)
            assert message is not None


@pytest.mark.parametrize("timeout", [float("nan"), -1.0])
def test_a_timeout_that_never_ends_or_is_over_is_refused(timeout):
    with Subscriber("tcp://127.0.0.1:9") as subscriber:
        for wait in (subscriber.receive, subscriber.latest):
            with pytest.raises(ValueError, match="timeout must be None or seconds from 0 up"):
                wait(timeout)


def taken(*messages: list[bytes]) -> tuple[Subscriber, list[object]]:
    """A closed subscriber that has got these messages, and what it hands to its program for them."""
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        with Subscriber(f"tcp://127.0.0.1:{port}") as subscriber:
            assert {publisher.recv(), publisher.recv()} == {b"\x01hands.", b"\x01status."}
            for message in messages:
                publisher.send_multipart(message)
            results: list[object] = []
            for _ in messages:
                try:
                    results.append(subscriber.receive(0.3))
                except StreamError as error:
                    results.append(str(error))
    return subscriber, results


def test_only_a_status_that_is_understood_is_a_sign_of_life():
    status = pack(make_status())
    for message in (
        [b"hands.x", b"\xc1"],
        [b"hands.x", pack(make_message())],
        [b"status.x", status[:-1]],
        [b"status.x", status.replace(b"\xa7version\x01", b"\xa7version\x02")],
    ):
        subscriber, results = taken(message)
        assert results != [None]
        assert not subscriber.is_alive()
    assert taken([b"status.x", status])[0].is_alive()


def test_an_endless_topic_does_not_wait_in_the_queue():
    _, results = taken([b"hands." + b"x" * 100_000, pack(make_message())], [b"hands.x", pack(make_message(8))])
    assert results[0] == "a topic of 100006 bytes arrived: this is not a hand tracker"
    assert results[1].frame == 8
