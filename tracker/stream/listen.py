"""`python -m tracker listen`: print what a tracker publishes, for people or as JSON lines."""

from __future__ import annotations

import argparse
import os
import sys
import time

import numpy as np

from tracker.errors import StreamError
from tracker.hand.skeleton import PALM
from tracker.stream.endpoint import DEFAULT_ENDPOINT
from tracker.stream.message import Hand, HandsMessage, to_json_line
from tracker.stream.rates import LatencyWindow, Rate
from tracker.stream.subscriber import Subscriber

SILENCE_SECONDS = 3.0
"""After so long without a message, say that nothing comes and what may be the reason."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `listen`."""
    parser.add_argument("endpoint", nargs="?", default=DEFAULT_ENDPOINT, help="where a tracker publishes (%(default)s)")
    parser.add_argument("--camera", help="only this camera (default: every camera of the endpoint)")
    parser.add_argument("--json", action="store_true", help="one message per line as JSON, as --output of run writes")
    parser.add_argument("--frames", type=int, metavar="N", help="stop after N messages (default: go on until Ctrl-C)")
    parser.add_argument("--timeout", type=float, metavar="S", help="give up after S seconds of silence")


def run(args: argparse.Namespace) -> int:
    """Print messages until Ctrl-C, `--frames` or `--timeout`; returns the exit status, 1 for an error or a silence."""
    try:
        with Subscriber(args.endpoint, args.camera) as subscriber:
            return _print_all(subscriber, args)
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        # The reader (`head`, say) has seen enough. Python flushes at exit and would complain once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except StreamError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def format_message(message: HandsMessage, rate: Rate) -> str:
    """A frame for people: one line, positions in metres."""
    hands = " | ".join(format_hand(hand) for hand in message.hands) or "no hands"
    camera = message.camera if message.camera.isprintable() else repr(message.camera)
    return (
        f"{camera} {message.frame}  {rate.fps:5.1f} fps  {message.latency_ms.total:6.1f} ms  "
        f"dropped {message.dropped}  {hands}"
    )


def format_hand(hand: Hand) -> str:
    """Side, id, confidence, and the middle of the palm's joints that have an estimate."""
    palm = hand.joints[list(PALM)]
    known = palm[np.isfinite(palm).all(axis=1)]
    where = "({:+.3f} {:+.3f} {:+.3f}) m".format(*known.mean(axis=0)) if len(known) else "(no palm)"
    return f"{hand.side} #{hand.id} {hand.confidence:3.0%} palm {where}"


def _print_all(subscriber: Subscriber, args: argparse.Namespace) -> int:
    window = LatencyWindow()
    seen = 0
    silent_since = time.monotonic()
    warned = False
    while args.frames is None or seen < args.frames:
        silence = time.monotonic() - silent_since
        if args.timeout is not None and silence >= args.timeout:
            raise StreamError(f"nothing came from {subscriber.endpoint} for {args.timeout:g} s: is a tracker running?")
        if silence >= SILENCE_SECONDS and not warned:
            warned = True
            which = f" of camera {args.camera!r}" if args.camera else ""
            print(
                f"nothing{which} arrives from {subscriber.endpoint}, still waiting; "
                "start `python -m tracker run`, or name the endpoint of its --bind",
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
        print(to_json_line(message) if args.json else format_message(message, window.rate(silent_since)), flush=True)
    return 0
