from __future__ import annotations

import io
import logging
import math
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stream_samples import make_hand, make_message

from tracker.cli import main
from tracker.stream.colors import has_colors
from tracker.stream.message import Percentiles
from tracker.stream.rates import LatencyWindow, Rate
from tracker.stream.terminal import LiveLine, Summary, format_live, printable

ROOT = Path(__file__).resolve().parents[1]
RATE = Rate(29.5, Percentiles(10.5, 12.25, math.nan))
CODES = re.compile(r"\x1b\[\d*m")
RUN = [sys.executable, "-m", "tracker", "run", "--camera", "simulated", "--bind", "none"]


@pytest.mark.parametrize(("name", "shown"), [("desk 2", "desk 2"), ("a\x1b[31m\nb", "'a\\x1b[31m\\nb'")])
def test_names_do_not_command_the_terminal(name, shown):
    assert printable(name) == shown


def live_text(*args, **options) -> str:
    return "".join(text for text, _ in format_live(*args, **options))


def test_live_text():
    assert live_text(make_message(), RATE) == (
        "frame 7  29.5 fps  latency 10.5 ms (p95 12.2)  dropped 3  right #1, left #2"
    )
    assert live_text(make_message(hands=0), RATE).endswith("no hands")
    assert "latency - ms" in live_text(make_message(), Rate(0.0, Percentiles(math.nan, math.nan, math.nan)))
    assert "segment 1.5, voxelise 0.2, network 8.0 ms" in live_text(make_message(), RATE, stages=True)


def test_narrow_terminals_get_what_matters_most():
    for width in range(130):
        text = live_text(make_message(), RATE, width, stages=True)
        assert len(text) <= width
        assert ("right #1, left #2" in text) == (width >= 17)
        assert ("29.5 fps" in text) == (width >= 36)
    assert live_text(make_message(), RATE, 39) == "29.5 fps  10.5 ms  right #1, left #2"


def test_hands_have_the_color_of_their_confidence():
    hands = tuple(replace(make_hand(i), confidence=confidence) for i, confidence in enumerate((0.9, 0.5, 0.1)))
    parts = dict(format_live(replace(make_message(), hands=hands), RATE))
    assert [parts[f"right #{i}"] for i in range(3)] == [32, 33, 31]


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch) -> FakeTerminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("WT_SESSION", "1")
    return FakeTerminal()


def test_colors_are_for_terminals_that_want_them(terminal, monkeypatch):
    assert has_colors(terminal)
    assert not has_colors(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not has_colors(terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not has_colors(terminal)
    line = LiveLine(terminal)
    line.update(0.0, make_message(), LatencyWindow())
    line.close()
    assert "right #1" in terminal.getvalue()
    assert "\x1b" not in terminal.getvalue()


def test_live_line_is_rewritten_in_place_on_a_terminal(terminal):
    line = LiveLine(terminal)
    window = LatencyWindow()
    line.update(0.0, make_message(frame=1), window)
    line.update(0.01, make_message(frame=2), window)
    line.update(0.2, make_message(frame=3, hands=0), window)
    line.close()
    line.close()
    text = terminal.getvalue()
    assert "\x1b[33mright #1\x1b[0m" in text
    assert text.count("\n") == 1
    assert text.endswith("\n")
    _, first, second = CODES.sub("", text).rstrip("\n").split("\r")
    assert first.startswith("frame 1 ")
    assert second.startswith("frame 3 ")
    assert len(second) == len(first)  # What the longer line left behind is wiped out.


def test_log_has_lines_of_its_own(terminal):
    handler = logging.StreamHandler(terminal)
    logging.getLogger().addHandler(handler)
    try:
        line = LiveLine(terminal)
        line.update(0.0, make_message(), LatencyWindow())
        logging.getLogger("tracker").warning("the camera is gone")
        line.update(1.0, make_message(), LatencyWindow())
        line.close()
        assert not handler.filters
    finally:
        logging.getLogger().removeHandler(handler)
    assert re.search(r"left #2(\x1b\[0m)? *\r +\rthe camera is gone\n\r\S", terminal.getvalue())


def test_live_line_is_a_plain_line_now_and_then_in_a_log():
    stream = io.StringIO()
    line = LiveLine(stream)
    for i in range(300):
        line.update(i / 30, make_message(frame=i), LatencyWindow())
    line.close()
    assert [text.split()[1] for text in stream.getvalue().splitlines()] == ["0", "150"]
    assert "\r" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_nobody_who_reads_is_no_reason_to_stop():
    class Gone(FakeTerminal):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    line = LiveLine(Gone())
    line.update(0.0, make_message(), LatencyWindow())
    line.update(9.0, make_message(), LatencyWindow())
    line.close()


def test_summary_counts_frames_and_hands_of_each_side():
    summary = Summary()
    for frame in range(10):
        summary.add(make_message(frame=frame, hands=frame % 3))
    summary.add(replace(make_message(), hands=(make_hand(5, "left"),)))
    first, second, third = summary.text(seconds=2.0, stages=True).splitlines()
    assert first.startswith("11 frames in 2.0 s (5.5 fps), 3 dropped, latency 10.")
    assert first.endswith("ms (p50 / p95 / p99)")
    assert second == "hands in 7 frames: 2 left (over 4 frames), 1 right (over 6 frames)"
    medians = [float(value) for value in re.findall(r"(\S+) ms", third)]
    np.testing.assert_allclose(medians, [1.5, 0.25, 8.0], rtol=0.02, atol=0.06)


def test_summary_counts_a_hand_once_and_does_not_grow():
    summary = Summary()
    for frame in range(1000):
        summary.add(replace(make_message(), hands=(make_hand(frame // 3),)))
    assert "334 right (over 1000 frames)" in summary.text(1.0)
    assert len(summary._recent) < 100


def test_summary_of_a_run_without_frames():
    assert Summary().text(0.0) == (
        "0 frames in 0.0 s (0.0 fps), 0 dropped, latency - / - / - ms (p50 / p95 / p99)\nno hands"
    )


def test_quiet_prints_nothing_but_errors(capfd):
    assert main(["run", "--camera", "simulated", "--bind", "none", "--frames", "3", "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")
    assert main(["run", "--camera", "nowhere.h5", "--quiet"]) == 1
    assert capfd.readouterr().err.startswith("error: there is no camera or recording")


def test_a_command_that_there_is_not_gets_the_list_of_those_that_there_are(capfd):
    assert main(["nonsense"]) == 1
    error = capfd.readouterr().err
    assert error.startswith("error: there is no command 'nonsense': choose one of run, listen, ")
    assert error.count("\n") == 1


def test_under_a_pipe_there_are_plain_lines():
    result = subprocess.run([*RUN, "--frames", "3", "--verbose"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0
    assert result.stdout == ""
    assert not re.search(r"[\r\x1b]", result.stderr)
    assert "\n3 frames in " in result.stderr
    for detail in ("DEBUG tracker.loop: camera simulated: 640x480", "engine openvino", "p50 of the stages"):
        assert detail in result.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals of this kind")
def test_ctrl_c_in_a_narrow_terminal_ends_with_a_summary(tmp_path):
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 40, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR")}
    output = tmp_path / "a.jsonl"
    process = subprocess.Popen(
        [*RUN, "--output", str(output), "--record", str(tmp_path / "a.h5")],
        cwd=ROOT, env={**environment, "TERM": "xterm"}, stdout=subprocess.DEVNULL, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    sent = False
    try:
        while True:
            try:
                data = os.read(ours, 4096)
            except OSError:  # Linux says so when the other end is closed
                break
            if not data:
                break
            shown += data
            if not sent and shown.count(b"fps") > 3:
                time.sleep(0.1)
                process.send_signal(signal.SIGINT)
                sent = True
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    text = shown.decode()
    assert "\x1b[3" in text
    redrawn = [line for line in re.split(r"[\r\n]+", CODES.sub("", text)) if "fps" in line and "frames" not in line]
    assert len(redrawn) > 2
    assert max(map(len, redrawn)) <= 39
    summary = re.search(r"\n(\d+) frames in .* dropped, latency .*\r\nhands in \d+ frames: ", text)
    assert summary
    assert len(output.read_text().splitlines()) == int(summary[1])
    assert f"recorded {summary[1]} frames" in text
