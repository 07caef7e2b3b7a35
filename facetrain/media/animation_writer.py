"""Animated GIF, WebP and AVIF as they are written, by Pillow."""

import io
import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from facetrain.core.errors import OutputError, UsageError
from facetrain.core.faces import Image
from facetrain.core.files import write_bytes
from facetrain.core.image_header import pillow
from facetrain.core.images import fit_image
from facetrain.media.frame import Frame, Source
from facetrain.media.last import last_duration

# By suffix: Pillow's name, its options, and the parts of a second that the format counts in.
_KINDS: dict[str, tuple[str, dict[str, Any], int]] = {
    ".gif": ("GIF", {}, 100),
    ".webp": ("WEBP", {"quality": 85, "method": 2}, 1000),
    ".avif": ("AVIF", {"quality": 75, "speed": 8}, 1000),
}
SUFFIXES = frozenset(_KINDS)
_SHORTEST_GIF = 2  # hundredths of a second; browsers show a frame of less for ten
_MOST = 1 << 30  # bytes of pixels


class AnimationWriter:
    """Keeps all frames until the end, since Pillow wants them together; too many of them are an error."""

    def __init__(self, path: Path, source: Source, first: Frame, pixels: Image) -> None:
        library = pillow()
        library.init()
        self._kind, self._options, self._parts = _KINDS[path.suffix.lower()]
        if self._kind not in library.SAVE_ALL:
            raise UsageError(f"{path}: this Pillow writes no animated {self._kind}", "name a .gif, or a .mp4")
        self._path, self._source = path, source
        self._start = first.time or Fraction(0)
        self._shape = pixels.shape[:2]
        self._images: list[Any] = []
        self._stamps: list[int] = []
        self._last = first
        self._gap: Fraction | None = None
        self._open = True

    def write(self, frame: Frame, pixels: Image) -> None:
        """One more frame. pixels: (H, W, 3) uint8 BGR, of any size. Raises OutputError."""
        if not self._open:
            return
        if self._images and frame.time is not None and self._last.time is not None:
            self._gap = frame.time - self._last.time
        stamp = round(((frame.time or Fraction(0)) - self._start) * self._parts)
        self._last = frame
        least = _SHORTEST_GIF if self._kind == "GIF" else 1
        if self._stamps and stamp - self._stamps[-1] < least:
            return
        height, width = self._shape
        if (len(self._images) + 1) * 3 * height * width > _MOST:
            self._open = False
            self._images.clear()
            raise OutputError(f"{self._path}: too many frames for an animated image", "name a .mp4, or use `every`")
        if pixels.shape[:2] != self._shape:
            fitted, _ = fit_image(pixels, width, height)
            pixels = np.zeros((height, width, 3), np.uint8)
            top, left = (height - fitted.shape[0]) // 2, (width - fitted.shape[1]) // 2
            pixels[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
        self._images.append(pillow().fromarray(np.ascontiguousarray(pixels[..., ::-1])))
        self._stamps.append(stamp)

    def close(self) -> None:
        """Write the file. Raises OutputError."""
        if not self._open or not self._images:
            return
        self._open = False
        end = (self._last.time or Fraction(0)) - self._start + last_duration(self._source, self._last, self._gap, None)
        stamps = [*self._stamps, max(round(end * self._parts), self._stamps[-1] + 1)]
        durations = [(after - before) * 1000 // self._parts for before, after in itertools.pairwise(stamps)]
        images, self._images = self._images, []
        content = io.BytesIO()
        options = {"save_all": True, "append_images": images[1:], "duration": durations, "loop": 0, **self._options}
        try:
            images[0].save(content, self._kind, **options)
        except (OSError, ValueError) as error:  # such as a side that is too long for the format
            raise OutputError(f"{self._path}: cannot be written: {error}", "name a .mp4") from error
        write_bytes(self._path, content.getvalue())
