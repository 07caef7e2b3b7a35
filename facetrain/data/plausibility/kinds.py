"""The kinds of faces that cannot be right: a function each, from a table of faces to those that it finds.

To add one: its function, and its row in KINDS.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from facetrain.data.plausibility.conventions import LEAVES, NARROWEST, WIDEST, outside
from facetrain.data.plausibility.points import Points
from facetrain.data.plausibility.table import Doubles, FaceTable, Mask

POINT_LEAVES = 0.3  # of the box's side; 26 of WIDER FACE's 17,761 faces with landmarks have a point farther out
_UNIT = 2.0  # pixels: no face ends so near to the corner; shares of the image do, as two corners or corner and size
_HUNDRED = 100.5  # percent, and what rounding adds
_FAR_LARGER = 300.0  # pixels, shorter side: of such images the corner of 100 pixels is a ninth or less
_BY_CHANCE = 20  # faces: as many in that corner, and none elsewhere, are no chance
_TWICE = 0.9  # IoU: of WIDER FACE's faces 2 pairs of 44,813 overlap by more, 8 of them by more than 0.8
_CROWD = 5000  # faces of an image that are compared with each other; WIDER FACE has at most 1,968
_NEIGHBOURS = 256  # boxes with left borders as near that are compared; more are no photograph's
_EXCHANGED = -0.1  # of the box's width, by which the left points lie left of the right ones: 28 of 17,761
_OUT_OF_ORDER = -0.1  # of the box's height, by which lower points lie above upper ones

Found = Callable[[FaceTable, Points], Mask]


@dataclass(frozen=True)
class Kind:
    """A way in which a face cannot be right.

    words: what is said of the faces, behind their number: one face, several
    done:  what happens to them in a set of one's own; nothing ever happens to WIDER FACE's official ground truth
    of:    what the share is of: all faces, or those that count and have landmarks
    needs_look: it refuses a set only where another convention explains it, for there are faces like that
    """

    find: Found
    words: tuple[str, str]
    done: Literal["left out", "clipped", "kept"]
    of: Literal["faces", "landmarks"] = "faces"
    needs_look: bool = False


def in_unit(table: FaceTable, _: Points) -> Mask:
    """All four numbers between 0 and 1, or nearly: shares of the image."""
    most = np.abs(table.boxes).max(1, initial=0)
    found: Mask = (most > 0) & (most <= _UNIT)
    return found


def no_area(table: FaceTable, _: Points) -> Mask:
    """The second corner not right of and below the first."""
    return np.logical_not(table.has_area)


def misses(table: FaceTable, _: Points) -> Mask:
    """No pixel of the box in its image."""
    missing: Mask = np.any((table.boxes[:, :2] >= table.sizes) | (table.boxes[:, 2:] <= 0), axis=1)
    return missing & np.isfinite(table.sizes).all(1)


def leaves(table: FaceTable, _: Points) -> Mask:
    """The box reaches over its image's border by more than a tenth of its side."""
    over: Mask = outside(table.boxes, table.sizes) > LEAVES
    return over


def in_percent(table: FaceTable, _: Points) -> Mask:
    """Every box of a set within 0 … 100, although images are far larger: percent. A few may lie there by chance."""
    large: Mask = table.sizes.min(1) >= _FAR_LARGER
    within = bool(np.all((table.boxes >= 0) & (table.boxes <= _HUNDRED))) and bool(table.has_area.all())
    return large & (within and large.sum() >= _BY_CHANCE and np.max(table.boxes) > _UNIT)


def odd_shape(table: FaceTable, _: Points) -> Mask:
    """Much narrower or wider than a face."""
    shape = table.sides[:, 0] / np.maximum(table.sides[:, 1], 1e-9)
    odd: Mask = (shape < NARROWEST) | (shape > WIDEST)
    return odd & ~table.ignore


def twice(table: FaceTable, _: Points) -> Mask:
    """A box that another one of its image overlaps almost wholly: the later of both. Ignored ones may do that."""
    found = np.zeros(len(table), bool)
    counted = np.bincount(table.image, minlength=1)[table.image] <= _CROWD
    rows = np.flatnonzero(~table.ignore & table.has_area & counted)
    rows = rows[np.lexsort((table.boxes[rows, 0], table.image[rows]))]  # from left to right in each image
    boxes, image = table.boxes[rows], table.image[rows]
    # for so large an overlap left borders are nearer than a tenth of the left box's width
    reach = boxes[:, 0] + 0.12 * (boxes[:, 2] - boxes[:, 0])
    alive = np.arange(len(rows))  # boxes whose neighbour this far to the right may still be near enough
    for step in range(1, _NEIGHBOURS):
        alive = alive[alive + step < len(rows)]
        other = alive + step
        near = (image[alive] == image[other]) & (boxes[other, 0] <= reach[alive])
        alive, other = alive[near], other[near]
        if not len(alive):
            break
        same = _overlap(boxes[alive], boxes[other]) > _TWICE
        found[np.maximum(rows[alive[same]], rows[other[same]])] = True
    return found


def _overlap(one: Doubles, other: Doubles) -> Doubles:
    """(K,) IoU of boxes in pairs, each with an area."""
    sides = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2])
    common = np.clip(sides, 0, None).prod(1)
    iou: Doubles = common / ((one[:, 2:] - one[:, :2]).prod(1) + (other[:, 2:] - other[:, :2]).prod(1) - common)
    return iou


def point_outside(table: FaceTable, _: Points) -> Mask:
    """A landmark far out of its box."""
    far: Mask = np.any(np.abs(table.relative - 0.5) > 0.5 + POINT_LEAVES, axis=(1, 2))
    return far & table.with_landmarks


def exchanged(table: FaceTable, points: Points) -> Mask:
    """The person's left points left of the right ones, as only somebody who looks away has them."""
    if not points.pairs:
        return np.zeros(len(table), bool)
    right, left = (table.relative[:, list(side), 0] for side in zip(*points.pairs, strict=True))
    reversed_: Mask = (left - right).mean(1) < _EXCHANGED
    return reversed_ & table.with_landmarks


def out_of_order(table: FaceTable, points: Points) -> Mask:
    """The mouth above the nose, or the nose above the eyes."""
    found = np.zeros(len(table), bool)
    for upper, lower in points.below:
        height = table.relative[:, list(lower), 1].mean(1) - table.relative[:, list(upper), 1].mean(1)
        found |= height < _OUT_OF_ORDER
    return found & table.with_landmarks


# In the order in which a face is asked for: a box counts for the first kind that it is of.
BOX_KINDS = {
    "no_area": Kind(no_area, ("box has no area", "boxes have no area"), "left out"),
    "in_unit": Kind(in_unit, ("box lies in 0 … 1", "boxes lie in 0 … 1"), "left out"),
    "misses": Kind(misses, ("box misses its image", "boxes miss their image"), "left out"),
    "leaves": Kind(
        leaves,
        ("box leaves its image by more than a tenth", "boxes leave their image by more than a tenth"),
        "clipped",
    ),
    "in_percent": Kind(
        in_percent,
        ("box lies within 100 pixels of the corner, as all do", "boxes lie within 100 pixels of the corner, as all do"),
        "kept",
        needs_look=True,
    ),
    "odd_shape": Kind(
        odd_shape,
        ("box is much narrower or wider than a face", "boxes are much narrower or wider than a face"),
        "kept",
        needs_look=True,
    ),
}
# Of faces whose box is none of the first four.
OTHER_KINDS = {
    "twice": Kind(twice, ("face is labelled twice", "faces are labelled twice"), "kept"),
    "point_outside": Kind(
        point_outside,
        ("face has landmarks far outside its box", "faces have landmarks far outside their box"),
        "kept",
        of="landmarks",
    ),
    "exchanged": Kind(
        exchanged,
        ("face has left and right exchanged", "faces have left and right exchanged"),
        "kept",
        of="landmarks",
    ),
    "out_of_order": Kind(
        out_of_order,
        ("face has landmarks upside down", "faces have landmarks upside down"),
        "kept",
        of="landmarks",
    ),
}
KINDS = BOX_KINDS | OTHER_KINDS
