"""Video files, and streams from the network: each frame with its exact time, upright."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facetrain.core.errors import DataError, FacetrainError
from facetrain.core.faces import Image
from facetrain.core.images import Reduced, opencv
from facetrain.media.cut import Cut
from facetrain.media.ffmpeg import opened, rate_of, video_of
from facetrain.media.frame import Frame, ScaleOf
from facetrain.media.key_frames import KeyFrame, key_frame_before
from facetrain.media.video_reader import VideoReader

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter

SUFFIXES = frozenset(
    (
        *(".mp4", ".m4v", ".mov", ".qt", ".mkv", ".webm", ".avi", ".divx", ".mpg", ".mpeg", ".mpe", ".m2v", ".vob"),
        *(".ts", ".mts", ".m2ts", ".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3g2", ".ogv", ".mxf", ".dv"),
    )
)
_HD = 720  # lines; from these on a video that does not say its colours has those of BT.709
_BT709, _BT601 = 1, 5
_UNSAID = 2
_FULL_RANGE = 2


@dataclass(frozen=True)
class Video:
    """A video file, or a stream.

    address: what FFmpeg opens: an absolute path, an address such as rtsp://…
    cut:     the part that is looked at
    path:    the file; None of a stream
    """

    name: str
    address: str
    target: Path
    cut: Cut = Cut()  # noqa: RUF009 (frozen)
    path: Path | None = None
    moving = True

    def frames(self, scale_of: ScaleOf) -> Iterator[Frame]:
        """Its frames, decoded one by one. Raises DataError, after the frames that there are.

        Of a file the part before `cut.start` is passed over up to a key frame, without decoding it; a stream is
        waited for.
        """
        start = self._key_frame()
        with opened(self.address, self.name, self.path) as container:
            reader = VideoReader(container, video_of(container, self.name), self.name, live=self.path is None)
            upright = _Upright()
            given = False
            with closing(reader.shots(start)) as shots:
                for shot in self.cut.of(shots):
                    given = True
                    image = upright(shot.pixels)
                    yield Frame(
                        Reduced(image, 1, image.shape[1], image.shape[0]), shot.number, shot.time, shot.duration
                    )
            reader.check()
            if not given:
                raise DataError(f"{self.name}: no frame in the part asked for", f"it ends at {float(reader.end):.1f} s")

    def count(self) -> int | None:
        """How many frames there will be, by what the file says of itself; None of a stream."""
        if self.path is None or not self.path.is_file():
            return None
        try:
            with opened(self.address, self.name, self.path) as container:
                stream = video_of(container, self.name)
                rate = rate_of(stream)
                frames = stream.frames or None
                if frames is None and rate is not None and container.duration:
                    frames = int(Fraction(container.duration, 1_000_000) * rate)
        except FacetrainError:  # looking at it will say so
            return None
        return self.cut.count(frames, rate)

    def _key_frame(self) -> KeyFrame | None:
        """Where decoding has to begin; None for the file's start."""
        if self.cut.start == 0 or self.path is None or not self.path.is_file():
            return None
        with opened(self.address, self.name, self.path) as container:
            return key_frame_before(self.cut.start, container, video_of(container, self.name))


class _Upright:
    """Pixels of decoded frames. The converter is kept: to set one up takes longer than to convert a frame."""

    def __init__(self) -> None:
        self._converter: VideoReformatter | None = None

    def __call__(self, frame: "VideoFrame") -> Image:
        """(H, W, 3) uint8 BGR of a frame, turned as the file says."""
        if self._converter is None:
            from av.video.reformatter import VideoReformatter

            self._converter = VideoReformatter()
        unsaid = frame.colorspace == _UNSAID
        converted = self._converter.reformat(
            frame,
            format="bgr24",
            src_colorspace=(_BT709 if frame.height >= _HD else _BT601) if unsaid else None,
            dst_color_range=_FULL_RANGE,
        )
        image: Image = np.ascontiguousarray(converted.to_ndarray(), np.uint8)
        turns = round(frame.rotation / 90) % 4  # counterclockwise
        if turns:
            cv2 = opencv()
            turn = (cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)[turns - 1]
            image = cv2.rotate(image, turn)
        return image
