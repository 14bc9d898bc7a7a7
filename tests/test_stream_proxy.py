from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from stream_samples import ANY_PORT, ROOT, connect_with, make_message, make_status, proxying, publishing, running_proxy

from tracker.cli import main
from tracker.stream.publisher import Publisher
from tracker.stream.subscriber import Subscriber

ANY_BIND = f"--bind={ANY_PORT}"


def drain(subscriber: Subscriber) -> None:
    while subscriber.receive(0.05) is not None:
        pass


def test_several_trackers_on_one_endpoint_and_one_camera_of_them():
    with (
        Publisher(ANY_PORT, "left") as left,
        Publisher(ANY_PORT, "right") as right,
        proxying(left.endpoint, right.endpoint, ANY_BIND) as endpoint,
        connect_with(left, endpoint) as everything,
        connect_with(left, endpoint, "left") as one,
        connect_with(right, endpoint, "right") as other,
    ):
        for subscriber in (everything, one, other):
            drain(subscriber)
        for frame in range(1, 21):
            left.publish(make_message(frame=frame, camera="left"))
            right.publish(make_message(frame=frame, camera="right"))
        left.status(make_status("left"))
        right.status(make_status("right"))
        for name, subscriber in (("left", one), ("right", other)):
            received = [subscriber.receive(2.0) for _ in range(20)]
            assert [(message.camera, message.frame) for message in received] == [(name, i) for i in range(1, 21)]
        assert sorted(everything.receive(2.0).camera for _ in range(40)) == ["left"] * 20 + ["right"] * 20
        drain(everything)
        drain(one)
        assert sorted(everything.statuses) == ["left", "right"]
        assert sorted(one.statuses) == ["left"]


def test_late_subscribers_and_trackers_that_start_late_and_start_again():
    with Publisher(ANY_PORT, "simulated") as publisher:
        tracker = publisher.endpoint
    with proxying(tracker, ANY_BIND) as endpoint, Subscriber(endpoint) as early:
        for _ in range(2):
            with Publisher(tracker, "simulated") as publisher, publishing(publisher):
                assert early.receive(5.0) is not None
                with Subscriber(endpoint) as late:
                    assert late.receive(5.0) is not None
            drain(early)


@pytest.mark.skipif(os.name == "nt", reason="SIGINT to a child")
def test_ctrl_c_ends_the_proxy_cleanly_and_frees_its_port():
    with running_proxy("tcp://127.0.0.1:9", ANY_BIND) as (endpoint, process):
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=5) == 0
        assert process.stderr.read() == ""
        Publisher(endpoint, "simulated").close()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tcp://127.0.0.1:9", "--bind=TAKEN"], "is in use"),
        (["tcp://127.0.0.1:9", "--bind=tcp://*:5593"], "can be reached from the network"),
        (["tcp://127.0.0.1:9", "--bind=nonsense"], "is not understood"),
        (["nonsense"], "is not understood"),
        (["tcp://127.0.0.1:5593", "--bind=tcp://127.0.0.1:5593"], "is the proxy's own endpoint"),
        (["tcp://127.0.0.1:9", "--keys=/nowhere"], "has no server.key_secret"),
    ],
)
def test_what_cannot_be_is_one_clear_line(arguments, says, capsys):
    with Publisher(ANY_PORT, "simulated") as publisher:
        status = main(["proxy", *(word.replace("TAKEN", publisher.endpoint) for word in arguments)])
    error = capsys.readouterr().err
    assert (status, error.count("\n")) == (1, 1)
    assert says in error


def test_help_of_the_new_commands_loads_nothing_heavy():
    code = (
        "import sys; from tracker.cli import main\n"
        "for command in ('proxy', 'keys'):\n"
        "    try: main([command, '--help'])\n"
        "    except SystemExit: pass\n"
        "assert not {'torch', 'zmq'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
