"""The conventions that the four numbers of a box are written in, and which of them a set looks like.

A convention is a form (two corners, a corner and a size, …) in a unit (pixels, shares of the image, …), such as
`xywh` and `cxcywh-shares`. What a set looks like is found by trying: its boxes are read in each.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from facetrain.data.plausibility.table import Doubles, FaceTable, Mask

LEAVES = 0.1  # of its side, by which a box may reach over its image's border
NARROWEST, WIDEST = 0.4, 1.4  # width / height: 1.4 % of WIDER FACE's faces are outside of it, most of a few pixels
_EXPLAINED = 0.9  # of the boxes that are wrong as they are read must fit in another convention
_FAR = 1e9  # pixels: beyond all images
_EQUAL = 0.02  # share of boxes: conventions that differ by less fit alike

Convert = Callable[[Doubles], Doubles]


@dataclass(frozen=True)
class Form:
    """What four numbers a b c d say of a box, in words, and how they become corners and come from them."""

    words: str
    corners: Convert
    numbers: Convert


def _picked(*columns: int) -> Convert:
    return lambda four: four[:, columns]


def _low_and_size(four: Doubles) -> Doubles:
    return np.concatenate([four[:, :2], four[:, :2] + four[:, 2:]], 1)


def _centre_and_size(four: Doubles) -> Doubles:
    return np.concatenate([four[:, :2] - four[:, 2:] / 2, four[:, :2] + four[:, 2:] / 2], 1)


def _sorted(four: Doubles) -> Doubles:
    return np.concatenate([np.minimum(four[:, :2], four[:, 2:]), np.maximum(four[:, :2], four[:, 2:])], 1)


FORMS = {
    "xyxy": Form("x1 y1 x2 y2", _picked(0, 1, 2, 3), _picked(0, 1, 2, 3)),
    "xywh": Form(
        "x y width height", _low_and_size, lambda box: np.concatenate([box[:, :2], box[:, 2:] - box[:, :2]], 1)
    ),
    "cxcywh": Form(
        "x y of the centre, width, height",
        _centre_and_size,
        lambda box: np.concatenate([(box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]], 1),
    ),
    "yxyx": Form("y1 x1 y2 x2", _picked(1, 0, 3, 2), _picked(1, 0, 3, 2)),
    "xxyy": Form("x1 x2 y1 y2", _picked(0, 2, 1, 3), _picked(0, 2, 1, 3)),
    "corners": Form("two opposite corners in any order", _sorted, _picked(0, 1, 2, 3)),
}
UNITS = {"": 0.0, "-shares": 1.0, "-percent": 100.0, "-permille": 1000.0}  # what a whole side is; 0: pixels
_UNIT_WORDS = {
    "": "in pixels",
    "-shares": "as shares of the image, 0 to 1",
    "-percent": "in percent of the image, 0 to 100",
    "-permille": "in thousandths of the image, 0 to 1000",
}
# Those that fit alike are told apart by this order: what tools write most often goes first.
CONVENTIONS = (
    *("xyxy", "xywh", "cxcywh", "yxyx", "xxyy", "corners"),
    *("xyxy-shares", "cxcywh-shares", "xywh-shares", "yxyx-shares", "xxyy-shares"),
    *("xywh-percent", "xyxy-percent", "cxcywh-percent", "yxyx-percent"),
    *("yxyx-permille", "xyxy-permille", "xywh-permille", "cxcywh-permille"),
)


def words_of(convention: str) -> str:
    """A convention as a person calls it."""
    form, unit = _parts(convention)
    return f"`{FORMS[form].words}` {_UNIT_WORDS[unit]}"


def read_as(numbers: Doubles, sizes: Doubles, convention: str) -> Doubles:
    """Corners in pixels, (N, 4), of numbers in a convention. sizes: (N, 2) of the images."""
    form, unit = _parts(convention)
    corners = FORMS[form].corners(numbers)
    return corners * np.tile(sizes, 2) / UNITS[unit] if unit else corners


def numbers_of(corners: Doubles, sizes: Doubles, convention: str) -> Doubles:
    """The four numbers that a convention has for corners in pixels: the way back from `read_as`."""
    form, unit = _parts(convention)
    return FORMS[form].numbers(corners / np.tile(sizes, 2) * UNITS[unit] if unit else corners)


def _parts(convention: str) -> tuple[str, str]:
    form, dash, unit = convention.partition("-")
    return form, dash + unit


def outside(boxes: Doubles, sizes: Doubles) -> Doubles:
    """(N,) how far a box reaches over its image's border, as a share of its side; NaN where that is not known."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-9)
    over = np.maximum(-boxes[:, :2], boxes[:, 2:] - sizes)
    far: Doubles = np.maximum(over / sides, 0).max(1, initial=0)
    return far


def fits(boxes: Doubles, sizes: Doubles) -> Mask:
    """(N,) whether a box can be a face's: some pixels of its image, of about a face's shape."""
    sides = boxes[:, 2:] - boxes[:, :2]
    some_pixels = (sides >= 1).all(1)
    shape = sides[:, 0] / np.where(some_pixels, sides[:, 1], 1)
    fit: Mask = some_pixels & (outside(boxes, sizes) <= LEAVES) & (shape >= NARROWEST) & (shape <= WIDEST)
    return fit


def around_landmarks(boxes: Doubles, table: FaceTable, convention: str) -> Mask:
    """(N,) whether a face's landmarks have their middle in its box, in pixels or as the convention has them."""
    form, unit = _parts(convention)
    given = table.landmarks
    scaled = given * table.sizes[:, None] / UNITS[unit] if unit else given
    around: Mask = np.all(np.isnan(given), axis=(1, 2))
    for points in (given, scaled, *([scaled[..., ::-1]] if form == "yxyx" else [])):
        low, high = (np.where(np.isnan(points), fill, points) for fill in (_FAR, -_FAR))
        middle = (low.min(1, initial=_FAR) + high.max(1, initial=-_FAR)) / 2
        around |= ((middle >= boxes[:, :2]) & (middle <= boxes[:, 2:])).all(1)
    return around


@dataclass(frozen=True)
class Look:
    """What boxes look like: a convention, another one that fits as well, and how many of the faces fit in the first.

    wrong, explained: faces that are wrong as read, and how many of them fit when read so
    whole: whether the faces that are not wrong fit too: all of the set is in the convention and not a part of it
    """

    convention: str
    also: str | None
    wrong: int
    explained: int
    whole: bool


def look_of(table: FaceTable, wrong: Mask, given: str) -> Look | None:
    """The convention that makes the wrong faces plausible; None where none does.

    wrong: (N,) which faces are wrong as read. given: the convention that the labels were read in
    """
    counted = wrong & ~table.ignore if (wrong & ~table.ignore).any() else wrong
    rest = ~wrong & ~table.ignore
    numbers = numbers_of(table.boxes, table.sizes, given)
    found: list[tuple[float, float, str]] = []  # shares of the wrong and of the other faces that fit
    for convention in CONVENTIONS:
        if convention == given or not _within(numbers[counted], convention):
            continue
        boxes = read_as(numbers, table.sizes, convention)
        fit = fits(boxes, table.sizes) & around_landmarks(boxes, table, convention)
        if fit[counted].mean() >= _EXPLAINED:
            found.append((float(fit[counted].mean()), float(fit[rest].mean()) if rest.any() else 1.0, convention))
    if not found:
        return None
    best = max(found, key=lambda item: round((item[0] + item[1]) / _EQUAL))  # the first of those that are alike
    unit = _parts(best[2])[1]
    alike = [item[2] for item in found if item[0] + item[1] > best[0] + best[1] - _EQUAL and _parts(item[2])[1] == unit]
    alike.remove(best[2])
    count = int(counted.sum())
    return Look(best[2], alike[0] if alike else None, count, round(best[0] * count), best[1] >= _EXPLAINED)


def _within(numbers: Doubles, convention: str) -> bool:
    """Whether numbers are of a convention's unit at all: shares go little beyond 1, and are no whole pixels."""
    whole = UNITS[_parts(convention)[1]]
    if not whole:
        return True
    most = float(np.abs(numbers).max(initial=0))
    return bool(0 < most <= 1.1 * whole)
