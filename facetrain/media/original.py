"""What a written video takes over from the file that it is made of: the unit of its times, its shape, its sound."""

from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from facetrain.core.errors import FacetrainError
from facetrain.media.ffmpeg import fraction, opened, rate_of, video_of, zero_of
from facetrain.media.frame import Source
from facetrain.media.videos import Video

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet

_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_OPUS_RATE = 48000
_BIT_RATE = 80_000  # a channel: what is coded a second time loses little that can be heard


class Original:
    """unit: of its times, in seconds; rate: frames a second; aspect: of a pixel; end: seconds; sound: its first one.

    All None for what is no video file: a camera, a stream, an animation.
    """

    def __init__(self, source: Source) -> None:
        self.unit: Fraction | None = None
        self.rate: Fraction | None = None
        self.end: Fraction | None = None
        self.aspect: Fraction | None = None
        self.width = 0
        self.zero = Fraction(0)
        self.sound: AudioStream | None = None
        self.container: InputContainer | None = None
        self._closing = ExitStack()
        if isinstance(source, Video) and source.path is not None and source.path.is_file():
            try:
                self._open(source)
            except FacetrainError:  # it has just been read; whoever reads it says what is wrong
                self.close()

    def close(self) -> None:
        """Close the file."""
        self.sound = None
        self._closing.close()

    def _open(self, source: Video) -> None:
        self.container = self._closing.enter_context(opened(source.address, source.name, source.path))
        video = video_of(self.container, source.name)
        self.unit, self.rate = fraction(video.time_base), rate_of(video)
        self.zero = zero_of(video) or Fraction(0)
        self.width = video.width
        self.aspect = fraction(video.sample_aspect_ratio)
        if video.duration and self.unit is not None:
            self.end = video.duration * self.unit
        sounds = [one for one in self.container.streams.audio if one.codec_context is not None]
        self.sound = sounds[0] if sounds else None


class Sound:
    """The sound of a file, as far as it belongs to the written part, copied into another, or coded anew."""

    def __init__(self, original: Original, start: Fraction, output: "OutputContainer", *, copied: bool) -> None:
        """start: of the part, in seconds. copied: packets as they are, where the container takes their kind."""
        assert original.container is not None and original.sound is not None
        self._source, self._start = original.sound, start
        self._output = output
        self._begin = original.zero + start  # on the file's clock
        name, mp4 = self._source.codec_context.name, output.format.name in ("mp4", "mov")
        # MP4 takes PCM at the start, and refuses more than one channel of it at the end, with all of the video.
        self._copied = copied and name in output.supported_codecs and not (mp4 and name.startswith("pcm_"))
        # MP4 tells players to pass over what lies before the start; in Matroska it would move all of the video.
        self._early = start == 0 or mp4
        self._target: Any = output.add_stream_from_template(self._source) if self._copied else self._encoder()
        self._packets: Iterator[Packet[AudioStream]] = self._read(original.container)
        self._next = next(self._packets, None)

    def until(self, end: Fraction | None) -> None:
        """Write what begins before `end`, in seconds of the written part; None: all there is."""
        import av

        while self._next is not None and (end is None or self._when(self._next) < end):
            packet = self._next
            try:
                self._next = next(self._packets, None)
            except av.error.FFmpegError:  # a damaged file, which its reader tells
                self._next = None
            if self._copied:
                self._copy(packet)
            else:
                self._encode(packet, end)

    def finish(self, end: Fraction | None) -> None:
        """Write all up to the end of the part."""
        self.until(end)
        if not self._copied:
            self._output.mux(self._target.encode(None))

    def _encoder(self) -> Any:
        source = self._source.codec_context
        opus = self._output.format.name == "webm"
        rate = _OPUS_RATE if opus or source.sample_rate not in _AAC_RATES else source.sample_rate
        stream = self._output.add_stream("libopus" if opus else "aac", rate=rate)
        channels = 1 if source.layout.nb_channels == 1 else 2
        stream.codec_context.layout = "mono" if channels == 1 else "stereo"
        stream.codec_context.bit_rate = channels * _BIT_RATE
        return stream

    def _read(self, container: "InputContainer") -> "Iterator[Packet[AudioStream]]":
        """Packets that sound in the part, from its start on."""
        unit = fraction(self._source.time_base) or Fraction(1, 1000)
        if self._start > 0 or not self._copied:  # it may have been read for copying, which then failed
            first = self._source.start_time or 0  # before it AVI knows no place, and refuses
            container.seek(max(int((self._begin - 1) / unit), first), stream=self._source)
        for packet in container.demux(self._source):
            if packet.size and packet.pts is not None:
                when = self._when(packet)
                lasts = (packet.duration or 0) * unit
                if when >= 0 or (self._early and (self._start == 0 or when + lasts > 0)):
                    yield packet

    def _when(self, packet: "Packet[AudioStream]") -> Fraction:
        """Seconds of the written part."""
        unit = fraction(packet.time_base) or Fraction(1, 1000)
        return (packet.pts or 0) * unit - self._begin

    def _copy(self, packet: "Packet[AudioStream]") -> None:
        offset = round(self._begin / (fraction(packet.time_base) or Fraction(1, 1000)))
        packet.pts = (packet.pts or 0) - offset
        packet.dts = packet.pts if packet.dts is None else packet.dts - offset
        packet.stream = self._target
        self._output.mux_one(packet)

    def _encode(self, packet: "Packet[AudioStream]", end: Fraction | None) -> None:
        import av

        try:
            frames = self._source.codec_context.decode(packet)
        except av.error.FFmpegError:  # damaged: it is silent there
            return
        for frame in frames:
            unit = fraction(frame.time_base)
            if unit is None or frame.pts is None:
                continue
            when = frame.pts * unit - self._begin
            if when >= 0 and (end is None or when < end):
                frame.pts = round(when / unit)
                self._output.mux(self._target.encode(frame))
