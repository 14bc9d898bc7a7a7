"""Training: one network, one device, from an HDF5 file or from a stream of simulated hands."""

from __future__ import annotations

import copy
import json
import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from tracker.errors import DataError
from tracker.hand.skeleton import JOINT_COUNT, SKELETON
from tracker.hand.voxels import voxelise
from tracker.network.hand_network import HandNetwork, HandNetworkConfig
from tracker.network.v2v import V2V, V2VConfig
from tracker.network.weights import load_weights, save_weights
from trainer.augment import Augmentation, augment
from trainer.checkpoint import load_checkpoint, save_checkpoint
from trainer.data.sample import Batch, SampleSource, collate
from trainer.data.synthetic import SyntheticSamples
from trainer.evaluate import Evaluation, calibration_error, evaluate, fit_confidence
from trainer.losses import LossConfig, loss

EPOCH_SECONDS = 10.0
"""Epochs shorter than this do not each get a checkpoint: writing it would take longer than the work it saves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """One training run.

    epochs: passes over the data. minutes: if given, the learning rate falls with the clock instead, and the run ends
    when it is over. learning_rate: the highest; it warms up over `warmup` steps and falls to nothing as a cosine.
    ema: decay of the averaged weights, which are what is evaluated and kept. bf16: mixed precision.
    checkpoint_minutes: at most this much work is lost.
    """

    epochs: int = 10
    minutes: float | None = None
    batch_size: int = 8
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-2
    warmup: int = 100
    ema: float = 0.998
    clip: float = 5.0
    bf16: bool = True
    seed: int = 0
    workers: int = 1
    checkpoint_minutes: float = 5.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or self.learning_rate <= 0:
            raise ValueError("epochs and batch_size must be at least 1, learning_rate above 0")
        if self.minutes is not None and self.minutes <= 0:
            raise ValueError(f"minutes must be above 0, is {self.minutes}")


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Ctrl-C does nothing here, and nothing ever in processes that are started here: it is for this process alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class EpochSampler(Sampler[int]):
    """Indices of one epoch, from a position on: shuffled for a file, fresh ones for a stream.

    A stream's index i of epoch e is sample e * length + i, so that no sample comes twice.
    """

    def __init__(self, length: int, epoch: int, position: int, seed: int, stream: bool) -> None:
        self.length, self.epoch, self.position, self.seed, self.stream = length, epoch, position, seed, stream

    def __len__(self) -> int:
        return self.length - self.position

    def __iter__(self) -> Iterator[int]:
        if self.stream:
            start = self.epoch * self.length
            return iter(range(start + self.position, start + self.length))
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        return iter(order[self.position :].tolist())


def average_into(average: V2V, network: V2V, decay: float, step: int) -> None:
    """Move the averaged network towards the current one, batch-norm statistics too; faster in the first steps."""
    share = 1 - min(decay, (1 + step) / (10 + step))
    with torch.no_grad():
        for kept, new in zip(average.state_dict().values(), network.state_dict().values()):
            if kept.dtype.is_floating_point:
                kept.lerp_(new, share)
            else:
                kept.copy_(new)


class Fit:
    """A training run that can be stopped and resumed at any step."""

    def __init__(
        self,
        train: SampleSource,
        dev: SampleSource | None,
        output: Path,
        network: V2VConfig,
        *,
        name: str,
        config: FitConfig,
        loss_config: LossConfig,
        augmentation: Augmentation,
        device: torch.device,
        init: Path | None = None,
        edge: float,
        origin: Mapping[str, Any],
    ) -> None:
        """Train on `train`, judge on `dev`, write everything into the folder `output`.

        origin: what the card says of data, command and code. init: weights to start from; they must fit the network.
        """
        self.train, self.dev, self.output, self.device = train, dev, output, device
        self.config, self.loss_config, self.augmentation, self.origin = config, loss_config, augmentation, origin
        torch.manual_seed(config.seed)
        skeleton = SKELETON if network.joints == JOINT_COUNT else f"joints{network.joints}"
        self.kept = HandNetwork(
            HandNetworkConfig(v2v=network, name=name, decode=loss_config.decode, edge=edge, skeleton=skeleton)
        )
        if init is not None:
            start = load_weights(init)
            # Convolutions fit grids of any size, so that a network can learn on coarse ones first.
            if replace(start.config.v2v, input_size=network.input_size) != network:
                raise DataError(f"--init {init} is another network than is to be trained ({start.config.v2v})")
            self.kept.v2v.load_state_dict(start.v2v.state_dict())
        self.kept.to(device)
        self.model = copy.deepcopy(self.kept.v2v).to(device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.generator = torch.Generator(device=device).manual_seed(config.seed)
        self.epoch = self.position = self.step = 0
        self.elapsed = 0.0
        self.best_mm = math.inf
        output.mkdir(parents=True, exist_ok=True)

    def resume(self) -> None:
        """Go on from the checkpoint in the output folder. Raises DataError if there is none or it does not fit."""
        state = load_checkpoint(self.output, self.device)
        try:
            self.model.load_state_dict(state["model"])
            self.kept.v2v.load_state_dict(state["kept"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.generator.set_state(state["generator"].cpu())
            torch.set_rng_state(state["torch"].cpu())
            for key in ("epoch", "position", "step", "elapsed", "best_mm"):
                setattr(self, key, state[key])
        except (KeyError, RuntimeError, ValueError) as error:
            raise DataError(f"the checkpoint in {self.output} is of another run: {error}") from error

    def save(self) -> None:
        """Write a checkpoint, and the averaged weights as they are now."""
        save_checkpoint(
            self.output,
            {
                "model": self.model.state_dict(),
                "kept": self.kept.v2v.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "generator": self.generator.get_state(),
                "torch": torch.get_rng_state(),
                **{key: getattr(self, key) for key in ("epoch", "position", "step", "elapsed", "best_mm")},
            },
        )
        save_weights(self.output / "last.safetensors", self.kept, self.card(None))

    def card(self, result: Evaluation | None) -> dict[str, Any]:
        """What the JSON card says of these weights."""
        card: dict[str, Any] = {
            **self.origin,
            "samples_seen": self.epoch * len(self.train) + self.position,
            "steps": self.step,
            "minutes": round(self.elapsed / 60, 1),
            "fit": asdict(self.config),
            "loss": asdict(self.loss_config),
            "augmentation": asdict(self.augmentation),
            "torch": torch.__version__,
        }
        if result is not None:
            card["results"] = {
                "dev_mean_mm": round(result.mean_mm, 2),
                "dev_median_mm": round(result.median_mm, 2),
                "dev_samples": len(result.error_mm),
                "presence_accuracy": round(result.presence_accuracy, 4),
                "calibration_error": round(calibration_error(result.confidence, result.error_mm), 4),
            }
        return card

    @property
    def progress(self) -> float:
        """How much of the run is behind us, 0..1."""
        if self.config.minutes is not None:
            return min(1.0, self.elapsed / (60 * self.config.minutes))
        return min(1.0, (self.epoch + self.position / len(self.train)) / self.config.epochs)

    def run(self) -> None:
        """Train to the end. Interrupted, it saves a checkpoint first. Raises DataError when the loss is not finite."""
        last_save = last_log = self.elapsed
        losses: list[float] = []
        try:
            while self.progress < 1:
                clock = time.perf_counter()
                waiting, seen = 0.0, 0
                for batch in self._batches():
                    waiting += time.perf_counter() - clock
                    losses.append(self._train_step(batch))
                    seen += len(batch)
                    self.position += len(batch)
                    self.step += 1
                    now = time.perf_counter()
                    self.elapsed += now - clock
                    clock = now
                    if self.elapsed - last_log > 10:
                        self._log(losses, seen / (self.elapsed - last_log), waiting / (self.elapsed - last_log))
                        waiting, seen, last_log, losses = 0.0, 0, self.elapsed, []
                    if self.elapsed - last_save > 60 * self.config.checkpoint_minutes:
                        self.save()
                        last_save = self.elapsed
                    if self.progress >= 1:
                        break
                if self.position >= len(self.train):
                    self.epoch, self.position = self.epoch + 1, 0
                self._judge()
                if self.progress >= 1 or self.elapsed - last_save > EPOCH_SECONDS:
                    self.save()
                    last_save = self.elapsed
        except KeyboardInterrupt:
            with interrupts_ignored():
                self.save()
            raise

    def _batches(self) -> Iterator[Batch]:
        stream = isinstance(self.train, SyntheticSamples)
        sampler = EpochSampler(len(self.train), self.epoch, self.position, self.config.seed, stream)
        loader: DataLoader[Batch] = DataLoader(
            self.train,  # type: ignore[arg-type]
            batch_size=self.config.batch_size,
            sampler=sampler,
            num_workers=self.config.workers,
            collate_fn=collate,
            prefetch_factor=4 if self.config.workers else None,
            multiprocessing_context="spawn" if self.config.workers else None,
        )
        # A worker that dies of Ctrl-C would break the checkpoint that is then written.
        with interrupts_ignored():
            return iter(loader)

    def _train_step(self, batch: Batch) -> float:
        rate = self.config.learning_rate * min(1.0, (self.step + 1) / self.config.warmup)
        rate *= 0.5 + 0.5 * math.cos(math.pi * self.progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = augment(batch.to(self.device), self.augmentation)
        occupancy = voxelise(batch.points, batch.sample, len(batch), self.model.config.input_size)
        self.model.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bf16):
            maps, logit = self.model(occupancy)
        value = loss(maps, logit, batch.joints, batch.presence, self.loss_config)
        number = value.item()
        if not math.isfinite(number):
            raise DataError(
                f"the loss became {number} at step {self.step}; the last good checkpoint stays in {self.output}. "
                "Try a lower --learning-rate, or look for bad labels"
            )
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        average_into(self.kept.v2v, self.model, self.config.ema, self.step)
        return number

    def _judge(self) -> None:
        """Evaluate the averaged weights, calibrate their confidence, keep them if they are the best so far."""
        if self.dev is None:
            return
        shifted = Augmentation(shift_sd=self.augmentation.shift_sd, mirrored=self.augmentation.mirrored)
        plain = HandNetwork(replace(self.kept.config, calibration=(1.0, 0.0)))
        plain.v2v.load_state_dict(self.kept.v2v.state_dict())
        result = evaluate(plain, self.dev, self.device, how=shifted)
        slope, offset = fit_confidence(result.confidence, result.error_mm)
        logit = np.log(np.clip(result.confidence, 1e-4, 1 - 1e-4) / (1 - np.clip(result.confidence, 1e-4, 1 - 1e-4)))
        result = replace(result, confidence=(1 / (1 + np.exp(-(slope * logit + offset)))).astype(np.float32))
        self._write_log(
            {"epoch": self.epoch, "step": self.step, "minutes": self.elapsed / 60, **self.card(result)["results"]}
        )
        if result.mean_mm < self.best_mm:
            self.best_mm = result.mean_mm
            best = HandNetwork(replace(self.kept.config, calibration=(slope, offset)))
            best.v2v.load_state_dict(self.kept.v2v.state_dict())
            save_weights(self.output / "best.safetensors", best, self.card(result))

    def _log(self, losses: list[float], rate: float, waiting: float) -> None:
        self._write_log(
            {
                "epoch": self.epoch,
                "step": self.step,
                "progress": round(self.progress, 4),
                "loss": round(float(np.mean(losses)), 4),
                "samples_per_second": round(rate, 1),
                "data_wait": round(waiting, 3),
            }
        )

    def _write_log(self, line: dict[str, Any]) -> None:
        text = json.dumps(line)
        print(text, flush=True)
        with (self.output / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(text + "\n")
