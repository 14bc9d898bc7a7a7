"""What the ROS 2 bridge computes, without ROS: names, stamps and points from a message of the tracker.

Nothing is turned or scaled: the camera frame of the messages (x right, y down, z forward) is ROS's optical frame.
"""

import math
import re

BONES = [(0 if part == 0 else 4 * finger + part, 4 * finger + part + 1) for finger in range(5) for part in range(4)]
"""(parent, child) joints of hand21; the tracker's status message has them, too, under `bones`."""


def ros_name(camera):
    """Return a camera's name as part of a topic: letters, digits and _, a letter first (serial numbers have none)."""
    name = re.sub(r"\W", "_", camera, flags=re.ASCII)
    return name if name[:1].isalpha() else f"camera_{name}"


def frame_id(message):
    """Return the frame of the joints: `world`, or the optical frame, named as realsense-ros names its own."""
    return "world" if message["space"] == "world" else f"{ros_name(message['camera'])}_depth_optical_frame"


def stamp(captured_ns):
    """Return the capture time as whole seconds and the nanoseconds beyond them."""
    return divmod(captured_ns, 1_000_000_000)


def known_joints(hand):
    """Return the (x, y, z) of the joints with an estimate."""
    return [joint for joint in hand["joints"] if not math.isnan(joint[0])]


def known_bones(hand):
    """Return the ends of the bones with an estimate at both: parent, child, parent, child, ..."""
    joints = hand["joints"]
    pairs = ((joints[parent], joints[child]) for parent, child in BONES)
    return [end for pair in pairs if not any(math.isnan(end[0]) for end in pair) for end in pair]


def best_hand(hands, side):
    """Return the most confident hand of a side, None if there is none."""
    return max((hand for hand in hands if hand["side"] == side), key=lambda hand: hand["confidence"], default=None)
