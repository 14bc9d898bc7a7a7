"""What the first process of a run does beside the training: show, log, save."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tracker.network.hand_network import HandNetwork
from tracker.network.weights import save_weights
from trainer.judging.evaluate import Evaluation
from trainer.showing.curves import draw_curves
from trainer.showing.event_log import EventLog
from trainer.showing.progress import Progress

if TYPE_CHECKING:
    from trainer.fitting.fit import Fit

LOG_STEPS = 20
"""Steps that one line of the log tells of. On a GPU the loss is looked at as often: reading it waits for the device."""
EPOCH_SECONDS = 10.0
"""Epochs shorter than this do not each get a checkpoint: writing it would take longer than the work it saves."""
CURVE_SECONDS = 60.0


class Chores:
    """What the first process does beside the training: show, log, save. Nothing, on the others."""

    def __init__(self, fit: Fit, log: EventLog | None, shown: Progress) -> None:
        self.fit, self.log, self.shown = fit, log, shown
        self.saved = self.drawn = fit.state.elapsed
        self.since, self.waited, self.seen = time.perf_counter(), 0.0, 0

    def after_step(self, waited: float) -> None:
        """After every step. waited: seconds for data."""
        if self.log is None:
            return
        fit, state = self.fit, self.fit.state
        self.waited += waited
        self.seen += fit.config.batch_size
        number = state.loss_sum / state.loss_steps if fit.looked and state.loss_steps else None
        epoch = (state.position - 1) // len(fit.train)
        if fit.config.minutes is None:
            epoch = min(epoch, fit.config.epochs - 1)  # the last batch may run into an epoch that is not trained
        self.shown.update(1, fit.config.batch_size, waited, number, epoch, fit.progress)
        if not fit.looked:
            return
        if state.step % LOG_STEPS == 0:
            self._write_train(self.log)
        if state.elapsed - self.saved > 60 * fit.config.checkpoint_minutes and fit.epoch == state.ended:
            self._save()

    def after_epoch(self) -> None:
        """When an epoch has ended, and was judged if that was due."""
        if self.log is not None and self.fit.state.elapsed - self.saved > EPOCH_SECONDS:
            self._save()

    def judged(self, result: Evaluation, best: HandNetwork | None, began: float) -> None:
        """After an evaluation that began then; `best`: weights to keep, if they are the best so far."""
        if self.log is None:
            return
        fit = self.fit
        if best is not None:
            save_weights(fit.output / "best.safetensors", best, fit.card(result))
        self.shown.dev(result.mean_mm, result.median_mm)
        self.log.write({"event": "dev", **self._when(), **fit.card(result)["results"]})
        self.since += time.perf_counter() - began

    def finish(self) -> None:
        """At the end, or when the run is interrupted."""
        if self.log is None:
            return
        # An interrupted run tells of these steps when it goes on: its log is then that of a run without the interrupt.
        if self.fit.progress >= 1 and self.fit.state.loss_steps:
            self._write_train(self.log)
        self._save()
        draw_curves(self.fit.output)

    def _when(self) -> dict[str, Any]:
        state = self.fit.state
        return {"step": state.step, "epoch": self.fit.epoch, "minutes": round(state.elapsed / 60, 3)}

    def _write_train(self, log: EventLog) -> None:
        fit, state = self.fit, self.fit.state
        seconds = time.perf_counter() - self.since
        log.write(
            {
                "event": "train",
                **self._when(),
                "loss": state.loss_sum / state.loss_steps,
                "learning_rate": fit.optimizer.param_groups[0]["lr"],
                "samples_per_second": round(self.seen / seconds, 2),
                "data_wait": round(self.waited / seconds, 4),
            }
        )
        state.loss_sum, state.loss_steps = 0.0, 0
        self.since, self.waited, self.seen = time.perf_counter(), 0.0, 0

    def _save(self) -> None:
        fit = self.fit
        fit.save()
        self.saved = fit.state.elapsed
        if self.saved - self.drawn > CURVE_SECONDS:
            self.drawn = self.saved
            draw_curves(fit.output)
