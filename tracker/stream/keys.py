"""Keys for streams that cross the network: who may listen (CURVE, the encryption of ZeroMQ).

`python -m tracker keys FOLDER --client NAME` makes, below FOLDER,

    server/server.key_secret    the tracker's own key          server/clients/NAME.key    whom it knows
    NAME/client.key_secret      that client's own key          NAME/server.key            the tracker it talks to

`run --keys FOLDER/server` publishes to those clients only; the folder NAME goes to the client's machine, as it is.
The files are in the format of ZeroMQ's certificates; only their owner can read them.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tracker.errors import StreamError

SERVER_SECRET: Final = "server.key_secret"
SERVER_PUBLIC: Final = "server.key"
CLIENT_SECRET: Final = "client.key_secret"
CLIENTS: Final = "clients"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_KEY = re.compile(rb"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
_MOST_BYTES = 4096


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A public key and its secret, 40 characters of Z85 each. The secret stays out of `repr`."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"KeyPair({self.public.decode()})"


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """The keys of a tracker or proxy: its own, and the folder with the public keys of those who may listen."""

    own: KeyPair
    clients: Path

    def knows(self, key: bytes) -> bool:
        """Whether a client with this public key may listen. The folder is read anew: clients come and go."""
        return any(_public_key(path) == key for path in self.clients.glob("*.key"))


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """The keys of a client: its own, and the public one of the tracker or proxy that it listens to."""

    own: KeyPair
    server: bytes


def make_keys(folder: str | Path, clients: tuple[str, ...]) -> list[Path]:
    """Make the server's keys, unless they are there, and those of new clients; returns the folders to hand out.

    Raises StreamError for a folder without a name, a client's name that cannot be a file's, a client that is there
    already, or a folder that cannot be written. Nothing is ever overwritten.
    """
    import zmq

    if not str(folder):
        raise StreamError("the folder's name is empty: give one, such as `keys`")
    folder = Path(folder)
    for name in clients:
        if _NAME.fullmatch(name) is None or name.lower() == "server":
            raise StreamError(f"{name!r} cannot be a client's name: use letters, digits, - and _ (not `server`)")
        if (folder / name).exists() or (folder / "server" / CLIENTS / f"{name}.key").exists():
            raise StreamError(f"{folder / name} is there already, and keys are not replaced: choose another --client")
    if len(set(clients)) < len(clients):
        raise StreamError("two clients have the same name: give every --client another")
    try:
        server = folder / "server"
        _make_folder(server)
        _make_folder(server / CLIENTS)
        if not (server / SERVER_SECRET).exists():
            public, secret = zmq.curve_keypair()
            _write(server / SERVER_SECRET, public, secret)
        own = _read_pair(server / SERVER_SECRET)
        made = [server]
        for name in clients:
            public, secret = zmq.curve_keypair()
            _make_folder(folder / name)
            _write(folder / name / CLIENT_SECRET, public, secret)
            _write(folder / name / SERVER_PUBLIC, own.public)
            _write(server / CLIENTS / f"{name}.key", public)
            made.append(folder / name)
    except OSError as error:
        raise StreamError(
            f"{error.filename or folder} cannot be written ({error.strerror}): choose another folder"
        ) from error
    except zmq.ZMQError as error:
        raise StreamError(f"keys need a ZeroMQ with CURVE ({error}): pip install --force-reinstall pyzmq") from error
    return made


def read_server_keys(folder: str | Path) -> ServerKeys:
    """The keys of a publishing end; raises StreamError that says how to make or mend them."""
    folder = _existing(folder, SERVER_SECRET, "server")
    clients = folder / CLIENTS
    keys = ServerKeys(_read_pair(folder / SERVER_SECRET), clients)
    paths = sorted(clients.glob("*.key"))
    if not paths:
        raise StreamError(f"{clients} holds no client's key, nobody could listen: {_how('--client NAME')}")
    for path in paths:
        _read(path)
    return keys


def read_client_keys(folder: str | Path) -> ClientKeys:
    """The keys of a receiving end; raises StreamError that says how to make or mend them."""
    folder = _existing(folder, CLIENT_SECRET, "client")
    return ClientKeys(_read_pair(folder / CLIENT_SECRET), _read(folder / SERVER_PUBLIC)[0])


def _existing(folder: str | Path, name: str, role: str) -> Path:
    folder = Path(folder)
    if (folder / name).is_file():
        return folder
    other = {"server": (CLIENT_SECRET, "a client"), "client": (SERVER_SECRET, "the server")}[role]
    if (folder / other[0]).is_file():
        raise StreamError(f"{folder} holds the keys of {other[1]}; name the folder of the {role}'s")
    if (folder / "server" / SERVER_SECRET).is_file():
        raise StreamError(f"{folder} holds several sets of keys; name the folder of one, such as {folder / 'server'}")
    raise StreamError(f"{folder} has no {name}: {_how('--client NAME')}, and name the folder it made for the {role}")


def _how(options: str) -> str:
    return f"make keys with `python -m tracker keys FOLDER {options}`"


def _make_folder(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def _write(path: Path, public: bytes, secret: bytes | None = None) -> None:
    text = f'metadata\ncurve\n    public-key = "{public.decode()}"\n'
    if secret is not None:
        text += f'    secret-key = "{secret.decode()}"\n'
    # Owner-only from the first moment, not after a chmod. It gets its name when it is whole: a tracker may be reading.
    part = path.with_name(path.name + ".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    part.replace(path)


def _read_pair(path: Path) -> KeyPair:
    if os.name == "posix" and path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise StreamError(f"{path} can be read by others: make it private with `chmod 600 {path}`")
    public, secret = _read(path)
    if secret is None:
        raise StreamError(f"{path} holds no secret key: {_how('--client NAME')}")
    return KeyPair(public, secret)


def _public_key(path: Path) -> bytes | None:
    """The public key of a file, None if it has none: a file that is damaged now must not shut the others out."""
    try:
        return _read(path)[0]
    except StreamError:
        return None


def _read(path: Path) -> tuple[bytes, bytes | None]:
    """Public and secret key of a file."""
    try:
        with path.open("rb") as file:
            lines = file.read(_MOST_BYTES).splitlines()
    except OSError as error:
        raise StreamError(f"{path} cannot be read ({error.strerror}): {_how('--client NAME')}") from error
    found: dict[bytes, bytes] = {}
    for line in lines:
        name, _, value = line.partition(b"=")
        found.setdefault(name.strip(), value.strip().strip(b"\"'"))
    public, secret = found.get(b"public-key", b""), found.get(b"secret-key")
    if _KEY.fullmatch(public) is None or (secret is not None and _KEY.fullmatch(secret) is None):
        raise StreamError(f"{path} is not a key, or is damaged: {_how('--client NAME')}")
    return public, secret
