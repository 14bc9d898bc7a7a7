from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading

import pytest
from stream_samples import ANY_PORT, LISTEN, ROOT, publishing

from tracker.stream.publisher import Publisher


def run_listen(*arguments: str, timeout: float = 10) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*LISTEN, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=timeout)


def test_listen_prints_lines_for_people():
    with Publisher(ANY_PORT, "simulated") as publisher, publishing(publisher):
        result = run_listen(publisher.endpoint, "--frames", "3")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 3
    assert "right #1 50% palm (" in lines[0]
    assert "left #2" in lines[0]
    assert "10.5 ms" in lines[0]


def test_listen_prints_the_messages_as_json():
    with Publisher(ANY_PORT, "simulated") as publisher, publishing(publisher):
        result = run_listen(publisher.endpoint, "--json", "--frames", "2")
    first, second = (json.loads(line) for line in result.stdout.splitlines())
    assert second["frame"] == first["frame"] + 1
    assert len(first["hands"][0]["joints"]) == 21


def test_listen_gives_up_after_its_timeout():
    result = run_listen("tcp://127.0.0.1:9", "--timeout", "0.3")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: nothing came from tcp://127.0.0.1:9 for 0.3 s")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [("--timeout", "nan"), ("--timeout", "inf"), ("--timeout", "-1"), ("--frames", "0"), ("--frames", "-1")],
)
def test_listen_refuses_numbers_that_make_no_sense(option, value):
    result = run_listen("tcp://127.0.0.1:9", option, value)
    assert (result.returncode, result.stdout) == (2, "")
    assert f"argument {option}: must be a" in result.stderr
    assert f"is {value}" in result.stderr.splitlines()[-1]


def test_listen_refuses_a_misspelled_endpoint_in_one_line():
    result = run_listen("localhost")
    assert result.returncode == 1
    assert result.stderr.startswith("error: endpoint 'localhost' is not understood")
    assert result.stderr.count("\n") == 1


def lines_of(stream) -> queue.Queue[str]:
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: [lines.put(line) for line in stream], daemon=True).start()
    return lines


@pytest.mark.skipif(os.name == "nt", reason="SIGINT to a child")
def test_listen_says_that_nothing_comes_waits_on_and_ends_cleanly_on_ctrl_c():
    listener = subprocess.Popen(
        [*LISTEN, "tcp://127.0.0.1:9"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        line = lines_of(listener.stderr).get(timeout=10)
        assert "nothing arrives from tcp://127.0.0.1:9, still waiting" in line
        listener.send_signal(signal.SIGINT)
        assert listener.wait(timeout=5) == 0
    finally:
        listener.kill()
        listener.wait()
        listener.stdout.close()


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX pipe")
def test_listen_is_quiet_when_its_reader_leaves():
    with Publisher(ANY_PORT, "simulated") as publisher, publishing(publisher):
        listener = subprocess.Popen(
            [*LISTEN, publisher.endpoint], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        listener.stdout.readline()
        listener.stdout.close()
        errors = listener.stderr.read()
        listener.stderr.close()
        assert (listener.wait(timeout=5), errors) == (0, "")
