from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
from browser import Browser, find_chromium
from stream_samples import make_message

from tracker.camera import open_camera, open_recorder
from tracker.camera.frame import DepthFrame
from tracker.camera.simulated import SimulatedCamera
from tracker.controls import Controls, RecordSwitch
from tracker.hand.cube import Cube, cube_center
from tracker.stream.message import Hand, HandsMessage
from tracker.tracking.one_euro import FilterConfig
from tracker.view.live import LiveView
from tracker.view.replay import ReplayView

pytest.importorskip("viser")
pytest.importorskip("websockets")
pytestmark = pytest.mark.skipif(find_chromium() is None, reason="Chromium is not installed")


def true_message(frame: DepthFrame) -> HandsMessage:
    """What a perfect tracker would say, every joint a little less confident than the one before."""
    hands = tuple(
        Hand(i + 1, hand.side or "right", 0.9, 0.8, np.float32(hand.joints), np.linspace(1, 0.5, 21), np.ones(21, bool))
        for i, hand in enumerate(frame.truth or ())
    )
    message = make_message(hands=0)
    return HandsMessage(
        "simulated", frame.number, frame.captured_ns, message.published_ns, 0, message.latency_ms, hands
    )


def true_cubes(message: HandsMessage) -> list[Cube]:
    return [Cube(tuple(cube_center(hand.joints)), 0.26, hand.side) for hand in message.hands]


@contextmanager
def feeding(view: LiveView, controls: Controls) -> Iterator[None]:
    """A loop that shows and records some frames over and over again, numbered on."""
    with SimulatedCamera(realtime=False, frames=8, seed=11) as camera:
        frames = list(camera)
    ended = threading.Event()

    def feed() -> None:
        number = 0
        while not ended.wait(0.03):
            old = frames[number % len(frames)]
            frame = DepthFrame(
                old.depth, old.depth_scale, old.intrinsics, number, time.time_ns(), time.time_ns(), old.truth
            )
            number += 1
            message = true_message(frame)
            view.update(frame, message, true_cubes(message))
            controls.recording.write(frame, message)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def wait_until(condition, seconds: float = 30.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def count_pixels(picture: bytes, **limits: tuple[int, int]) -> int:
    """How many pixels left of the panel have red, green and blue within limits."""
    image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)[:, :480]
    channels = {"blue": image[..., 0], "green": image[..., 1], "red": image[..., 2]}
    inside = np.ones(image.shape[:2], bool)
    for name, (low, high) in limits.items():
        inside &= (channels[name] >= low) & (channels[name] <= high)
    return int(inside.sum())


def test_live_page_shows_the_hands_and_obeys_its_buttons(tmp_path):
    recording = RecordSwitch(lambda path: open_recorder(path, "simulated"), folder=tmp_path)
    controls = Controls(FilterConfig(), recording)
    with LiveView(controls, port=0) as view, feeding(view, controls), Browser(view.url, 900, 600) as browser:
        text = browser.wait_for(" fps, latency ")
        for words in ("simulated", "confidence 0 to 1", "inferred", "where the network looks", "depth: 0."):
            assert words in text
        # The cloud is blue, the bones and joints are yellow to green.
        assert wait_until(lambda: count_pixels(browser.picture(), red=(60, 255), green=(170, 255), blue=(0, 90)) > 60)
        assert count_pixels(browser.picture(), red=(20, 200), green=(40, 215), blue=(120, 255)) > 800
        own = (view.url, view.url.replace("http", "ws"), "data:", "blob:")
        assert [url for url in browser.requests if not url.startswith(own)] == []

        browser.click("Pause")
        browser.wait_for("Go on")
        assert controls.paused
        held = browser.wait_for("frame ").split("frame ")[1].split(",")[0]
        time.sleep(0.5)
        assert f"frame {held}," in browser.text()
        browser.click("Go on")
        browser.wait_for("Pause")
        assert wait_until(lambda: f"frame {held}," not in browser.text())

        browser.click("Record")
        browser.wait_for("Stop recording")
        assert wait_until(lambda: recording.frames > 5)
        browser.click("Stop recording")
        browser.wait_for("recorded ")
        (path,) = tmp_path.glob("recording-*.h5")
        with open_camera(str(path)) as camera:
            assert len(list(camera)) > 5

        # Viser has some of its own before ours.
        browser.evaluate("[...document.querySelectorAll('input[type=checkbox]')].at(-2).click()")
        assert wait_until(lambda: "mirrored" in view._page._labels[0].text)

        browser.evaluate("document.querySelectorAll('[role=slider]')[0].focus()")
        browser.press("ArrowRight")
        assert wait_until(lambda: controls.filter == FilterConfig(min_cutoff=round(FilterConfig().min_cutoff + 0.1, 1)))
        browser.evaluate("[...document.querySelectorAll('input[type=checkbox]')].at(-1).click()")
        assert wait_until(lambda: controls.filter is None)

        browser.click("Pause")
        assert wait_until(lambda: controls.paused)
    assert not controls.paused  # nobody is left who could press the button


def test_recording_is_scrubbed_and_played(tmp_path):
    path = tmp_path / "a.h5"
    with SimulatedCamera(realtime=False, frames=12, seed=11) as camera, open_recorder(path, "a", lossless=True) as file:
        messages = {}
        for frame in camera:
            file.write(frame)
            messages[frame.number] = true_message(frame)
    with (
        open_camera(str(path)) as recording,
        ReplayView("a", recording.rest(), messages, port=0) as view,
        Browser(view.url, 900, 600) as browser,
    ):
        assert "right #1, left #2" in browser.wait_for("1 of 12")
        browser.evaluate("document.querySelector('[role=slider]').focus()")
        for _ in range(3):
            browser.press("ArrowRight")
        assert "frame 3," in browser.wait_for("4 of 12")
        browser.click("Play")
        browser.wait_for("12 of 12")
        browser.wait_for("Play")
        browser.click("Play")
        browser.wait_for("12 of 12")
        assert wait_until(lambda: not view._playing)
