"""The live RealSense camera, with the real SDK and its software device in place of a camera."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from camera_samples import SoftwareCamera, depth_of

from tracker.camera import realsense
from tracker.camera.device_clock import DeviceClock
from tracker.camera.frame import Intrinsics
from tracker.camera.realsense import RealSenseCamera, choose_mode, depth_source, list_realsense
from tracker.errors import CameraError, CameraTimeout

pytest.importorskip("pyrealsense2")


@pytest.fixture
def usb() -> list[SoftwareCamera]:
    """What is plugged in; the tests plug and unplug."""
    return [SoftwareCamera("0042")]


@pytest.fixture
def camera(usb: list[SoftwareCamera]) -> Iterator[RealSenseCamera]:
    with RealSenseCamera(devices=lambda: [plugged.device for plugged in usb]) as camera:
        yield camera


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 5 s"
        time.sleep(0.01)


def test_frames_come_out_bit_for_bit_with_their_scale_and_lens(usb, camera):
    for number in (5, 6, 7):
        usb[0].push(number, 1.7e12 + number)
        frame = camera.read()
        np.testing.assert_array_equal(frame.depth, depth_of(number))
        assert frame.depth.dtype == np.uint16
        assert frame.number == number
        assert frame.captured_ns == pytest.approx(1.7e18 + number * 1e6, abs=1000)
        assert frame.depth_scale == pytest.approx(0.000125)
        assert frame.intrinsics == Intrinsics(64, 48, 50.5, 51.25, 31.5, 23.75)
    assert camera.name == "0042"
    assert camera.dropped == 0


def test_frames_stay_valid_after_the_sdk_reused_its_memory(usb, camera):
    kept = []
    for number in range(1, 41):
        usb[0].push(number, 1.7e12 + number)
        kept.append(camera.read())
    for frame in kept:
        np.testing.assert_array_equal(frame.depth, depth_of(frame.number))


def test_the_newest_frame_is_read_and_each_lost_one_is_counted_once(usb, camera):
    usb[0].push(1, 1.7e12 + 1)
    assert camera.read().number == 1
    usb[0].push(5, 1.7e12 + 5)  # 2, 3 and 4 were lost before the SDK
    wait_until(lambda: camera.dropped == 3)
    usb[0].push(6, 1.7e12 + 6)  # 5 is replaced
    wait_until(lambda: camera.dropped == 4)
    assert camera.read().number == 6
    with pytest.raises(CameraTimeout, match="0042"):
        camera.read(timeout=0.05)  # a frame is handed out once
    assert camera.dropped == 4


def test_a_burst_loses_nothing_from_the_count(usb, camera):
    usb[0].push(1, 1.7e12)
    read = [camera.read().number]  # what was lost before the first frame nobody can know
    for number in range(2, 201):
        usb[0].push(number, 1.7e12 + number)
        if number % 10 == 0:
            read.append(camera.read().number)
    assert read == sorted(set(read))
    wait_until(lambda: len(read) + camera.dropped + (camera._latest is not None) == 200)


def test_a_camera_clock_is_anchored_to_the_arrival(usb, camera):
    captured, pushed = [], []
    for number in range(1, 6):
        time.sleep(0.02)
        pushed.append(time.time_ns())
        usb[0].push(number, 1000 + 20 * number, "hardware_clock")
        captured.append(camera.read().captured_ns)
    assert np.diff(captured) == pytest.approx(20e6, abs=10e6)
    assert all(time_ns - before < 50e6 for time_ns, before in zip(captured, pushed, strict=True))
    assert all(time_ns <= time.time_ns() for time_ns in captured)


def test_an_unplugged_camera_times_out_and_goes_on_when_it_is_back(usb, camera):
    usb[0].push(100, 1.7e12)
    assert camera.read().number == 100
    usb.clear()
    for _ in range(2):
        start = time.monotonic()
        with pytest.raises(CameraTimeout, match="cable"):
            camera.read(timeout=0.4)
        assert 0.3 < time.monotonic() - start < 1
    usb.append(SoftwareCamera("9999"))  # another camera is not taken for it
    back = SoftwareCamera("0042")
    usb.append(back)
    numbers: list[int] = []
    for number in range(1, 100):
        back.push(number, 1.7e12 + 5000 + number)  # not heard until the camera is open again
        try:
            numbers.append(camera.read(timeout=0.1).number)
        except CameraTimeout:
            continue
        if len(numbers) == 3:
            break
    assert numbers == [101, 102, 103]
    assert camera.dropped == 0


def test_a_camera_that_hangs_is_opened_again(usb, camera, monkeypatch, caplog):
    monkeypatch.setattr(realsense, "STALLED_S", 0.3)
    usb[0].push(7, 1.7e12)
    assert camera.read().number == 7
    wait_until(lambda: "is back" in caplog.text)
    usb[0].push(1, 1.7e12)
    assert camera.read().number == 8


def test_a_fault_of_the_reading_thread_is_told_by_read(usb):
    with RealSenseCamera(devices=lambda: [plugged.device for plugged in usb]) as camera:
        usb[0] = None  # a fault that no SDK error stands for
        start = time.monotonic()
        with pytest.raises(CameraError, match="0042 failed"):
            camera.read(timeout=5)
        assert time.monotonic() - start < 2


def test_frame_numbers_go_on_when_the_device_counts_from_the_start(usb, camera):
    numbers = []
    for number in (500, 501, 1, 2, 4):
        usb[0].push(number, 1.7e12)
        numbers.append(camera.read().number)
    assert numbers == [500, 501, 502, 503, 505]
    assert camera.dropped == 1


def test_capture_times_increase_even_if_the_stamps_do_not(usb, camera):
    times = []
    for number, stamp in enumerate((1.7e12, 1.7e12, 1.6e12, 1.7e12 + 1), start=1):
        usb[0].push(number, stamp)
        times.append(camera.read().captured_ns)
    assert times == sorted(set(times))


def test_reading_waits_for_a_frame_from_another_thread(usb, camera):
    late = threading.Timer(0.2, usb[0].push, (1, 1.7e12))
    late.start()
    start = time.monotonic()
    assert camera.read().number == 1
    assert time.monotonic() - start < 1
    late.join()


def test_closing_twice_and_reading_afterwards(usb, camera):
    camera.close()
    camera.close()
    with pytest.raises(CameraError, match="closed"):
        camera.read()
    with RealSenseCamera(devices=lambda: [usb[0].device]) as again:  # the sensor was given back
        usb[0].push(1, 1.7e12)
        assert again.read().number == 1


def test_a_camera_is_chosen_by_its_serial_number(usb):
    usb.append(SoftwareCamera("0043"))
    devices = [plugged.device for plugged in usb]
    assert [info.serial for info in list_realsense(lambda: devices)] == ["0042", "0043"]
    with RealSenseCamera("0043", devices=lambda: devices) as camera:
        assert camera.name == "0043"
    with pytest.raises(CameraError, match=r"no RealSense 7.*0042, 0043"):
        RealSenseCamera("7", devices=lambda: devices)


def test_without_a_camera_the_answer_is_quick():
    start = time.monotonic()
    if list_realsense():
        pytest.skip("a RealSense camera is plugged in")
    with pytest.raises(CameraError, match="--camera simulated"):
        RealSenseCamera()
    assert time.monotonic() - start < 1


def test_a_device_in_use_is_an_error_with_a_hint(usb):
    source = depth_source(usb[0].device)
    try:
        with pytest.raises(CameraError, match="close other programs"):
            depth_source(usb[0].device)
    finally:
        source.close()


def test_a_device_without_depth_is_not_listed_and_cannot_be_opened():
    import pyrealsense2 as rs

    device = rs.software_device()
    device.register_info(rs.camera_info.serial_number, "1")
    device.add_sensor("Motion")
    assert list_realsense(lambda: [device]) == []
    with pytest.raises(CameraError, match="no 16-bit depth stream"):
        depth_source(device)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ([(640, 480, 30), (848, 480, 90), (1280, 720, 30)], (848, 480, 90)),
        ([(1280, 720, 30), (640, 480, 30), (640, 480, 60)], (640, 480, 30)),  # SR305, and D400 on USB 2
        ([(1024, 768, 30), (480, 270, 60), (480, 270, 30)], (480, 270, 60)),
        ([(640, 480, 300), (640, 480, 90), (320, 240, 30)], (640, 480, 90)),
        ([(1024, 768, 30)], (1024, 768, 30)),  # L515
    ],
)
def test_the_mode_is_the_preferred_one_or_the_nearest(offered, chosen):
    assert choose_mode(offered) == chosen
    plugged = SoftwareCamera("0042", *offered)
    with RealSenseCamera(devices=lambda: [plugged.device]) as camera:
        assert camera.mode == chosen
        plugged.mode = chosen
        plugged.push(1, 1.7e12)
        assert camera.read().depth.shape == (chosen[1], chosen[0])


@pytest.mark.parametrize("drift", [50e-6, -50e-6])
def test_the_clock_follows_the_drift_of_the_camera(drift):
    clock, worst = DeviceClock(), 0.0
    delays = np.random.default_rng(0).exponential(2e6, 9000) + 1e6  # transfer, ns
    for row, delay in enumerate(delays):
        truth_ns = 1_700_000_000_000_000_000 + row * 11_111_111
        stamp_ms = row * 11.111111 * (1 + drift)
        captured_ns = clock.from_device_stamp(stamp_ms, truth_ns + int(delay))
        worst = max(worst, abs(captured_ns - truth_ns)) if row > 90 else worst
    assert worst < 3e6  # over 100 s, in which the clocks drift 5 ms apart


def test_without_the_sdk_the_error_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    with pytest.raises(CameraError, match="pip install pyrealsense2"):
        RealSenseCamera()
