"""The joints of a hand, in the order that files, messages and networks use."""

from __future__ import annotations

from typing import Final

FINGERS: Final = ("thumb", "index", "middle", "ring", "little")

JOINT_NAMES: Final[tuple[str, ...]] = (
    "wrist",
    *(f"thumb_{part}" for part in ("cmc", "mcp", "ip", "tip")),
    *(f"{finger}_{part}" for finger in FINGERS[1:] for part in ("mcp", "pip", "dip", "tip")),
)
"""`hand21`. A joint is the centre of rotation inside the finger; a tip is the end of the finger, on the skin."""

SKELETON: Final = "hand21"
JOINT_COUNT: Final = len(JOINT_NAMES)

BONES: Final[tuple[tuple[int, int], ...]] = tuple(
    (0 if part == 0 else 1 + 4 * finger + part - 1, 1 + 4 * finger + part) for finger in range(5) for part in range(4)
)
"""(parent, child) joint indices: 20 bones, each finger from the wrist outwards."""

WRIST: Final = 0
PALM: Final[tuple[int, ...]] = (0, 5, 9, 13, 17)
"""Wrist and the four finger knuckles: the nearly rigid part."""
TIPS: Final[tuple[int, ...]] = (4, 8, 12, 16, 20)

MEAN_HAND_LENGTH: Final = 0.185
"""Metres, wrist to middle fingertip along the bones."""

PROPORTIONS: Final[tuple[float, ...]] = (
    *(0.149, 0.230, 0.190, 0.150),
    *(0.495, 0.208, 0.127, 0.130),
    *(0.474, 0.247, 0.157, 0.122),
    *(0.456, 0.223, 0.140, 0.128),
    *(0.440, 0.175, 0.088, 0.100),
)
"""Mean bone lengths over hand length, in the order of BONES: of 300 of the simulator's people. Their joints are those
that the networks learn; tables of anatomy (Buchholz 1992) put the knuckles elsewhere."""


def joint(name: str) -> int:
    """Index of a joint by its name; raises ValueError for a name that `hand21` does not have."""
    return JOINT_NAMES.index(name)


FLESH: Final[tuple[float, ...]] = (0.040, 0.035, 0.022, 0.018, 0.015, *(0.028, 0.018, 0.016, 0.013) * 4)
"""Metres of the hand's own flesh before each joint at most: a surface further before it is another finger, or a thing,
and hides it. About twice what lies before it on average, as a joint may be seen from the side."""
