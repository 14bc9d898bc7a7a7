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
from tracker.stream.terminal import format_message, format_palm

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


def test_listen_line_gives_the_middle_of_the_palm_from_the_joints_that_are_known():
    joints = np.full((21, 3), np.nan, np.float32)
    assert format_palm(replace(make_hand(), joints=joints)) == "right #1 50% palm (no palm)"
    joints[0], joints[9] = (0.1, -0.1, 0.5), (0.2, -0.1, 0.7)
    assert format_palm(replace(make_hand(), joints=joints)) == "right #1 50% palm (+0.150 -0.100 +0.600) m"


def test_listen_line_keeps_terminal_codes_of_a_foreign_camera_out():
    assert "\x1b" not in format_message(make_message(camera="\x1b[2J"), RATE)
