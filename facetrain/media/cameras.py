"""Cameras of this machine, by their numbers.

By OpenCV, which comes along; PyAV's wheels are built without the system's cameras (no v4l2).
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from facetrain.core.errors import DataError
from facetrain.core.images import Reduced, opencv
from facetrain.media.cut import Cut
from facetrain.media.frame import Frame, ScaleOf

_USUAL_RATE = Fraction(30)


class Capture(Protocol):
    """What is asked of OpenCV's `VideoCapture`."""

    def isOpened(self) -> bool: ...  # noqa: D102, N802

    def read(self) -> tuple[bool, Any]: ...  # noqa: D102

    def release(self) -> None: ...  # noqa: D102


def open_camera(number: int) -> Capture:
    """A camera of this machine; whether it is there, `isOpened` says."""
    cv2 = opencv()
    capture = cv2.VideoCapture(number)
    # What is looked at is what is there now, however long the look before has taken.
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return cast("Capture", capture)


@dataclass(frozen=True)
class Camera:
    """A camera, which gives frames without end. factory: opens it; clock: seconds, for the frames' times."""

    number: int
    target: Path
    cut: Cut = Cut()  # noqa: RUF009 (frozen)
    factory: Callable[[int], Capture] = open_camera
    clock: Callable[[], int] = time.monotonic_ns
    moving = True
    path = None

    @property
    def name(self) -> str:
        """As it is called in results."""
        return f"camera {self.number}"

    def frames(self, scale_of: ScaleOf) -> Iterator[Frame]:
        """What it sees. Raises DataError where it is not there, or not any more."""
        yield from self.cut.of(self._frames())

    def count(self) -> int | None:
        """About as many as most cameras give until the end that was asked for."""
        return self.cut.count(None, _USUAL_RATE) if self.cut.end is not None else None

    def _frames(self) -> Iterator[Frame]:
        capture = self.factory(self.number)
        try:
            if not capture.isOpened():
                raise DataError(
                    f"{self.name}: not there, or in use",
                    "is it plugged in, and may this user open it? 0 is the first one",
                )
            begun = last = 0
            index = 0
            while True:
                taken, image = capture.read()
                now = self.clock()
                if not taken or image is None:
                    seen = (
                        f"gives no images any more, after {(last - begun) / 1e9:.1f} s" if index else "gives no images"
                    )
                    raise DataError(f"{self.name}: {seen}", "was it unplugged?" if index else "is it in use?")
                begun = begun if index else now
                now = max(now, last + 1) if index else now  # two at once: a clock may tick slowly
                last = now
                pixels = np.ascontiguousarray(image, np.uint8)
                reduced = Reduced(pixels, 1, pixels.shape[1], pixels.shape[0])
                yield Frame(reduced, index, Fraction(now - begun, 1_000_000_000))
                index += 1
        finally:
            capture.release()
