"""Images from and to files, by way of bytes, so that any path works on any system.

OpenCV is imported here and nowhere else in the light folders except for drawing; `opencv` names what to install
where it cannot be loaded.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetrain.core.errors import DataError, FacetrainError
from facetrain.core.faces import Image
from facetrain.core.files import is_lfs_pointer, write_bytes
from facetrain.core.image_header import (
    PNG_START,
    Header,
    decode_by_pillow,
    is_jpeg,
    jpeg_has_end,
    jpeg_tails,
    png_is_whole,
    read_header,
    turn_upright,
)
from facetrain.core.memory import taking

AnyImage = NDArray[Any]

# Formats that are read by every OpenCV from 4.8 on, or by Pillow where OpenCV does not.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".avif", ".jp2"),
    *(".tga", ".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".pfm", ".hdr", ".sr", ".ras"),
)
# Formats of images that are not read: a folder's files of these are counted and named instead of passed over.
UNREADABLE = (
    *(".heic", ".heif", ".hif", ".jxl", ".svg", ".psd", ".ico", ".exr", ".xcf", ".pcx", ".sgi"),
    *(".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"),
)
MAX_PIXELS = 178_956_970  # Pillow's own limit: 0.5 GB of decoded pixels
_MOST_DECODED = 3 << 29  # bytes that decoding may take: what looks at the image needs some too
_MAX_BYTES = 1 << 30  # a larger file is a film or a disk image: say so before it fills the memory
_COLOUR, _ANY_DEPTH, _AS_STORED, _NOT_TURNED = 1, 2, -1, 128  # OpenCV's IMREAD flags
_REDUCED = {1: _COLOUR, 2: 17, 4: 33, 8: 65}
_GREY_REDUCED = {1: 0, 2: 16, 4: 32, 8: 64}  # OpenCV's IMREAD flags
_ABOUT_ONE = 2.0  # lossy files of 0 to 1 go a little beyond; as 0 to 255 such an image would be black
_READABLE = "readable: JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF, PNM, TGA"
_DEPTHS = (8, 10, 12, 14, 16)  # bits that cameras and scanners use


@cache
def opencv() -> ModuleType:
    """Import cv2, from whichever of its wheels is installed; one clear line where it does not load."""
    # What no header is recognised of is bounded by OpenCV itself, which asks for this when it is first loaded.
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
    try:
        import cv2
    except ImportError as error:
        if "libGL" in str(error) or "libgthread" in str(error) or "libglib" in str(error):
            hint = "on a machine without a screen: pip uninstall -y opencv-python && pip install opencv-python-headless"
        else:
            hint = "pip install --force-reinstall opencv-python (or opencv-python-headless)"
        raise FacetrainError(f"OpenCV does not load: {error}", hint) from error
    # What it says of a damaged image names neither file nor remedy; the errors below do.
    set_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel  # OpenCV 4, 5
    set_level(0)
    module: ModuleType = cv2
    return module


@dataclass(frozen=True)
class Reduced:
    """An image that may have been decoded at a part of its size.

    image: (h, w, 3) uint8 BGR; h and w are height and width divided by `factor`, rounded up
    factor: 1, or of a JPEG 2, 4 or 8
    width, height: pixels of the original, upright
    """

    image: Image
    factor: int
    width: int
    height: int


def decode_image(content: bytes, name: str) -> Image:
    """Decode an image file's bytes to (H, W, 3) uint8 BGR, turned upright as the file says.

    Grey becomes three equal channels, an alpha channel is dropped, of several images the first is taken. Of more than
    8 bits those are kept that the image uses; floating point is taken for 0 to 1, or for 0 to 255. Raises DataError
    naming `name`, also for what was cut off and for what does not fit into memory.
    """
    return decode_reduced(content, name, lambda width, height: 1).image


def decode_reduced(content: bytes, name: str, scale_of: Callable[[int, int], float]) -> Reduced:
    """See `decode_image`; a JPEG is decoded at the smallest of 1/2, 1/4 and 1/8 that is enough, by its own means.

    That takes a part of the time and of the memory, and its pixels are means of the original's, not a choice of them.
    scale_of: the part of its size that an image of (width, height), or of (height, width), is needed at
    """
    if is_lfs_pointer(content):
        raise DataError(f"{name}: a git-lfs pointer, not an image", "run `git lfs pull` where it came from")
    if not content:
        raise DataError(f"{name}: the file is empty")
    header = read_header(content, name)
    width, height = (header.width, header.height) if header else (0, 0)
    factor = 1
    if header is not None and header.format == "JPEG":
        factor = _reduction(scale_of(width, height))
        factor = factor if _shows_its_turn(width, height, factor) else 1
    decoded = width * height // factor**2
    if decoded > MAX_PIXELS:
        raise DataError(f"{name}: {width * height:,} pixels are too many", _most_pixels(factor))
    need = 6 * decoded  # as decoded, and one copy
    if header is not None and header.progressive:
        need += 6 * width * height  # libjpeg holds all of its numbers
    with taking(need, name, (width, height), _MOST_DECODED):
        image = _decode(content, header, factor)
        if image is None:
            raise DataError(f"{name}: {_why_not(content)}", _READABLE if header is None else "copy it again")
        image = _eight_bits(image)
        if header is not None and header.orientation > 1:
            image = turn_upright(image, header.orientation)
    if factor == 1:
        return Reduced(image, 1, image.shape[1], image.shape[0])
    turned = image.shape[1] != -(-width // factor)
    return Reduced(image, factor, *((height, width) if turned else (width, height)))


def _reduction(scale: float) -> int:
    """By how much a JPEG's sides may be divided in decoding so that it keeps this part of them."""
    return next((n for n in (8, 4, 2) if scale * n <= 1), 1)


def _shows_its_turn(width: int, height: int, factor: int) -> bool:
    """Whether a reduced image's sides tell if OpenCV has turned it upright."""
    return width == height or -(-width // factor) != -(-height // factor)


def _most_pixels(factor: int) -> str:
    return f"at most {MAX_PIXELS:,}; scale it down" if factor == 1 else f"at most {factor**2 * MAX_PIXELS:,}"


def _decode(content: bytes, header: Header | None, factor: int) -> AnyImage | None:
    """Pixels of any type in three channels, BGR, or None where they cannot be had."""
    if is_jpeg(content) and not jpeg_has_end(content):
        # Some OpenCVs fill what is missing with whatever the memory held before: another image's face.
        first, second = (_by_opencv(content + tail, _REDUCED[factor]) for tail in jpeg_tails())
        return first if first is not None and second is not None and np.array_equal(first, second) else None
    if content.startswith(PNG_START) and (header is None or not png_is_whole(content)):
        return None
    flags = _COLOUR if header is not None and header.format == "HDR" else _COLOUR | _ANY_DEPTH
    if factor > 1:
        flags = _REDUCED[factor]
    if header is not None and header.orientation > 1:
        flags |= _NOT_TURNED
    image = _by_opencv(content, flags)
    if image is None and header is not None and header.format == "TIFF":
        image = _by_opencv(content, _AS_STORED)  # grey numbers in floating point are given in no other way
    if image is None and header is not None and header.format in ("GIF", "AVIF", "TGA"):
        image = decode_by_pillow(content, header.format)
    if image is None or 0 in image.shape:
        return None
    if image.ndim == 2 or image.shape[2] == 1:
        image = np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    return image[..., :3]


def _by_opencv(content: bytes, flags: int) -> AnyImage | None:
    cv2 = opencv()
    try:
        image: AnyImage | None = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from error
        return None
    return image


def _eight_bits(image: AnyImage) -> Image:
    """Numbers of any type as uint8: of integers the bits that are used, of floating point 0 to 1 or 0 to 255."""
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16:
        used = int(image.max()).bit_length()
        bits = next(bits for bits in _DEPTHS if bits >= used)
        upper: Image = (image >> (bits - 8)).astype(np.uint8)
        return upper
    finite = np.nan_to_num(image.astype(np.float32, copy=False), nan=0, posinf=0, neginf=0)
    highest = float(np.max(finite))
    scale = 255 if highest <= _ABOUT_ONE else 1 if highest <= 255 else 255 / highest
    with np.errstate(over="ignore"):
        rounded: Image = np.clip(finite * np.float32(scale) + np.float32(0.5), 0, 255).astype(np.uint8)
    return rounded


def _why_not(content: bytes) -> str:
    if is_jpeg(content) and not jpeg_has_end(content):
        return "a JPEG that was cut off"
    if content[4:8] == b"ftyp" and content[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"hevc"):
        return "a HEIC image, which is not decoded; convert it to JPEG"
    return "not an image, or a damaged one"


def read_image(path: Path) -> Image:
    """Read an image file, see `decode_image`. Raises DataError."""
    return decode_image(_content(path), str(path))


def read_reduced(path: Path, scale_of: Callable[[int, int], float]) -> Reduced:
    """Read an image file, see `decode_reduced`. Raises DataError."""
    return decode_reduced(_content(path), str(path), scale_of)


def read_small(path: Path, shorter: int) -> NDArray[np.uint8]:
    """Read an image file in grey and reduced, see `decode_small`. Raises DataError."""
    return decode_small(_content(path), str(path), shorter)


def _content(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise DataError(f"{path}: too large for an image ({size >> 20} MiB)", f"at most {_MAX_BYTES >> 20} MiB")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def decode_small(content: bytes, name: str, shorter: int) -> NDArray[np.uint8]:
    """Decode an image to grey (h, w), upright, its shorter side at least `shorter` pixels if the image has as many.

    A JPEG is decoded at an eighth, a quarter or half of its size, which takes that much less time; OpenCV would reduce
    other formats too, but by leaving out pixels. Raises DataError as `decode_image` does.
    """
    header = read_header(content, name) if content and not is_lfs_pointer(content) else None
    whole = jpeg_has_end(content) if is_jpeg(content) else png_is_whole(content) if content[:8] == PNG_START else False
    if header is not None and header.width * header.height <= MAX_PIXELS and (whole or header.format == "WEBP"):
        factor = _reduction(shorter / min(header.width, header.height)) if header.format == "JPEG" else 1
        flags = _GREY_REDUCED[factor] | (_NOT_TURNED if header.orientation > 1 else 0)
        with taking(3 * header.width * header.height, name, (header.width, header.height)):
            grey = _by_opencv(content, flags)
        if grey is None or 0 in grey.shape:
            raise DataError(f"{name}: {_why_not(content)}", "copy it again")
        return turn_upright(grey, header.orientation) if header.orientation > 1 else grey
    image = decode_image(content, name)
    converted: NDArray[np.uint8] = opencv().cvtColor(image, opencv().COLOR_BGR2GRAY)
    return converted


def write_image(path: Path, image: Image, quality: int = 92) -> None:
    """Write an image atomically; the suffix chooses the format. Raises OutputError or DataError."""
    cv2 = opencv()
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix.lower() in (".jpg", ".jpeg") else []
    try:
        done, content = cv2.imencode(path.suffix, image, options)
    except cv2.error as error:
        raise DataError(f"{path}: cannot be encoded in this format", "use .jpg or .png") from error
    if not done:
        raise DataError(f"{path}: cannot be encoded in this format", "a side may be too long for it")
    write_bytes(path, content.tobytes())


def fit_image(image: Image, width: int, height: int) -> tuple[Image, tuple[float, float]]:
    """Scale an image, up or down, so that it just fits into width x height with its sides' ratio kept.

    The side that limits is exact, the other one truncated, at least 1 pixel. Returns the image, not padded, and
    the two factors new / old of width and height, which differ a little by that rounding.
    """
    old_height, old_width = image.shape[:2]
    if width * old_height <= height * old_width:
        new = width, max(old_height * width // old_width, 1)
    else:
        new = max(old_width * height // old_height, 1), height
    if new != (old_width, old_height):
        cv2 = opencv()
        image = cv2.resize(image, new, interpolation=cv2.INTER_LINEAR)
    return image, (new[0] / old_width, new[1] / old_height)
