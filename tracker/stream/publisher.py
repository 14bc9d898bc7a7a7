"""The publishing end: a socket that hands each message to whoever listens and never waits for anyone."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import zmq

from tracker.errors import StreamError
from tracker.hand.skeleton import SKELETON
from tracker.stream.curve import Doorkeeper, server_keys, warn_if_open
from tracker.stream.definition import JOINT_COUNTS, OPENXR
from tracker.stream.endpoint import HANDS_TOPIC, NONE, STATUS_TOPIC, bind_error, is_ipv6
from tracker.stream.message import HandsMessage, StatusMessage, pack
from tracker.stream.openxr import to_openxr, to_openxr_status

QUEUE = 1000
"""Messages kept for a subscriber that is behind (about 1 MB); after that it misses messages."""
LINGER_MS = 200
"""Closing waits this long for the last messages to leave. Without it a recording's last frames are lost."""
MAX_REQUEST = 4096
"""Bytes of a subscription; a longer one ends the connection that it came from."""


class Publisher:
    """Publishes on an endpoint, or nothing at all on the endpoint "none". Use it in a `with` block or call `close`.

    skeleton: `hand21`, or `openxr26` to publish OpenXR's joints. keys: the server's folder of `python -m tracker keys`;
    only its clients can listen then, encrypted. insecure: publish plainly on an address that others can reach.
    endpoint: where it is bound, with the real port number if the port asked for was `*`; "none" if nowhere.
    Raises StreamError if the endpoint is misspelled, taken, forbidden, or open to others without keys.
    """

    def __init__(
        self,
        endpoint: str,
        camera: str,
        *,
        skeleton: str = SKELETON,
        keys: str | Path | None = None,
        insecure: bool = False,
    ) -> None:
        if skeleton not in JOINT_COUNTS:
            raise StreamError(f"skeleton {skeleton!r} is not known: choose one of {', '.join(JOINT_COUNTS)}")
        self._openxr = skeleton == OPENXR
        self._hands_topic = (HANDS_TOPIC + camera).encode("utf-8", "replace")
        self._status_topic = (STATUS_TOPIC + camera).encode("utf-8", "replace")
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._doorkeeper: Doorkeeper | None = None
        self.endpoint = endpoint
        own_keys = server_keys(endpoint, keys, insecure)
        if endpoint == NONE:
            return
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.setsockopt(zmq.SNDHWM, QUEUE)
        self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_REQUEST)
        self._socket.setsockopt(zmq.IPV6, is_ipv6(endpoint))
        # A subscriber whose machine vanished is noticed by the system, and forgotten.
        self._socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        if own_keys is not None:
            self._doorkeeper = Doorkeeper(self._context, own_keys)
            self._doorkeeper.protect(self._socket)
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise bind_error(endpoint, error) from error
        self.endpoint = self._socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")
        warn_if_open(self.endpoint, own_keys)

    def publish(self, message: HandsMessage) -> None:
        """Send the hands of a frame. Never waits: a subscriber that is too far behind misses the message."""
        self._send(self._hands_topic, to_openxr(message) if self._openxr else message)

    def status(self, status: StatusMessage) -> None:
        """Send the once-a-second status. Never waits."""
        self._send(self._status_topic, to_openxr_status(status) if self._openxr else status)

    def close(self) -> None:
        """Let the last messages leave, for at most LINGER_MS, and free the endpoint. Safe to call twice."""
        if self._context is not None:
            self._socket.close()
            if self._doorkeeper is not None:
                self._doorkeeper.close()
            self._context.term()
            self._context = None

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, topic: bytes, message: HandsMessage | StatusMessage) -> None:
        if self._context is not None:
            # Packed before anything is sent: a failure here must not leave half a message in the socket.
            data = pack(message)
            self._socket.send_multipart((topic, data))
