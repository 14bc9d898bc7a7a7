"""Print the tip of the index finger of every hand: all that a program needs to follow the stream.

    pip install pyzmq msgpack
    python examples/subscriber.py [ENDPOINT] [NUMBER_OF_MESSAGES]

It imports nothing of the tracker. Joints are metres: in `space` "camera" x right, y down, z forward; in "world" z up.
"""

import contextlib
import math
import sys

import msgpack
import zmq

VERSION = 1
INDEX_TIP = {"hand21": 8, "openxr26": 10}  # the status message has the names of all joints, in their order
SILENCE_MS = 3000  # a tracker that runs sends its status every second, whether it sees hands or not


def newest_messages(socket):
    """Map each topic to the newest message that waits; empty if nothing came for SILENCE_MS.

    ZeroMQ's CONFLATE option would keep the newest too, but breaks messages of two parts.
    """
    newest = {}
    while socket.poll(0 if newest else SILENCE_MS):
        topic, data = socket.recv_multipart()
        newest[topic] = msgpack.unpackb(data)
        if newest[topic]["version"] != VERSION:
            sys.exit(
                f"error: protocol version {newest[topic]['version']} arrived, this program reads version {VERSION}"
            )
    return newest


def print_hands(message):
    index = INDEX_TIP.get(message["skeleton"])
    if index is None:
        sys.exit(f"error: skeleton {message['skeleton']!r} arrived, this program does not know it")
    for hand in message["hands"]:  # none if no hand is seen
        x, y, z = hand["joints"][index]
        if math.isnan(x):
            tip = "unknown"
        else:
            tip = f"{x:+.3f} {y:+.3f} {z:+.3f} m {'seen' if hand['joint_tracked'][index] else 'inferred'}"
        which = f"{message['camera']} {message['frame']} {hand['side']} #{hand['id']} {hand['confidence']:.2f}"
        print(f"{which} index tip {tip}", flush=True)


def main():
    endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5556"
    remaining = int(sys.argv[2]) if len(sys.argv) > 2 else math.inf

    socket = zmq.Context.instance().socket(zmq.SUB)
    socket.setsockopt(zmq.MAXMSGSIZE, 1 << 20)  # nothing that a tracker sends comes near
    try:
        socket.connect(endpoint)  # the tracker may start later
    except zmq.ZMQError as error:
        sys.exit(f"error: endpoint {endpoint!r}: {error}")
    socket.subscribe("hands.")  # every camera; "hands.simulated" would be that one
    socket.subscribe("status.")

    while remaining > 0:
        newest = newest_messages(socket)
        if not newest:
            print(f"silence: no tracker publishes on {endpoint}", file=sys.stderr)
        for topic, message in newest.items():
            if topic.startswith(b"hands."):
                print_hands(message)
                remaining -= 1
            elif message["fps"] == 0:
                print(f"camera {message['camera']} gives no frames", file=sys.stderr)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
