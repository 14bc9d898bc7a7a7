"""The receiving end, for programs in Python; `examples/` does without it, on ZeroMQ and MessagePack alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType

import zmq

from tracker.errors import StreamError
from tracker.stream.endpoint import (
    DEFAULT_ENDPOINT,
    HANDS_TOPIC,
    STATUS_TOPIC,
    check_endpoint,
    connect_error,
    is_ipv6,
)
from tracker.stream.message import HandsMessage, StatusMessage, unpack, unpack_status

QUEUE = 1000
MAX_WIRE_BYTES = 1 << 20
"""A longer message ends the connection before it takes memory."""
REFILL_MS = 2
"""The socket's thread refills an emptied queue from the network well within this time."""


class Subscriber:
    """Receives what a tracker publishes. Use it in a `with` block or call `close`; from one thread at a time.

    camera: only that camera's messages; None takes those of every camera.
    status: the newest status message so far, None before the first; kept up to date while messages are received.
    The publisher may start later than the subscriber and may restart. Raises StreamError for a misspelled endpoint.
    """

    def __init__(self, endpoint: str = DEFAULT_ENDPOINT, camera: str | None = None) -> None:
        self.endpoint = check_endpoint(endpoint)
        self.status: StatusMessage | None = None
        self._closed = False
        name = b"" if camera is None else camera.encode("utf-8", "replace")
        self._topics = (HANDS_TOPIC.encode() + name, STATUS_TOPIC.encode() + name)
        self._exact = camera is not None
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, QUEUE)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_WIRE_BYTES)
        self._socket.setsockopt(zmq.IPV6, is_ipv6(endpoint))
        for topic in self._topics:
            self._socket.setsockopt(zmq.SUBSCRIBE, topic)
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise connect_error(endpoint, error) from error

    def receive(self, timeout: float | None = None) -> HandsMessage | None:
        """The next message, or None if none came within `timeout` seconds (None waits for ever).

        Raises StreamError for a message of another protocol version or a broken one; the next call goes on after it.
        """
        data = self._next(timeout)
        return None if data is None else unpack(data)

    def latest(self, timeout: float | None = None) -> HandsMessage | None:
        """The newest message, older ones that wait are skipped; otherwise as `receive`.

        For programs that draw at a pace of their own.
        """
        newest = self._next(timeout)
        if newest is None:
            return None
        skipped = 0
        # After a long pause more waits in the network than the queue holds: give it the time to come in.
        while (
            skipped < 100 * QUEUE and (data := self._next(0 if skipped < QUEUE // 2 else REFILL_MS / 1000)) is not None
        ):
            newest = data
            skipped += 1
        return unpack(newest)

    def __iter__(self) -> Iterator[HandsMessage]:
        """Every message, for ever; waits as long as none comes."""
        while (message := self.receive()) is not None:
            yield message

    def close(self) -> None:
        """Disconnect. Safe to call twice."""
        if not self._closed:
            self._closed = True
            self._socket.close()
            self._context.term()

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next(self, timeout: float | None) -> bytes | None:
        """The bytes of the next `hands` message; a `status` on the way is kept in `self.status`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            wait_ms = None if deadline is None else max(0, round((deadline - time.monotonic()) * 1000))
            if not self._socket.poll(wait_ms):
                return None
            parts = self._socket.recv_multipart()
            if len(parts) != 2:
                raise StreamError(f"{self.endpoint} sends messages of {len(parts)} parts: it is not a hand tracker")
            topic, data = parts
            if self._exact and topic not in self._topics:
                continue  # Topics are prefixes: who asks for camera "1" is sent those of camera "12" as well.
            if topic.startswith(STATUS_TOPIC.encode()):
                self.status = unpack_status(data)
            else:
                return data
