"""The one read contract that live cameras, recordings and the simulator keep."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import TypeVar

from tracker.camera.frame import DepthFrame

CameraT = TypeVar("CameraT", bound="Camera")


class Camera(ABC):
    """A source of depth frames. Use it in a `with` block or call `close`.

    name: what the topics and messages call it: "simulated", a serial number, a recording's name.
    live: True where frames that are not read in time are lost (a device, `realtime` playback).
    dropped: frames lost since the camera was opened.
    """

    name: str
    live: bool
    dropped: int = 0

    @abstractmethod
    def read(self, timeout: float = 2.0) -> DepthFrame | None:
        """The next frame, or None once a recording has ended.

        A live camera hands out its newest frame, once; older ones that nobody read are counted in `dropped`.
        timeout: seconds to wait. Raises CameraTimeout when it passes without a frame (a live camera may go on
        afterwards: read again), CameraError when the source is broken.
        """

    @abstractmethod
    def close(self) -> None:
        """Give the device or file back. Safe to call twice."""

    def __iter__(self) -> Iterator[DepthFrame]:
        while (frame := self.read()) is not None:
            yield frame

    def __enter__(self: CameraT) -> CameraT:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
