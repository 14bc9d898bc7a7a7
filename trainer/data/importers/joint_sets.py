"""The joints of public data sets, by the names and in the order that each gives them."""

from __future__ import annotations

from tracker.hand.skeleton import FINGERS, JOINT_NAMES

NYU_ALL = (
    *(f"F{finger}_KNU{part}_{end}" for finger in (1, 2, 3, 4) for part in (3, 2, 1) for end in "AB"),
    *(f"TH_KNU{part}_{end}" for part in (3, 2, 1) for end in "AB"),
    *(f"PALM_{number}" for number in range(1, 7)),
)
"""36 joints; F1 is the little finger, F4 the index finger, KNU3_A a tip."""

NYU_USUAL = (0, 3, 6, 9, 12, 15, 18, 21, 24, 25, 27, 30, 31, 32)
"""The 14 of the 36 that the field evaluates on (Tompson et al. 2014; Oberweger et al. 2015), in the field's order."""

ICVL = ("palm", *(f"{finger}_{part}" for finger in FINGERS for part in ("root", "mid", "tip")))

MSRA = (
    "wrist",
    *(f"{finger}_{part}" for finger in FINGERS[1:] for part in ("mcp", "pip", "dip", "tip")),
    *(f"thumb_{part}" for part in ("mcp", "pip", "dip", "tip")),
)

HANDS = (
    "wrist",
    *(f"{finger}_mcp" for finger in FINGERS),
    *(f"{finger}_{part}" for finger in FINGERS for part in ("pip", "dip", "tip")),
)
"""HANDS 2017, HANDS 2019 and BigHand2.2M."""


def hand21_order(names: tuple[str, ...]) -> list[int]:
    """For each joint of the tracker's `hand21`, its place in a set of 21 joints such as `HANDS` or `MSRA`.

    Both sets call the four joints of the thumb, from the wrist outwards, mcp, pip, dip, tip; `hand21` calls the same
    four cmc, mcp, ip, tip.
    """
    thumb = {"thumb_cmc": "thumb_mcp", "thumb_mcp": "thumb_pip", "thumb_ip": "thumb_dip"}
    return [names.index(thumb.get(name, name)) for name in JOINT_NAMES]
