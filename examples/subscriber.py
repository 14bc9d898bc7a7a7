"""Print the tip of the index finger of every hand: all that a program needs to follow the stream.

    pip install pyzmq msgpack
    python examples/subscriber.py [ENDPOINT] [NUMBER_OF_MESSAGES]

Joints are metres in the frame of reference that `space` names: camera (x right, y down, z forward) or world (z up).
"""

import contextlib
import math
import sys

import msgpack
import zmq

INDEX_TIP = 8  # hand21: wrist 0, thumb 1-4, index 5-8, middle 9-12, ring 13-16, little 17-20; each ends in its tip


def main():
    endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5556"
    remaining = int(sys.argv[2]) if len(sys.argv) > 2 else math.inf

    socket = zmq.Context.instance().socket(zmq.SUB)
    socket.connect(endpoint)  # the tracker may start later
    socket.subscribe("hands.")  # "hands.simulated" would take that one camera's messages

    while remaining > 0:
        _topic, data = socket.recv_multipart()
        message = msgpack.unpackb(data)
        if message["version"] != 1:
            sys.exit(f"protocol version {message['version']}, this program reads version 1")
        for hand in message["hands"]:
            x, y, z = hand["joints"][INDEX_TIP]
            if math.isnan(x):  # a joint without an estimate
                continue
            seen = "seen" if hand["joint_tracked"][INDEX_TIP] else "inferred"
            print(f"{message['frame']} {hand['side']} #{hand['id']} {x:+.3f} {y:+.3f} {z:+.3f} m {seen}", flush=True)
        remaining -= 1


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
