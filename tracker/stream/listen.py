"""`python -m tracker listen`: print what a tracker publishes, for people or as JSON lines."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from tracker.arguments import positive, seconds
from tracker.errors import StreamError
from tracker.stream.endpoint import DEFAULT_ENDPOINT

if TYPE_CHECKING:
    from tracker.stream.subscriber import Subscriber

SILENCE_SECONDS = 3.0
"""After so long without a message, say that nothing comes and what may be the reason."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `listen`."""
    parser.add_argument("endpoint", nargs="?", default=DEFAULT_ENDPOINT, help="where a tracker publishes (%(default)s)")
    parser.add_argument("--camera", help="only this camera (default: every camera of the endpoint)")
    parser.add_argument("--json", action="store_true", help="one message per line as JSON, as --output of run writes")
    parser.add_argument(
        "--frames", type=positive, metavar="N", help="stop after N messages (default: go on until Ctrl-C)"
    )
    parser.add_argument(
        "--keys", metavar="FOLDER", help="for a tracker that runs with --keys: a client's folder of `keys`"
    )
    parser.add_argument("--timeout", type=seconds, metavar="S", help="give up after S seconds of silence")


def run(args: argparse.Namespace) -> int:
    """Print messages until Ctrl-C, `--frames` or `--timeout`; returns the exit status.

    Raises StreamError, also for a silence as long as `--timeout`.
    """
    # Imported here, so that `--help` of every command need not wait for numpy and the socket library.
    from tracker.stream.subscriber import Subscriber

    try:
        with Subscriber(args.endpoint, args.camera, keys=args.keys) as subscriber:
            return _print_all(subscriber, args)
    except KeyboardInterrupt:
        return 0


def _print_all(subscriber: Subscriber, args: argparse.Namespace) -> int:
    from tracker.stream.message import to_json_line
    from tracker.stream.openxr import from_openxr
    from tracker.stream.rates import LatencyWindow
    from tracker.stream.terminal import format_message

    window = LatencyWindow()
    seen = 0
    which = f" of camera {args.camera!r}" if args.camera else ""
    silent_since = time.monotonic()
    warned = False
    while args.frames is None or seen < args.frames:
        silence = time.monotonic() - silent_since
        if args.timeout is not None and silence >= args.timeout:
            raise StreamError(
                f"nothing{which} came from {subscriber.endpoint} for {args.timeout:g} s: is a tracker running"
                + (", and is its camera called so (see `listen` without --camera)?" if args.camera else "?")
            )
        if silence >= SILENCE_SECONDS and not warned:
            warned = True
            print(
                f"nothing{which} arrives from {subscriber.endpoint}, still waiting; "
                "start `python -m tracker run`, or name the endpoint of its --bind"
                + ("; or the tracker does not know these keys" if args.keys else "; or it publishes with --keys"),
                file=sys.stderr,
            )
        limits = [] if warned else [SILENCE_SECONDS - silence]
        if args.timeout is not None:
            limits.append(args.timeout - silence)
        message = subscriber.receive(min(limits) if limits else None)
        if message is None:
            continue
        silent_since, warned = time.monotonic(), False
        window.add(silent_since, message.latency_ms.total)
        seen += 1
        if args.json:
            print(to_json_line(message), flush=True)
        else:
            print(format_message(from_openxr(message), window.rate(silent_since)), flush=True)
    return 0
