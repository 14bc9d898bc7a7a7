"""`python -m tracker keys`: make the keys of a stream that crosses the network."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `keys`."""
    parser.add_argument("folder", metavar="FOLDER", help="where to make them; run it again to add clients")
    parser.add_argument(
        "--client",
        action="append",
        default=[],
        metavar="NAME",
        help="make the keys of a client, too; can be given several times (default: a client named `client`)",
    )


def run(options: argparse.Namespace) -> int:
    """Make the keys and say what they are for."""
    from tracker.stream.keys import make_keys

    server, *clients = make_keys(options.folder, tuple(options.client or ["client"]))
    print(f"for the tracker, which lets in these clients only: run --bind tcp://*:5556 --keys {server}")
    for folder in clients:
        print(f"for one client, to be moved to its machine: listen tcp://HOST:5556 --keys {folder}")
    return 0
