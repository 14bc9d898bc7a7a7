"""Training: one network from a source of samples, by one process or by many that share every batch."""

from __future__ import annotations

import copy
import math
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.nn.parallel import DistributedDataParallel

from tracker.errors import DataError, TrackerError
from tracker.hand.skeleton import JOINT_COUNT, SKELETON
from tracker.hand.voxels import voxelise
from tracker.network.hand_network import HandNetwork, HandNetworkConfig
from tracker.network.v2v import V2VConfig
from tracker.network.weights import save_weights
from trainer.data.identity import identity
from trainer.data.loading import Plan, batches
from trainer.data.packed import PackedSamples
from trainer.data.sample import Batch, SampleSource
from trainer.data.synthetic import SyntheticSamples
from trainer.fitting.augment import Augmentation, augment
from trainer.fitting.checkpoint import load_checkpoint, save_checkpoint
from trainer.fitting.chores import LOG_STEPS, Chores
from trainer.fitting.judge import judge
from trainer.fitting.losses import LossConfig, counts, loss
from trainer.fitting.order import Order
from trainer.fitting.recipes import FitConfig, optimizer_for
from trainer.fitting.start import start_from
from trainer.fitting.state import State, average_into, differences
from trainer.fitting.upright import AS_SEEN
from trainer.fitting.upright import upright as made_upright
from trainer.interrupts import interrupts_ignored, interrupts_noted
from trainer.judging.confidence import calibration_error
from trainer.judging.evaluate import Evaluation
from trainer.parallel.sync_batch_norm import synchronise
from trainer.parallel.world import SharedError, World, peers_watched
from trainer.showing.event_log import EventLog
from trainer.showing.progress import Progress

T = TypeVar("T")

DATA = "set of training data"
UPRIGHT = "way to turn cubes (--upright)"


class Fit:
    """A training run that can be stopped and resumed at any step, on another number of processes too."""

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
        world: World,
        init: Path | None = None,
        edge: float,
        upright: bool = False,
        origin: Mapping[str, Any],
        tensorboard: bool = False,
    ) -> None:
        """Train on `train`, judge on `dev`, write everything into the folder `output` (the first process does).

        origin: what the card says of data, command and code. init: weights to start from; they must fit the network.
        Raises DataError, on every process alike.
        """
        if config.batch_size < world.size:
            raise SharedError(
                f"a batch of {config.batch_size} cannot be shared by {world.size} processes: raise --batch-size"
            )
        self.train, self.dev, self.output, self.world = train, dev, output, world
        self.config, self.loss_config, self.augmentation, self.origin = config, loss_config, augmentation, origin
        self.tensorboard = tensorboard
        # Once: it reads samples. One process tells all, so that they agree.
        self.data = self._on_main(lambda: identity(train))
        self.state = State()
        torch.manual_seed(config.seed)
        several = train.joints if loss_config.global_joints else 0
        skeleton = SKELETON if network.joints == JOINT_COUNT else f"joints{network.joints}"
        self.kept = HandNetwork(
            HandNetworkConfig(
                v2v=network,
                name=name,
                decode=loss_config.decode,
                edge=edge,
                skeleton=f"global{several}" if several else skeleton,
                global_joints=several,
                upright=upright,
            )
        )
        self.fresh: list[str] = []
        if init is not None:
            weights = init
            # One process reads it: on several nodes only one may have the file.
            self.fresh = self._on_main(lambda: start_from(self.kept.v2v, weights))
            self.kept.v2v.load_state_dict(self._on_main(self.kept.v2v.state_dict))
        self.kept.to(world.device)
        module = synchronise(copy.deepcopy(self.kept.v2v), world)
        self.module = module.to(world.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.optimizer = optimizer_for(self.module, config)
        self._unread = torch.zeros((), device=world.device)
        self._unread_steps = 0
        world.together(lambda: output.mkdir(parents=True, exist_ok=True) if world.main else None)

    def _on_main(self, action: Callable[[], T]) -> T:
        """What `action` returns on the first process, on all of them."""
        done = self.world.together(lambda: action() if self.world.main else None)
        shared: T = self.world.share(done)  # type: ignore[assignment]
        return shared

    def resume(self) -> None:
        """Go on from the checkpoint in the output folder. Raises DataError if there is none or it does not fit."""
        found = self._on_main(lambda: load_checkpoint(self.output, torch.device("cpu")))
        try:
            then = {DATA: self.data, UPRIGHT: False, **found["identity"]}  # which old checkpoints do not tell
            for key, now in self._identity().items():
                if then[key] != now:
                    raise SharedError(
                        f"the run in {self.output} has another {key} ({differences(then[key], now)}): "
                        f"resume it with its own, or start in another folder with --init {self.output}/last.safetensors"
                    )
            self.module.load_state_dict(found["model"])
            self.kept.v2v.load_state_dict(found["kept"])
            self.optimizer.load_state_dict(found["optimizer"])
            for group in self.optimizer.param_groups:
                # Its groups come with the old settings. Each step sets the learning rate; this is the other.
                group["weight_decay"] = self.config.weight_decay
            self.state = State(**found["state"])
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise DataError(
                f"the checkpoint in {self.output} is of another version of this program: {str(error).splitlines()[0]}"
            ) from error

    def settings(self) -> dict[str, Any]:
        """The configuration of the run, as JSON takes it."""
        return {
            "network": asdict(self.kept.config.v2v),
            "upright": self.kept.config.upright,
            "fit": asdict(self.config),
            "loss": asdict(self.loss_config),
            "augmentation": asdict(self.augmentation),
        }

    def _identity(self) -> dict[str, Any]:
        """What a run must have in common with the checkpoint that it goes on from."""
        return {
            "seed": self.config.seed,
            "optimizer": self.config.optimizer,
            "network": asdict(self.kept.config.v2v),
            "loss": asdict(self.loss_config),
            "augmentation": asdict(self.augmentation),
            "batch size": self.config.batch_size,
            "number of samples": len(self.train),
            DATA: self.data,
            UPRIGHT: self.kept.config.upright,
        }

    def save(self) -> None:
        """Write a checkpoint, and the averaged weights as they are now. Raises DataError if there is no room."""
        save_checkpoint(
            self.output,
            {
                "model": self.module.state_dict(),
                "kept": self.kept.v2v.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "state": asdict(self.state),
                "identity": self._identity(),
            },
        )
        save_weights(self.output / "last.safetensors", self.kept, self.card(None))

    def card(self, result: Evaluation | None) -> dict[str, Any]:
        """What the JSON card says of these weights."""
        card: dict[str, Any] = {
            **self.origin,
            "samples_seen": self.state.position,
            "steps": self.state.step,
            "minutes": round(self.state.elapsed / 60, 1),
            "processes": self.world.size,
            **self.settings(),
            "torch": torch.__version__,
        }
        if result is not None:
            card["results"] = {
                "dev_mean_mm": round(result.mean_mm, 2),
                "dev_median_mm": round(result.median_mm, 2),
                "dev_samples": len(result.error_mm),
                "calibration_error": round(calibration_error(result.confidence, result.error_mm), 4),
            }
            if self.kept.config.v2v.presence:
                card["results"]["presence_accuracy"] = round(result.presence_accuracy, 4)
        return card

    @property
    def progress(self) -> float:
        """How much of the run is behind us, 0..1."""
        if self.config.minutes is not None:
            return min(1.0, self.state.elapsed / (60 * self.config.minutes))
        return min(1.0, self.state.position / (self.config.epochs * len(self.train)))

    @property
    def epoch(self) -> int:
        """Whole passes over the data that are behind us."""
        return self.state.position // len(self.train)

    def run(self) -> None:
        """Train to the end.

        Raises KeyboardInterrupt after an interrupt, when a checkpoint is written; DataError when the loss is not
        finite, data cannot be read, or nothing can be written: the last good checkpoint stays. Whatever happens to one
        process ends them all.
        """
        network: torch.nn.Module = self.module
        if self.world.size > 1:
            # Statistics are shared already, so the copies never differ.
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            network = DistributedDataParallel(network, broadcast_buffers=False)
            # Gradients of 1^3 convolutions come in either of two layouts, which are the same bytes.
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides", UserWarning)
        if isinstance(self.train, PackedSamples):
            self.train.move_to(self.world.device)
        fresh = isinstance(self.train, SyntheticSamples)
        order = Order(len(self.train), self.config.seed, fresh)
        plan = Plan(order, self.state.position, self.config.batch_size, self.world.rank, self.world.size)
        source = batches(self.train, plan, self.config.workers, pinned=self.world.device.type == "cuda")
        total = None
        if self.config.minutes is None:
            total = self.state.step + math.ceil(
                (self.config.epochs * len(self.train) - self.state.position) / self.config.batch_size
            )
        shown = Progress(total, initial=self.state.step, enabled=self.world.main, total_minutes=self.config.minutes)
        with closing(source), closing(shown), interrupts_noted() as asked:
            # What cannot be written is told before hours of work; and a run can be resumed from its first step. The log
            # comes later: a launcher that starts a killed run again finds a checkpoint, or no run at all.
            self.world.together(self._save_first)
            log = self.world.together(self._open_log)
            try:
                self._loop(network, source, log, shown, asked)
            finally:
                if log is not None:
                    log.close()

    def _save_first(self) -> None:
        if self.world.main and not (self.output / "checkpoint.pt").exists():
            self.save()

    def _open_log(self) -> EventLog | None:
        if not self.world.main:
            return None
        log = EventLog(self.output, tensorboard=self.tensorboard)
        log.truncate(self.state.step)
        return log

    def _loop(
        self,
        network: torch.nn.Module,
        source: Iterator[Batch],
        log: EventLog | None,
        shown: Progress,
        asked: threading.Event,
    ) -> None:
        chores = Chores(self, log, shown)
        failure: Exception | None = None
        spent = 0.0
        while True:
            clock = time.perf_counter()
            batch = None
            try:
                batch = next(source) if failure is None and self.progress < 1 else None
            except (TrackerError, OSError) as error:
                failure = error
            waited = time.perf_counter() - clock
            # What one process meets, all hear of, before any of them waits for the others. The clock is one for all.
            stop, failed, self.state.elapsed = self.world.maximum(
                [float(asked.is_set()), float(failure is not None), self.state.elapsed + spent]
            )
            if failed:
                self.world.together(partial(_raise, failure))
            ended = self.epoch > self.state.ended
            if stop or ended or self.progress >= 1:
                self._look()
            if stop:
                with interrupts_ignored():
                    self.world.together(chores.finish)
                raise KeyboardInterrupt
            if ended:
                # A checkpoint of this moment comes after the evaluation, so that a resumed run owes none.
                if self.epoch // self.config.dev_epochs > self.state.ended // self.config.dev_epochs:
                    self._judge(chores)
                self.state.ended = self.epoch
                self.world.together(chores.after_epoch)
            if self.progress >= 1:
                if self.state.judged < self.state.step:
                    self._judge(chores)
                break
            assert batch is not None
            clock = time.perf_counter()
            with peers_watched():
                self._step(network, batch)
            spent = waited + time.perf_counter() - clock
            try:
                chores.after_step(waited)
            except (TrackerError, OSError) as error:
                failure = error
        self.world.together(chores.finish)
        # Ctrl-C during the last evaluation: the run has ended, but what called it shall not go on.
        if self.world.maximum([float(asked.is_set())])[0]:
            raise KeyboardInterrupt

    def _step(self, network: torch.nn.Module, batch: Batch) -> None:
        """One step. Raises DataError if the loss is not finite."""
        config, state = self.config, self.state
        # A short run warms up during its first tenth.
        rate = config.learning_rate * min(1.0, max((state.step + 1) / max(config.warmup, 1), self.progress / 0.1))
        if config.schedule == "cosine":
            rate *= 0.5 + 0.5 * math.cos(math.pi * self.progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        device = self.world.device
        batch = batch.to(device)
        if self.kept.config.upright:
            # Augmentation turns them a little again: the live tracker does not know the roll exactly.
            batch = made_upright(batch, AS_SEEN)
        batch = augment(batch, self.augmentation)
        occupancy = voxelise(batch.points, batch.sample, len(batch), self.kept.config.v2v.input_size)
        network.train()
        with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
            maps, logit = network(occupancy)
        over = self.world.total(counts(batch.joints, batch.presence))
        value = loss(maps, logit, batch.joints, batch.presence, self.loss_config, over)
        self.optimizer.zero_grad(set_to_none=True)
        # The gradients of the processes are averaged, their losses are parts of a sum.
        (value * self.world.size).backward()  # type: ignore[no-untyped-call]
        if config.clip:
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), config.clip)
        self.optimizer.step()
        average_into(self.kept.v2v, self.module, config.ema, state.step)
        state.step += 1
        state.position += config.batch_size
        self._unread += value.detach()
        self._unread_steps += 1
        if device.type == "cpu" or state.step % LOG_STEPS == 0:
            self._look()

    def _look(self) -> None:
        """Read the losses of the steps since the last look. Raises DataError, everywhere, if they are not finite."""
        if not self._unread_steps:
            return
        number = float(self.world.total(self._unread))
        if not math.isfinite(number):
            raise SharedError(
                f"the loss became {number} at step {self.state.step}; the last good checkpoint stays in {self.output}. "
                "Try a lower --learning-rate, or look for bad labels with `python -m trainer inspect`"
            )
        self.state.loss_sum += number
        self.state.loss_steps += self._unread_steps
        self._unread.zero_()
        self._unread_steps = 0

    @property
    def looked(self) -> bool:
        """Whether the losses of all steps so far are known, and so finite."""
        return self._unread_steps == 0

    def _judge(self, chores: Chores) -> None:
        """Evaluate the averaged weights, calibrate their confidence, keep them if they are the best so far."""
        began = time.perf_counter()
        self.state.judged = self.state.step
        if self.dev is None:
            return
        result, calibration = judge(self.kept, self.dev, self.augmentation, self.world)
        # Joints that one map does not show at all have no distance, but must not be a merit.
        score = result.mean_mm / result.recall if self.kept.config.global_joints else result.mean_mm
        better = score < self.state.best_mm
        if better:
            self.state.best_mm = score
        best = HandNetwork(replace(self.kept.config, calibration=calibration))
        best.v2v.load_state_dict(self.kept.v2v.state_dict())
        self.world.together(lambda: chores.judged(result, best if better else None, began))


def _raise(error: Exception | None) -> None:
    if error is not None:
        raise error
