"""ROS 2: what a hand tracker publishes, as MarkerArray (for RViz) and PoseArray (for programs).

    apt install python3-zmq python3-msgpack
    python3 examples/ros2/hand_bridge.py [ENDPOINT]

    /hands/<camera>/markers   joints and bones of every hand, those with an estimate
    /hands/<camera>/left      21 poses in the order of hand21 (8 is the index tip) of the most confident left hand;
    /hands/<camera>/right     NaN where there is no estimate; joints have no orientation: it is always the identity

NOT RUN ON ROS by its authors: conversions.py is tested, this file only with stand-ins for rclpy and the message types.
"""

import contextlib
import sys

import msgpack
import rclpy
import zmq
from conversions import best_hand, frame_id, known_bones, known_joints, ros_name, stamp
from geometry_msgs.msg import Point, Pose, PoseArray
from visualization_msgs.msg import Marker, MarkerArray

VERSION = 1
SILENCE_MS = 3000  # a tracker that runs sends its status every second, whether it sees hands or not


def fill_header(header, message):
    header.frame_id = frame_id(message)
    header.stamp.sec, header.stamp.nanosec = stamp(message["captured_ns"])


def marker_array(message):
    array = MarkerArray()
    for hand in message["hands"]:
        name = f"{hand['side']}_{hand['id']}"
        shapes = ((Marker.SPHERE_LIST, known_joints(hand), 0.012), (Marker.LINE_LIST, known_bones(hand), 0.004))
        for kind, points, size in shapes:
            marker = Marker(ns=name, id=kind, type=kind, points=[Point(x=x, y=y, z=z) for x, y, z in points])
            fill_header(marker.header, message)
            marker.scale.x = marker.scale.y = marker.scale.z = size
            marker.color.r, marker.color.b = (1.0, 0.2) if hand["side"] == "left" else (0.2, 1.0)
            marker.color.g, marker.color.a = 0.6, 1.0
            marker.lifetime.nanosec = 300_000_000  # a hand that is lost disappears
            array.markers.append(marker)
    return array


def pose_array(message, hand):
    array = PoseArray()
    fill_header(array.header, message)
    array.poses = [Pose(position=Point(x=x, y=y, z=z)) for x, y, z in hand["joints"]]  # a new Pose is not turned
    return array


def read(data):
    """Return a message as a dict, None for anything that is none."""
    try:
        message = msgpack.unpackb(data)
    except ValueError:
        return None
    return message if isinstance(message, dict) and {"version", "camera"} <= message.keys() else None


def main():
    endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5556"
    rclpy.init()
    node = rclpy.create_node("hand_bridge")
    publishers = {}

    def publish(message, what, ros_message):
        topic = f"hands/{ros_name(message['camera'])}/{what}"
        if topic not in publishers:
            publishers[topic] = node.create_publisher(type(ros_message), topic, 1)  # a queue of one: the newest counts
        publishers[topic].publish(ros_message)

    socket = zmq.Context.instance().socket(zmq.SUB)
    socket.setsockopt(zmq.MAXMSGSIZE, 1 << 20)
    socket.connect(endpoint)
    socket.subscribe("hands.")
    socket.subscribe("status.")
    while rclpy.ok():
        newest = {}
        while socket.poll(0 if newest else SILENCE_MS):
            parts = socket.recv_multipart()
            if len(parts) == 2:
                newest[parts[0]] = parts[1]
        if not newest:
            node.get_logger().warning(f"silence: no tracker publishes on {endpoint}")
        for topic, data in newest.items():
            message = read(data)
            if message is None:
                node.get_logger().warning(f"what came from {endpoint} is no message of a tracker")
                continue
            if message["version"] != VERSION:
                sys.exit(f"protocol version {message['version']} arrived, this program reads version {VERSION}")
            if message.get("skeleton") != "hand21":
                sys.exit("start the tracker without --skeleton: this program reads the joints of hand21")
            if topic.startswith(b"hands."):
                publish(message, "markers", marker_array(message))
                for side in ("left", "right"):
                    if (hand := best_hand(message["hands"], side)) is not None:
                        publish(message, side, pose_array(message, hand))
            elif message["fps"] == 0:
                node.get_logger().warning(f"camera {message['camera']} gives no frames")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
