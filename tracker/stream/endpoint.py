"""Endpoints of the stream: their spelling, their errors, and what the socket library does not check."""

from __future__ import annotations

import errno
import ipaddress
import re
from typing import TYPE_CHECKING, Final

from tracker.errors import StreamError

if TYPE_CHECKING:
    import zmq

DEFAULT_ENDPOINT: Final = "tcp://127.0.0.1:5556"
NONE: Final = "none"
HANDS_TOPIC: Final = "hands."
STATUS_TOPIC: Final = "status."

_TCP = re.compile(r"tcp://(?P<host>\[[^\]\s]+\]|[^:\s\[\]]+):(?P<port>\*|\d{1,5})")
_LOCAL = re.compile(r"(ipc|inproc)://\S.*")


def check_endpoint(endpoint: str) -> str:
    """The endpoint, if it is spelled right; raises StreamError with an example if not.

    A port beyond 65535 is refused here, because libzmq takes it modulo 65536 without a word.
    """
    match = _TCP.fullmatch(endpoint)
    if match is None and _LOCAL.fullmatch(endpoint) is None:
        raise StreamError(f"endpoint {endpoint!r} is not understood: write tcp://HOST:PORT, such as {DEFAULT_ENDPOINT}")
    if match is not None and match["port"] != "*" and not 1 <= int(match["port"]) <= 65535:
        raise StreamError(f"endpoint {endpoint!r} has no such port: choose one from 1024 to 65535")
    return endpoint


def is_loopback(endpoint: str) -> bool:
    """Whether only programs on this machine can reach the endpoint."""
    match = _TCP.fullmatch(endpoint)
    if match is None or match["host"] == "localhost":
        return True
    try:
        return ipaddress.ip_address(match["host"].strip("[]")).is_loopback
    except ValueError:
        return False  # a wildcard, or the name of a network interface


def is_ipv6(endpoint: str) -> bool:
    """Whether the endpoint is a literal IPv6 address, which a socket accepts only after it was told so."""
    return endpoint.startswith("tcp://[")


def bind_error(endpoint: str, error: zmq.ZMQError) -> StreamError:
    """What a failed bind means, and what to do about it."""
    if error.errno == errno.EADDRINUSE:
        return StreamError(
            f"{endpoint} is in use: another program, perhaps another tracker, publishes there; stop it, "
            "or choose another port, such as --bind tcp://127.0.0.1:5557"
        )
    if error.errno in (errno.EADDRNOTAVAIL, errno.ENODEV):
        return StreamError(
            f"{endpoint} is not an address of this machine: use --bind {DEFAULT_ENDPOINT} for this machine only, "
            "or --bind tcp://*:5556 --keys FOLDER for every network that it is on"
        )
    if error.errno == errno.EACCES:
        return StreamError(f"{endpoint} needs rights that this user lacks: choose a port from 1024 up, or another path")
    return connect_error(endpoint, error)


def connect_error(endpoint: str, error: zmq.ZMQError) -> StreamError:
    """A failure without a mend of its own: what the system says, and the spelling that works."""
    return StreamError(f"{endpoint} cannot be used ({error.strerror}): write it like {DEFAULT_ENDPOINT}")
