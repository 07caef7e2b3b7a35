"""Which faces count at all: those in a part of the image, and not those that are to be left alone."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetrain.core.errors import UsageError
from facetrain.core.faces import Faces

_NUMBER = re.compile(r"(\d+(?:\.\d+)?)(%?)", re.ASCII)


@dataclass(frozen=True)
class Region:
    """A part of the image. corners: x1, y1, x2, y2; percent: which of them are hundredths of the image's sides."""

    corners: tuple[float, ...]
    percent: tuple[bool, ...]

    def holds(self, faces: Faces, width: int, height: int) -> NDArray[np.bool_]:
        """(N,): whose middle lies in it."""
        sides = (width, height, width, height)
        x1, y1, x2, y2 = (
            corner / 100 * side if percent else corner
            for corner, percent, side in zip(self.corners, self.percent, sides, strict=True)
        )
        x, y = (faces.boxes[:, 0] + faces.boxes[:, 2]) / 2, (faces.boxes[:, 1] + faces.boxes[:, 3]) / 2
        return (x >= x1) & (x < x2) & (y >= y1) & (y < y2)


@dataclass(frozen=True)
class Selection:
    """regions: where faces count, everywhere if none; excepts: where they do not; ids: faces that do not."""

    regions: Sequence[Region] = ()
    excepts: Sequence[Region] = ()
    ids: Sequence[int] = ()

    def of(self, faces: Faces, width: int, height: int) -> Faces:
        """The faces that count, of an image of width x height."""
        if not (self.regions or self.excepts or self.ids):
            return faces
        kept = np.full(len(faces), not self.regions)
        for region in self.regions:
            kept |= region.holds(faces, width, height)
        for region in self.excepts:
            kept &= ~region.holds(faces, width, height)
        if faces.ids is not None:
            kept &= ~np.isin(faces.ids, self.ids)
        return faces.chosen(kept)


def parse_selection(regions: Sequence[str], excepts: Sequence[str], *, tracked: bool) -> Selection:
    """What `region` and `excepted` say. tracked: whether faces have ids. Raises UsageError."""
    ids = [text for text in excepts if text.isascii() and text.isdecimal()]
    if ids and not tracked:
        raise UsageError(f"`excepted` {ids[0]}: faces have numbers with `track` alone", "or give a part: x1,y1,x2,y2")
    return Selection(
        [_region(text, "region") for text in regions],
        [_region(text, "excepted") for text in excepts if text not in ids],
        [int(text) for text in ids],
    )


def _region(text: str, field: str) -> Region:
    found = [_NUMBER.fullmatch(part.strip()) for part in text.split(",")]
    matches = [match for match in found if match is not None]
    hint = "four numbers x1,y1,x2,y2 in pixels, or percent of the sides: 0,0,50%,100%"
    if len(found) != 4 or len(matches) != 4:
        raise UsageError(f"`{field}` {text}: not a part of an image", hint)
    corners = tuple(float(match[1]) for match in matches)
    percent = tuple(match[2] == "%" for match in matches)
    for low, high, axis in ((0, 2, "x"), (1, 3, "y")):
        if percent[low] == percent[high] and corners[low] >= corners[high]:
            raise UsageError(f"`{field}` {text}: {axis}1 is not below {axis}2", hint)
    return Region(corners, percent)
