"""What every source gives: frames, one shape for photographs, videos and cameras."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Protocol

from facetrain.core.errors import FacetrainError
from facetrain.core.faces import Image
from facetrain.core.images import MAX_PIXELS, Reduced

ScaleOf = Callable[[int, int], float]  # the part of its size that an image of (width, height) is needed at


@dataclass(frozen=True)
class Frame:
    """One image of a source.

    image:    its pixels, which of a large JPEG may be a half, a quarter or an eighth of them
    index:    its number in the source, from 0; frames that are left out count
    time:     seconds from the start of the source; None of a still image
    duration: seconds that it is shown, where the source tells
    reread:   its pixels at full size, where `image` is reduced
    """

    image: Reduced
    index: int = 0
    time: Fraction | None = None
    duration: Fraction | None = None
    reread: Callable[[], Image] | None = None

    @cached_property
    def largest(self) -> tuple[Image, int]:
        """Pixels to draw on, and by how much their sides are reduced: 1, unless the original is too large for that."""
        if self.image.factor > 1 and self.reread is not None and self.image.width * self.image.height <= MAX_PIXELS:
            return self.reread(), 1
        return self.image.image, self.image.factor


class Source(Protocol):
    """Something that frames come from.

    name:   as it was given or found: a path, an address, `camera 0`
    target: a relative path for what is made of it, which no other source of the same call has
    path:   the file it is read from; None of what is no file
    moving: whether its frames have times
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def target(self) -> Path: ...  # noqa: D102

    @property
    def path(self) -> Path | None: ...  # noqa: D102

    @property
    def moving(self) -> bool: ...  # noqa: D102

    def frames(self, scale_of: ScaleOf) -> Iterator[Frame]:
        """Its frames in order. Raises DataError, also after some of them: for a video that is cut off."""
        ...

    def count(self) -> int | None:
        """How many frames there will be, about; None where it cannot be known."""
        ...


@dataclass(frozen=True)
class Failure:
    """A source that gave nothing, or not all of it, and why. path: as it was given or found."""

    path: str
    error: FacetrainError
