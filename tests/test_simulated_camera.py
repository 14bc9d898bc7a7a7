"""The simulated scene, its sensor, and the camera that shows them."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tracker.camera.frame import DepthFrame
from tracker.camera.simulated import SimulatedCamera
from tracker.errors import CameraError
from tracker.hand.skeleton import PALM
from tracker.simulation.collision import penetration
from tracker.simulation.hand import HandModel
from tracker.simulation.noise import StereoNoise
from tracker.simulation.scene import Scene, gesture_at
from tracker.simulation.worker import INTRINSICS, PERIOD_NS, pack, unpack

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def frames() -> list[DepthFrame]:
    with SimulatedCamera(seed=3, realtime=False, frames=12) as camera:
        assert not camera.live
        return list(camera)


def test_every_frame_once_with_its_truth(frames: list[DepthFrame]) -> None:
    assert [frame.number for frame in frames] == list(range(12))
    assert {b.captured_ns - a.captured_ns for a, b in itertools.pairwise(frames)} == {PERIOD_NS}
    for frame in frames:
        assert frame.depth.shape == (480, 640)
        assert frame.depth.dtype == np.uint16
        assert frame.truth is not None
        assert [hand.side for hand in frame.truth] == ["right", "left"]
        # The person faces the camera: the right hand is on the left of the image.
        assert frame.truth[0].joints[0, 0] < frame.truth[1].joints[0, 0]


def test_truth_lies_behind_what_is_seen(frames: list[DepthFrame]) -> None:
    for frame in frames:
        for hand in frame.truth or ():
            palm = hand.joints[list(PALM)].mean(axis=0)
            u, v = np.rint(INTRINSICS.project(palm)).astype(int)
            patch = frame.metres()[v - 2 : v + 3, u - 2 : u + 3]
            # Fingers closed over the palm may stand before it.
            assert 0 < palm[2] - np.median(patch[patch > 0]) < 0.09


def test_frames_repeat_with_the_seed_and_differ_without(frames: list[DepthFrame]) -> None:
    with SimulatedCamera(seed=3, realtime=False, frames=2) as camera:
        again = list(camera)
    assert np.array_equal(again[1].depth, frames[1].depth)
    with SimulatedCamera(seed=4, realtime=False, frames=1) as camera:
        assert not np.array_equal(next(iter(camera)).depth, frames[0].depth)


@pytest.mark.parametrize("seed", range(4))
def test_hands_stay_in_view_apart_and_move_smoothly(seed: int) -> None:
    scene = Scene(seed)
    times = np.arange(0, 20, 1 / 10)
    joints = np.array([[hand.joints for hand in scene.at(float(time))[1]] for time in times])
    pixels = INTRINSICS.project(joints)
    inside = (pixels >= 0).all(-1) & (pixels < [640, 480]).all(-1)
    assert inside.mean() > 0.99
    assert joints[..., 2].min() > 0.25
    assert joints[..., 2].max() < 0.75
    assert np.linalg.norm(joints[:, 0, 9] - joints[:, 1, 9], axis=-1).min() > 0.1
    speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1) * 10
    assert speed[..., 0].max() < 0.6
    assert speed.max() < 2.5


def test_gestures_follow_one_another_without_passing_through_fingers() -> None:
    hand = HandModel.load().rig()
    depths = np.array([penetration(hand, gesture_at(0, 0, float(time))) for time in np.arange(0, 60, 0.05)])
    assert depths.max() < 0.005


def test_stereo_noise_has_the_errors_of_the_sensor() -> None:
    noise, rng = StereoNoise(480, 640, 0), np.random.default_rng(0)
    plane = np.full((480, 640), 0.9, np.float32)
    plane[150:350, 300:400] = 0.45
    images = np.stack([noise(plane, rng) for _ in range(12)]) * 0.001
    # RMS of z^2 * jitter / (focal * baseline): 0.84 mm at 0.45 m.
    near = images[:, 170:330, 310:390]
    assert (near > 0).mean() > 0.97
    assert 0.0005 < (near[near > 0] - 0.45).std() < 0.002
    # The shadow is as wide as the disparities differ, on the left of the near thing only.
    shadow = (images[:, 200:300] == 0).mean(axis=(0, 1))
    width = 385 * 0.05 * (1 / 0.45 - 1 / 0.9)
    assert shadow[int(300 - width + 5) : 295].mean() > 0.8
    assert shadow[60 : int(300 - width - 8)].mean() < 0.05
    assert shadow[408:440].mean() < 0.1
    assert (noise(np.zeros((480, 640), np.float32), rng) == 0).all()


def test_packets_round_trip(frames: list[DepthFrame]) -> None:
    frame = frames[5]
    assert frame.truth is not None
    number, captured, depth, truth = unpack(bytearray(pack(5, 123, frame.depth, frame.truth)))
    assert (number, captured) == (5, 123)
    assert np.array_equal(depth, frame.depth)
    assert np.array_equal(truth[1].joints, frame.truth[1].joints)
    assert [hand.side for hand in truth] == ["right", "left"]


def test_live_camera_keeps_its_pace_drops_old_frames_and_ends() -> None:
    with SimulatedCamera(frames=60) as camera:
        first = camera.read()
        time.sleep(0.5)
        second = camera.read()
        assert first is not None
        assert second is not None
        assert second.number >= 8
        assert camera.dropped == second.number - 1
        assert 0 < time.time_ns() - second.captured_ns < 500_000_000
        rest = list(camera)
        assert rest
        assert rest[-1].number <= 59
        assert camera.dropped + 2 + len(rest) == rest[-1].number + 1
        assert camera.read() is None
    assert rest[-1].captured_ns - first.captured_ns == (rest[-1].number - first.number) * PERIOD_NS


def test_closing_ends_the_process_and_reading_on_is_an_error() -> None:
    camera = SimulatedCamera()
    process = camera._process
    camera.close()
    camera.close()
    assert process.poll() is not None
    with pytest.raises(CameraError, match="closed"):
        camera.read()


def test_a_simulator_that_dies_is_an_error() -> None:
    with SimulatedCamera() as camera:
        camera._process.kill()
        camera._process.wait()
        with pytest.raises(CameraError, match="process ended"):
            list(camera)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks the process up in /proc")
def test_simulator_does_not_outlive_its_parent() -> None:
    code = "import time; from tracker.camera.simulated import SimulatedCamera as C; c = C()"
    code += "; print(c._process.pid, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
    for _ in range(50):
        status = Path(f"/proc/{child}/stat")
        if not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("the simulator's process still runs")


def test_bad_options_say_what_to_do() -> None:
    with pytest.raises(CameraError, match="at least 1"):
        SimulatedCamera(frames=0)
