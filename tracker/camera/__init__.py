"""Where depth comes from: live cameras, recordings and the simulator, all read in the same way.

Importing this loads no SDK; each source is imported when it is opened.
"""

from tracker.camera.base import Camera
from tracker.camera.frame import DepthFrame, HandTruth, Intrinsics
from tracker.camera.opening import CameraInfo, list_cameras, open_camera, open_recorder
from tracker.camera.recorder import Recorder

__all__ = [
    "Camera",
    "CameraInfo",
    "DepthFrame",
    "HandTruth",
    "Intrinsics",
    "Recorder",
    "list_cameras",
    "open_camera",
    "open_recorder",
]
