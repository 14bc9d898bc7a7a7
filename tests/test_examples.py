"""The subscribers in `examples/`, each run as its first lines say, against the real publisher."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import msgpack
import numpy as np
import pytest
import zmq
from stream_samples import ANY_PORT, ROOT, make_message, make_status, with_unknown_joint

from tracker.hand.skeleton import joint
from tracker.stream.message import HandsMessage
from tracker.stream.openxr import OPENXR_NAMES, to_openxr
from tracker.stream.publisher import Publisher

EXAMPLES = ROOT / "examples"
LANGUAGES = ("python", "node", "cpp")
NOWHERE = "tcp://127.0.0.1:9"
INDEX_TIP = joint("index_tip")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """The command that starts the subscriber of a language; skips the test where its packages are missing."""
    commands: dict[str, list[str]] = {}

    def program(language: str) -> list[str]:
        if language not in commands:
            build = {"python": _python, "node": _node, "cpp": _cpp}[language]
            commands[language] = build(tmp_path_factory.mktemp(language))
        return commands[language]

    return program


def without(reason: str) -> NoReturn:
    """Skip the test; but fail it where CI has installed what the examples need: there it must not go unnoticed."""
    if "EXAMPLES_NODE" in os.environ:
        pytest.fail(reason)
    pytest.skip(reason)


def _python(folder: Path) -> list[str]:
    # Isolated and from a folder of its own: it must not find this project.
    return [sys.executable, "-I", str(shutil.copy(EXAMPLES / "subscriber.py", folder))]


def _node(folder: Path) -> list[str]:
    node = shutil.which("node")
    # A module finds its packages beside itself: where `npm ci` put them, in the clone or where CI did it.
    installed = Path(os.environ.get("EXAMPLES_NODE", EXAMPLES / "node"))
    if node is None or not (installed / "node_modules" / "zeromq").is_dir():
        without("needs node, and `npm ci` in examples/node")
    if installed != EXAMPLES / "node":
        shutil.copy(EXAMPLES / "node" / "subscriber.js", installed)
    return [node, str(installed / "subscriber.js")]


def _cpp(folder: Path) -> list[str]:
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        without("needs cmake and a C++ compiler")
    configured = subprocess.run(
        ["cmake", "-S", EXAMPLES / "cpp", "-B", folder], capture_output=True, text=True, timeout=60
    )
    if configured.returncode != 0:
        without("needs the packages cppzmq-dev and libmsgpack-cxx-dev, or their like")
    built = subprocess.run(["cmake", "--build", folder], capture_output=True, text=True, timeout=200)
    assert built.returncode == 0, built.stdout + built.stderr
    return [str(folder / "subscriber")]


@contextmanager
def running(command: list[str], *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def publish_until_it_ends(process: subprocess.Popen[str], publish: Callable[[int], object]) -> tuple[str, str]:
    """Publish frames 0, 1, 2, ... while the program runs; its output and errors, too little to fill a pipe."""
    for frame in range(3000):
        publish(frame)
        try:
            process.wait(0.01)
            return process.communicate()
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError("the program took no message, or did not end")


def expected_lines(message: HandsMessage) -> list[str]:
    lines = []
    for hand in message.hands:
        x, y, z = (float(coordinate) for coordinate in hand.joints[INDEX_TIP])
        state = "seen" if hand.joint_tracked[INDEX_TIP] else "inferred"
        tip = "unknown" if np.isnan(x) else f"{x:+.3f} {y:+.3f} {z:+.3f} m {state}"
        which = f"{message.camera} {message.frame} {hand.side} #{hand.id} {hand.confidence:.2f}"
        lines.append(f"{which} index tip {tip}")
    return lines


@pytest.mark.parametrize("language", LANGUAGES)
def test_prints_the_index_tips_of_every_hand(programs, language):
    command = programs(language)
    message = make_message(hands=4)
    flags = [hand.joint_tracked.copy() for hand in message.hands]
    flags[1][INDEX_TIP], flags[2][INDEX_TIP] = True, False
    hands = tuple(replace(hand, joint_tracked=flag) for hand, flag in zip(message.hands, flags))
    message = with_unknown_joint(replace(message, hands=hands), INDEX_TIP)
    with Publisher(ANY_PORT, "simulated") as publisher, running(command, publisher.endpoint, "3") as process:

        def publish(frame: int) -> None:
            publisher.status(make_status())
            publisher.publish(replace(message, frame=frame))

        output, errors = publish_until_it_ends(process, publish)
    assert (process.returncode, errors) == (0, "")
    frames = [int(line.split()[1]) for line in output.splitlines()[::4]]
    assert frames == sorted(set(frames))
    assert len(frames) == 3
    assert output.splitlines() == [line for i in frames for line in expected_lines(replace(message, frame=i))]
    assert {"unknown", "seen", "inferred"} <= set(output.split())


@pytest.mark.parametrize("language", LANGUAGES)
def test_finds_the_index_tip_among_the_joints_of_openxr(programs, language):
    command = programs(language)
    message = make_message(hands=1)
    tip = to_openxr(message).hands[0].joints[OPENXR_NAMES.index("index_tip")]
    with (
        Publisher(ANY_PORT, "simulated", skeleton="openxr26") as publisher,
        running(command, publisher.endpoint, "1") as process,
    ):
        output, _ = publish_until_it_ends(process, lambda _: publisher.publish(message))
    assert " index tip {:+.3f} {:+.3f} {:+.3f} m ".format(*tip) in output


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_frame_without_hands_counts_and_prints_nothing(programs, language):
    command = programs(language)
    with Publisher(ANY_PORT, "simulated") as publisher, running(command, publisher.endpoint, "2") as process:
        output, errors = publish_until_it_ends(process, lambda frame: publisher.publish(make_message(frame, hands=0)))
    assert (process.returncode, output, errors) == (0, "", "")


@pytest.mark.parametrize("language", LANGUAGES)
def test_says_that_a_camera_gives_no_frames(programs, language):
    command = programs(language)
    stalled = replace(make_status(), fps=0.0)
    with Publisher(ANY_PORT, "simulated") as publisher, running(command, publisher.endpoint, "1") as process:

        def publish(frame: int) -> None:
            publisher.status(stalled)
            if frame % 20 == 19:
                publisher.publish(make_message())

        _, errors = publish_until_it_ends(process, publish)
    assert process.returncode == 0
    assert set(errors.splitlines()) == {"camera simulated gives no frames"}


def test_says_that_no_tracker_publishes(programs):
    commands = {language: available(programs, language) for language in LANGUAGES}
    processes = {
        language: subprocess.Popen([*command, NOWHERE], stderr=subprocess.PIPE, text=True)
        for language, command in commands.items()
        if command is not None
    }
    try:
        for process in processes.values():
            assert process.stderr is not None
            assert process.stderr.readline() == f"silence: no tracker publishes on {NOWHERE}\n"
            assert process.poll() is None
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()


def available(programs: Callable[[str], list[str]], language: str) -> list[str] | None:
    try:
        return programs(language)
    except pytest.skip.Exception:
        return None


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("topic", [b"hands.simulated", b"status.simulated"])
def test_refuses_another_version(programs, language, topic):
    command = programs(language)
    data = msgpack.packb({"version": 2, "hands": [], "fps": 30.0})
    with zmq.Context() as context, context.socket(zmq.PUB) as publisher:
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        with running(command, f"tcp://127.0.0.1:{port}") as process:
            output, errors = publish_until_it_ends(process, lambda _: publisher.send_multipart([topic, data]))
    assert (process.returncode, output) == (1, "")
    assert errors == "error: protocol version 2 arrived, this program reads version 1\n"


@pytest.mark.parametrize("language", LANGUAGES)
def test_refuses_a_skeleton_that_it_does_not_know_in_one_line(programs, language):
    command = programs(language)
    data = msgpack.packb({"version": 1, "skeleton": "octopus8", "hands": []})
    with zmq.Context() as context, context.socket(zmq.PUB) as publisher:
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        with running(command, f"tcp://127.0.0.1:{port}") as process:
            _, errors = publish_until_it_ends(process, lambda _: publisher.send_multipart([b"hands.simulated", data]))
    assert process.returncode == 1
    assert errors.startswith("error: skeleton ")
    assert "octopus8" in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("endpoint", ["", "nonsense"])
def test_refuses_what_is_no_endpoint_in_one_line(programs, language, endpoint):
    result = subprocess.run([*programs(language), endpoint], capture_output=True, text=True, timeout=20)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "parts",
    [[b"hands."], [b"hands.", b""], [b"hands.", b"\xc1"], [b"hands.", b"\xdd\xff\xff\xff\xff"], [b"hands.", b"\x80"]],
    ids=["one part", "empty", "not MessagePack", "a list of 4 billion", "an empty map"],
)
def test_ends_with_an_error_for_what_is_no_message(programs, language, parts):
    command = programs(language)
    with zmq.Context() as context, context.socket(zmq.PUB) as publisher:
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        with running(command, f"tcp://127.0.0.1:{port}") as process:
            output, errors = publish_until_it_ends(process, lambda _: publisher.send_multipart(parts))
    assert (process.returncode, output) == (1, "")
    assert errors != ""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGSTOP")
@pytest.mark.parametrize("language", LANGUAGES)
def test_after_a_pause_only_the_newest_counts(programs, language, tmp_path):
    command = programs(language)
    printed = tmp_path / "printed"
    with Publisher(ANY_PORT, "simulated") as publisher, printed.open("w") as file:
        process = subprocess.Popen([*command, publisher.endpoint], stdout=file)
        try:
            while not printed.read_text():  # until it is connected
                publisher.publish(make_message(frame=0))
                time.sleep(0.01)
            process.send_signal(signal.SIGSTOP)
            for frame in range(1, 301):
                publisher.publish(make_message(frame=frame))
                time.sleep(0.001)
            process.send_signal(signal.SIGCONT)
            while expected_lines(make_message(frame=300))[-1] not in printed.read_text():
                time.sleep(0.01)
        finally:
            process.kill()
            process.wait()
    frames = {line.split()[1] for line in printed.read_text().splitlines()}
    assert len(frames) < 30


def test_python_subscriber_is_short_and_stands_alone():
    source = (EXAMPLES / "subscriber.py").read_text()
    assert "import tracker" not in source
    assert "from tracker" not in source
    assert len(source.splitlines()) <= 90
