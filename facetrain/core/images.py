"""Pictures from and to files, by way of bytes, so that any path works on any system.

OpenCV is imported here and nowhere else in the light folders except for drawing; `opencv` names what to install
where it cannot be loaded.
"""

from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np

from facetrain.core.errors import DataError, FacetrainError
from facetrain.core.faces import Image
from facetrain.core.files import is_lfs_pointer, write_bytes

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif")
_MAX_PIXELS = 1 << 30  # OpenCV's own default limit, stated so that the error below can name it
_MAX_BYTES = 1 << 30  # a larger file is a film or a disk image: say so before it fills the memory


@cache
def opencv() -> ModuleType:
    """Import cv2, from whichever of its wheels is installed; one clear line where it does not load."""
    try:
        import cv2
    except ImportError as error:
        if "libGL" in str(error) or "libgthread" in str(error) or "libglib" in str(error):
            hint = "on a machine without a screen: pip uninstall -y opencv-python && pip install opencv-python-headless"
        else:
            hint = "pip install --force-reinstall opencv-python (or opencv-python-headless)"
        raise FacetrainError(f"OpenCV does not load: {error}", hint) from error
    # What it says of a damaged picture names neither file nor remedy; the errors below do.
    set_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel  # OpenCV 4, 5
    set_level(0)
    module: ModuleType = cv2
    return module


def decode_image(content: bytes, name: str) -> Image:
    """Decode a picture file's bytes to (H, W, 3) uint8 BGR, turned upright by its EXIF mark.

    Grey becomes three equal channels, of 16 bits the upper 8 stay, an alpha channel is dropped. Raises DataError
    naming `name`.
    """
    cv2 = opencv()
    if is_lfs_pointer(content):
        raise DataError(f"{name}: a git-lfs pointer, not a picture", "run `git lfs pull` where it came from")
    if not content:
        raise DataError(f"{name}: the file is empty")
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise DataError(f"{name}: cannot be decoded: {error.err}", f"at most {_MAX_PIXELS} pixels") from error
    if image is None:
        raise DataError(f"{name}: not a picture, or a damaged one", "readable: JPEG, PNG, WebP, BMP, TIFF, PNM")
    decoded: Image = image
    return decoded


def read_image(path: Path) -> Image:
    """Read a picture file, see `decode_image`. Raises DataError."""
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise DataError(f"{path}: too large for a picture ({size >> 20} MiB)", f"at most {_MAX_BYTES >> 20} MiB")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return decode_image(content, str(path))


def write_image(path: Path, image: Image, quality: int = 92) -> None:
    """Write a picture atomically; the suffix chooses the format. Raises OutputError or DataError."""
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
    """Scale a picture, up or down, so that it just fits into width x height with its sides' ratio kept.

    The side that limits is exact, the other one truncated, at least 1 pixel. Returns the picture, not padded, and
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
