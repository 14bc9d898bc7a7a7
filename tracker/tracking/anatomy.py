"""The hand as a body: bones that keep their lengths, and fingers that bend only as fingers can."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import Side
from tracker.hand.skeleton import BONES, JOINT_COUNT, MEAN_HAND_LENGTH, PROPORTIONS

Array = NDArray[np.float64]

HAND_LENGTH_SPREAD: Final = 0.020
"""Standard deviation among people, metres: 13.5 mm among adults, and there are children."""
BONE_SPREAD: Final = 0.055
"""Standard deviation of a bone's share in the hand's length among people, relative to the bone."""
MEASURING_ERROR: Final = 0.005
"""Metres by which a bone's mean measured length is off: errors of a network that averaging does not mend."""
SETTLING_SECONDS: Final = 0.5
"""Of a straight hand; one that is seen a little crooked takes up to a second."""
LITTLE_EVIDENCE: Final = 0.1
"""Seconds times confidence below which measured lengths are believed less."""
CREEP: Final = 0.00005
"""Metres a second by which a settled length may still change, so that a first second in a bad pose mends itself."""
MEMORY_SECONDS: Final = 20.0
ODD: Final = 0.015
"""Metres; measurements that are further from the mean count less (Huber 1964)."""

_PARENT, _CHILD = np.array(BONES).T
_SIGNS: Final = np.eye(JOINT_COUNT)[_CHILD] - np.eye(JOINT_COUNT)[_PARENT]
"""(bones, joints): what takes joints to bone vectors."""
_CHAIN: Final = np.array(
    [[bone // 4 == (joint - 1) // 4 and bone % 4 <= (joint - 1) % 4 for bone in range(20)] for joint in range(21)]
).astype(np.float64)
"""(joints, bones): 1 where a bone lies between the wrist and a joint."""


def measured_lengths(joints: NDArray[np.floating]) -> Array:
    """Lengths (..., 20) of the bones of joints (..., 21, 3)."""
    return np.asarray(np.linalg.norm(joints[..., _CHILD, :] - joints[..., _PARENT, :], axis=-1), np.float64)


def likely_lengths(measured: NDArray[np.floating], error: NDArray[np.floating] | float = MEASURING_ERROR) -> Array:
    """The likeliest true bone lengths (20,) of a hand whose measured ones (20,) are wrong by `error` metres each.

    All are normal: a bone is its mean share of the hand's length, more or less, and is measured more or less. So the
    hand's length follows from all bones, the long ones above all, and a short bone mostly from the hand's length.
    """
    shares = np.array(PROPORTIONS)
    own = (BONE_SPREAD * MEAN_HAND_LENGTH * shares) ** 2
    wrong = np.square(error)
    weight = shares / (own + wrong)
    prior = 1 / HAND_LENGTH_SPREAD**2
    size = (weight @ measured + prior * MEAN_HAND_LENGTH) / (weight @ shares + prior)
    mean = size * shares
    return np.asarray(mean + own / (own + wrong) * (measured - mean), np.float64)


class BoneLengths:
    """The bone lengths of one followed hand: they settle within a second of an open hand, and then only creep.

    A fist hides its bones, and a network makes short what it does not see: a bent finger counts for little.
    lengths: (20,) metres, in the order of BONES.
    """

    def __init__(self) -> None:
        self.lengths: Array = np.array(PROPORTIONS) * MEAN_HAND_LENGTH
        self._mean = self.lengths.copy()
        self._evidence = np.full(20, 0.01)
        self._settling = 0.0
        self._time_ns: int | None = None

    def update(self, joints: NDArray[np.floating], confidence: NDArray[np.floating], time_ns: int) -> Array:
        """Learn from joints (21, 3) in metres with confidence (21,), captured at time_ns; returns the lengths (20,)."""
        if not np.isfinite(joints).all():
            return self.lengths
        elapsed = 0.033 if self._time_ns is None else min(max((time_ns - self._time_ns) * 1e-9, 0.0), 0.1)
        self._time_ns = time_ns
        measured = measured_lengths(joints)
        open_fingers = _straightness(joints, measured) ** 4
        # The palm's bones are seen as well as the fingers before them allow.
        openness = np.repeat(open_fingers, 4)
        openness[::4] = open_fingers.mean()
        evidence = elapsed * openness * np.minimum(confidence[_PARENT], confidence[_CHILD])
        self._evidence = np.minimum(self._evidence + evidence, MEMORY_SECONDS)
        self._mean += evidence / self._evidence * np.clip(measured - self._mean, -ODD, ODD)
        wanted = likely_lengths(self._mean, MEASURING_ERROR * np.sqrt(1 + LITTLE_EVIDENCE / self._evidence))
        most = np.inf if self._settling < SETTLING_SECONDS else CREEP * elapsed
        self.lengths = self.lengths + np.clip(wanted - self.lengths, -most, most)
        self._settling += elapsed * float(open_fingers.mean())
        return self.lengths


def _straightness(joints: NDArray[np.floating], lengths: Array) -> Array:
    """Thumb to little finger: the way from knuckle to tip, over the finger's length; 1 is straight."""
    reach = np.linalg.norm(joints[4::4] - joints[1::4], axis=1)
    return np.asarray(reach / np.maximum(lengths.reshape(5, 4)[:, 1:].sum(axis=1), 1e-3), np.float64)


def fitted(
    joints: NDArray[np.floating], confidence: NDArray[np.floating], lengths: Array, side: Side, *, passes: int = 3
) -> NDArray[np.float32]:
    """Joints (21, 3), metres, moved as little as possible onto a hand with bones of these lengths (20,).

    The sum of confidence * movement^2 is least, subject to the lengths: constrained least squares by successive
    linearisation (Gauss-Newton with Lagrange multipliers, one per bone). Then angles that no hand of that side can take
    are pulled back, see `limited`. Joints that are not finite leave the hand as it is.
    """
    raw = np.asarray(joints, np.float64)
    if not np.isfinite(raw).all():
        return np.asarray(joints, np.float32)
    freedom = 1 / (confidence.astype(np.float64) + 0.05)
    coupling = (_SIGNS * freedom) @ _SIGNS.T
    bones = _SIGNS @ raw
    moved, vectors = raw, bones
    for _ in range(passes):
        directions = _unit(vectors)
        # Entry (a, b): how far bone a stretches when bone b pulls. Positive definite by Schur's product theorem,
        # but for bones without a direction.
        stretches = coupling * (directions @ directions.T) + 1e-6 * np.eye(len(lengths))
        pulls = np.linalg.solve(stretches, (directions * bones).sum(axis=1) - lengths)
        moved = raw - freedom[:, None] * (_SIGNS.T @ (pulls[:, None] * directions))
        vectors = _SIGNS @ moved
    directions = limited(_unit(vectors), lengths, side)
    placed: Array = _CHAIN @ (directions * lengths[:, None])
    return (placed + moved[0]).astype(np.float32)


def _unit(vectors: Array) -> Array:
    return vectors / np.maximum(np.sqrt((vectors * vectors).sum(axis=-1, keepdims=True)), 1e-9)


def _cross(a: Array, b: Array) -> Array:
    """As np.cross for (..., 3), in a fifth of the time for few vectors."""
    product: Array = a[..., _NEXT] * b[..., _LAST] - a[..., _LAST] * b[..., _NEXT]
    return product


_NEXT, _LAST = np.array([1, 2, 0]), np.array([2, 0, 1])

# The palm's frame: x to the thumb, y from the fingers to the wrist, z out of the back of the hand; that of
# `tracker.simulation.hand`, of a right hand. Per finger, thumb first: the axis about which it bends, and its straight
# direction. Knuckles lie on an arch, so the outer fingers' axes are tilted.
_ARCH: Final = np.radians([6.0, 3.0, -4.5, -8.0])
_HINGES: Final = np.stack([[-0.091, 0.389, -0.917], *np.stack([np.cos(_ARCH), 0 * _ARCH, -np.sin(_ARCH)], axis=1)])
_STRAIGHT: Final = np.stack([[0.642, -0.681, -0.352], *np.tile([0.0, -1.0, 0.0], (4, 1))])
_HINGES[0] /= np.linalg.norm(_HINGES[0])
_STRAIGHT[0] -= _STRAIGHT[0] @ _HINGES[0] * _HINGES[0]
_STRAIGHT[0] /= np.linalg.norm(_STRAIGHT[0])


def _table(*rows: tuple[float, ...]) -> Array:
    return np.radians(np.array(rows))


# Degrees for thumb to little finger (columns) at the root, the middle and the last joint (rows). The ranges of motion
# are those of e-hand.com and Pena-Pitarch; the slack allows for people, for hinges that are not quite
# perpendicular, and for a palm that is measured some degrees askew.
_LEAST_BEND: Final = _table((-45, -50, -50, -50, -50), (-25, -18, -18, -18, -18), (-35, -25, -25, -25, -25))
_MOST_BEND: Final = _table((75, 105, 105, 105, 105), (85, 120, 120, 120, 120), (100, 95, 95, 95, 95))
_LEAST_LEAN: Final = _table((-60, -28, -28, -30, -50), (-30, -28, -28, -28, -28), (-35, -22, -22, -22, -22))
_MOST_LEAN: Final = _table((40, 42, 30, 25, 20), (65, 18, 18, 18, 18), (65, 18, 18, 18, 18))
FOLDED: Final = np.radians(-100)


def limited(directions: Array, lengths: Array, side: Side) -> Array:
    """Bone directions (20, 3), camera frame, with bends that a hand cannot take pulled back to its limits.

    Each finger is followed from the palm outwards: a bone's direction against the one before is taken apart into a
    bend about the finger's hinge and a lean along it, and both are limited. Directions within the limits come out as
    they went in. lengths: (20,) metres, weigh the palm's directions.
    """
    palm = _palm(directions, lengths, side)
    if palm is None:
        return directions
    local = (directions @ palm.T).reshape(5, 4, 3)
    before, hinge = _STRAIGHT, _HINGES
    result = local
    turned = False
    for part in range(3):
        wanted = local[:, part + 1]
        inwards = _cross(hinge, before)
        along, up, sideways = np.einsum("nfi,fi->nf", np.stack([before, inwards, hinge]), wanted)
        lean = np.arcsin(np.minimum(np.maximum(sideways, -1), 1))
        bend = np.arctan2(up, along)
        # Folded back onto the bone before: by bending, for fingers bend much further that way.
        bend = np.where(bend < FOLDED, bend + 2 * np.pi, bend)
        right_lean = np.minimum(np.maximum(lean, _LEAST_LEAN[part]), _MOST_LEAN[part])
        right_bend = np.minimum(np.maximum(bend, _LEAST_BEND[part]), _MOST_BEND[part])
        wrong = (lean != right_lean) | (bend != right_bend)
        if wrong.any():
            if not turned:
                result, turned = local.copy(), True
            flat = np.cos(right_bend)[:, None] * before + np.sin(right_bend)[:, None] * inwards
            mended = np.cos(right_lean)[:, None] * flat + np.sin(right_lean)[:, None] * hinge
            result[wrong, part + 1] = mended[wrong]
        before = result[:, part + 1]
        hinge = _unit(hinge - (hinge * before).sum(axis=1, keepdims=True) * before)
    return result.reshape(20, 3) @ palm if turned else directions


def _palm(directions: Array, lengths: Array, side: Side) -> Array | None:
    """The palm's frame (rows x, y, z; see above) in the camera's; None for a palm that is a line.

    A left hand's x points to its thumb as well, so that its frame is a left-handed one and its fingers are a right
    hand's in it.
    """
    knuckles = (directions * lengths[:, None])[4::4]
    y = -_unit(knuckles[1])
    across = knuckles[0] + 0.3 * knuckles[1] - 0.3 * knuckles[2] - knuckles[3]
    x = across - across @ y * y
    size = float(np.linalg.norm(x))
    if size < 0.005:
        return None
    x /= size
    z = _cross(x, y) if side == "right" else _cross(y, x)
    return np.stack([x, y, z])
