"""What the first bytes of an image file say, before anything is decoded: its size and how it is to be turned.

Pillow reads the headers. OpenCV decodes, but tells no size beforehand, does not turn every format upright, and takes a
JPEG that was cut off for a whole one in some versions.
"""

import io
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np

from facetrain.core.faces import Image

# What is asked of Pillow: TGA has no mark at its start, any bytes could be one, so that its name must say it.
_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "AVIF", "PPM", "JPEG2000", "SUN")
_ORIENTATION = 0x0112
_HDR = re.compile(rb"[-+][XY] (\d{1,9}) [-+][XY] (\d{1,9})\n")
_PAM = re.compile(rb"P7\n.*?WIDTH (\d{1,9})\n.*?HEIGHT (\d{1,9})\n", re.DOTALL)
_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
_END = b"\xff\xd9"
PNG_START = b"\x89PNG\r\n\x1a\n"
_FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))  # JPEG's starts of frame
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_ALONE = (0x01, *range(0xD0, 0xD9))  # JPEG markers without a length: TEM, the eight restarts, the start


@dataclass(frozen=True)
class Header:
    """format: Pillow's name; width, height: pixels as stored; orientation: EXIF's number, 1 for upright.

    progressive: a JPEG whose pixels are known only when all of it was read, so that all of it is kept until then
    """

    format: str
    width: int
    height: int
    orientation: int = 1
    progressive: bool = False

    @property
    def upright(self) -> tuple[int, int]:
        """(width, height) as the image is read and shown, where `orientation` is the file's."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read_header(content: bytes, name: str) -> Header | None:
    """The header of an image file's bytes, None where none is recognised. name: the file's, which alone tells a TGA."""
    formats = ["TGA"] if name.lower().endswith(".tga") else _FORMATS
    if content.startswith(b"#?"):
        return _by_pattern("HDR", _HDR, content, swapped=True)
    if content.startswith(b"P7"):
        return _by_pattern("PAM", _PAM, content, swapped=False)
    if is_jpeg(content):
        return _jpeg_header(content)
    library = pillow()
    try:
        with library.open(io.BytesIO(content), formats=formats) as image:
            kind, (width, height) = str(image.format), image.size
            turned = kind in ("WEBP", "AVIF")  # the formats that not every OpenCV turns itself
            orientation = image.getexif().get(_ORIENTATION, 1) if turned else 1
    except library.DecompressionBombError as error:
        return Header("", int(re.findall(r"\d+", str(error))[0]), 1)  # it tells the pixels, not the sides
    except Exception:  # whatever a damaged header makes Pillow's plugins raise
        return None
    return Header(kind, int(width), int(height), orientation if orientation in range(1, 9) else 1)


def file_header(path: Path) -> Header | None:
    """The header of an image file, with its orientation whatever the format; None where none is recognised.

    Little is read of the file. Raises OSError where it cannot be.
    """
    with path.open("rb") as file:
        start = file.read(4096)
        if start.startswith((b"#?", b"P7")) or path.suffix.lower() == ".tga":
            return read_header(start, path.name)
        file.seek(0)
        try:
            with pillow().open(file, formats=_FORMATS) as image:
                # Without a tag up here a PNG would be decoded whole in search of one behind its pixels, and of a TIFF
                # Pillow gives the size of the turned image.
                tagged = image.format != "TIFF" and (image.format != "PNG" or "exif" in image.info)
                orientation = image.getexif().get(_ORIENTATION, 1) if tagged else 1
                width, height = image.size
                return Header(str(image.format), width, height, orientation if orientation in range(1, 9) else 1)
        except Exception:  # as above
            return None


def _by_pattern(kind: str, pattern: re.Pattern[bytes], content: bytes, swapped: bool) -> Header | None:
    found = pattern.search(content[:4096])
    if found is None:
        return None
    first, second = int(found[1]), int(found[2])
    return Header(kind, *((second, first) if swapped else (first, second)))


def decode_by_pillow(content: bytes, kind: str) -> Image | None:
    """(H, W, 3) uint8 BGR of what an OpenCV may not decode (GIF and AVIF before 4.12, TGA); None where damaged."""
    try:
        with pillow().open(io.BytesIO(content), formats=[kind]) as image:
            return np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])
    except MemoryError:
        raise
    except Exception:  # as above
        return None


def turn_upright(image: Image, orientation: int) -> Image:
    """Undo an EXIF orientation, 1 to 8, of an image (H, W, C)."""
    if orientation >= 5:  # rows and columns are exchanged
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def is_jpeg(content: bytes) -> bool:
    """Whether an image file's bytes are a JPEG's."""
    return content.startswith(b"\xff\xd8\xff")


def jpeg_has_end(content: bytes) -> bool:
    """Whether a JPEG's own end mark is there; that of a thumbnail inside it does not count."""
    # within compressed pixels these two bytes cannot stand
    return content.endswith(_END) or any(marker == _END[1] for marker, _ in _jpeg_markers(content))


def _jpeg_markers(content: bytes) -> Iterator[tuple[int, int]]:
    """A JPEG's markers with the places behind them."""
    place = 2
    while found := _MARKER.search(content, place):
        marker, place = found[1][0], found.end()
        yield marker, place
        if marker not in _ALONE:
            place += int.from_bytes(content[place : place + 2], "big")


def _jpeg_header(content: bytes) -> Header | None:
    """Of a JPEG: its first frame's, which has no limit of size."""
    for marker, place in _jpeg_markers(content):
        if marker in _FRAMES and len(content) >= place + 7:
            height, width = (int.from_bytes(content[place + at : place + at + 2], "big") for at in (3, 5))
            return Header("JPEG", width, height, progressive=marker in _PROGRESSIVE) if width * height else None
    return None


def png_is_whole(content: bytes) -> bool:
    """Whether a PNG's parts follow each other up to its end mark. OpenCV takes their lengths on trust, up to 4 GB."""
    place = len(PNG_START)
    while place + 12 <= len(content):
        length, kind = int.from_bytes(content[place : place + 4], "big"), content[place + 4 : place + 8]
        place += 12 + length
        if kind == b"IEND":
            return place <= len(content)
    return False


def jpeg_tails() -> tuple[bytes, bytes]:
    """Two ends for a JPEG without one. Pixels that differ by which of them follows were never in the file."""
    return _END, b"\x5a\x35\xa9" * 2048 + _END


@cache
def pillow() -> ModuleType:
    """Import PIL.Image, with its warnings off."""
    import PIL.Image

    # Its warnings: about large images, which are judged by the memory there is, and about damage, without a name.
    warnings.filterwarnings("ignore", category=PIL.Image.DecompressionBombWarning)
    warnings.filterwarnings("ignore", module=r"PIL\.")
    module: ModuleType = PIL.Image
    return module
