"""What lies at an address: an image, or a stream.

An address whose path ends as a video's does is opened as a video, and so is what its server calls one; all else at
http and https has to be an image.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from facetrain.core.errors import DataError, InputError
from facetrain.core.fetch import Limits, answer_of
from facetrain.core.images import decode_image, decode_reduced
from facetrain.core.suggest import choices_hint
from facetrain.media.cut import Cut
from facetrain.media.frame import Frame, ScaleOf, Source
from facetrain.media.videos import SUFFIXES, Video

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_STREAMS = ("rtsp", "rtsps", "rtmp", "rtmps", "srt", "udp", "rtp")
_WEB = ("http", "https")
_LISTS = (".m3u8", ".mpd")  # of a video's parts
_VIDEO_KINDS = (
    *("video/", "audio/", "multipart/x-mixed-replace"),
    *("application/vnd.apple.mpegurl", "application/x-mpegurl", "application/dash+xml"),
)
_PLAIN = re.compile(r"[^\w.-]+", re.ASCII)


def is_address(text: str) -> bool:
    """Whether a word of the command line begins as an address does."""
    return _SCHEME.match(text) is not None


def is_stream(address: str) -> bool:
    """Whether an address leads to a video, as far as it can be told from it. Raises InputError for one of no kind."""
    parts = _split(address)
    if parts.scheme in _STREAMS:
        return True
    if parts.scheme in _WEB:
        return Path(file_name(address)).suffix.lower() in (*SUFFIXES, *_LISTS)
    name = without_password(address)
    raise InputError(f"{name}: addresses of this kind are not read", choices_hint(parts.scheme, (*_WEB, *_STREAMS)))


def source_at(address: str, target: Path, cut: Cut) -> Source:
    """What an address leads to. Nothing is asked of the network yet. The target is a source's, see `Source`."""
    name = without_password(address)
    return Video(name, address, target, cut, None) if is_stream(address) else WebImage(name, address, target, cut)


def _split(address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        if not parts.hostname:
            raise ValueError
        _ = parts.port
    except ValueError:
        raise InputError(f"{without_password(address)}: not an address", "such as https://host/photo.jpg") from None
    return parts


def without_password(address: str) -> str:
    """An address as it may be shown and kept."""
    return re.sub(r"(://[^/@:]*):[^/]*@", r"\1:***@", address, count=1)


def file_name(address: str) -> str:
    """A plain file name of an address's last part, or of its host. Raises InputError."""
    parts = _split(address)
    last = unquote(parts.path.rstrip("/").rpartition("/")[2]) or (parts.hostname or "")
    return _PLAIN.sub("_", last).strip("._")[-100:] or "image"


@dataclass(frozen=True)
class WebImage:
    """An image at http or https, or what turns out to be a stream there."""

    name: str
    address: str
    target: Path
    cut: Cut
    limits: Limits = field(default_factory=Limits)
    path: Path | None = None
    moving = False

    def frames(self, scale_of: ScaleOf) -> Iterator[Frame]:
        """The image. Raises DownloadError or DataError."""
        with answer_of(self.address, self.name, self.limits) as answer:
            content = None if answer.kind.startswith(_VIDEO_KINDS) else answer.read()
        if content is None:
            yield from Video(self.name, self.address, self.target, self.cut, None).frames(scale_of)
            return
        try:
            image = decode_reduced(content, self.name, scale_of)
        except DataError as error:
            if answer.kind.startswith("image/") or not answer.kind:
                raise
            raise DataError(f"{self.name}: no image, but {answer.kind[:60]}", "open it in a browser") from error
        yield Frame(image, reread=lambda: decode_image(content, self.name))

    def count(self) -> int:
        """One, unless its server says otherwise."""
        return 1
