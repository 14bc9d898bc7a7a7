"""Training of the segmentation network on a stream of simulated situations, by one process."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from tracker.engine.segmenting import open_segmenter
from tracker.errors import DataError
from tracker.network.segmenter import Segmenter, SegmenterConfig
from tracker.network.weights import load_segmenter, save_segmenter
from tracker.simulation.situations import Shot
from trainer.data.segmentation import DEV_SEEDS, SHOTS, SituationSamples, shots, stream
from trainer.fitting.checkpoint import load_checkpoint, save_checkpoint
from trainer.fitting.segment_augment import augment
from trainer.fitting.segment_loss import loss
from trainer.fitting.state import average_into
from trainer.interrupts import interrupts_noted
from trainer.judging.segmentation import Scores, judge_network
from trainer.showing.event_log import EventLog
from trainer.showing.progress import Progress

LOG_STEPS: Final = 50
SETTLED: Final = ("seed", "batch_size", "reuse")
"""What a run keeps when it is resumed."""


@dataclass(frozen=True, slots=True)
class SegmentConfig:
    """minutes: of training, over which the learning rate falls. batch_size: images of a step. reuse: how often each
    rendered image is seen, differently each time. pool: images kept for that. ema: decay of the averaged weights.
    workers: processes that render. dev_situations: to judge on, two images each. bf16: convolutions in bfloat16.
    """

    minutes: float = 60.0
    batch_size: int = 16
    reuse: int = 3
    pool: int = 3000
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    warmup: int = 200
    ema: float = 0.998
    seed: int = 0
    workers: int = 1
    checkpoint_minutes: float = 3.0
    judge_minutes: float = 10.0
    dev_situations: int = 60
    bf16: bool = True

    def __post_init__(self) -> None:
        if min(self.batch_size, self.reuse, self.dev_situations) < 1 or self.pool < self.batch_size:
            raise ValueError("batch_size, reuse and dev_situations must be 1 or more, and pool batch_size or more")
        if not all(0 < value < math.inf for value in (self.minutes, self.learning_rate, self.judge_minutes)):
            raise ValueError("minutes, learning_rate and judge_minutes must be above 0, and end")
        if not (0 <= self.ema < 1 and self.workers >= 0):
            raise ValueError("ema must be from 0 to below 1, and workers 0 or more")


@dataclass(slots=True)
class _State:
    """situations: taken from the stream. elapsed, saved, judged: seconds of training, now and when that was done."""

    step: int = 0
    situations: int = 0
    elapsed: float = 0.0
    saved: float = 0.0
    judged: float = 0.0
    best: float = -1.0


class _Pool:
    """The last images rendered; a step takes some new ones, and others by chance."""

    def __init__(self, size: int, height: int, width: int, device: torch.device) -> None:
        self.depth = torch.zeros(size, height, width, device=device)
        self.labels = torch.zeros(size, height, width, dtype=torch.uint8, device=device)
        self.focal = torch.zeros(size, device=device)
        self.filled = self._next = 0

    def add(self, depth: Tensor, labels: Tensor, focal: Tensor) -> None:
        for one in zip(depth, labels, focal):
            for store, value in zip((self.depth, self.labels, self.focal), one):
                store[self._next] = value
            self._next = (self._next + 1) % len(self.focal)
            self.filled = min(self.filled + 1, len(self.focal))

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        chosen = torch.randint(self.filled, (count,), generator=generator, device=generator.device)
        return self.depth[chosen], self.labels[chosen], self.focal[chosen]


class SegmentFit:
    """A run that can be stopped and resumed. Everything is written into the folder `output`.

    origin: what the card says of command and code; a resumed run keeps its first one, and lists the others in
    `resumes`. init: weights to start from; of `network` only the size of the images counts then. Raises DataError,
    WeightsError.
    """

    def __init__(
        self,
        output: Path,
        network: SegmenterConfig,
        config: SegmentConfig,
        origin: Mapping[str, Any],
        init: Path | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.output, self.config, self.origin = output, config, dict(origin)
        self.resumes: list[dict[str, Any]] = []
        self.device = device or torch.device("cpu")
        torch.manual_seed(config.seed)
        self.kept = Segmenter(network)
        if init is not None:
            # A network has no size of its own: weights that were trained on smaller images are a start.
            start = load_segmenter(init)
            self.kept = Segmenter(replace(start.config, width=network.width, height=network.height))
            self.kept.load_state_dict(start.state_dict())
        self.kept.to(self.device)
        self.network_config = self.kept.config
        layout = {"memory_format": torch.channels_last}
        self.module = copy.deepcopy(self.kept).train().to(**layout)  # type: ignore[call-overload]
        self.kept.eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.module.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.state = _State()
        self.samples = SituationSamples(config.seed, self.network_config.width, self.network_config.height)

    def resume(self) -> None:
        """Go on from the checkpoint in the folder: with its seed, batch size and reuse, over other minutes or at
        another learning rate if so asked. Raises DataError.
        """
        found = load_checkpoint(self.output, self.device)
        if found.get("network") != asdict(self.network_config):
            raise DataError(f"the checkpoint in {self.output} is of another network: give another folder")
        if "config" in found:
            before, origin = found["config"], found["origin"]
        else:
            before, origin = _told_by_card(self.output / "last.json")
        for name in SETTLED:
            now, then = getattr(self.config, name), before.get(name)
            if then is not None and then != now:
                option = "--" + name.replace("_", "-")
                raise DataError(
                    f"the run in {self.output} has {option} {then}, not {now}: resume it with {option} {then}, "
                    f"or start in another folder with --init {self.output}/last.safetensors"
                )
        self.module.load_state_dict(found["module"])
        self.kept.load_state_dict(found["kept"])
        self.optimizer.load_state_dict(found["optimizer"])
        self.state = _State(**found["state"])
        again = {key: value for key, value in self.origin.items() if key != "init"}
        changed = {
            name: {"before": before[name], "now": now}
            for name, now in asdict(self.config).items()
            if name in before and before[name] != now
        }
        self.resumes = [*found.get("resumes", []), {**self._when(), **again, "changed": changed}]
        self.origin = dict(origin)

    def save(self) -> None:
        """Write the checkpoint, and the averaged weights as last.safetensors."""
        self.state.saved = self.state.elapsed
        self.output.mkdir(parents=True, exist_ok=True)
        save_checkpoint(
            self.output,
            {
                "network": asdict(self.network_config),
                "config": asdict(self.config),
                "origin": self.origin,
                "resumes": self.resumes,
                "module": self.module.state_dict(),
                "kept": self.kept.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "state": asdict(self.state),
            },
        )
        save_segmenter(self.output / "last.safetensors", self.kept, self.card(None))

    def card(self, scores: Scores | None) -> dict[str, Any]:
        """What is told beside the weights."""
        seen = self.state.step * self.config.batch_size
        return {
            "data": "simulated situations only (tracker/simulation, from CC0 data); no recorded frame, no data set",
            "licence": "Apache-2.0",
            **self.origin,
            "resumes": self.resumes,
            "fit": asdict(self.config),
            "steps": self.state.step,
            "minutes": round(self.state.elapsed / 60, 1),
            "situations": self.state.situations,
            "images_rendered": self.state.situations * SHOTS,
            "images_seen": seen,
            "results": None if scores is None else scores.as_dict(),
        }

    def run(self) -> Scores:
        """Train until the time is over; returns the figures of the last averaged weights.

        Raises KeyboardInterrupt after an interrupt, when a checkpoint is written; DataError when the loss is not
        finite, or a file cannot be written.
        """
        config, state = self.config, self.state
        pool = _Pool(config.pool, self.samples.height, self.samples.width, self.device)
        total = 60 * config.minutes
        shown = Progress(None, initial=state.step, enabled=True, total_minutes=config.minutes)
        shown.message(f"situations to judge on, rendered first: {config.dev_situations}")
        dev = [shot for seed in DEV_SEEDS[: config.dev_situations] for shot in shots(seed, 2, self.samples.width, 0.0)]
        with (
            EventLog(self.output, tensorboard=False) as log,
            interrupts_noted() as asked,
            closing(stream(self.samples, state.situations, config.workers)) as source,
            closing(shown),
        ):
            log.truncate(state.step)
            if not (self.output / "checkpoint.pt").exists():
                self.save()  # so that a run can be resumed from its first step
            fresh = 0.0
            losses = []
            scores = None
            while state.elapsed < total and not asked.is_set():
                began = time.perf_counter()
                fresh += config.batch_size / config.reuse
                while fresh > 0 or pool.filled < min(config.batch_size * 4, config.pool):
                    pool.add(*next(source))
                    state.situations += 1
                    fresh -= SHOTS
                waited = time.perf_counter() - began
                losses.append(self._step(pool))
                state.step += 1
                state.elapsed += time.perf_counter() - began
                done = min(state.elapsed / total, 1.0)
                shown.update(1, config.batch_size, waited, losses[-1], 0, done)
                if state.step % LOG_STEPS == 0:
                    log.write({"event": "train", **self._when(), "loss": float(np.mean(losses))})
                    losses.clear()
                scores = None
                if state.elapsed - state.judged > 60 * config.judge_minutes:
                    scores = self._judge(dev, log, shown.message, asked)
                if state.elapsed - state.saved > 60 * config.checkpoint_minutes:
                    self.save()
            self.save()  # before it is judged, which takes its time
            if not asked.is_set():
                scores = scores or self._judge(dev, log, shown.message, asked)
            self.save()
            if scores is None or asked.is_set():
                raise KeyboardInterrupt
        return scores

    def _step(self, pool: _Pool) -> float:
        config, step = self.config, self.state.step
        generator = torch.Generator(self.device).manual_seed(config.seed * 1_000_003 + step)
        depth, labels, focal = augment(*pool.draw(config.batch_size, generator), generator)
        done = min(self.state.elapsed / (60 * config.minutes), 1.0)
        rate = config.learning_rate * min(1, (step + 1) / config.warmup) * 0.5 * (1 + math.cos(math.pi * done))
        for group in self.optimizer.param_groups:
            group["lr"] = max(rate, 0.01 * config.learning_rate)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.bf16):
            logits = self.module(depth, focal)
        value = loss(logits.float(), labels, depth > 0)
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), 5.0)
        self.optimizer.step()
        number = value.item()
        if not math.isfinite(number):
            raise DataError(f"the loss became {number} at step {step}: --resume with a lower --learning-rate")
        average_into(self.kept, self.module, config.ema, step)
        return number

    def _when(self) -> dict[str, Any]:
        return {"step": self.state.step, "minutes": round(self.state.elapsed / 60, 2)}

    def _judge(self, dev: list[Shot], log: EventLog, tell: Callable[[str], None], asked: Event) -> Scores | None:
        """Judge the averaged weights, and keep them as best.safetensors if they are the best so far. asked: to stop;
        nothing is judged then.
        """
        network = open_segmenter(copy.deepcopy(self.kept).cpu(), "torch")
        scores = judge_network((shot for shot in dev if not asked.is_set()), network, self.network_config)
        if asked.is_set():
            return None
        self.state.judged = self.state.elapsed
        if scores.hand_iou > self.state.best:
            self.state.best = scores.hand_iou
            save_segmenter(self.output / "best.safetensors", self.kept, self.card(scores))
        log.write({"event": "dev", **self._when(), **_flat(scores)})
        tell(
            f"step {self.state.step}: IoU right {scores.iou['right']:.3f}, left {scores.iou['left']:.3f}, "
            f"arm {scores.iou['arm']:.3f}; hands found {_share(scores.recall)}, of the right side "
            f"{_share(scores.side_of_hands)}, false {scores.false_regions:.2f} an image"
        )
        return scores


def network_of_run(output: Path) -> SegmenterConfig:
    """What the checkpoint in a folder says of its network and the size of its images. Raises DataError."""
    found = load_checkpoint(output, torch.device("cpu"))
    try:
        return SegmenterConfig(**found["network"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"the checkpoint in {output} is of another command or version: give another folder") from error


def _told_by_card(card: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings and origin of a run whose checkpoint, of an earlier version, has none: they are beside its weights."""
    try:
        told = json.loads(card.read_text(encoding="utf-8"))
        return dict(told["fit"]), {key: told[key] for key in ("command", "commit", "init") if key in told}
    except (OSError, ValueError, KeyError, TypeError):
        return {}, {"command": None, "commit": None, "init": None}


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1%}"


def _flat(scores: Scores) -> dict[str, float]:
    values = scores.as_dict()
    iou = values.pop("iou")
    assert isinstance(iou, dict)
    return {**values, **{f"iou_{name}": value for name, value in iou.items()}}  # type: ignore[dict-item]
