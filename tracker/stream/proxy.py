"""Several trackers on one endpoint.

Subscribers connect to the proxy and get the messages of all trackers, or of one camera by its topic. What they ask for
is passed on (XSUB/XPUB), so that a tracker sends only what somebody wants. Messages are not looked into.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import zmq

from tracker.errors import StreamError
from tracker.stream.curve import Doorkeeper, server_keys, use_client_keys, warn_if_open
from tracker.stream.endpoint import bind_error, check_endpoint, connect_error, is_ipv6
from tracker.stream.keys import read_client_keys
from tracker.stream.publisher import LINGER_MS, MAX_REQUEST, QUEUE
from tracker.stream.subscriber import HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS, MAX_WIRE_BYTES


class Proxy:
    """Passes on what the trackers at some endpoints publish. Use it in a `with` block or call `close`.

    trackers: their endpoints; they may start later, and restart. endpoint: where subscribers connect.
    keys: a server's folder of `python -m tracker keys`, for the proxy's own subscribers. tracker_keys: a client's
    folder, for trackers that publish with keys. insecure: publish plainly on an address that others can reach.
    Raises StreamError if an endpoint is misspelled, taken, forbidden, or open to others without keys.
    """

    def __init__(
        self,
        trackers: tuple[str, ...],
        endpoint: str,
        *,
        keys: str | Path | None = None,
        tracker_keys: str | Path | None = None,
        insecure: bool = False,
    ) -> None:
        for tracker in trackers:
            if check_endpoint(tracker) == endpoint:
                raise StreamError(
                    f"{tracker} is the proxy's own endpoint: choose another one, --bind {_other(tracker)}"
                )
        own_keys = server_keys(endpoint, keys, insecure)
        client_keys = None if tracker_keys is None else read_client_keys(tracker_keys)
        self._closed = False
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._doorkeeper: Doorkeeper | None = None
        self._in = self._context.socket(zmq.XSUB)
        self._out = self._context.socket(zmq.XPUB)
        self._in.setsockopt(zmq.RCVHWM, QUEUE)
        self._in.setsockopt(zmq.LINGER, 0)
        self._in.setsockopt(zmq.MAXMSGSIZE, MAX_WIRE_BYTES)
        self._in.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        self._in.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        self._out.setsockopt(zmq.SNDHWM, QUEUE)
        self._out.setsockopt(zmq.LINGER, LINGER_MS)
        self._out.setsockopt(zmq.MAXMSGSIZE, MAX_REQUEST)
        self._out.setsockopt(zmq.TCP_KEEPALIVE, 1)
        self._out.setsockopt(zmq.IPV6, is_ipv6(endpoint))
        if client_keys is not None:
            use_client_keys(self._in, client_keys)
        try:
            if own_keys is not None:
                self._doorkeeper = Doorkeeper(self._context, own_keys)
                self._doorkeeper.protect(self._out)
            self._bind(endpoint)
            for tracker in trackers:
                self._connect(tracker)
        except StreamError:
            self.close()
            raise
        self.endpoint = self._out.get_string(zmq.LAST_ENDPOINT).rstrip("\0")
        warn_if_open(self.endpoint, own_keys)

    def run(self) -> None:
        """Pass messages on until KeyboardInterrupt."""
        zmq.proxy(self._in, self._out)

    def close(self) -> None:
        """Let the last messages leave, and free the endpoint. Safe to call twice; not while `run` runs."""
        if not self._closed:
            self._closed = True
            self._in.close()
            self._out.close()
            if self._doorkeeper is not None:
                self._doorkeeper.close()
            self._context.term()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _bind(self, endpoint: str) -> None:
        try:
            self._out.bind(endpoint)
        except zmq.ZMQError as error:
            raise bind_error(endpoint, error) from error

    def _connect(self, tracker: str) -> None:
        try:
            self._in.setsockopt(zmq.IPV6, is_ipv6(tracker))
            self._in.connect(tracker)
        except zmq.ZMQError as error:
            raise connect_error(tracker, error) from error


def _other(endpoint: str) -> str:
    return "tcp://127.0.0.1:5560" if endpoint != "tcp://127.0.0.1:5560" else "tcp://127.0.0.1:5561"
