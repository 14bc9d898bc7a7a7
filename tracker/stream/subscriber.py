"""The receiving end, for programs in Python; `examples/` does without it, on ZeroMQ and MessagePack alone."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

import zmq

from tracker.errors import StreamError
from tracker.stream.curve import use_client_keys
from tracker.stream.endpoint import (
    DEFAULT_ENDPOINT,
    HANDS_TOPIC,
    STATUS_TOPIC,
    check_endpoint,
    connect_error,
    is_ipv6,
)
from tracker.stream.fields import MAX_BYTES
from tracker.stream.keys import read_client_keys
from tracker.stream.message import HandsMessage, StatusMessage, read_parts

QUEUE: Final = 1000
"""Messages kept for a program that is behind: 1.3 MB with two hands in each, 65 MB if each is as long as is allowed.

The oldest are dropped first."""
MAX_WIRE_BYTES: Final = 2 * MAX_BYTES
"""A longer part ends the connection before it takes memory."""
MAX_TOPIC: Final = 512
"""Bytes of a topic: `hands.` and a camera's name, which is at most a file's."""
ALIVE_SECONDS: Final = 3.0
"""A tracker says how it is once a second; after this long without a word it is taken for gone."""
MAX_CAMERAS: Final = 256
_GRACE_SECONDS: Final = 0.2
_OLD_SECONDS: Final = 0.25
_TURN_SECONDS: Final = 0.25
_STILL_MS: Final = 20
"""Nothing comes for so long: what was under way while this program was stopped has arrived."""
HEARTBEAT_MS: Final = 2000
HEARTBEAT_TIMEOUT_MS: Final = 10_000
_BATCH: Final = 64
_SLICE_SECONDS: Final = 0.5


class Subscriber:
    """Receives what a tracker publishes. Use it in a `with` block or call `close`; any thread may call it.

    camera: only that camera's messages; None takes those of every camera.
    keys: the client's folder of `python -m tracker keys`, for a tracker that publishes with keys.
    status, statuses: the newest status message so far, None before the first; and of each camera, by name.
    The tracker may start later than the subscriber and may restart. A thread takes the messages off the network as they
    come, so that a program which reads seldom finds the newest ones. Raises StreamError for a misspelled endpoint.
    """

    def __init__(
        self, endpoint: str = DEFAULT_ENDPOINT, camera: str | None = None, *, keys: str | Path | None = None
    ) -> None:
        self.endpoint = check_endpoint(endpoint)
        self.statuses: dict[str, StatusMessage] = {}
        self.status: StatusMessage | None = None
        name = b"" if camera is None else camera.encode("utf-8", "replace")
        self._topics = (HANDS_TOPIC.encode() + name, STATUS_TOPIC.encode() + name)
        self._exact = camera is not None
        self._waiting: deque[list[bytes] | StreamError] = deque(maxlen=QUEUE)
        self._fresh = False
        self._heard = -math.inf  # a status that was understood
        self._arrived = -math.inf  # anything
        self._closed = False
        self._changed = threading.Condition()
        client_keys = None if keys is None else read_client_keys(keys)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        socket = self._context.socket(zmq.SUB)
        socket.setsockopt(zmq.RCVHWM, QUEUE)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_WIRE_BYTES)
        socket.setsockopt(zmq.IPV6, is_ipv6(endpoint))
        # A tracker that vanished without a goodbye (power, cable) is noticed, and connected to again when it is back.
        socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        if client_keys is not None:
            use_client_keys(socket, client_keys)
        for topic in self._topics:
            socket.setsockopt(zmq.SUBSCRIBE, topic)
        try:
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            self._closed = True
            socket.close()
            self._context.term()
            raise connect_error(endpoint, error) from error
        self._thread = threading.Thread(target=self._receive_all, args=(socket,), name="subscriber", daemon=True)
        self._thread.start()

    def receive(self, timeout: float | None = None) -> HandsMessage | None:
        """The next message, or None if none came within `timeout` seconds (None waits for ever).

        Raises StreamError for a message of another protocol version or a broken one; the next call goes on after it.
        Raises ValueError for a timeout that is negative or NaN.
        """
        with self._changed:
            self._check_open()
            self._wait(lambda: bool(self._waiting), timeout)
            item = self._waiting.popleft() if self._waiting else None
        return _read(item)

    def latest(self, timeout: float | None = None) -> HandsMessage | None:
        """The newest message, older ones that wait are skipped; otherwise as `receive`.

        For programs that draw at a pace of their own. Each message is handed out once. If the newest that waits is old,
        it looks for up to half a second, whatever the timeout, whether a newer one is just coming in.
        """
        with self._changed:
            self._check_open()
            if self._wait(lambda: bool(self._waiting), timeout):
                if time.monotonic() - self._arrived > _OLD_SECONDS:
                    # Perhaps the whole program was stopped, and the thread has not had its turn yet; on a busy machine
                    # that takes longer than one would think. Something that arrives ends the wait.
                    self._changed.wait(_TURN_SECONDS)
                # Or it has, and takes what came meanwhile off the network: that is not long, but old.
                self._wait(lambda: self._fresh, _GRACE_SECONDS)
            item = self._waiting.pop() if self._waiting else None
            self._waiting.clear()
        return _read(item)

    def is_alive(self, within: float = ALIVE_SECONDS) -> bool:
        """Whether a status came in the last `within` seconds; a tracker sends one every second.

        Only a status that was understood counts: neither garbage nor another version of the protocol is a sign of life.
        """
        return time.monotonic() - self._heard <= within

    def __iter__(self) -> Iterator[HandsMessage]:
        """Every message, until the subscriber is closed; waits as long as none comes."""
        return self

    def __next__(self) -> HandsMessage:
        """The next message; raises as `receive` does, and can be asked again after that."""
        if not self._closed and (message := self.receive()) is not None:
            return message
        raise StopIteration

    def close(self) -> None:
        """Disconnect; whoever waits for a message in another thread gets None. Safe to call twice."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self._context.term()  # makes the thread close its socket, and waits for that
        self._thread.join()

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StreamError("this subscriber is closed: make another one")

    def _wait(self, ready: Callable[[], bool], timeout: float | None) -> bool:
        """Wait, with the condition held, until `ready` or the subscriber is closed; whether it is ready."""
        if timeout is not None and not timeout >= 0:  # so that NaN, which is never over, is refused, too
            raise ValueError(f"timeout must be None or seconds from 0 up, is {timeout}")
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while not (ready() or self._closed):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            # In slices: on Windows a wait without an end cannot be ended by Ctrl-C.
            self._changed.wait(min(left, _SLICE_SECONDS))
        return ready()

    def _receive_all(self, socket: zmq.Socket[bytes]) -> None:
        """The thread: take everything off the network, keep the newest."""
        batch: list[list[bytes] | StreamError] = []
        burst = 0
        behind_until = 0.0
        try:
            while True:
                try:
                    before = self._arrived
                    item = self._taken(socket.recv_multipart(zmq.NOBLOCK))
                    burst += 1
                    if self._arrived - before > _OLD_SECONDS:
                        behind_until = self._arrived + _GRACE_SECONDS
                    if item is not None:
                        batch.append(item)
                    if len(batch) < _BATCH:
                        continue
                    empty = False
                except zmq.Again:
                    empty = True
                behind = time.monotonic() < behind_until
                with self._changed:
                    self._waiting.extend(batch)
                    # After a burst as long as the queues are, the tracker may have dropped newer messages than those:
                    # then only the next one is certainly new.
                    self._fresh = empty and burst < QUEUE and not behind
                    self._changed.notify_all()
                batch.clear()
                if empty and behind:
                    # ZeroMQ's own thread hands on what came over the network in pieces, with moments of nothing.
                    if not socket.poll(_STILL_MS):
                        behind_until = 0.0
                elif empty:
                    burst = 0
                    self._wait_for_network(socket)
        except zmq.ContextTerminated:
            pass
        finally:
            socket.close()

    def _wait_for_network(self, socket: zmq.Socket[bytes]) -> None:
        while not socket.poll(round(ALIVE_SECONDS * 1000)):
            # ZeroMQ gives up for good on a tracker that refused our key or sent something too long.
            with contextlib.suppress(zmq.ZMQError):
                socket.disconnect(self.endpoint)
            with contextlib.suppress(zmq.ZMQError):
                socket.connect(self.endpoint)

    def _taken(self, parts: list[bytes]) -> list[bytes] | StreamError | None:
        """What to hand to the program: a message to be read, an error to be raised, or nothing."""
        self._arrived = time.monotonic()
        if len(parts) == 2 and self._exact and parts[0] not in self._topics:
            return None  # Topics are prefixes: who asks for camera "1" is sent those of camera "12" as well.
        if len(parts[0]) > MAX_TOPIC:
            return StreamError(f"a topic of {len(parts[0])} bytes arrived: this is not a hand tracker")
        if len(parts) != 2 or len(parts[1]) > MAX_BYTES or parts[0].startswith(STATUS_TOPIC.encode()):
            # Read at once: it is a status, or too long to be kept waiting.
            try:
                message = read_parts(parts)
            except StreamError as error:
                return error
            assert isinstance(message, StatusMessage)
            if message.camera in self.statuses or len(self.statuses) < MAX_CAMERAS:
                self.statuses[message.camera] = message
            self.status = message
            self._heard = time.monotonic()
            return None
        return parts


def _read(item: list[bytes] | StreamError | None) -> HandsMessage | None:
    if isinstance(item, StreamError):
        raise item
    if item is None:
        return None
    message = read_parts(item)
    assert isinstance(message, HandsMessage)
    return message
