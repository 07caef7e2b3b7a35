"""Video files as they are written: the frames' own times, and the sound of the file that they come from."""

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facetrain.core.errors import OutputError
from facetrain.core.faces import Image
from facetrain.core.files import replacing
from facetrain.core.images import fit_image, opencv
from facetrain.media.cut import Cut
from facetrain.media.ffmpeg import reason, require_pyav
from facetrain.media.frame import Frame, Source
from facetrain.media.last import last_duration
from facetrain.media.original import Original, Sound

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
# By encoder: its options. What keeps up with a camera on one core, at a quality whose losses are hardly seen.
# Without frames that are coded out of order (bf): their times and the last one's length come out exactly.
_H264 = {"libx264": {"crf": "19", "preset": "veryfast", "bf": "0"}, "mpeg4": {"qmin": "2", "qmax": "5"}}
_VP = {
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "row-mt": "1", "crf": "24", "b": "0"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "crf": "8", "b": "20M"},
}
_UNIT = Fraction(1, 90_000)  # seconds, where the source has none of its own
_FINEST, _FINEST_MPEG4 = 1_000_000, 65_535  # parts of a second; of what mpeg4 can write
_USUAL_RATE = Fraction(30)
_NEAR = Fraction(1, 2)  # seconds before the end from which on a video was read to its end
_HD, _BT709, _BT601 = 720, 1, 5  # see `videos`
_LIMITED, _FULL = 1, 2


@dataclass(frozen=True)
class _Pending:
    """A frame that is written when it is known how long it lasts. stamp: when it is shown, in units of the stream."""

    stamp: int
    frame: Frame
    pixels: "VideoFrame"


class VideoWriter:
    """Writes beside the path; the file is there when it is whole, or as whole as it was when somebody left."""

    def __init__(self, path: Path, source: Source, first: Frame, pixels: Image) -> None:
        require_pyav(str(path))
        import av

        self._path, self._source = path, source
        self._start = first.time or Fraction(0)
        self._pending: _Pending | None = None
        self._gap: Fraction | None = None  # between the last two frames, in seconds
        self._lasting: dict[int, int] = {}  # stamps of frames in the encoder, and how long they are shown
        self._shape = pixels.shape[:2]
        self._converter = av.video.reformatter.VideoReformatter()
        self._open = True
        self._closing = ExitStack()
        try:
            scratch = self._closing.enter_context(replacing(path))
            self._original = Original(source)
            self._closing.callback(self._original.close)
            try:
                self._begin(scratch, copied=True)
            except av.error.FFmpegError:  # a kind of sound that the container says it takes, and does not
                if self._original.sound is None:
                    raise
                self._begin(scratch, copied=False)
        except (av.error.FFmpegError, OSError) as error:
            raise self._given_up(error) from error

    def write(self, frame: Frame, pixels: Image) -> None:
        """One more frame. pixels: (H, W, 3) uint8 BGR, of any size. Raises OutputError."""
        import av

        if not self._open:
            return
        time = (frame.time or Fraction(0)) - self._start
        stamp = round(time / self._unit)
        pending = self._pending
        try:
            converted = self._converted(pixels)
            if pending is not None:
                stamp = max(stamp, pending.stamp + 1)
                self._gap = (stamp - pending.stamp) * self._unit
                self._encode(pending, stamp - pending.stamp)
            self._pending = _Pending(stamp, frame, converted)
            if self._sound is not None:
                self._sound.until(time)  # and no further: nobody knows whether there will be another frame
        except (av.error.FFmpegError, OSError) as error:
            raise self._given_up(error) from error

    def close(self) -> None:
        """Write what is left, and put the file in its place. Raises OutputError."""
        if not self._open:
            return
        import av

        try:
            self._finish()
            self._container.close()
            self._open = False
            self._closing.close()
        except (av.error.FFmpegError, OSError) as error:
            raise self._given_up(error) from error

    def _begin(self, scratch: Path, *, copied: bool) -> None:
        """Open the file, and write its head."""
        import av

        # An absolute path: FFmpeg takes what stands before a colon for a protocol.
        container = av.open(str(scratch.absolute()), "w", format=CONTAINERS[self._path.suffix.lower()])
        self._container = container
        encoders = _VP if container.format.name == "webm" else _H264
        encoder = next((name for name in encoders if name in av.codecs_available), None)
        if encoder is None:
            raise OutputError(f"{self._path}: this FFmpeg has none of the encoders {', '.join(encoders)}")
        self._rate = (self._original.rate or _USUAL_RATE).limit_denominator(1001)
        self._unit = self._original.unit or _UNIT
        if self._unit.numerator != 1 or self._unit.denominator > (_FINEST_MPEG4 if encoder == "mpeg4" else _FINEST):
            self._unit = _UNIT if encoder != "mpeg4" else Fraction(1, 60_000)
        stream: VideoStream = container.add_stream(encoder, rate=self._rate, options=encoders[encoder])  # type: ignore[assignment]
        height, width = self._shape
        context = stream.codec_context
        context.width, context.height = width + width % 2, height + height % 2
        context.pix_fmt = "yuv420p"
        context.time_base = self._unit
        self._colours = _BT709 if height >= _HD else _BT601
        context.colorspace, context.color_range = self._colours, _LIMITED
        if self._original.aspect is not None:
            aspect = self._original.aspect
            context.sample_aspect_ratio = aspect if self._original.width == width else 1 / aspect  # turned upright
        self._stream = stream
        self._sound = None
        if self._original.sound is not None:
            self._sound = Sound(self._original, self._start, container, copied=copied)
        container.start_encoding()

    def _converted(self, pixels: Image) -> "VideoFrame":
        """Pixels as the encoder wants them: of the first frame's size, with even sides."""
        import av

        height, width = self._shape
        if pixels.shape[:2] != self._shape:
            pixels, _ = fit_image(pixels, width, height)
            down, right = height - pixels.shape[0], width - pixels.shape[1]
            pixels = _padded(pixels, (down // 2, down - down // 2, right // 2, right - right // 2), black=True)
        pixels = _padded(pixels, (0, height % 2, 0, width % 2), black=False)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="bgr24")
        return self._converter.reformat(
            frame,
            format="yuv420p",
            dst_colorspace=self._colours,
            src_color_range=_FULL,
            dst_color_range=_LIMITED,
        )

    def _encode(self, pending: _Pending, lasting: int) -> None:
        pending.pixels.pts = pending.stamp
        pending.pixels.time_base = self._unit
        self._lasting[pending.stamp] = lasting
        self._mux(pending.pixels)

    def _mux(self, frame: "VideoFrame | None") -> None:
        for packet in self._stream.encode(frame):
            # Encoders pass the times on, but not how long the last one lasts.
            lasting = self._lasting.pop(packet.pts if packet.pts is not None else -1, None)
            if lasting is not None:
                packet.duration = lasting
            self._container.mux_one(packet)

    def _finish(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            lasting = last_duration(self._source, pending.frame, self._gap, self._original.end)
            self._encode(pending, max(round(lasting / self._unit), 1))
            if self._sound is not None:
                self._sound.finish(self._sound_end(pending.stamp * self._unit + lasting))
        self._mux(None)

    def _sound_end(self, end: Fraction) -> Fraction | None:
        """Where the sound ends, in seconds of what is written: with the last frame; None: with the source's.

        That is where all frames were written, since a file's sound may end a little after them.
        """
        whole = self._original.end
        if whole is not None and end + self._start >= whole - _NEAR and getattr(self._source, "cut", Cut()).end is None:
            return None
        return end

    def _given_up(self, error: Exception) -> OutputError:
        """Remove what was begun. Gives the error that says why."""
        import av

        self._open = False
        if hasattr(self, "_container"):
            with suppress(av.error.FFmpegError, OSError):
                self._container.close()
        with suppress(Exception):
            self._closing.__exit__(type(error), error, error.__traceback__)
        return OutputError(f"{self._path}: cannot be written: {reason(error)}", "is the disk full?")


def _padded(pixels: Image, sides: tuple[int, int, int, int], *, black: bool) -> Image:
    """sides: pixels that are added above, below, to the left, to the right: black, or as those at the edge are."""
    if not any(sides):
        return pixels
    cv2 = opencv()
    image: Image = cv2.copyMakeBorder(pixels, *sides, cv2.BORDER_CONSTANT if black else cv2.BORDER_REPLICATE)
    return image
