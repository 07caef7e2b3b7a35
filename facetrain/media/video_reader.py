"""One pass through a video: its frames as decoded, their numbers and times, and what of it was damaged."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from facetrain.core.errors import DataError
from facetrain.core.words import count
from facetrain.media.ffmpeg import fraction, lost, rate_of, zero_of
from facetrain.media.key_frames import KeyFrame

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_USUAL_RATE = Fraction(25)
_NEW_START = Fraction(1, 4)  # seconds that the clock goes back by where videos were joined; less is a slip of it
_MISSING = Fraction(1, 2)  # seconds by which a video may end early
_MOST_FAILURES = 100  # without a packet between them: nothing follows any more


@dataclass(frozen=True)
class Shot:
    """A decoded frame, with number, time and duration as of `Frame`."""

    pixels: "VideoFrame"
    number: int
    time: Fraction
    duration: Fraction | None


class VideoReader:
    """end: seconds at which the last frame that was read ends."""

    def __init__(self, container: "InputContainer", stream: "VideoStream", name: str, *, live: bool) -> None:
        self.end = Fraction(0)
        self._container = container
        self._stream = stream
        self._name = name
        self._live = live
        self._unit = fraction(stream.time_base) or Fraction(1, 90_000)
        self._step = 1 / (rate_of(stream) or _USUAL_RATE)
        self._zero = zero_of(stream)
        self._last: Fraction | None = None
        self._shift = Fraction(0)  # seconds, of what was joined behind a first video
        self._latest = Fraction(0)  # seconds at which a packet of any stream ends
        self._packets = 0
        self._partial = False  # whether the video's start was passed over
        self._damaged = 0  # places
        self._damaged_at: Fraction | None = None
        self._whole = True  # what was decoded last
        self._through = False
        # several frames at once on several cores, which gives the first later: of a stream that is not wanted
        stream.thread_type = "SLICE" if live else "AUTO"

    def shots(self, start: KeyFrame | None) -> Generator[Shot, None, None]:
        """All frames from a key frame on. Raises DataError where a stream breaks off; see `check` for the rest.

        How long a frame lasts, the next one says: what the file tells belongs to frames in the order of decoding.
        """
        self._partial = start is not None
        before: Shot | None = None
        try:
            for shot in self._numbered(start):
                if before is not None:
                    yield replace(before, duration=shot.time - before.time)
                before = None if self._live else shot
                if self._live:  # nobody waits for the next one
                    yield shot
        except DataError:
            if before is not None:
                yield before
            raise
        if before is not None:
            yield before

    def _numbered(self, start: KeyFrame | None) -> Iterator[Shot]:
        number = 0
        for place, frame in enumerate(self._from(start) if start is not None else self._decoded()):
            if place == 0 and start is not None:
                number = start.number(frame.pts) if frame.pts is not None else 0
            time = self._time(frame)
            duration = frame.duration * self._unit if frame.duration else None
            self.end = time + (duration or self._step)
            yield Shot(frame, number, time, duration)
            number += 1

    def check(self) -> None:
        """Raise DataError for damage, for a video that ends before its time, and for one without a frame."""
        if self._last is None:
            raise DataError(f"{self._name}: no frame of this video can be decoded", "copy it again")
        if self._damaged:
            at = f" from {float(self._damaged_at or 0):.1f} s on"
            raise DataError(f"{self._name}: {count(self._damaged, 'place')} could not be decoded{at}", "copy it again")
        length = self._length() if self._through else None
        if length is not None and max(self.end, self._latest) < length - _MISSING - self._step:
            raise DataError(
                f"{self._name}: cut off at {float(self.end):.1f} s of {float(length):.1f} s", "copy it again"
            )

    def _length(self) -> Fraction | None:
        """Seconds that the file says it lasts, where it knows and does not guess."""
        kind = self._container.format.name
        if kind.startswith("mov") and self._stream.duration:
            return self._stream.duration * self._unit
        if kind.startswith("matroska") and self._container.duration:
            return Fraction(self._container.duration, 1_000_000)
        # an AVI counts frames that were dropped, too
        if kind == "avi" and not self._partial and self._packets < self._stream.frames * 49 // 50 - 1:
            return self._stream.frames * self._step
        return None

    def _time(self, frame: "VideoFrame") -> Fraction:
        """Seconds from the video's start, later than the frame before whatever the file says."""
        stamp = frame.pts if frame.pts is not None else frame.dts
        if stamp is None:
            time = Fraction(0) if self._last is None else self._last + self._step
        else:
            if self._zero is None or (self._last is None and stamp * self._unit < self._zero):
                self._zero = stamp * self._unit
            time = stamp * self._unit - self._zero + self._shift
            if self._last is not None and time < self._last - _NEW_START:
                self._shift += self.end - time
                time = self.end
        if self._last is not None and time <= self._last:
            time = self._last + self._unit
        self._last = time
        return time

    def _from(self, start: KeyFrame) -> Iterator["VideoFrame"]:
        """Frames from a key frame on; all of them where it is not found, which some files do not allow."""
        self._container.seek(start.decoded, stream=self._stream)
        begun = False
        for frame in self._decoded():
            if not begun and frame.pts is not None and frame.pts > start.shown:
                break
            begun = begun or frame.key_frame  # before it: frames that need what was passed over
            if begun:
                yield frame
        if not begun:
            self._container.seek(self._stream.start_time or 0, stream=self._stream)
            self._damaged, self._through = 0, False
            yield from self._decoded()

    def _decoded(self) -> Iterator["VideoFrame"]:
        """Whatever can be decoded, with the damaged places counted."""
        import av

        for packet in self._read():
            if packet.stream.index != self._stream.index:
                continue
            try:
                frames = self._stream.codec_context.decode(packet)
            except av.error.EOFError:
                return
            except av.error.FFmpegError as error:
                if isinstance(error, MemoryError):
                    raise
                self._damage(packet.pts if packet.pts is not None else packet.dts)
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self._damage(frame.pts)
                else:
                    self._whole = True
                yield frame
        self._through = True

    def _read(self) -> Iterator["Packet[Stream]"]:
        """Packets; reading goes on behind what cannot be read. Raises DataError where a stream breaks off."""
        import av

        # The length that Matroska tells is that of its longest stream.
        others = self._container.streams.audio if self._container.format.name.startswith("matroska") else ()
        failures = 0
        while failures < _MOST_FAILURES:
            try:
                for packet in self._container.demux(self._stream, *others):
                    failures = 0
                    self._note(packet)
                    yield packet
                return
            except av.error.FFmpegError as error:
                broken = lost(error, self._name)
                if broken is not None:
                    raise broken from error
                failures += 1
                self._damage(None)

    def _note(self, packet: "Packet[Stream]") -> None:
        if packet.size:
            self._packets += packet.stream.index == self._stream.index
            if packet.pts is not None and packet.time_base is not None:
                unit = fraction(packet.time_base) or Fraction(0)
                self._latest = max(self._latest, (packet.pts + (packet.duration or 0)) * unit - (self._zero or 0))

    def _damage(self, stamp: int | None) -> None:
        """Damaged frames one after the other are one place."""
        if self._whole:
            self._damaged += 1
            if self._damaged_at is None:
                known = stamp is not None and self._zero is not None
                self._damaged_at = stamp * self._unit - self._zero if known else self.end  # type: ignore[operator]
        self._whole = False
