"""`python -m trainer segment`: train the segmentation network on simulated situations."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from trainer.commands.arguments import add_device_argument, command_line, commit, pick_device, positive, run_in


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `segment`."""
    add = parser.add_argument
    add("output", type=Path, metavar="OUT_DIR", help="folder for weights, checkpoint and log")
    add("--minutes", type=_above_zero, default=60.0, help="of training in all (default: 60)")
    add("--seed", type=int, default=0, help="of the run: other situations (default: 0)")
    add("--resume", action="store_true", help="go on from the checkpoint in OUT_DIR")
    add("--init", metavar="WEIGHTS", type=Path, help="start from a weights file; `shipped` for the package's own")
    add("--size", type=_size, metavar="WxH", help="of the coarse images; small ones learn fast (default: 192x144)")
    add("--batch-size", type=positive, default=16, help="images of a step (default: 16)")
    add("--reuse", type=positive, default=3, help="how often each rendered image is seen (default: 3)")
    add("--learning-rate", type=_above_zero, default=3e-3, help="(default: 0.003)")
    add("--precision", default="auto", choices=("auto", "bf16", "f32"), help="auto: bf16 where it is fast")
    add_device_argument(parser)
    add("--workers", type=_from_zero, default=1, help="processes that render; 0: none (default: 1)")
    add("--judge-minutes", type=_above_zero, default=10.0, help="between two looks at dev situations (default: 10)")
    add("--dev-situations", type=positive, default=60, help="to judge on (default: 60)")
    add(
        "--compare",
        type=_from_zero,
        default=60,
        help="full-size images for the table at the end; 0: none (default: 60)",
    )


def _size(text: str) -> tuple[int, int]:
    width, times, height = text.partition("x")
    if not times:
        raise argparse.ArgumentTypeError(f"must be WxH, such as 192x144, is {text}")
    return positive(width), positive(height)


def _above_zero(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, is {text}")
    return value


def _from_zero(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 up, is {text}")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """`python -m trainer segment OUT_DIR`."""
    from dataclasses import replace

    from tracker.engine.segmenting import open_segmenter
    from tracker.errors import DataError
    from tracker.network.segmenter import SegmenterConfig
    from tracker.network.weights import SEGMENTER, shipped_segmenter
    from trainer.data.segmentation import DEV_SEEDS, shots
    from trainer.fitting.lock import lock_run
    from trainer.fitting.recipes import computes_bf16
    from trainer.fitting.segment import SegmentConfig, SegmentFit, network_of_run
    from trainer.judging.segmentation import judge_geometry, judge_network, table

    output: Path = options.output
    if options.resume and options.init:
        raise DataError("--init starts a run, --resume goes on with one: give one of them")
    device = pick_device(options.device)
    config = SegmentConfig(
        minutes=options.minutes,
        batch_size=options.batch_size,
        reuse=options.reuse,
        learning_rate=options.learning_rate,
        seed=options.seed,
        workers=options.workers,
        judge_minutes=options.judge_minutes,
        dev_situations=options.dev_situations,
        bf16=computes_bf16(device) if options.precision == "auto" else options.precision == "bf16",
    )
    if options.dev_situations + options.compare > len(DEV_SEEDS):
        raise DataError(f"--dev-situations and --compare are more than {len(DEV_SEEDS)} together: take fewer")
    init = shipped_segmenter() if options.init in (Path("shipped"), Path(SEGMENTER)) else options.init
    if init is not None and not init.is_file():
        raise DataError(f"no weights file {init} for --init: give one of a segmentation network, or `shipped`")
    origin = {"command": command_line(), "commit": commit(), "init": options.init and str(options.init)}
    network = network_of_run(output) if options.resume else SegmenterConfig()
    width, height = size = options.size or (network.width, network.height)
    if options.resume and size != (network.width, network.height):
        raise DataError(
            f"the run in {output} has --size {network.width}x{network.height}, not {width}x{height}: "
            f"resume it without --size, or start in another folder with --init {output}/last.safetensors"
        )
    network = replace(network, width=width, height=height)
    fit = SegmentFit(output, network, config, origin, init, device)
    found = run_in(output)
    if found and not options.resume:
        there = ", ".join(found)
        go_on = "go on with --resume, or " if "checkpoint.pt" in found else ""
        raise DataError(f"{output} holds a run already ({there}): {go_on}give another folder")
    lock = lock_run(output)
    try:
        if options.resume:
            fit.resume()
        if fit.state.elapsed >= 60 * config.minutes:
            print(f"the run in {output} is finished: more --minutes train it further", file=sys.stderr)
        fit.run()
        if options.compare:
            # Other situations than those by which the best weights were chosen.
            fresh = [shots(seed, 1, 640, 0.0)[0] for seed in DEV_SEEDS[-options.compare :]]
            learned = judge_network(fresh, open_segmenter(fit.kept.cpu()), fit.network_config)
            print(table({"network": learned, "geometric": judge_geometry(fresh)}))
    except KeyboardInterrupt:
        if not (output / "checkpoint.pt").exists():
            raise
        print("stopped; go on with --resume", file=sys.stderr)
        return 130
    finally:
        if lock is not None:
            lock.close()
    return 0
