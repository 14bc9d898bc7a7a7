"""`python -m tracker convert SOURCE OUT`: a recording of any kind as a recording folder or an `.h5` file."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tracker.errors import CameraError


def convert(source: Path, out: Path, progress: bool = False) -> int:
    """Write a recording anew, depth bit for bit, with numbers, times, lens, and the truth and messages it may have.

    source: `.bag`, `.db3`, `.h5` or a recording folder. out: an `.h5` file or, without suffix, a folder; it appears
    when it is complete. progress: show a bar on standard error. Returns the number of frames.
    Raises CameraError or StreamError if the source is broken, or the output is there already or cannot be written.
    """
    from tqdm import tqdm

    from tracker.camera.opening import check_new_recording, create_recording, open_recording, prepare_folder
    from tracker.camera.recorder import reason_of
    from tracker.camera.recording_header import RecordingHeader

    check_new_recording(out)
    with open_recording(source) as camera:
        messages = _messages(source)
        prepare_folder(out.parent)
        try:
            with _finished_or_gone(out) as unfinished:
                file = None
                frames = tqdm(camera, total=camera.count, unit="frame", file=sys.stderr, disable=not progress)
                try:
                    for frame in frames:
                        header = RecordingHeader(camera.name, frame.intrinsics, frame.depth_scale)
                        try:
                            file = file or create_recording(unfinished, header)
                            file.append(frame, messages.get(frame.number))
                        except CameraError as error:
                            raise CameraError(f"{out} cannot be written: {error}") from error
                finally:
                    if file is not None:
                        file.close()
        except OSError as error:
            raise CameraError(f"{out} cannot be written: {reason_of(error)}") from error
        return camera.count


def _messages(source: Path) -> dict[int, str]:
    """The messages of a recording by frame number; RealSense recordings have none."""
    if source.suffix in (".bag", ".db3"):
        return {}
    from tracker.kept_messages import parse_line, recorded_lines

    lines = enumerate(recorded_lines(source), start=1)
    return {parse_line(line, f"{source}, message {row}").frame: line for row, line in lines}


@contextmanager
def _finished_or_gone(path: Path) -> Iterator[Path]:
    """A path beside `path`, which becomes `path` at the end of the block, and is removed where the block fails."""
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield folder / path.name
        os.rename(folder / path.name, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `convert`."""
    parser.add_argument("source", metavar="SOURCE", type=Path, help="a .bag, .db3 or .h5 file, or a recording folder")
    parser.add_argument("out", metavar="OUT", type=Path, help="a new .h5 file or, without suffix, a new folder")


def run(options: argparse.Namespace) -> int:
    """Convert; returns the exit status. Raises CameraError, StreamError."""
    frames = convert(options.source, options.out, progress=sys.stderr.isatty())
    print(f"{options.out}: {frames} frames of {options.source}")
    return 0
