"""Makes the frames of the simulated camera; as a process of its own, writes them to standard output at camera rate.

    python -m tracker.simulation.worker SEED FRAMES        (FRAMES 0: without end)

A separate process, because a frame costs some 15 ms of computing that would otherwise be taken from the tracker. It
ends when nobody reads its output any more, and so never outlives the program that started it.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
import time

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import HandTruth, Intrinsics
from tracker.hand.skeleton import JOINT_COUNT
from tracker.simulation.noise import StereoNoise
from tracker.simulation.scene import SIDES, Scene

INTRINSICS = Intrinsics(640, 480, 385.0, 385.0, 319.5, 239.5)
"""Of a D435 at 640x480, nearly."""
DEPTH_SCALE = 0.001
FRAMES_PER_SECOND = 30
PERIOD_NS = 1_000_000_000 // FRAMES_PER_SECOND

HEADER = struct.Struct("<qq")
TRUTH_SHAPE = (len(SIDES), JOINT_COUNT, 3)
PACKET_BYTES = HEADER.size + 2 * INTRINSICS.width * INTRINSICS.height + 4 * int(np.prod(TRUTH_SHAPE))

Image = NDArray[np.uint16]


class FrameMaker:
    """Scene and sensor of one seed; frame after frame is a pure function of seed and number."""

    def __init__(self, seed: int) -> None:
        self._seed, self._scene = seed, Scene(seed)
        self._noise = StereoNoise(INTRINSICS.height, INTRINSICS.width, seed, focal=INTRINSICS.fx)

    def frame(self, number: int) -> tuple[Image, tuple[HandTruth, ...]]:
        """The sensor's image (480, 640) uint16 in steps of DEPTH_SCALE, and the hands that are in it."""
        depth, truth = self._scene.depth(number / FRAMES_PER_SECOND, INTRINSICS)
        return self._noise(depth, np.random.default_rng([self._seed, 7, number]), DEPTH_SCALE), truth


def pack(number: int, captured_ns: int, depth: Image, truth: tuple[HandTruth, ...]) -> bytes:
    """A frame as PACKET_BYTES bytes."""
    joints = np.stack([hand.joints for hand in truth]).astype("<f4")
    return b"".join((HEADER.pack(number, captured_ns), depth.astype("<u2", copy=False).tobytes(), joints.tobytes()))


def unpack(packet: bytearray) -> tuple[int, int, Image, tuple[HandTruth, ...]]:
    """The inverse of `pack`; the arrays share the packet's memory."""
    number, captured_ns = HEADER.unpack_from(packet)
    pixels = INTRINSICS.width * INTRINSICS.height
    depth = np.frombuffer(packet, "<u2", pixels, HEADER.size).reshape(INTRINSICS.height, INTRINSICS.width)
    joints = np.frombuffer(packet, "<f4", -1, HEADER.size + 2 * pixels).reshape(TRUTH_SHAPE)
    return number, captured_ns, depth, tuple(HandTruth(j, side) for j, side in zip(joints, SIDES))


def main() -> None:
    """Writes packets at camera rate; a frame that comes too late is left out, as in a camera."""
    seed, frames = int(sys.argv[1]), int(sys.argv[2])
    # Ctrl-C in a terminal reaches the whole group; the reader decides when this ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A real camera takes no time from the tracker.
    if hasattr(os, "nice"):
        os.nice(10)
    cv2.setNumThreads(1)
    maker, output = FrameMaker(seed), sys.stdout.buffer
    maker.frame(0)
    start, number = time.time_ns(), 0
    while not frames or number < frames:
        captured = start + number * PERIOD_NS
        time.sleep(max(captured - time.time_ns(), 0) / 1e9)
        try:
            output.write(pack(number, captured, *maker.frame(number)))
            output.flush()
        except (BrokenPipeError, OSError):
            # Nobody reads any more. Leave without flushing what is left, which would fail again.
            os._exit(0)
        number = max(number + 1, (time.time_ns() - start) // PERIOD_NS)


if __name__ == "__main__":
    main()
