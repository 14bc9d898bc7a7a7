"""Samples a second of training, next to the network alone in the same run.

    python benchmarks/training.py [--models v2v-lite:48 v2v-lite:32 v2v:88] [--batch-size 8] [--seconds 20]

"alone" repeats the step on one batch that is there already: augmentation, voxels, forward, loss, backward, optimiser,
average. "training" is the whole of `fit` from a compact folder: reading, decoding, control and log, too. Their ratio is
the share of the time that the device is kept at work. "data wait" is the share of the time that no batch was ready. The
two take turns. A published port prepares 41 samples a second in one process (measured before), whatever the network.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from machine import machine

from tracker.network.v2v import PRESETS
from trainer.data.loading import Plan, batches
from trainer.data.packed import PackedSamples
from trainer.fitting.augment import PAPER
from trainer.fitting.fit import Fit
from trainer.fitting.order import Order
from trainer.fitting.recipes import FitConfig, loss_config
from trainer.parallel.world import World
from trainer.showing.event_log import read_log

PORT_RATE = 41
SAMPLES = 256
TURNS = 2


def parse(name: str) -> tuple[str, int]:
    model, size = name.split(":")
    if model not in PRESETS:
        raise argparse.ArgumentTypeError(f"{model} is none of {', '.join(PRESETS)}")
    return model, int(size)


def make(samples: PackedSamples, folder: Path, model: str, size: int, batch_size: int, seconds: float) -> Fit:
    network = replace(PRESETS[model], input_size=size, joints=samples.joints, presence=False)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    fits = device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return Fit(
        samples,
        None,
        folder,
        network,
        name=model,
        config=FitConfig(minutes=seconds / 60, batch_size=batch_size, bf16=fits, checkpoint_minutes=60),
        loss_config=loss_config("integral", network),
        augmentation=PAPER,
        world=World(0, 0, 1, device),
        edge=0.26,
        origin={},
    )


def alone(fit: Fit, seconds: float) -> float:
    """Samples a second of the step on one batch, that stays as it is."""
    plan = Plan(Order(len(fit.train), 0), 0, fit.config.batch_size)
    source = batches(fit.train, plan, 0)
    batch = next(source).to(fit.world.device)
    source.close()
    fit._step(fit.module, batch)
    wait_for_device()
    steps, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds or steps < 2:
        fit._step(fit.module, batch)
        steps += 1
    wait_for_device()
    return steps * fit.config.batch_size / (time.perf_counter() - begun)


def wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", type=parse, default=["v2v-lite:48", "v2v-lite:32", "v2v:88"])
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each of the two, in each turn")
    options = parser.parse_args()
    print(machine())
    print(f"batches of {options.batch_size}; a published port prepares {PORT_RATE} samples a second in one process")
    print(f"{'model':10} {'grid':>5} {'alone/s':>9} {'training/s':>11} {'at work':>8} {'data wait':>10}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "samples"
        subprocess.run(
            [sys.executable, "-m", "trainer", "synthesize", str(folder), "--samples", str(SAMPLES), "--seed", "2"],
            check=True,
        )
        samples = PackedSamples(folder)
        for number, item in enumerate(options.models):
            model, size = parse(item) if isinstance(item, str) else item
            steps, runs, waits = [], [], []
            for turn in range(TURNS):
                output = Path(scratch) / f"run-{number}-{turn}"
                fit = make(samples, output, model, size, options.batch_size, options.seconds)
                steps.append(alone(fit, options.seconds))
                fit.state.step = fit.state.position = 0
                fit.run()
                events = [event for event in read_log(output / "log.jsonl") if event["event"] == "train"]
                runs.append(fit.state.position / fit.state.elapsed)
                waits.append(median(event["data_wait"] for event in events))
            print(
                f"{model:10} {size:>3}^3 {max(steps):>9.1f} {max(runs):>11.1f} {max(runs) / max(steps):>8.0%} "
                f"{min(waits):>10.1%}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
