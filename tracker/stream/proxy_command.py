"""`python -m tracker proxy`: several trackers on one endpoint."""

from __future__ import annotations

import argparse
import contextlib
import sys

from tracker.stream.endpoint import DEFAULT_ENDPOINT


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `proxy`."""
    parser.add_argument(
        "trackers", nargs="+", metavar="ENDPOINT", help="where trackers publish, now or later (their --bind)"
    )
    parser.add_argument(
        "--bind", default=DEFAULT_ENDPOINT, metavar="ENDPOINT", help="where subscribers connect (default: %(default)s)"
    )
    add_security_arguments(parser)
    parser.add_argument("--tracker-keys", metavar="FOLDER", help="a client's keys, for trackers that run with --keys")


def add_security_arguments(parser: argparse.ArgumentParser) -> None:
    """`--keys` and `--insecure` of the commands that publish."""
    parser.add_argument(
        "--keys", metavar="FOLDER", help="encrypt, for known clients only: the server's folder of `keys`"
    )
    parser.add_argument("--insecure", action="store_true", help="publish in plain on an address that others can reach")


def run(options: argparse.Namespace) -> int:
    """Run the proxy until Ctrl-C; returns the exit status."""
    from tracker.stream.proxy import Proxy

    with Proxy(
        tuple(options.trackers),
        options.bind,
        keys=options.keys,
        tracker_keys=options.tracker_keys,
        insecure=options.insecure,
    ) as proxy:
        print(f"passing on {', '.join(options.trackers)} at {proxy.endpoint}", file=sys.stderr, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            proxy.run()
    return 0
