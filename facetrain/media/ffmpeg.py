"""FFmpeg by way of PyAV, which is an extra: what it opens, and how its errors read.

PyAV and not OpenCV's VideoCapture: that one tells no exact times (all frames at one rate, so that a phone's video
comes out with another length), takes damage for the end of the video, and knows no sound.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from facetrain.core.errors import DataError, InputError
from facetrain.core.images import MAX_PIXELS

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

INSTALL = "pip install 'facetrain[video]'"
_SILENCE = 30.0  # seconds without data after which a stream has ended
_FASTEST = 1000  # frames a second; an Ogg whose clock ticks faster has its ticks counted as frames
# A stream never reads this machine's files, whatever a list in it says; a file never reads from the network.
_NETWORK = "http,https,httpproxy,tcp,tls,udp,rtp,rtsp,rtsps,srtp,rtmp,rtmps,rtmpt,mmsh,mmst,srt,crypto,data"
_LISTS = frozenset(("hls", "concat", "dash", "sdp", "image2", "tty"))  # what only names files, and text as pictures
_STREAMED = frozenset(("hls", "dash"))  # lists that streams are made of


def require_pyav(name: str) -> None:
    """Raise InputError that names what needs PyAV, and the line that installs it."""
    try:
        import av
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError)
        raise InputError(
            f"{name}: videos need PyAV, which {'is missing' if missing else 'does not load'}", INSTALL
        ) from (None if missing else error)
    av.logging.set_level(None)  # what FFmpeg says of a damaged file names neither it nor a remedy


def reason(error: Exception) -> str:
    """What FFmpeg says, without its numbers."""
    return str(getattr(error, "strerror", None) or error)


class Rational(Protocol):
    """Two whole numbers: a Fraction, or from PyAV 19 on a type of its own."""

    @property
    def numerator(self) -> int: ...  # noqa: D102

    @property
    def denominator(self) -> int: ...  # noqa: D102


def fraction(value: Rational | None) -> Fraction | None:
    """A rate or a unit of time; None where there is none, for which PyAV has 0 from 19 on."""
    return Fraction(value.numerator, value.denominator) if value else None


@contextmanager
def opened(address: str, name: str, path: Path | None) -> "Iterator[InputContainer]":
    """A video file or stream, closed in the end. path: the file. Raises DataError that says why it cannot be read."""
    require_pyav(name)
    import av

    options = {"max_pixels": str(MAX_PIXELS), "protocol_whitelist": "file" if path is not None else _NETWORK}
    timeout = None
    if path is None:
        timeout = _SILENCE
        if address.lower().startswith("rtsp"):
            options["rtsp_transport"] = "tcp"  # by UDP frames arrive in pieces
    # From 19 on PyAV reads names and comments in any encoding; before, it has to be asked.
    lenient: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
    try:
        container = av.open(address, "r", options=options, timeout=timeout, **lenient)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise _not_opened(error, name, path) from error
    with container:
        if container.format.name in (_LISTS if path is not None else _LISTS - _STREAMED):
            raise DataError(f"{name}: not a video, but {container.format.long_name}")
        yield container


def _not_opened(error: Exception, name: str, path: Path | None) -> DataError:
    import av

    if isinstance(error, av.error.InvalidDataError | av.error.EOFError):
        return DataError(f"{name}: not a video, or one that is damaged or was cut off", "copy it again")
    if isinstance(error, av.error.ExitError | av.error.TimeoutError):
        return DataError(f"{name}: no answer for {_SILENCE:g} s")
    return DataError(f"{name}: cannot be {'read' if path is not None else 'reached'}: {reason(error)}")


def lost(error: Exception, name: str) -> DataError | None:
    """The end of a stream that has gone silent or away; None for damage that reading may go on behind."""
    import av

    if isinstance(error, av.error.ExitError | av.error.TimeoutError):
        return DataError(f"{name}: no data for {_SILENCE:g} s")
    if isinstance(error, OSError):
        return DataError(f"{name}: broke off: {reason(error)}")
    return None


def video_of(container: "InputContainer", name: str) -> "VideoStream":
    """The video among a file's streams, which no cover of a record is. Raises DataError where there is none."""
    from av.stream import Disposition

    films = [one for one in container.streams.video if Disposition.attached_pic not in one.disposition]
    if not films:
        only = ", only sound" if container.streams.audio else ""
        raise DataError(f"{name}: no video in this file{only}")
    stream = max(films, key=lambda one: (Disposition.default in one.disposition, -one.index))
    if stream.codec_context is None:
        raise DataError(f"{name}: a video of a kind that is not decoded here", "convert it to MP4 with H.264")
    if stream.width * stream.height > MAX_PIXELS:
        raise DataError(
            f"{name}: frames of {stream.width}x{stream.height} pixels are too large", f"at most {MAX_PIXELS:,}"
        )
    stream.codec_context.options = {**stream.codec_context.options, "max_pixels": str(MAX_PIXELS)}
    return stream


def zero_of(stream: "VideoStream") -> Fraction | None:
    """When its first frame is shown, in seconds of the file's clock; None where it does not say."""
    unit = fraction(stream.time_base)
    return None if unit is None or stream.start_time is None else stream.start_time * unit


def rate_of(stream: "VideoStream") -> Fraction | None:
    """Frames a second, on average, as the file tells or FFmpeg guesses."""
    average, guessed = fraction(stream.average_rate), fraction(stream.guessed_rate)
    return average if average is not None and (average <= _FASTEST or guessed is None) else guessed
