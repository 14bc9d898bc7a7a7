"""How long each engine takes for the hands of one frame, next to plain PyTorch in the same run.

    python benchmarks/engines.py
    python benchmarks/engines.py --models v2v-lite --engines torch compile openvino:f32 openvino:bf16 --threads 2

Weights are random: they do not change the time. The engines of a model take turns, so that a busy machine slows all
of them alike; times are medians. "start" is the time until the engine is ready for the first frame.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field
from statistics import median

import torch
from machine import machine

from tracker.engine import Engine, find_device, open_engine
from tracker.engine.openvino_engine import OpenVinoEngine
from tracker.engine.sample import hand_like_grids
from tracker.errors import EngineError
from tracker.network.hand_network import HandNetwork, HandNetworkConfig
from tracker.network.v2v import PRESETS

BATCHES = (1, 2)
REFERENCE = "torch"
ON_CPU = (REFERENCE, "openvino:f32", "openvino:bf16")
ON_CUDA = (REFERENCE, "compile", "tensorrt")


@dataclass
class Row:
    """One engine and its times in seconds by batch size."""

    name: str
    engine: Engine
    start: float
    times: dict[int, list[float]] = field(default_factory=lambda: {batch: [] for batch in BATCHES})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=tuple(PRESETS), default=["v2v-lite", "v2v"])
    parser.add_argument("--engines", nargs="+", metavar="ENGINE", help="also openvino:f32 and openvino:bf16")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="of the CPU (default: each engine's own choice)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of measuring per model")
    parser.add_argument("--quick", action="store_true", help="v2v-lite only, for two seconds")
    options = parser.parse_args()
    models, seconds = (["v2v-lite"], 2.0) if options.quick else (options.models, options.seconds)
    try:
        device = find_device(options.device)
        engines = options.engines or (ON_CPU if device == "cpu" else ON_CUDA)
        print(f"{machine()}; {options.threads or 'default'} threads\n")
        print(f"{'model':9} {'engine':14} {'start s':>8} {'1 hand ms':>10} {'2 hands ms':>11} {'PyTorch / engine':>17}")
        for model in models:
            report(model, measure(model, list(dict.fromkeys([REFERENCE, *engines])), device, options.threads, seconds))
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def measure(model: str, engines: list[str], device: str, threads: int | None, seconds: float) -> list[Row]:
    """The engines that can be opened here, timed in turns for `seconds` (at least three turns)."""
    network = HandNetwork(HandNetworkConfig(v2v=PRESETS[model])).eval()
    rows = []
    for name in engines:
        start = time.perf_counter()
        try:
            engine = opened(network, name, device, threads)
        except EngineError as error:
            print(f"{model:9} {name:14} left out: {error}")
            continue
        rows.append(Row(name, engine, time.perf_counter() - start))
    grids = torch.from_numpy(hand_like_grids(max(BATCHES), PRESETS[model].input_size, seed=2)).to(device)
    end, turns = time.perf_counter() + seconds, 0
    while time.perf_counter() < end or turns < 3:
        for row in rows:
            for batch in BATCHES:
                row.engine.run(grids[:batch])  # the caches are another engine's
                start = time.perf_counter()
                row.engine.run(grids[:batch])
                row.times[batch].append(time.perf_counter() - start)
        turns += 1
    for row in rows:
        row.engine.close()
    return rows


def opened(network: HandNetwork, name: str, device: str, threads: int | None) -> Engine:
    """An engine by its name, or openvino:PRECISION."""
    engine, _, precision = name.partition(":")
    if precision in ("f32", "bf16", "f16"):
        return OpenVinoEngine(network, max_batch=max(BATCHES), threads=threads, precision=precision)  # type: ignore[arg-type]
    return open_engine(network, engine, device, threads=threads, max_batch=max(BATCHES))


def report(model: str, rows: list[Row]) -> None:
    """One line per engine."""
    reference = next(row for row in rows if row.name == REFERENCE)
    for row in rows:
        one, two = (median(row.times[batch]) * 1e3 for batch in BATCHES)
        ratios = " / ".join(f"{median(reference.times[batch]) / median(row.times[batch]):.2f}" for batch in BATCHES)
        print(f"{model:9} {row.name:14} {row.start:8.1f} {one:10.1f} {two:11.1f} {ratios:>17}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
