"""CURVE on sockets: encryption, and a doorkeeper that lets in only the clients that are known."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

import zmq

from tracker.errors import StreamError
from tracker.stream.endpoint import NONE, check_endpoint, is_loopback
from tracker.stream.keys import ClientKeys, ServerKeys, read_server_keys

if TYPE_CHECKING:
    Context = zmq.Context[zmq.Socket[bytes]]
    Socket = zmq.Socket[bytes]

log = logging.getLogger(__name__)

_DOMAIN: Final = "hands"
_MOST_STRANGERS: Final = 100
"""Unknown keys that are logged, once each; any number of them can be made up."""


def server_keys(endpoint: str, keys: str | Path | None, insecure: bool) -> ServerKeys | None:
    """The keys to publish with on an endpoint, None to publish in plain; quick, to be asked before anything slow.

    Raises StreamError for a misspelled endpoint, broken keys, or an endpoint that others can reach without keys.
    """
    if endpoint == NONE:
        return None
    check_endpoint(endpoint)
    if keys is not None:
        return read_server_keys(keys)
    if not is_loopback(endpoint) and not insecure:
        raise StreamError(
            f"{endpoint} can be reached from the network: encrypt it with --keys FOLDER, of `python -m tracker keys`, "
            "or add --insecure to let anyone who can reach it see the hands"
        )
    return None


def warn_if_open(endpoint: str, keys: ServerKeys | None) -> None:
    """Say so if anybody on the network can listen to the endpoint."""
    if keys is None and not is_loopback(endpoint):
        log.warning(
            "warning: %s can be reached from the network and is not encrypted: anyone who can reach it sees the hands",
            endpoint,
        )


class Doorkeeper:
    """Answers a context's sockets whether a client may come in. One per context; close it after its sockets.

    Clients with another key, with none, or with another server's key get nothing; they do not disturb the others.
    Logged are unknown keys only: the others fail in libzmq's handshake, before anybody is asked.
    """

    def __init__(self, context: Context, keys: ServerKeys) -> None:
        # Imported here: it brings asyncio, which the many that publish or receive without keys need not wait for.
        from zmq.auth.thread import ThreadAuthenticator

        self._keys = keys
        self._strangers: set[bytes] = set()
        self._authenticator = ThreadAuthenticator(context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback(_DOMAIN, self)

    def protect(self, socket: Socket) -> None:
        """Make a socket, before it is bound, refuse everyone who is not known."""
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self._keys.own.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self._keys.own.secret)
        # Without a doorkeeper, libzmq would let in everyone who has the server's public key; so it must insist on one.
        socket.setsockopt_string(zmq.ZAP_DOMAIN, _DOMAIN)
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether the client with this public key may come in; called by the authenticator's thread."""
        try:
            known = self._keys.knows(key)
        except OSError as error:  # such as too many open files; it would end the thread, and shut everyone out
            log.warning("a client is refused, its key cannot be looked up: %s", error)
            return False
        if not known and key not in self._strangers and len(self._strangers) < _MOST_STRANGERS:
            self._strangers.add(key)
            log.warning("a client whose key is not in %s is refused: %s", self._keys.clients, key.decode())
            if len(self._strangers) == _MOST_STRANGERS:
                log.warning("these were %d unknown keys; further ones are refused without a word", _MOST_STRANGERS)
        return known

    def close(self) -> None:
        """Stop answering."""
        self._authenticator.stop()


def use_client_keys(socket: Socket, keys: ClientKeys) -> None:
    """Make a socket, before it is connected, talk only to the server with the right key, encrypted."""
    socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.own.public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.own.secret)
    socket.setsockopt(zmq.CURVE_SERVERKEY, keys.server)
