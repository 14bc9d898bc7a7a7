"""How well hands are told from the rest of the image: pixel by pixel, and hand by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from tracker.hand.cube import cube_center
from tracker.network.segmenter import CLASSES, LEFT, RIGHT, SegmenterConfig
from tracker.tracking.coarse import pick
from tracker.tracking.finder import find_hands
from tracker.tracking.segmentation import hands_in, segment
from tracker.tracking.sight import NEW_AREA

if TYPE_CHECKING:
    from tracker.camera.frame import HandTruth
    from tracker.engine.segmenting import Segment
    from tracker.simulation.situations import Shot

FOUND: Final = 0.06
"""Metres from a hand's middle (of its joints) within which a region has found it."""
NAMES: Final = ("else", "right", "left", "arm")


@dataclass(slots=True)
class Tally:
    """Counts over many images. confusion: (4, 4) pixels, true class by class given, of those with a reading.

    hands: that are there; found: of them; sided: of the found, those of the right side; regions: that are no hand.
    """

    images: int = 0
    hands: int = 0
    found: int = 0
    sided: int = 0
    regions: int = 0
    confusion: NDArray[np.int64] = field(default_factory=lambda: np.zeros((CLASSES, CLASSES), np.int64))

    def take(self, shot: Shot, regions: Sequence[tuple[NDArray[np.floating], float | None]]) -> None:
        """Count one image. regions: centre (3,) metres and log odds of the right side, of each region."""
        self.images += 1
        truth = shot.frame.truth or ()
        free = list(range(len(truth)))
        self.hands += len(free)
        for center, odds in regions:
            away = [_distance(truth[index], center) for index in free]
            if away and min(away) < FOUND:
                hand = truth[free.pop(int(np.argmin(away)))]
                self.found += 1
                self.sided += odds is not None and (odds > 0) == (hand.side == "right")
            elif all(_distance(hand, center) > 2 * FOUND for hand in shot.partial):
                self.regions += 1

    def scores(self) -> Scores:
        """The figures; NaN where there was nothing to count."""
        true, given, both = self.confusion.sum(1), self.confusion.sum(0), np.diag(self.confusion)
        with np.errstate(invalid="ignore", divide="ignore"):
            iou = both / (true + given - both)
            hands = self.confusion[RIGHT : LEFT + 1, RIGHT : LEFT + 1]
            side_pixels = np.trace(hands) / hands.sum()
            return Scores(
                iou={name: float(value) for name, value in zip(NAMES, iou)},
                side_of_pixels=float(side_pixels),
                recall=float(np.float64(self.found) / self.hands),
                side_of_hands=float(np.float64(self.sided) / self.found),
                false_regions=float(np.float64(self.regions) / self.images),
                images=self.images,
                hands=self.hands,
            )


@dataclass(frozen=True, slots=True)
class Scores:
    """iou: intersection over union of each class. side_of_pixels: share of hand pixels, given as a hand's, of the right
    side. recall: share of hands with a region within 6 cm. side_of_hands: share of found hands of the right side.
    false_regions: regions an image that are no hand.
    """

    iou: dict[str, float]
    side_of_pixels: float
    recall: float
    side_of_hands: float
    false_regions: float
    images: int
    hands: int

    @property
    def hand_iou(self) -> float:
        """Mean of both hands, by which weights are compared."""
        return (self.iou["right"] + self.iou["left"]) / 2

    def as_dict(self) -> dict[str, object]:
        """For a card or a log."""
        return asdict(self)


def judge_network(shots: Iterable[Shot], network: Segment, config: SegmenterConfig) -> Scores:
    """The segmentation network on some images."""
    tally = Tally()
    for shot in shots:
        image = segment(shot.frame, network, config)
        seen = image.depth > 0
        true = pick(shot.labels, image.grid)[seen].astype(np.int64)
        pairs = true * CLASSES + image.labels[seen]
        tally.confusion += np.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES)
        tally.take(shot, [(hand.center, hand.side_odds) for hand in hands_in(image)])
    return tally.scores()


def judge_scores(
    shots: Iterable[Shot], network: Segment, config: SegmenterConfig, scores: Sequence[float]
) -> dict[float, Scores]:
    """Figures of hands by the score that a region must have to be taken for a new one; no figures of pixels."""
    tallies = {score: Tally() for score in scores}
    for shot in shots:
        seen = [hand for hand in hands_in(segment(shot.frame, network, config)) if hand.area > NEW_AREA]
        for score, tally in tallies.items():
            tally.take(shot, [(hand.center, hand.side_odds) for hand in seen if hand.score > score])
    return {score: tally.scores() for score, tally in tallies.items()}


def judge_geometry(shots: Iterable[Shot], limit: int = 2) -> Scores:
    """The geometric finder on the same images; it knows no classes of pixels and no sides."""
    tally = Tally()
    for shot in shots:
        tally.take(shot, [(region.center, None) for region in find_hands(shot.frame, limit)])
    return tally.scores()


def table(scores: dict[str, Scores]) -> str:
    """One line for each method."""
    lines = ["method      recall  false/image  side (hands)  side (pixels)  IoU right   left    arm   else"]
    for name, one in scores.items():
        cells = [one.recall, one.false_regions, one.side_of_hands, one.side_of_pixels]
        cells += [one.iou[key] for key in ("right", "left", "arm", "else")]
        shown = ["-" if np.isnan(value) else f"{value:.3f}" for value in cells]
        if np.isnan(one.side_of_pixels):
            shown[2] = "-"
        lines.append("{:<11} {:>6}  {:>11}  {:>12}  {:>13}  {:>9}  {:>5}  {:>5}  {:>5}".format(name, *shown))
    return "\n".join(lines)


def _distance(hand: HandTruth, center: NDArray[np.floating]) -> float:
    return float(np.linalg.norm(cube_center(hand.joints) - center))
