"""A person's hand size from a file, as a calibration measures it: used instead of what the tracker would estimate.

    {
      "version": 1,
      "hand_length": 0.192,
      "bone_lengths": {"thumb_cmc": 0.029, "thumb_mcp": 0.044, ..., "little_tip": 0.019}
    }

Metres. A bone is named by the joint at its far end (see `JOINT_NAMES`; all 20 but the wrist). `hand_length` is from the
wrist to the middle fingertip along the bones, the sum of that finger's four. One of the two may be missing: bones
without a hand length give it; a hand length without bones gives a mean hand of that size. Where a person's hands
differ, `bone_lengths` is {"left": {...}, "right": {...}}.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tracker.camera.frame import Side
from tracker.errors import ProfileError
from tracker.hand.skeleton import BONES, JOINT_NAMES, MEAN_HAND_LENGTH, PROPORTIONS

VERSION: Final = 1
BONE_NAMES: Final = tuple(JOINT_NAMES[child] for _, child in BONES)
SHORTEST_HAND, LONGEST_HAND = 0.10, 0.26
"""Metres: a small child's and a giant's."""
SHARE: Final = 2.0
"""A bone may be so many times longer or shorter than the mean hand's of that length."""
CUBE_SCALES: Final = (0.7, 1.35)
"""How much smaller or larger a cube may become for a hand's size."""


@dataclass(frozen=True, slots=True)
class HandProfile:
    """Whose hands they are. left, right: bone lengths, 20 each, metres, in the order of BONES.

    Raises ProfileError where no hand has such bones.
    """

    left: tuple[float, ...]
    right: tuple[float, ...]

    def __post_init__(self) -> None:
        for side in (self.left, self.right):
            if len(side) != len(BONES) or not np.isfinite(side).all():
                raise ProfileError(f"a hand has {len(BONES)} bones with a length in metres each")
            length = _middle_finger(side)
            if not SHORTEST_HAND <= length <= LONGEST_HAND:
                raise ProfileError(
                    f"the hand length must be in metres, from {SHORTEST_HAND} to {LONGEST_HAND}, and is {length:.4g}"
                )
            for name, bone, share in zip(BONE_NAMES, side, PROPORTIONS):
                if not share * length / SHARE <= bone <= share * length * SHARE:
                    raise ProfileError(
                        f"{name} is {bone:.4g} m long, which no hand of {length:.3f} m has (usual: "
                        f"{share * length:.3f} m): measure again, in metres"
                    )

    @property
    def hand_length(self) -> float:
        """Wrist to middle fingertip along the bones, metres, mean of both hands."""
        return (_middle_finger(self.left) + _middle_finger(self.right)) / 2

    @property
    def cube_scale(self) -> float:
        """How much larger than for a mean hand the cube must be."""
        return float(np.clip(self.hand_length / MEAN_HAND_LENGTH, *CUBE_SCALES))

    def lengths(self, side: Side) -> NDArray[np.float64]:
        """Bone lengths (20,), metres, in the order of BONES."""
        return np.array(self.right if side == "right" else self.left)


def read_profile(path: Path) -> HandProfile:
    """Read a profile file; raises ProfileError that names the file and the mend."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ProfileError(f"the hand profile {path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{path} is no hand profile: it is not JSON ({error})") from None
    try:
        return _from_json(content)
    except ProfileError as error:
        raise ProfileError(f"the hand profile {path} cannot be used: {error}") from None


def write_profile(path: Path, profile: HandProfile) -> None:
    """Write a profile file; raises ProfileError if that is not possible."""
    bones = {side: dict(zip(BONE_NAMES, getattr(profile, side))) for side in ("left", "right")}
    content = {"version": VERSION, "hand_length": profile.hand_length, "bone_lengths": bones}
    try:
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ProfileError(f"the hand profile {path} cannot be written: {error.strerror or error}") from None


def _from_json(content: object) -> HandProfile:
    if not isinstance(content, dict) or content.get("version") != VERSION or content["version"] is True:
        raise ProfileError(f'it must be a JSON object with "version": {VERSION}')
    if unknown := set(content) - {"version", "hand_length", "bone_lengths"}:
        raise ProfileError(
            f'it has {min(unknown)!r}, which no profile has: want "version", "hand_length", "bone_lengths"'
        )
    length, bones = content.get("hand_length"), content.get("bone_lengths")
    if length is not None and not _is_number(length):
        raise ProfileError(f'"hand_length" must be a number of metres, is {length!r}')
    if bones is None:
        if length is None:
            raise ProfileError('it needs "hand_length" or "bone_lengths", or both')
        mean = tuple(share * float(length) for share in PROPORTIONS)
        return HandProfile(mean, mean)
    if isinstance(bones, dict) and len(bones) == 1 and set(bones) < {"left", "right"}:
        raise ProfileError('"bone_lengths" has one side only: give the other, too, or the lengths without a side')
    if isinstance(bones, dict) and set(bones) == {"left", "right"}:
        profile = HandProfile(_bones(bones["left"]), _bones(bones["right"]))
    else:
        both = _bones(bones)
        profile = HandProfile(both, both)
    if length is not None and abs(float(length) / profile.hand_length - 1) > 0.05:
        raise ProfileError(
            f'"hand_length" is {length:.4g} m, but the middle finger\'s bones make {profile.hand_length:.4g} m: '
            f"correct one of the two, or leave it out"
        )
    return profile


def _bones(bones: object) -> tuple[float, ...]:
    if not isinstance(bones, dict):
        raise ProfileError('"bone_lengths" must be an object of names and metres')
    missing = [name for name in BONE_NAMES if name not in bones]
    unknown = [str(name) for name in bones if name not in BONE_NAMES]
    if missing or unknown:
        what = f"lacks {missing[0]}" if missing else f"has {unknown[0]!r}, which is no bone"
        raise ProfileError(f'"bone_lengths" {what}: give each of {", ".join(BONE_NAMES)}, for both or per side')
    wrong = [name for name in BONE_NAMES if not _is_number(bones[name])]
    if wrong:
        raise ProfileError(f"the length of {wrong[0]} must be a number of metres, is {bones[wrong[0]]!r}")
    return tuple(float(bones[name]) for name in BONE_NAMES)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e6


def _middle_finger(lengths: tuple[float, ...]) -> float:
    return sum(lengths[8:12])
