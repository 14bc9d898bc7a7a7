"""How hands are followed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tracker.hand.profile import HandProfile
from tracker.tracking.one_euro import FilterConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerConfig:
    """How hands are followed.

    hands: how many at most. accept, keep: presence from which a new hand is taken and a followed one kept; all that is
    known must speak for it as well (`tracker.tracking.belief`).
    patience: seconds that a hand may be unseen before it is lost; beside another hand `HIDDEN_PATIENCE` times as long.
    side_frames: in how many first frames both sides are tried; side_every: and how often later. Then, of networks that
    want upright cubes, hands without a forearm are also looked at the other way up.
    search_every: frames between two searches for a further hand; while there is none, or one was just lost, every
    frame is searched.
    filter: the One Euro filter of the published joints, None for none.
    profile: the size of the person's hands, None to find it out.
    segmentation: what tells hands from the rest of the image: `network`, `geometric`, or a weights file of the former.
    """

    hands: int = 2
    accept: float = 0.6
    keep: float = 0.25
    patience: float = 0.6
    side_frames: int = 6
    side_every: int = 30
    search_every: int = 5
    filter: FilterConfig | None = field(default_factory=FilterConfig)
    profile: HandProfile | None = None
    segmentation: str = "network"

    def __post_init__(self) -> None:
        if not 1 <= self.hands <= 4:
            raise ValueError(f"hands must be from 1 to 4, is {self.hands}")
        if not 0 < self.keep <= self.accept < 1:
            raise ValueError(f"want 0 < keep <= accept < 1, got {self.keep} and {self.accept}")
        if not (math.isfinite(self.patience) and self.patience >= 0):
            raise ValueError(f"patience must be a number of seconds from 0, is {self.patience}")
        if self.side_frames < 0 or self.side_every < 1 or self.search_every < 1:
            raise ValueError(
                "side_frames must be at least 0, side_every and search_every at least 1, are "
                f"{self.side_frames}, {self.side_every} and {self.search_every}"
            )
