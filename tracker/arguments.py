"""Kinds of numbers on the command line; anything else is one line of argparse, before any work is done."""

from __future__ import annotations

import argparse
import math


def positive(text: str) -> int:
    """A whole number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 up, is {text}")
    return int(text)


def seconds(text: str) -> float:
    """A time from 0 up that ends: neither NaN nor infinite."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds from 0 up, is {text}")
    return value


def port(text: str) -> int:
    """A TCP port, or 0 for any free one."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be from 0 (any free one) to 65535, is {text}")
    return int(text)
