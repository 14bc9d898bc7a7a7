"""`python -m tracker`: run, listen, cameras, export."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tracker.arguments import port, positive
from tracker.errors import TrackerError
from tracker.stream.colors import RED, has_colors, paint
from tracker.stream.endpoint import DEFAULT_ENDPOINT

if TYPE_CHECKING:
    from tracker.tracking.config import TrackerConfig

COMMANDS = (
    "run",
    "listen",
    "proxy",
    "keys",
    "cameras",
    "export",
    "draw",
    "convert",
    "compare",
    "csv",
    "ply",
    "show",
    "view",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the command; returns the exit status: 0, or 1 after an error that is told in one line."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help")):
        words.insert(0, "run")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # What OpenCV warns of (a damaged image) is told by our own errors.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    try:
        if words[0] not in (*COMMANDS, "-h", "--help"):
            raise TrackerError(f"there is no command {words[0]!r}: choose one of {', '.join(COMMANDS)}")
        options = _parser().parse_args(words)
        _set_up_logging(getattr(options, "quiet", False), getattr(options, "verbose", False))
        return int(options.action(options))
    except TrackerError as error:
        print(f"{paint('error:', RED) if has_colors(sys.stderr) else 'error:'} {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader (`head`, say) has seen enough. Python flushes at exit and would complain once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"error: {error.strerror or error}: {error.filename or 'standard output'}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    # The rooms of the sub-commands are imported by their actions: help needs no network, camera or socket.
    parser = argparse.ArgumentParser(prog="python -m tracker", description="Track hands in depth images.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    run = commands.add_parser("run", help="track and publish, until Ctrl-C or the end of a recording (the default)")
    add_camera_argument(run)
    add_model_arguments(run)
    add_hands_arguments(run)
    run.add_argument("--bind", default=DEFAULT_ENDPOINT, metavar="ENDPOINT", help="publish on (default: %(default)s)")
    run.add_argument(
        "--skeleton",
        choices=("hand21", "openxr26"),
        default="hand21",
        help="joints to publish: our 21, or OpenXR's 26 made of them (default: %(default)s)",
    )
    from tracker.stream import keys_command, proxy_command

    proxy_command.add_security_arguments(run)
    run.add_argument("--output", metavar="FILE.jsonl", help="write the messages as JSON lines, to a new file")
    run.add_argument("--record", metavar="PATH", help="write the depth: a folder, or a file ending in .h5")
    run.add_argument("--view", action="store_true", help="live view in the browser")
    run.add_argument("--view-port", type=port, default=8080, metavar="PORT", help="of --view (default: %(default)s)")
    run.add_argument("--frames", type=positive, metavar="N", help="stop after N frames")
    run.add_argument("--realtime", action="store_true", help="play a recording at its own pace, dropping frames")
    add_verbosity_arguments(run)
    run.set_defaults(action=_run)

    listen = commands.add_parser("listen", help="print what a tracker publishes")
    from tracker.stream import listen as listener

    listener.add_arguments(listen)
    listen.set_defaults(action=listener.run)

    proxy = commands.add_parser("proxy", help="several trackers on one endpoint")
    proxy_command.add_arguments(proxy)
    proxy.set_defaults(action=proxy_command.run)

    keys = commands.add_parser("keys", help="make the keys of a stream that crosses the network")
    keys_command.add_arguments(keys)
    keys.set_defaults(action=keys_command.run)

    cameras = commands.add_parser("cameras", help="list the cameras that are plugged in")
    cameras.set_defaults(action=_cameras)

    export = commands.add_parser("export", help="write the model as ONNX, OpenVINO or a TensorRT engine")
    from tracker.engine import export as exporter

    exporter.add_arguments(export)
    export.set_defaults(action=exporter.run)

    draw = commands.add_parser(
        "draw",
        help="draw the tracked skeletons over the frames of a recording, as a PNG",
        description="Draw the tracked skeletons over the frames of a recording, as a PNG. Near surfaces are bright, "
        "hollow joints are inferred, and a grey frame shows the cube in which the network looked for a hand.",
    )
    add_camera_argument(draw)
    add_model_arguments(draw)
    add_hands_arguments(draw)
    draw.add_argument("--frames", type=positive, metavar="N", help="frames to track (default: enough for 12 pictures)")
    draw.add_argument("--every", type=positive, default=1, metavar="N", help="draw every N-th (default: each)")
    draw.add_argument("--columns", type=positive, default=4, metavar="N", help="pictures in a row (default: 4)")
    draw.add_argument("--output", required=True, metavar="FILE.png", help="the picture to write")
    draw.set_defaults(action=_draw)

    view = commands.add_parser("view", help="scrub through a recording and what was tracked in it, in the browser")
    from tracker.view import replay

    replay.add_arguments(view)
    view.set_defaults(action=replay.run)

    from tracker import cloud_ply, compare, convert, joints_csv, show

    for name, module, purpose in (
        ("convert", convert, "write a recording (.bag, .db3, .h5, folder) as a folder or an .h5 file"),
        ("compare", compare, "tell how two runs over the same frames differ"),
        ("csv", joints_csv, "write the joints of messages as a table"),
        ("ply", cloud_ply, "write the points of a recorded frame, and its hands"),
        ("show", show, "a window with the points and hands of a recording (needs the extra open3d)"),
    ):
        command = commands.add_parser(name, help=purpose)
        module.add_arguments(command)
        command.set_defaults(action=module.run)
    return parser


def add_camera_argument(parser: argparse.ArgumentParser) -> None:
    """`--camera`, as the contract has it."""
    parser.add_argument(
        "--camera",
        default="auto",
        help="auto | simulated | realsense[:SERIAL] | PATH of a recording (folder, .h5, .bag, .db3); "
        "auto: a RealSense if one is plugged in, else simulated (default: auto)",
    )


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """`--model`, `--engine`, `--device`."""
    parser.add_argument(
        "--model",
        default="auto",
        help="auto | v2v-lite | v2v (no weights come with it yet) | FILE.safetensors (default: auto: v2v-lite)",
    )
    parser.add_argument(
        "--engine", default="auto", help="auto | torch | compile | openvino | tensorrt (default: the fastest)"
    )
    parser.add_argument("--device", default="auto", help="auto | cpu | cuda[:N] (default: auto)")


def add_hands_arguments(parser: argparse.ArgumentParser) -> None:
    """How many hands, how large, and what finds them: see `tracker_config`."""
    parser.add_argument("--hands", type=positive, default=2, metavar="N", help="how many hands at most (default: 2)")
    parser.add_argument(
        "--profile", metavar="FILE.json", help="the person's hand size (see docs), instead of an estimate"
    )
    parser.add_argument(
        "--segmentation",
        default="network",
        help="what tells hands from the rest of the image: network | geometric | FILE.safetensors "
        "(default: %(default)s)",
    )


def tracker_config(options: argparse.Namespace) -> TrackerConfig:
    """What the options of `add_hands_arguments` ask for. Raises TrackerError, ProfileError."""
    from tracker.hand.profile import read_profile
    from tracker.tracking.config import TrackerConfig

    if options.hands > 4:
        raise TrackerError(f"--hands is {options.hands}; at most 4 are tracked")
    if options.profile == "":
        raise TrackerError("--profile is empty: give it a value, or leave it out")
    profile = read_profile(Path(options.profile)) if options.profile is not None else None
    return TrackerConfig(hands=options.hands, profile=profile, segmentation=options.segmentation)


def add_verbosity_arguments(parser: argparse.ArgumentParser) -> None:
    """`--quiet` or `--verbose`."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--quiet", action="store_true", help="print errors, and warnings about who can listen, only")
    either.add_argument("--verbose", action="store_true", help="print the time of each stage and what is used")


def _set_up_logging(quiet: bool, verbose: bool) -> None:
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s" if verbose else "%(message)s", stream=sys.stderr)
    logging.getLogger().setLevel(logging.ERROR if quiet else logging.WARNING)
    logging.getLogger("tracker").setLevel(logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO)
    if quiet:  # who can listen is told all the same: nobody may be the wiser until it is too late
        logging.getLogger("tracker.stream.curve").setLevel(logging.WARNING)


def _run(options: argparse.Namespace) -> int:
    from tracker.stream.curve import server_keys

    for name in ("camera", "output", "record"):
        if getattr(options, name) == "":
            raise TrackerError(f"--{name} is empty: give it a value, or leave it out")
    # What is in /dev may be a file by way of the shell: /dev/stdout.
    if options.output is not None and Path(options.output).is_file() and Path(options.output).parts[:2] != ("/", "dev"):
        raise TrackerError(f"{options.output} is there already and is not overwritten: choose another --output")
    if options.record and options.output and Path(options.record).resolve() == Path(options.output).resolve():
        raise TrackerError(f"--record and --output are both {options.output}: choose another --output")
    # First of all: torch, the camera and the network take their time.
    server_keys(options.bind, options.keys, options.insecure)

    from tracker.camera import open_camera, open_recorder
    from tracker.controls import Controls, RecordSwitch
    from tracker.hand_tracker import Tracker
    from tracker.loop import View, run
    from tracker.stream.output import JsonLines
    from tracker.stream.publisher import Publisher
    from tracker.stream.terminal import LiveLine, Summary, printable

    config = tracker_config(options)
    if options.view:  # before the camera is opened: loading it takes most of a second
        from tracker.view.page import load_viser

        load_viser()
    with ExitStack() as open_things:
        # The camera is opened last: a live one should not wait, and drop frames, while a network is compiled.
        tracker = open_things.enter_context(Tracker(options.model, options.engine, options.device, config))
        camera = open_things.enter_context(open_camera(options.camera, realtime=True if options.realtime else None))
        publisher = open_things.enter_context(
            Publisher(
                options.bind,
                camera.name,
                skeleton=options.skeleton,
                keys=options.keys,
                insecure=options.insecure,
            )
        )
        # A source that waits loses no frame to a slow disk either.
        recording = RecordSwitch(
            lambda path: open_recorder(path, camera.name, lossless=not camera.live),
            Path(options.record) if options.record is not None else None,
        )
        open_things.callback(recording.close)
        output = open_things.enter_context(JsonLines(options.output)) if options.output is not None else None
        controls = Controls(tracker.config.filter, recording)
        view: View | None = None
        if options.view:
            from tracker.view.live import LiveView

            view = LiveView(controls, options.view_port)
            open_things.callback(view.close)
        where = "publishing nothing" if publisher.endpoint == "none" else f"publishing on {publisher.endpoint}"
        engine = tracker.engine
        if not options.quiet:
            print(
                f"{printable(camera.name)}: {tracker.model} on {engine.name} ({engine.device}), {where}",
                file=sys.stderr,
            )
        started = time.monotonic()
        summary = Summary()
        try:
            run(
                camera,
                tracker,
                publisher,
                output=output,
                recorder=recording,
                view=view,
                controls=controls,
                live_line=None if options.quiet else LiveLine(stages=options.verbose),
                frames=options.frames,
                summary=summary,
            )
        finally:  # after an error, too: it ends hours of tracking, perhaps
            if not options.quiet:
                print(summary.text(time.monotonic() - started, stages=options.verbose), file=sys.stderr)
            if recording.lost or (options.record and not options.quiet):
                print(
                    f"{'warning: ' * bool(recording.lost)}{recording.lost} frames lost by the recorder", file=sys.stderr
                )
    return 0


def _cameras(options: argparse.Namespace) -> int:
    from tracker.camera import list_cameras

    for line in list_cameras():
        print(line, flush=True)
    return 0


def _draw(options: argparse.Namespace) -> int:
    from tracker.draw import draw_sheet

    draw_sheet(options, tracker_config(options))
    return 0
