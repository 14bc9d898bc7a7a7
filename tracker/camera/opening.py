"""What `--camera` and `--record` mean, and which cameras there are."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from tracker.camera.base import Camera
from tracker.camera.playback import PlaybackCamera
from tracker.camera.recorder import FrameFile, Recorder, reason_of
from tracker.camera.recording_header import RecordingHeader
from tracker.errors import CameraError

logger = logging.getLogger(__name__)

SPECS = "auto, simulated, realsense, realsense:SERIAL, a recording folder, or a .bag, .db3 or .h5 file"
_SIMULATED = "simulated"
_REALSENSE = "realsense"


@dataclass(frozen=True, slots=True)
class CameraInfo:
    """A camera that can be opened. spec: what `open_camera` and `--camera` take. description: for people."""

    spec: str
    description: str

    def __str__(self) -> str:
        return f"{self.spec}  {self.description}"


def list_cameras() -> list[CameraInfo]:
    """The RealSense cameras that are plugged in, and the simulated camera, which is always there."""
    return [*_plugged_in(), CameraInfo(_SIMULATED, "two simulated hands")]


def open_camera(spec: str = "auto", *, realtime: bool | None = None) -> Camera:
    """The camera or recording that a text names.

    spec: auto | simulated | realsense[:SERIAL] | PATH. `auto` is a RealSense if one is plugged in, else the simulated
    camera; the choice is logged, and `Camera.name` tells it.
    realtime: recordings and the simulated camera at their own pace, losing the frames that nobody reads in time, or
    every frame once. None is the habit of each: every frame of a recording, the simulated camera like a live one.
    Raises CameraError.
    """
    if spec == "auto":
        spec = next((info.spec for info in _plugged_in()), _SIMULATED)
        logger.info("camera: %s", spec if spec != _SIMULATED else "simulated, as no RealSense is plugged in")
    if spec == _SIMULATED:
        from tracker.camera.simulated import SimulatedCamera

        return SimulatedCamera(realtime=realtime is not False)
    kind, _, serial = spec.partition(":")
    if kind == _REALSENSE:
        from tracker.camera.realsense import RealSenseCamera

        return RealSenseCamera(serial or None)
    return open_recording(Path(spec), bool(realtime))


def _plugged_in() -> list[CameraInfo]:
    from tracker.camera.realsense import list_realsense

    try:
        found = list_realsense()
    except CameraError as error:  # without the SDK everything else still works
        logger.warning("RealSense cameras cannot be looked for: %s", error)
        return []
    return [
        CameraInfo(f"{_REALSENSE}:{info.serial}", f"{info.name}, firmware {info.firmware}, USB {info.usb}")
        for info in found
    ]


def open_recording(path: Path, realtime: bool = False) -> PlaybackCamera:
    """A recording folder, `.h5`, `.bag` or `.db3` as a camera; see `open_camera`. Raises CameraError."""
    if path.is_dir():
        from tracker.camera.recording import open_recording_folder

        return open_recording_folder(path, realtime)
    if not path.exists():
        raise CameraError(f"there is no camera or recording {str(path)!r}: give {SPECS}")
    if path.suffix in (".bag", ".db3"):
        from tracker.camera.realsense_recording import open_realsense_recording

        return open_realsense_recording(path, realtime)
    if path.suffix == ".h5":
        from tracker.camera.h5_recording import open_h5_recording

        return open_h5_recording(path, realtime)
    raise CameraError(f"{path} is no recording that can be played: give {SPECS}")


def open_recorder(path: str | Path, name: str, *, lossless: bool = False) -> Recorder:
    """A recorder that writes an `.h5` file or, for a path without suffix, a recording folder.

    name: of the camera, kept in the recording. Raises CameraError at once if the path is taken or of another kind.
    """
    path = Path(path)
    check_new_recording(path)
    prepare_folder(path.parent if path.suffix else path)
    return Recorder(name, lambda header: create_recording(path, header), lossless, f"the recording {path}")


def check_new_recording(path: Path) -> None:
    """Raises CameraError unless a recording can be made under this path: it is of a kind that is written, and new."""
    if path.suffix not in ("", ".h5"):
        raise CameraError(f"cannot record to {path}: give a folder (no suffix) or a file that ends in .h5")
    if path.is_file() or (path.is_dir() and (path.suffix or any(path.iterdir()))):
        raise CameraError(f"{path} is there already and is not overwritten: remove it or choose another path")


def create_recording(path: Path, header: RecordingHeader) -> FrameFile:
    """Start an `.h5` file or, for a path without suffix, a recording folder. Raises CameraError."""
    if path.suffix == ".h5":
        from tracker.camera.h5_recording import H5RecordingWriter

        return H5RecordingWriter(path, header)
    from tracker.camera.recording_writer import RecordingFolderWriter

    return RecordingFolderWriter(path, header)


def prepare_folder(path: Path) -> None:
    """Make a folder, so that a place that cannot be written to is told before tracking starts. Raises CameraError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CameraError(f"cannot make the folder {path}: {reason_of(error)}") from error
