"""`python -m tracker ply RECORDING --frame N OUT.ply`: a frame's points and hands, for MeshLab and its like."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tracker.errors import TrackerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from tracker.camera.frame import DepthFrame
    from tracker.stream.message import Hand

BEAD: Final = 0.002
"""Metres between the points along a bone: programs that show no edges still show the skeleton."""


def ply_bytes(frame: DepthFrame, hands: Sequence[Hand] = ()) -> bytes:
    """A PLY file, binary, little-endian: every pixel with a reading as a vertex, x y z in metres and its colour.

    Camera frame: x right, y down, z forward. The joints of hands follow, then points along their bones, coloured by
    confidence; bones are also edges between the joints.
    """
    import numpy as np

    from tracker.hand.skeleton import BONES
    from tracker.view.drawing import bone_segments, depth_cloud, joint_colors

    cloud = depth_cloud(frame, frame.depth.size)
    points, colors = [cloud.points], [cloud.colors]
    edges: list[tuple[int, int]] = []
    count = len(cloud.points)
    for hand in hands:
        known: NDArray[np.bool_] = np.asarray(np.isfinite(hand.joints).all(axis=1))
        place = count + np.cumsum(known) - 1
        edges += [(int(place[a]), int(place[b])) for a, b in BONES if known[a] and known[b]]
        points.append(hand.joints[known])
        colors.append(joint_colors(hand)[known])
        count += int(known.sum())
    segments, segment_colors = bone_segments(hands)
    for (start, end), color in zip(segments, segment_colors[:, 1]):
        share = np.arange(BEAD, float(np.linalg.norm(end - start)), BEAD) / max(
            float(np.linalg.norm(end - start)), BEAD
        )
        points.append((start + share[:, None] * (end - start)).astype(np.float32))
        colors.append(np.tile(color, (len(share), 1)))
    vertices = np.empty(sum(map(len, points)), [("xyz", "<f4", 3), ("rgb", "u1", 3)])
    vertices["xyz"], vertices["rgb"] = np.concatenate(points), np.concatenate(colors)
    heading = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment frame {frame.number}, metres, x right, y down, z forward",
        f"element vertex {len(vertices)}",
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {color}" for color in ("red", "green", "blue")),
    ]
    if edges:
        heading += [f"element edge {len(edges)}", "property int vertex1", "property int vertex2"]
    body = vertices.tobytes() + np.array(edges, "<i4").tobytes()
    return "\n".join([*heading, "end_header", ""]).encode() + body


def write_new(path: Path, data: bytes) -> None:
    """Write a file that is not there yet, whole or not at all. Raises TrackerError."""
    if path.exists():
        raise TrackerError(f"{path} is there already and is not overwritten: remove it or choose another file")
    try:
        handle, unfinished = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    except OSError as error:
        raise TrackerError(f"{path} cannot be written: {error.strerror}; does its folder exist?") from error
    try:
        with open(handle, "wb") as file:
            file.write(data)
        os.chmod(unfinished, 0o644)  # the temporary file is for its owner only
        os.replace(unfinished, path)
    except OSError as error:
        raise TrackerError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        Path(unfinished).unlink(missing_ok=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `ply`."""
    parser.add_argument("recording", metavar="RECORDING", type=Path, help="a folder, .h5, .bag or .db3")
    parser.add_argument("out", metavar="OUT.ply", type=Path, help="the file to write")
    parser.add_argument("--frame", type=int, metavar="N", help="the number of the frame (default: the first)")
    parser.add_argument("--messages", type=Path, metavar="FILE", help="hands to draw (default: those of the recording)")
    parser.add_argument("--no-hands", action="store_true", help="the cloud alone")


def run(options: argparse.Namespace) -> int:
    """Write the cloud of a frame; returns the exit status. Raises TrackerError."""
    from tracker.camera.opening import open_recording
    from tracker.kept_messages import messages_beside

    with open_recording(options.recording) as camera:
        frame = camera.find(options.frame)
    hands: Sequence[Hand] = ()
    if not options.no_hands:
        beside = messages_beside(options.recording, options.messages)
        hands = next((message.hands for message in beside if message.frame == frame.number), ())
    write_new(options.out, ply_bytes(frame, hands))
    print(f"{options.out}: frame {frame.number} with {len(hands)} hands")
    return 0
