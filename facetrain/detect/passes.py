"""At which scales a network is shown an image so that it finds faces of any size, and what is taken from each look.

A network finds faces from some pixels on up to some tens of times as many. A larger face is found where the image is
shown smaller: so the image is shown once as large as it may be, and again at half of that, and so on, until the largest
face that the image can hold is in the network's range. Each look answers for some sizes alone. That is what keeps false
alarms down: what a network takes for a face beyond its range, in parts of a large one say, is never asked for.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

from facetrain.core.errors import UsageError
from facetrain.detect.face_range import FaceRange

MOST_PIXELS = 2_000_000  # of the finest look, unless smaller faces are asked for
MOST_ENLARGED = 2.0  # an image shows nothing more at a larger scale
_SIDE = 1408  # of a tile, pixels; a multiple of every network's strides
_OVERLAP = 352  # of neighbouring tiles
_LEAST_SHOWN = 32  # pixels of an image's shorter side: below, networks see nothing but their border


@dataclass(frozen=True)
class Look:
    """One look at the whole image.

    scale:       shown / original
    least, most: the shorter sides of the faces that it answers for, in pixels of the original
    """

    scale: float
    least: float
    most: float


@dataclass(frozen=True)
class Plan:
    """looks: the finest first; smallest: the smallest face that they find, in pixels of the original."""

    looks: tuple[Look, ...]
    smallest: float


@dataclass(frozen=True)
class Tile:
    """A part of a shown image.

    left, top, right, bottom: what of it is shown, in its pixels
    core: within it, the part whose faces are taken from this tile, as left, top, right, bottom; the cores of all tiles
          cover the image once, and go on for ever at its borders
    """

    left: int
    top: int
    right: int
    bottom: int
    core: tuple[float, float, float, float]


def check_min_face(min_face: float | None) -> None:
    """Raise UsageError for a size that no face has."""
    if min_face is not None and not 1 <= min_face <= 1e5:
        raise UsageError(f"`min_face` {min_face:g}: must be from 1 to 100,000", "pixels of the image, such as 24")


def tile_size(static_shape: tuple[int, int] | None) -> tuple[int, int]:
    """(width, height) of what a network is shown at once; static_shape: where its file takes no other."""
    return static_shape or (_SIDE, _SIDE)


def plan_looks(
    width: int,
    height: int,
    faces: FaceRange,
    min_face: float | None = None,
    static_shape: tuple[int, int] | None = None,
) -> Plan:
    """How an image of width x height is looked at.

    faces:    what the network finds, in pixels of what it is shown
    min_face: the smallest face to look for, pixels of the image's; None: what MOST_PIXELS allow, never enlarged
    """
    shorter = min(width, height)
    if min_face is None:
        scale = min(1.0, math.sqrt(MOST_PIXELS / (width * height)))
    else:
        # An image that is smaller than the face sought is looked at all the same, as it fits.
        scale = min(MOST_ENLARGED, faces.least / min_face)
        scale = max(scale, min(1.0, _LEAST_SHOWN / shorter))
    handed_on = 0.75 * min(faces.most, _reach(static_shape))  # shown pixels: larger ones are left to the next look
    taken_up = 2.5 * faces.least  # shown pixels: smaller ones were seen better before
    # By halves the coarser looks cost a third of the finest together. By quarters it would be a fifteenth, and most of
    # the larger faces would be seen by one look alone: measured, those were found less often and worse placed.
    step = 2 if handed_on / 2 >= taken_up else 1.5
    taken_up = min(taken_up, handed_on / step)  # no size falls between two looks
    scales = [scale]
    while shorter * scales[-1] > handed_on and shorter * scales[-1] / step >= _LEAST_SHOWN:
        scales.append(scales[-1] / step)
    last = len(scales) - 1
    looks = [
        Look(each, taken_up / each if number else 0.0, handed_on / each if number < last else math.inf)
        for number, each in enumerate(scales)
    ]
    return Plan(tuple(looks), faces.least / scale)


def _reach(static_shape: tuple[int, int] | None) -> float:
    """The largest face, in shown pixels, that lies whole in some tile."""
    return _overlap(min(tile_size(static_shape)))


def _overlap(side: int) -> int:
    return min(_OVERLAP, side // 3)


def tiles_of(width: int, height: int, static_shape: tuple[int, int] | None = None) -> list[Tile]:
    """A shown image of width x height in parts that a network takes at once: one where it may be.

    Neighbours overlap, so that a face that one of them cuts lies whole in another.
    """
    if static_shape is None and width * height <= 1.1 * MOST_PIXELS:
        return [Tile(0, 0, width, height, (-math.inf, -math.inf, math.inf, math.inf))]
    tile = tile_size(static_shape)
    across, down = _cuts(width, tile[0]), _cuts(height, tile[1])
    return [
        Tile(left, top, right, bottom, (low_x, low_y, high_x, high_y))
        for top, bottom, low_y, high_y in down
        for left, right, low_x, high_x in across
    ]


def _cuts(length: int, side: int) -> list[tuple[int, int, float, float]]:
    """A line in overlapping parts of at most `side`: begin, end, and the part that it answers for."""
    if length <= side:
        return [(0, length, -math.inf, math.inf)]
    count = math.ceil((length - _overlap(side)) / (side - _overlap(side)))
    begins = [round(number * (length - side) / (count - 1)) for number in range(count)]
    borders = [(one + side + other) / 2 for one, other in pairwise(begins)]
    return [
        (begin, begin + side, low, high)
        for begin, low, high in zip(begins, [-math.inf, *borders], [*borders, math.inf], strict=True)
    ]
