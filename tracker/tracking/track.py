"""One hand that is being followed: who it is, which side, where it was, and whether it is still there."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import DepthFrame, Side
from tracker.hand.cube import Cube, cube_center, triple
from tracker.hand.profile import HandProfile
from tracker.hand.skeleton import FLESH, JOINT_COUNT
from tracker.tracking.anatomy import BoneLengths, fitted
from tracker.tracking.one_euro import FilterConfig, OneEuro

VOTE_LIMIT = 8.0
"""Log odds at which a side is certain; bounds how long a wrong belief can last."""
FASTEST = 3.0
"""Metres a second."""
STEADY = 0.1
"""Share of a new frame in the running means of joints' confidence,"""
NEWS = 0.2
"""and in that of the belief that there is a hand."""
MOST_SURE = 4.0
"""Log odds that one frame can give or take that there is a hand; bounds how long a wrong belief can last."""
SLACK = 0.006
"""Metres by which a joint's estimated depth may be off beyond the flesh before it."""
_BEHIND = np.array(FLESH) + SLACK
VISIBLE_BEFORE = 0.020
"""A joint may lie so many metres before the surface that is seen where it is."""
SPOTS = 0.004 * np.array([(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)])
"""Metres in the image's plane: where a joint's surface is looked for, for its place is not known to a pixel."""
SEEN_SHARE = 0.3
"""Of those places where a surface must be the joint's."""


class Track:
    """State of one followed hand. joints are the network's own, unfiltered, (21, 3) metres, camera frame.

    met_ns: capture time when it was last near another hand.
    compared: log odds for a right hand when the network last looked at it as both.
    sureness: running mean of the log odds that it is a hand.
    """

    def __init__(
        self, identity: int, side_vote: float, filter_config: FilterConfig | None, profile: HandProfile | None = None
    ) -> None:
        """profile: the person's hand size; without it the track finds it out."""
        self.id = identity
        self.side_vote = float(np.clip(side_vote, -VOTE_LIMIT, VOTE_LIMIT))
        self.side: Side = "right" if side_vote >= 0 else "left"
        self.age = 0
        self.missed = 0
        self.met_ns = -(1 << 62)
        self.compared = 0.0
        self.sureness = 0.0
        self.joints: NDArray[np.float32] | None = None
        self._motion = np.zeros(3)
        self._time_ns = 0
        self._profile = profile
        self._bones = BoneLengths()
        self._trust: NDArray[np.floating] | None = None
        self._unrest = np.zeros(JOINT_COUNT)
        self._filter_config = filter_config
        self._filter = OneEuro(filter_config) if filter_config else None

    @property
    def side_confidence(self) -> float:
        """0.5 where it cannot be told, 1 where it is certain."""
        return 1 / (1 + math.exp(-abs(self.side_vote)))

    @property
    def other_side(self) -> Side:
        """The side it is not."""
        return "left" if self.side == "right" else "right"

    def vote(self, right_minus_left: float) -> None:
        """Count what a frame says of the side (log odds for a right hand); may change it."""
        # Frames are alike, so each counts for little; the sum decides. A fist, which says little, must not outvote the
        # open hand that it was a moment ago.
        self.side_vote = float(np.clip(0.98 * self.side_vote + 0.3 * right_minus_left, -VOTE_LIMIT, VOTE_LIMIT))
        side: Side = "right" if self.side_vote >= 0 else "left"
        if side != self.side and abs(self.side_vote) > 0.5:
            self.side = side
            self._filter = OneEuro(self._filter_config) if self._filter_config else None

    def believe(self, odds: float) -> None:
        """Count a frame's log odds that this is a hand."""
        odds = min(max(odds, -MOST_SURE), MOST_SURE)
        self.sureness = odds if self.age == 0 else self.sureness + NEWS * (odds - self.sureness)

    def set_filter(self, config: FilterConfig | None) -> None:
        """Filter otherwise from now on; None not at all. A filter keeps what it remembers, so that nothing jumps."""
        self._filter_config = config
        if config is None:
            self._filter = None
        elif self._filter is None:
            self._filter = OneEuro(config)
        else:
            self._filter.config = config

    def predicted_joints(self, time_ns: int) -> NDArray[np.float32]:
        """Where the joints should be at a capture time, (21, 3) metres, going on at the last speed of the hand."""
        assert self.joints is not None
        ahead = min(max((time_ns - self._time_ns) * 1e-9, 0.0), 0.1)
        return (self.joints + (self._motion * ahead).astype(np.float32)).astype(np.float32)

    def cube(self, time_ns: int, edge: float) -> Cube:
        """The cube in which the hand should be at a capture time."""
        return Cube(triple(cube_center(self.predicted_joints(time_ns))), edge, self.side)

    def distance(self, joints: NDArray[np.float32], time_ns: int) -> float:
        """Metres from where the hand should be at a capture time to the middle of some joints (21, 3)."""
        return float(np.linalg.norm(cube_center(self.predicted_joints(time_ns)) - cube_center(joints)))

    def unseen_seconds(self, time_ns: int) -> float:
        """Seconds since the hand was last seen; a clock that was set back counts as well."""
        return abs(time_ns - self._time_ns) * 1e-9

    def update(self, joints: NDArray[np.float32], confidence: NDArray[np.float32], time_ns: int) -> NDArray[np.float32]:
        """Take this frame's joints (21, 3) with confidence (21,); returns what to publish.

        That is filtered first and then fitted to the hand's bones, so that these keep their lengths.
        """
        if self.joints is not None and time_ns > self._time_ns:
            velocity = (cube_center(joints) - cube_center(self.joints)) / ((time_ns - self._time_ns) * 1e-9)
            # Faster than any hand: frames are missing, or the hand was found anew; its motion is not known.
            known = np.linalg.norm(velocity) < FASTEST
            self._motion = 0.5 * self._motion + 0.5 * velocity if known else np.zeros(3)
        self.joints, self._time_ns = joints, time_ns
        self.age += 1
        self.missed = 0
        # Confidence as it is mostly: from frame to frame it trembles, and the joints would with it. Nor is a joint
        # followed that is sure for one frame only, or now and then: where it is hidden, the network may jump between
        # two places, sure of each.
        change = np.zeros(JOINT_COUNT) if self._trust is None else confidence - self._trust
        self._trust = confidence if self._trust is None else self._trust + STEADY * change
        self._unrest = (1 - STEADY) * (self._unrest + STEADY * change**2)
        trust = np.minimum(confidence, self._trust) - np.sqrt(self._unrest)
        smooth = self._filter(joints, time_ns, trust) if self._filter else joints
        learnt = self._bones.update(joints, confidence, time_ns)
        lengths = self._profile.lengths(self.side) if self._profile else learnt
        return fitted(smooth, self._trust, lengths, self.side)


def seen(frame: DepthFrame, joints: NDArray[np.float32], confidence: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which joints (21, 3), camera frame, are seen in a frame rather than inferred: (21,) bool.

    A joint is seen if it projects into the image, onto a surface that lies no further before it than its own flesh can,
    and the network is not at a loss about it (confidence 0.1 and up).
    """
    k = frame.intrinsics
    tracked = np.isfinite(joints).all(axis=1) & (joints[:, 2] > 0.05) & (confidence >= 0.1)
    depth = np.where(tracked, joints[:, 2], 1.0)
    center = k.project(np.where(tracked[:, None], joints, (0, 0, 1)))
    tracked &= ((center > -0.5) & (center < (k.width - 0.5, k.height - 0.5))).all(axis=1)
    offsets = SPOTS * np.array([k.fx, k.fy]) / depth[:, None, None]
    pixels = np.rint(np.clip(center[:, None] + offsets, 0, (k.width - 1, k.height - 1))).astype(np.int64)
    surface = frame.depth[pixels[..., 1], pixels[..., 0]] * frame.depth_scale
    behind = depth[:, None] - surface
    own = (surface > 0) & (behind < _BEHIND[:, None]) & (behind > -VISIBLE_BEFORE)
    return np.asarray(tracked & (own.mean(axis=1) > SEEN_SHARE))
