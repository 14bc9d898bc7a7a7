"""Real-time hand tracking for depth cameras.

A program of one's own:

    from tracker import Tracker, open_camera

    with open_camera("auto") as camera, Tracker() as tracker:
        for frame in camera:
            for hand in tracker.track(frame).hands:
                print(hand.side, hand.joints[8])  # index fingertip, metres
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracker.camera import open_camera
    from tracker.hand_tracker import Tracker
    from tracker.stream.subscriber import Subscriber
    from tracker.tracking.config import TrackerConfig

__all__ = ["Subscriber", "Tracker", "TrackerConfig", "open_camera"]

_HOMES = {
    "Subscriber": "tracker.stream.subscriber",
    "Tracker": "tracker.hand_tracker",
    "TrackerConfig": "tracker.tracking.config",
    "open_camera": "tracker.camera",
}


def __getattr__(name: str) -> Any:
    # Loaded when asked for: torch takes seconds, which `--help` and a plain subscriber need not wait for.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
