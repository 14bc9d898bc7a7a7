from __future__ import annotations

import io
import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stream_samples import make_hand, make_message

from tracker.errors import StreamError
from tracker.stream.message import Percentiles
from tracker.stream.output import JsonLines
from tracker.stream.rates import LatencyHistogram, LatencyWindow, Rate
from tracker.stream.terminal import LiveLine, Summary, format_live, format_message, format_palm

ROOT = Path(__file__).resolve().parents[1]
RATE = Rate(29.5, Percentiles(10.5, 12.25, math.nan))


def frames(path: Path) -> list[int]:
    return [json.loads(line)["frame"] for line in path.read_text().splitlines()]


def test_json_lines_are_in_the_file_as_soon_as_they_are_written(tmp_path):
    path = tmp_path / "run.jsonl"
    with JsonLines(path) as output:
        output.write(make_message(frame=1))
        assert frames(path) == [1]
        output.write(make_message(frame=2, hands=0))
        assert frames(path) == [1, 2]
    assert path.read_text().endswith("\n")


def test_json_lines_replace_an_older_file(tmp_path):
    path = tmp_path / "run.jsonl"
    for frame in (1, 2):
        with JsonLines(path) as output:
            output.write(make_message(frame=frame))
    assert frames(path) == [2]


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_a_killed_run_leaves_whole_lines(tmp_path):
    path = tmp_path / "run.jsonl"
    code = (
        "import sys; sys.path.insert(0, 'tests'); from stream_samples import make_message; "
        "from tracker.stream.output import JsonLines; output = JsonLines(sys.argv[1]); print(flush=True)\n"
        "while True: output.write(make_message())"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, path], cwd=ROOT, stdout=subprocess.PIPE)
    writer.stdout.readline()
    while path.stat().st_size < 50_000:
        assert writer.poll() is None
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    assert len(frames(path)) > 10


def test_output_into_a_missing_folder(tmp_path):
    with pytest.raises(StreamError, match="make the folder"):
        JsonLines(tmp_path / "missing" / "run.jsonl")


def test_output_onto_a_folder(tmp_path):
    with pytest.raises(StreamError, match="choose another file"):
        JsonLines(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_is_one_clear_error_and_closing_is_no_second_one():
    with JsonLines("/dev/full") as output, pytest.raises(StreamError, match=r"No space left.*is kept"):
        output.write(make_message())


def test_disk_that_takes_a_part_of_a_line_gets_the_rest(tmp_path):
    path = tmp_path / "run.jsonl"

    class Sip(io.FileIO):
        def write(self, data) -> int:
            return super().write(bytes(data)[:100])

    output = JsonLines(path)
    output.close()
    output._file = Sip(path, "w")
    output.write(make_message(frame=3))
    output.close()
    assert frames(path) == [3]


def test_window_measures_the_rate_of_the_last_second():
    window = LatencyWindow()
    for i in range(300):
        window.add(i / 60, latency_ms=100.0 if i < 200 else float(i % 5))
    rate = window.rate(299 / 60)
    assert rate.fps == pytest.approx(60)
    assert rate.latency_ms.p50 == 2.0
    assert rate.latency_ms.p99 == 4.0


def test_window_is_empty_after_a_second_of_silence():
    window = LatencyWindow()
    assert window.rate(0.0).fps == 0
    window.add(0.0, 5.0)
    assert window.rate(0.5).fps == 1.0
    assert window.rate(0.5).latency_ms.p95 == 5.0
    assert window.rate(1.5).fps == 0
    assert math.isnan(window.rate(1.5).latency_ms.p50)


def test_window_does_not_grow_and_is_right_at_very_high_rates():
    window = LatencyWindow()
    for i in range(50_000):
        window.add(i / 10_000, 1.0)
    assert len(window._frames) == LatencyWindow.MOST
    assert window.rate(5.0).fps == pytest.approx(10_000)


def test_histogram_percentiles_are_within_one_percent():
    histogram = LatencyHistogram()
    assert math.isnan(histogram.percentiles().p50)
    samples = np.random.default_rng(0).lognormal(2.5, 0.5, 20_000)
    for sample in samples:
        histogram.add(float(sample))
    found = histogram.percentiles()
    wanted = np.percentile(samples, [50, 95, 99])
    np.testing.assert_allclose((found.p50, found.p95, found.p99), wanted, rtol=0.01)


def test_histogram_takes_impossible_latencies():
    histogram = LatencyHistogram()
    histogram.add(-5.0)
    assert histogram.percentiles().p50 == pytest.approx(0.01, rel=0.01)
    histogram.add(1e9)
    assert histogram.percentiles().p99 == pytest.approx(1e5, rel=0.02)


def test_live_text():
    assert format_live(make_message(), RATE) == (
        "frame 7  29.5 fps  latency 10.5 ms (p95 12.2)  dropped 3  right #1, left #2"
    )
    assert format_live(make_message(hands=0), RATE).endswith("no hands")
    assert "latency - ms" in format_live(make_message(), Rate(0.0, Percentiles(math.nan, math.nan, math.nan)))


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_live_line_is_rewritten_in_place_on_a_terminal():
    stream = FakeTerminal()
    line = LiveLine(stream)
    window = LatencyWindow()
    line.update(0.0, make_message(frame=1), window)
    line.update(0.01, make_message(frame=2), window)
    line.update(0.2, make_message(frame=3, hands=0), window)
    line.close()
    line.close()
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    _, first, second = text.rstrip("\n").split("\r")
    assert first.startswith("frame 1 ")
    assert second.startswith("frame 3 ")
    assert len(second) == len(first)  # What the longer line left behind is wiped out.


def test_live_line_fits_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    stream = FakeTerminal()
    LiveLine(stream).update(0.0, make_message(), LatencyWindow())
    assert len(stream.getvalue().lstrip("\r")) == 39


def test_live_line_is_a_plain_line_now_and_then_in_a_log():
    stream = io.StringIO()
    line = LiveLine(stream)
    for i in range(300):
        line.update(i / 30, make_message(frame=i), LatencyWindow())
    line.close()
    assert [text.split()[1] for text in stream.getvalue().splitlines()] == ["0", "150"]
    assert "\r" not in stream.getvalue()


def test_summary():
    summary = Summary()
    for frame in range(10):
        summary.add(make_message(frame=frame, hands=frame % 2))
    text = summary.text(seconds=2.0)
    assert text.startswith("10 frames in 2.0 s (5.0 fps), hands in 5 of them, 3 dropped, latency 10.")
    assert text.endswith("ms (p50 / p95 / p99)")


def test_summary_of_a_run_without_frames():
    assert Summary().text(0.0) == (
        "0 frames in 0.0 s (0.0 fps), hands in 0 of them, 0 dropped, latency - / - / - ms (p50 / p95 / p99)"
    )


def test_listen_line_gives_the_middle_of_the_palm_from_the_joints_that_are_known():
    joints = np.full((21, 3), np.nan, np.float32)
    assert format_palm(replace(make_hand(), joints=joints)) == "right #1 50% palm (no palm)"
    joints[0], joints[9] = (0.1, -0.1, 0.5), (0.2, -0.1, 0.7)
    assert format_palm(replace(make_hand(), joints=joints)) == "right #1 50% palm (+0.150 -0.100 +0.600) m"


def test_listen_line_keeps_terminal_codes_of_a_foreign_camera_out():
    assert "\x1b" not in format_message(make_message(camera="\x1b[2J"), RATE)
