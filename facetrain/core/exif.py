"""What a photograph says of itself, kept in part: date, camera, exposure, place; nothing that could hold a picture.

EXIF may hold the photograph again, small and uncovered: as its thumbnail (a second directory), inside the maker's note,
as further previews. So known fields of one number or a short text are kept, and all else is left out. XMP, IPTC, colour
profiles and comments are no EXIF, and are left out too.
"""

import io
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from facetrain.core.errors import DataError
from facetrain.core.faces import Image
from facetrain.core.files import write_bytes
from facetrain.core.image_header import pillow
from facetrain.core.inert import for_terminal

if TYPE_CHECKING:
    from PIL.Image import Exif

_WRITTEN: dict[str, dict[str, Any]] = {
    ".jpg": {"format": "JPEG"},
    ".jpeg": {"format": "JPEG"},
    ".png": {"format": "PNG", "compress_level": 1},
    ".webp": {"format": "WEBP", "lossless": True, "method": 0},
    ".tif": {"format": "TIFF"},  # not compressed: libtiff writes no inner directories, and Pillow alone no compression
    ".tiff": {"format": "TIFF"},
}
_READ = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "MPO")
_ORIENTATION, _DETAILS, _PLACE = 0x0112, 0x8769, 0x8825
# Make, model, resolution, software, date, artist, copyright; a description is written by people, who name others.
_MAIN = frozenset((0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x8298))
# Exposure, dates, lens and the like by their numbers: without notes of makers and users (0x927C, 0x9286), where the
# subject is (0x9214, 0xA214: of an image that was not turned), the sides of the image, and links to other files.
_DETAIL = frozenset(
    {0x829A, 0x829D, 0x8822, 0x8824, 0x8827, 0x9003, 0x9004, 0x9290, 0x9291, 0x9292, 0xA001, 0xA20E, 0xA20F, 0xA210}
    | {0xA215, 0xA217, 0xA300, 0xA301, 0xA40C, 0xA432, 0xA433, 0xA434}
    | {*range(0x8830, 0x8836), *range(0x9010, 0x9013), *range(0x9201, 0x920B), *range(0xA401, 0xA40B)}
)
_POSITION = frozenset(range(0x1F))
_MOST_BYTES = 256  # of a field

_log = logging.getLogger(__name__)


def holds_exif(path: Path) -> bool:
    """Whether `write_with_exif` knows the format of a path."""
    return path.suffix.lower() in _WRITTEN


def exif_of(path: Path) -> "Exif | None":
    """What may be kept of an image file's EXIF, for pixels that have been turned upright; None where it has none."""
    from PIL import UnidentifiedImageError

    try:
        with pillow().open(path, formats=_READ) as image:
            read = image.getexif()
            kept = _kept(read)
    except MemoryError:
        raise
    except UnidentifiedImageError:  # of a kind that holds none, such as GIF
        return None
    except Exception:  # whatever a damaged directory makes Pillow raise
        _log.warning("%s", for_terminal(f"{path}: its EXIF is damaged, and is not kept"))
        return None
    return kept if len(kept) > 1 else None


def _kept(read: "Exif") -> "Exif":
    exif: Exif = pillow().Exif()
    exif[_ORIENTATION] = 1  # the pixels are turned
    for tag in _MAIN & read.keys():
        if _is_small(read[tag]):
            exif[tag] = read[tag]
    for pointer, known in ((_DETAILS, _DETAIL), (_PLACE, _POSITION)):
        inner = {tag: value for tag, value in read.get_ifd(pointer).items() if tag in known and _is_small(value)}
        if inner:
            exif[pointer] = inner
    whole: Exif = pillow().Exif()
    whole.load(exif.tobytes())  # TIFF's writer takes inner directories from bytes alone
    return whole


def _is_small(value: object) -> bool:
    """Whether a value is a number, a few of them, or a short text."""
    if isinstance(value, (str, bytes)):
        return len(value) <= _MOST_BYTES
    if isinstance(value, tuple):
        return len(value) <= 8 and all(not isinstance(part, (str, bytes, tuple)) for part in value)
    return isinstance(value, (int, float)) or hasattr(value, "numerator")


def write_with_exif(path: Path, image: Image, exif: "Exif", quality: int) -> None:
    """Write an image (H, W, 3) uint8 BGR atomically with EXIF. The path's suffix is one of those that hold it.

    quality: of JPEG. Raises OutputError or DataError.
    """
    stream = io.BytesIO()
    options = dict(_WRITTEN[path.suffix.lower()])
    if options["format"] == "JPEG":
        options["quality"] = quality
    try:
        picture = pillow().fromarray(np.ascontiguousarray(image[..., ::-1]))
        picture.save(stream, exif=exif, **options)
    except (ValueError, OSError, TypeError, OverflowError) as error:
        raise DataError(f"{path}: cannot be encoded with its EXIF: {error}", "leave out `keep_exif`") from error
    write_bytes(path, stream.getvalue())
