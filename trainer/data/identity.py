"""What tells the data of a run from others, at next to no cost."""

from __future__ import annotations

import hashlib

import numpy as np

from trainer.data.sample import Sample, SampleSource
from trainer.data.synthetic import SyntheticSamples

LOOKED_AT = 64


def spread(samples: SampleSource) -> list[Sample]:
    """Some samples, evenly from the first to the last. Raises DataError for one that cannot be read."""
    chosen = np.unique(np.linspace(0, len(samples) - 1, LOOKED_AT).astype(int))
    return [samples[int(index)] for index in chosen]


def identity(samples: SampleSource) -> str:
    """The same words for the same data, on any machine; other words for others, all but surely.

    A stream is its settings. Of files, a checksum of what some samples teach: labels, edges of the cubes, presence and
    the number of points, which `convert` leaves as they are. Raises DataError for samples that cannot be read.
    """
    if isinstance(samples, SyntheticSamples):
        # Rendering rounds as the processor does, so no checksum of it would hold on another machine.
        settings = {name: value for name, value in vars(samples).items() if name != "count" and name[0] != "_"}
        return f"{type(samples).__name__} {', '.join(f'{name} {value}' for name, value in sorted(settings.items()))}"
    checksum = hashlib.sha256()
    for sample in spread(samples):
        joints = np.where(np.isnan(sample.joints), np.nan, sample.joints)  # one kind of NaN
        checksum.update(joints.astype("<f4").tobytes())
        checksum.update(np.array([sample.edge, sample.presence, len(sample.points)], "<f4").tobytes())
    return f"checksum {checksum.hexdigest()[:16]}"
