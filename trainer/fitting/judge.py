"""Judging a network in training, by all processes of the run together."""

from __future__ import annotations

from dataclasses import replace

from tracker.network.hand_network import HandNetwork
from trainer.data.sample import SampleSource
from trainer.fitting.augment import Augmentation
from trainer.judging.confidence import calibrated, fit_confidence
from trainer.judging.evaluate import Evaluation, evaluate, merge
from trainer.parallel.world import World


def judge(
    network: HandNetwork, dev: SampleSource, augmentation: Augmentation, world: World
) -> tuple[Evaluation, tuple[float, float]]:
    """What a network makes of the dev data with its confidence calibrated on them, and slope and offset of that.

    augmentation: that of the training; cubes are displaced and hands mirrored as there, and nothing else changed.
    """
    shifted = Augmentation(shift_sd=augmentation.shift_sd, mirrored=augmentation.mirrored)
    plain = HandNetwork(replace(network.config, calibration=(1.0, 0.0)))
    plain.v2v.load_state_dict(network.v2v.state_dict())
    part = (world.rank, world.size)
    mine = world.together(lambda: evaluate(plain, dev, world.device, how=shifted, part=part))
    result = merge(world.gather(mine))
    if network.config.global_joints:
        return result, (1.0, 0.0)
    calibration = fit_confidence(result.confidence, result.error_mm)
    mended = calibrated(result.confidence, *calibration).astype("float32")
    return replace(result, confidence=mended), calibration
