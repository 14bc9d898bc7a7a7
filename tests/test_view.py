from __future__ import annotations

import socket
import sys
import time
import urllib.request
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from stream_samples import make_hand, make_message

from tracker.camera.frame import DepthFrame, Intrinsics
from tracker.camera.playback import RecordedFrame
from tracker.cli import main
from tracker.controls import Controls, RecordSwitch
from tracker.errors import CameraError, TrackerError
from tracker.hand.cube import Cube
from tracker.tracking.one_euro import FilterConfig
from tracker.view.drawing import bone_segments, cube_segments, depth_cloud, joint_colors, joint_points, mirrored
from tracker.view.live import LiveView
from tracker.view.page import legend_html, quoted
from tracker.view.replay import ReplayView


def make_frame(width: int = 640, height: int = 480) -> DepthFrame:
    depth = np.full((height, width), 1000, np.uint16)
    depth[height // 4 : height // 2, width // 4 : width // 2] = 500
    depth[:, : width // 8] = 0
    intrinsics = Intrinsics(width, height, fx=450.0, fy=450.0, cx=width / 2, cy=height / 2)
    return DepthFrame(depth, 0.001, intrinsics, number=7, captured_ns=0, received_ns=0)


def make_controls(open_recorder=None) -> Controls:
    return Controls(FilterConfig(), RecordSwitch(open_recorder))


@pytest.mark.parametrize("size", [(640, 480), (848, 480), (1280, 720), (64, 48)])
def test_cloud_is_thinned_and_has_readings_only(size):
    points, colors, near_m, far_m = depth_cloud(make_frame(*size))
    assert 1500 < len(points) <= 30_000
    assert points.shape == colors.shape
    assert set(np.unique(points[:, 2].round(3))) == {np.float32(0.5), np.float32(1.0)}
    near, far = colors[points[:, 2] < 0.75], colors[points[:, 2] > 0.75]
    assert near[0].sum() > far[0].sum()
    assert (near_m, far_m) == pytest.approx((0.5, 1.0))


def test_cloud_of_an_empty_image_is_empty():
    frame = make_frame()
    cloud = depth_cloud(replace(frame, depth=np.zeros_like(frame.depth)))
    assert (cloud.points.shape, cloud.colors.shape) == ((0, 3), (0, 3))
    assert "near to far" in legend_html(cloud)


def test_joint_colors_go_from_red_to_green_and_are_darker_where_inferred():
    confidence = np.zeros(21, np.float32)
    confidence[1], confidence[2], confidence[3] = 1.0, 0.5, np.nan
    tracked = np.ones(21, np.bool_)
    tracked[4] = False
    colors = joint_colors(replace(make_hand(), joint_confidence=confidence, joint_tracked=tracked))
    assert colors[:5].tolist() == [[255, 0, 0], [0, 255, 0], [255, 255, 0], [255, 0, 0], [127, 0, 0]]


def test_bones_without_an_estimate_are_left_out():
    hand = make_hand()
    joints = hand.joints.copy()
    joints[7] = np.nan
    points, colors = bone_segments([replace(hand, joints=joints), make_hand(2)])
    assert points.shape == colors.shape == (18 + 20, 2, 3)
    np.testing.assert_array_equal(points[0], hand.joints[[0, 1]])
    assert bone_segments([])[0].shape == (0, 2, 3)


def test_cube_has_twelve_edges_of_its_length():
    segments = cube_segments([Cube((0.1, 0.0, 0.5), 0.26), Cube((0.0, 0.0, 0.6), 0.2, "left")])
    lengths = np.linalg.norm(segments[:, 0] - segments[:, 1], axis=1)
    np.testing.assert_allclose(lengths, [0.26] * 12 + [0.2] * 12, rtol=1e-5)
    np.testing.assert_allclose(segments[:12].reshape(-1, 3).mean(axis=0), [0.1, 0.0, 0.5], atol=1e-6)


def test_joints_without_an_estimate_are_left_out():
    joints = make_hand().joints.copy()
    joints[3, 1] = np.nan
    points, colors = joint_points([replace(make_hand(), joints=joints)])
    assert points.shape == colors.shape == (20, 3)


def test_mirror_changes_left_and_right_only():
    np.testing.assert_array_equal(mirrored(np.float32([[[0.1, 0.2, 0.5]]])), np.float32([[[-0.1, 0.2, 0.5]]]))


def test_text_of_others_stays_text():
    assert quoted("a `b\n\n{alert(1)}") == "`a 'b {alert(1)}`"


def test_missing_package_names_the_command_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(TrackerError, match=r'pip install "v2v-hand-tracker\[view\]"'):
        LiveView(make_controls())


def test_what_the_page_needs_is_loaded_before_a_camera_waits(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "viser", None)
    assert main(["run", "--view", "--bind", "none", "--camera", "nowhere"]) == 1
    assert "pip install" in capsys.readouterr().err


def wait_until(condition, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_page_is_served_on_this_machine_only_and_costs_nothing_unwatched(capfd):
    pytest.importorskip("viser")
    frame, message = make_frame(), make_message()
    with LiveView(make_controls(), port=0) as view:
        assert urllib.request.urlopen(view.url, timeout=5).status == 200
        port = int(view.url.rsplit(":", 1)[1])
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.2", port), timeout=1)
        costs = []
        for _ in range(200):
            start = time.perf_counter()
            view.update(frame, message, [])
            costs.append(time.perf_counter() - start)
        assert view._page.text.content == "waiting for frames"
    view.close()
    assert np.median(costs) < 0.0005
    assert capfd.readouterr().out == ""


def test_watched_page_shows_the_newest_frame():
    viser = pytest.importorskip("viser")
    msgspec = pytest.importorskip("msgspec")
    client = pytest.importorskip("websockets.sync.client")
    camera = {
        "type": "ViewerCameraMessage", "wxyz": (1, 0, 0, 0), "position": (0, 0, 0), "fov": 1.0, "near": 0.01,
        "far": 100.0, "image_height": 480, "image_width": 640, "look_at": (0, 0, 1), "up_direction": (0, -1, 0),
    }  # fmt: skip
    frame, message, cubes = make_frame(), make_message(), [Cube((0.0, 0.0, 0.5))]
    with (
        LiveView(make_controls(), port=0) as view,
        client.connect(
            view.url.replace("http", "ws"), subprotocols=[f"viser-v{viser.__version__}"], max_size=None
        ) as browser,
    ):
        browser.send(msgspec.msgpack.encode(camera))
        assert wait_until(lambda: view._page.watched)
        view.update(frame, message, cubes)
        assert wait_until(lambda: "frame 7" in view._page.text.content)
        assert view._page._cloud.points.shape == depth_cloud(frame).points.shape
        assert (len(view._page._bones.points), len(view._page._cubes.points)) == (40, 12)
        assert [label.text for label in view._page._labels] == ["right #1  50%", "left #2  50%"]
        costs = []
        for number in range(8, 40):
            time.sleep(0.01)
            start = time.perf_counter()
            view.update(frame, replace(message, frame=number, hands=()), [])
            costs.append(time.perf_counter() - start)
        assert wait_until(lambda: "frame 3" in view._page.text.content)
        assert not view._page._bones.visible
        assert not view._page._labels[0].visible
    assert np.median(costs) < 0.002


def failing_once(function, failures):
    def call(*values):
        if failures:
            raise failures.pop()
        return function(*values)

    return call


def test_live_view_goes_on_after_a_frame_that_cannot_be_drawn(monkeypatch, caplog):
    pytest.importorskip("viser")
    with LiveView(make_controls(), port=0) as view:
        failures = [ValueError("odd"), ValueError("odd")]
        monkeypatch.setattr(view._page, "draw", failing_once(view._page.draw, failures))
        view._page.watched = True
        for _ in range(2):
            before = len(failures)
            view._next = 0.0
            view.update(make_frame(), make_message(), [])
            assert wait_until(lambda before=before: len(failures) < before)
        view._next = 0.0
        view.update(make_frame(), make_message(), [])
        assert wait_until(lambda: "frame 7" in view._page.text.content)
    assert caplog.text.count("ValueError: odd") == 1


def test_recording_goes_on_after_a_frame_that_cannot_be_drawn(monkeypatch, caplog):
    pytest.importorskip("viser")
    with ReplayView("a", make_recording(), {}, port=0) as view:
        assert wait_until(lambda: "frame 0" in view._page.text.content)
        failures = [ValueError("odd")]
        monkeypatch.setattr(view._page, "draw", failing_once(view._page.draw, failures))
        view._seek(3)
        assert wait_until(lambda: not failures)
        view._seek(4)
        assert wait_until(lambda: "frame 4" in view._page.text.content)
    assert caplog.text.count("ValueError: odd") == 1


def connection(view, **options):
    viser = pytest.importorskip("viser")
    client = pytest.importorskip("websockets.sync.client")
    return client.connect(
        view.url.replace("http", "ws"), subprotocols=[f"viser-v{viser.__version__}"], max_size=None, **options
    )


def test_pages_of_other_sites_are_refused():
    pytest.importorskip("viser")
    from websockets.exceptions import InvalidStatus

    with LiveView(make_controls(), port=0) as view:
        for origin in (view.url, "http://localhost:9000", None):
            connection(view, origin=origin).close()
        for origin in ("http://evil.example", "http://127.0.0.1.evil.example:8080", "null", "http://evil.example:8080"):
            with pytest.raises(InvalidStatus, match="403"):
                connection(view, origin=origin)


def make_recording(broken: int = -1) -> list[RecordedFrame]:
    def load(number: int) -> DepthFrame:
        if number == broken:
            raise CameraError(f"frame {number} is damaged")
        return replace(make_frame(64, 48), number=number, captured_ns=number * 20_000_000)

    return [RecordedFrame(number, number * 20_000_000, partial(load, number)) for number in range(12)]


def test_recording_is_played_to_its_end_from_where_it_stands():
    pytest.importorskip("viser")
    with ReplayView("a", make_recording(), {11: replace(make_message(), frame=11)}, port=0) as view:
        assert wait_until(lambda: "frame 0, 1 of 12, 0.00 s\n\nno message for this frame" in view._page.text.content)
        view._seek(9)
        assert wait_until(lambda: "frame 9, 10 of 12, 0.18 s" in view._page.text.content)
        view._set_playing(True)
        assert wait_until(lambda: "frame 11, 12 of 12, 0.22 s\n\nright #1, left #2" in view._page.text.content)
        assert (view._playing, view._slider.value) == (False, 11)
        view._set_playing(True)
        assert wait_until(lambda: view._row < 11)
        view._stop()
        assert not view._playing


def test_damaged_frame_is_told_and_passed():
    pytest.importorskip("viser")
    with ReplayView("a", make_recording(broken=5), {}, port=0) as view:
        view._seek(5)
        assert wait_until(lambda: "frame 5 is damaged" in view._page.text.content)
        view._seek(6)
        assert wait_until(lambda: "no messages: depth only" in view._page.text.content)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere.h5"], "there is no recording nowhere.h5"),
        (["a.bag"], "read from start to end only"),
    ],
)
def test_what_cannot_be_viewed_is_told(capsys, words, says):
    assert main(["view", *words]) == 1
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("words", [["view", "a.h5", "--port"], ["run", "--view", "--view-port"]])
@pytest.mark.parametrize("port", ["70000", "-1", "http"])
def test_what_is_no_port_is_refused(capsys, words, port):
    with pytest.raises(SystemExit):
        main([*words, port])
    assert f"must be from 0 (any free one) to 65535, is {port}" in capsys.readouterr().err


def test_live_view_is_where_the_command_wants_it(caplog):
    pytest.importorskip("viser")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with caplog.at_level("INFO"):
        assert main(["run", "--view", f"--view-port={port}", "--camera=simulated", "--bind=none", "--frames=1"]) == 0
    assert f"live view on http://127.0.0.1:{port}" in caplog.text
