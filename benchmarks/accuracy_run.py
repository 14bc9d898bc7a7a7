"""Running trackers over many sequences, several methods on the same frames, several sequences at a time."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from accuracy_tally import Observation
from numpy.typing import NDArray

from tracker import Tracker, TrackerConfig
from tracker.camera.frame import DepthFrame, HandTruth
from tracker.errors import CameraError, TrackerError
from tracker.hand.profile import HandProfile
from tracker.network.weights import find_weights, shipped_segmenter
from trainer.interrupts import end_with_parent, interrupts_ignored


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A frame with what is known of it beyond its truth.

    hidden: of each true hand the joints (21,) that cannot be seen; None if that is not known.
    partial: further hands, of which too little is seen to ask for them.
    """

    frame: DepthFrame
    hidden: tuple[NDArray[np.bool_], ...] | None = None
    partial: tuple[HandTruth, ...] = ()


@dataclass(frozen=True, slots=True)
class Method:
    """A way of tracking. name: in tables. raw: without the One Euro filter. The others as for `Tracker` and its
    `TrackerConfig`.
    """

    name: str
    model: str = "auto"
    segmentation: str = TrackerConfig().segmentation
    engine: str = "auto"
    hands: int = 2
    raw: bool = False
    profile: HandProfile | None = None

    def described(self, engine: str) -> str:
        """What a table's column stands for. engine: what it ran on."""
        parts = [f"model {_version(find_weights(self.model))}"]
        if self.segmentation == "geometric":
            parts += ["segmentation geometric"]
        else:
            weights = shipped_segmenter() if self.segmentation == "network" else Path(self.segmentation)
            parts += [f"segmentation {_version(weights)}"]
        parts += [f"{self.hands} hand{'s' * (self.hands > 1)} at most"] if self.hands != 2 else []
        parts += ["a person's own bones"] if self.profile else []
        return ", ".join([*parts, "unfiltered" if self.raw else "filtered", engine])

    def open(self, threads: int | None) -> Tracker:
        """Its tracker. Raises WeightsError, EngineError."""
        config = TrackerConfig(hands=self.hands, segmentation=self.segmentation, profile=self.profile)
        if self.raw:
            config = replace(config, filter=None)
        return Tracker(self.model, self.engine, config=config, threads=threads)


@dataclass(frozen=True, slots=True)
class Source:
    """A sequence of frames. It is sent to other processes, so that its functions are those of modules, or `partial`s.

    name, kind, camera: as in `Observation`. views: its frames, or those at some places, counted from 0 and rising; may
    raise TrackerError.
    differs: says how the frame at a place is not as it should be, None if all is well.
    """

    name: str
    kind: str
    camera: str
    views: Callable[[Sequence[int] | None], Iterator[View]]
    differs: Callable[[int, DepthFrame], str | None] | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a source, by its place in the list.

    observations: of each method, empty if it could not be read to its end. engines: of each method. differs: what was
    not as it should be. broken: why it could not be read.
    """

    source: int
    observations: dict[str, list[Observation]]
    engines: dict[str, str]
    differs: str | None
    broken: str | None = None


def _version(weights: Path) -> str:
    """A file of weights by its name and the beginning of its SHA-256: names stay when files change."""
    return f"{weights.stem} {hashlib.sha256(weights.read_bytes()).hexdigest()[:8]}"


def follow(
    sources: Sequence[Source], methods: Sequence[Method], processes: int, limit: int | None
) -> Generator[Result, None, None]:
    """Track every source with every method, in any order. limit: frames of a source, None: all.

    A source that cannot be read is a `broken` result. Raises other TrackerErrors. Closing the iterator ends the
    processes.
    """
    if processes == 1 or len(sources) == 1:
        worker = _Worker(methods, None)
        try:
            for number, source in enumerate(sources):
                yield worker.follow(number, source, limit)
        finally:
            worker.close()
        return
    # Spawned, not forked: the engines have threads, which a fork loses.
    pool = ProcessPoolExecutor(
        min(processes, len(sources)), multiprocessing.get_context("spawn"), _start, (tuple(methods),)
    )
    try:
        with interrupts_ignored():  # for good in the processes that are started here: this one ends them
            tasks = [pool.submit(_follow, number, source, limit) for number, source in enumerate(sources)]
        for task in as_completed(tasks):
            yield task.result()
    except BaseException as error:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.kill()
        if isinstance(error, BrokenProcessPool):
            raise TrackerError("a process of the benchmark was ended from outside: try fewer --processes") from error
        raise
    pool.shutdown()


class _Worker:
    """Holds the trackers of all methods."""

    def __init__(self, methods: Sequence[Method], threads: int | None) -> None:
        self._trackers: dict[str, Tracker] = {}
        try:
            for method in methods:
                self._trackers[method.name] = method.open(threads)
        except BaseException:
            self.close()
            raise

    def follow(self, number: int, source: Source, limit: int | None) -> Result:
        """Track a source."""
        try:
            return self._follow(number, source, limit)
        except CameraError as error:
            return Result(number, {}, {}, None, broken=str(error))

    def _follow(self, number: int, source: Source, limit: int | None) -> Result:
        observations: dict[str, list[Observation]] = {name: [] for name in self._trackers}
        differs: str | None = None
        for tracker in self._trackers.values():
            tracker.reset()
        for count, view in enumerate(islice(source.views(None), limit)):
            frame = view.frame
            if source.differs is not None and differs is None:
                differs = source.differs(count, frame)
            for name, tracker in self._trackers.items():
                message = tracker.track(frame, source.camera)
                seen = Observation(
                    sequence=source.name,
                    kind=source.kind,
                    camera=source.camera,
                    number=frame.number,
                    place=count,
                    truth=frame.truth or (),
                    labelled=frame.truth is not None,
                    hidden=view.hidden,
                    partial=view.partial,
                    hands=message.hands,
                    segment_ms=message.latency_ms.segment,
                )
                observations[name].append(seen)
        engines = {
            name: f"{tracker.engine.name} on {tracker.engine.device}" for name, tracker in self._trackers.items()
        }
        return Result(number, observations, engines, differs)

    def close(self) -> None:
        """Give the engines back."""
        for tracker in self._trackers.values():
            tracker.close()


_methods: tuple[Method, ...] = ()
_worker: _Worker | None = None


def _start(methods: tuple[Method, ...]) -> None:
    """In a process of the pool: note what to do."""
    global _methods
    _methods = methods
    end_with_parent()


def _follow(number: int, source: Source, limit: int | None) -> Result:
    """In a process of the pool: the trackers are opened with the first source, so that their errors are told."""
    global _worker
    if _worker is None:
        _worker = _Worker(_methods, 1)
    return _worker.follow(number, source, limit)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
