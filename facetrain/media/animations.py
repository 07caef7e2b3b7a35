"""Animated GIF, WebP, AVIF and PNG, by Pillow, which comes along."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from facetrain.core.errors import DataError
from facetrain.core.faces import Image
from facetrain.core.image_header import PNG_START, pillow, turn_upright
from facetrain.core.images import MAX_PIXELS, Reduced
from facetrain.media.cut import Cut
from facetrain.media.frame import Frame, ScaleOf

SUFFIXES = frozenset((".gif", ".webp", ".avif", ".png", ".apng"))
_FORMATS = ("GIF", "WEBP", "AVIF", "PNG")
_UNTOLD = Fraction(1, 10)  # seconds that browsers show a frame that says 0
_START = 4096  # bytes, in which a PNG says that it is animated
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Animation:
    """An image file with several frames, which have times."""

    path: Path
    target: Path
    cut: Cut = Cut()  # noqa: RUF009 (frozen)
    moving = True

    @property
    def name(self) -> str:
        """Its path."""
        return str(self.path)

    def frames(self, scale_of: ScaleOf) -> Iterator[Frame]:
        """Its frames, decoded one by one. Raises DataError, after those before a damaged one."""
        yield from self.cut.of(self._frames())

    def count(self) -> int | None:
        """How many it says to have."""
        try:
            with pillow().open(self.path, formats=_FORMATS) as file:
                return self.cut.count(int(getattr(file, "n_frames", 1)), None)
        except Exception:  # whatever damage makes Pillow's plugins raise; looking at it will say so
            return None

    def _frames(self) -> Iterator[Frame]:
        with _opened(self.path, pillow()) as file:
            orientation = file.getexif().get(_ORIENTATION, 1) if file.format in ("WEBP", "AVIF") else 1
            time, index = Fraction(0), 0
            while True:
                try:
                    file.seek(index)
                    image = _pixels(file)
                except EOFError as error:
                    told = index if file.format == "GIF" else getattr(file, "n_frames", index)
                    if index and index >= told:
                        return
                    raise _damaged(self.name, index, time) from error
                except MemoryError:
                    raise
                except Exception as error:  # as above
                    raise _damaged(self.name, index, time) from error
                if orientation in range(2, 9):
                    image = turn_upright(image, orientation)
                duration = Fraction(round(float(file.info.get("duration") or 0) * 1000), 1_000_000) or _UNTOLD
                yield Frame(Reduced(image, 1, image.shape[1], image.shape[0]), index, time, duration)
                time += duration
                index += 1


def _opened(path: Path, library: ModuleType) -> Any:
    try:
        file = library.open(path, formats=_FORMATS)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or 'damaged'}", "copy it again") from error
    except Exception as error:  # as above
        raise DataError(f"{path}: not an image, or a damaged one", "copy it again") from error
    width, height = file.size
    if width * height > MAX_PIXELS:
        file.close()
        raise DataError(f"{path}: {width * height:,} pixels are too many", f"at most {MAX_PIXELS:,}; scale it down")
    return file


def _pixels(file: Any) -> Image:
    image: Image = np.ascontiguousarray(np.asarray(file.convert("RGB"))[..., ::-1])
    return image


def _damaged(name: str, index: int, time: Fraction) -> DataError:
    if index == 0:
        return DataError(f"{name}: not an image, or a damaged one", "copy it again")
    return DataError(f"{name}: cannot be decoded from {float(time):.1f} s on, after {index} frames", "copy it again")


def is_animation(path: Path) -> bool:
    """Whether a file of one of `SUFFIXES` has several frames. Of one that has not, little is read."""
    try:
        with path.open("rb") as file:
            start = file.read(_START)
        if not _may_move(start):
            return False
        with pillow().open(path, formats=_FORMATS) as image:
            return bool(getattr(image, "is_animated", False))
    except Exception:  # as above: looking at it will say so
        return False


def _may_move(start: bytes) -> bool:
    """By a file's first bytes."""
    if start.startswith(b"RIFF") and start[8:16] == b"WEBPVP8X":
        return bool(start[20] & 2) if len(start) > 20 else False
    if start.startswith(PNG_START):
        return b"acTL" in start.partition(b"IDAT")[0]
    return start.startswith(b"GIF8") or start[4:12] in (b"ftypavis", b"ftypmsf1")
