"""What the names of landmarks say of their places in a face, and the order that a set's points look like."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations

import numpy as np

from facetrain.data.plausibility.table import Doubles, FaceTable, Mask

# Mean places of WIDER FACE's and FDDB's landmarks as shares of the box, the person's right at the image's left.
_PLACES = {
    ("right", "eye"): (0.31, 0.37),
    ("left", "eye"): (0.70, 0.37),
    ("", "nose"): (0.51, 0.57),
    ("right", "mouth"): (0.35, 0.745),
    ("left", "mouth"): (0.66, 0.745),
    ("", "mouth"): (0.51, 0.745),
    ("right", "ear"): (0.02, 0.48),
    ("left", "ear"): (0.98, 0.48),
    ("", "chin"): (0.51, 0.98),
}
_LEVELS = ("eye", "nose", "mouth", "chin")  # from the forehead down
_SIDES = {"right": "right", "r": "right", "left": "left", "l": "left"}
_PARTS = {"eye": "eye", "nose": "nose", "mouth": "mouth", "lip": "mouth", "ear": "ear", "chin": "chin"}
_MOST = 6  # points: more have too many orders to be tried
_OVER, _MIDDLE, _APART = 0.2, 0.25, 0.1  # shares of the box: over its border, from its middle, from each other
_MOST_FIT = 0.8  # of the faces must fit in another convention
_CLEAR = 0.6  # another order must be nearer than this share of the distance that the names have


@dataclass(frozen=True)
class Points:
    """The L landmarks of a face.

    pairs: of the mirrored points, index of the person's right and of the left one
    below: (indices, indices): points that lie above others in every face
    """

    names: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    below: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]


NO_POINTS = Points((), (), ())


def points_of(names: Sequence[str]) -> Points:
    """What the names say. Those that say nothing are in no pair and no order."""
    known = [_meaning(name) for name in names]
    pairs = [
        (known.index(("right", part)), known.index(("left", part)))
        for part in dict.fromkeys(_PARTS.values())
        if known.count(("right", part)) == known.count(("left", part)) == 1
    ]
    levels = [tuple(i for i, (_, part) in enumerate(known) if part == level) for level in _LEVELS]
    there = [level for level in levels if level]
    return Points(tuple(names), tuple(pairs), tuple(pairwise(there)))


def _meaning(name: str) -> tuple[str, str]:
    """Side and part of a landmark's name; empty where it does not say."""
    words = re.findall(r"[a-z]+", name.lower())
    side = next((_SIDES[word] for word in words if word in _SIDES), "")
    part = next((part for word in words for key, part in _PARTS.items() if word.startswith(key)), "")
    return side, part


def order_of(table: FaceTable, wrong: Mask, points: Points) -> tuple[str, ...] | None:
    """The names in the order in which the wrong faces have them, if another one fits far better; None otherwise."""
    count = len(points.names)
    places = [_PLACES.get(_meaning(name)) for name in points.names]
    if not 2 <= count <= _MOST or None in places or not wrong.any():
        return None
    relative = table.relative[wrong]
    near = np.where(np.abs(relative - 0.5) < 2, relative, np.nan)
    if np.isnan(near).all(0).any():
        return None
    seen = np.nanmean(near, 0)  # (L, 2)
    wanted = np.array(places, np.float64)
    best = min(permutations(range(count)), key=lambda order: _distance(seen, wanted[list(order)]))
    if best == tuple(range(count)) or _distance(seen, wanted[list(best)]) > _CLEAR * _distance(seen, wanted):
        return None
    return tuple(points.names[i] for i in best)


def _distance(one: Doubles, other: Doubles) -> float:
    return float(np.linalg.norm(one - other, axis=-1).mean())


POINT_CONVENTIONS = {
    "yx": "`y x` in place of `x y`",
    "box": "counted from their box's corner",
    "box-shares": "shares of their box, 0 to 1",
    "shares": "shares of the image, 0 to 1",
    "percent": "percent of the image, 0 to 100",
}


def points_as(table: FaceTable, convention: str) -> Doubles:
    """Landmarks (N, L, 2) in pixels, of numbers in a convention."""
    given, low = table.landmarks, table.boxes[:, None, :2]
    if convention == "yx":
        return given[..., ::-1]
    if convention == "box":
        return given + low
    if convention == "box-shares":
        return low + given * table.sides[:, None]
    return given * table.sizes[:, None] / (100 if convention == "percent" else 1)


def point_look_of(table: FaceTable, wrong: Mask) -> str | None:
    """The convention in which the landmarks of the wrong faces lie in their boxes; None where there is none."""
    shares = {}
    for convention in POINT_CONVENTIONS:
        moved = (points_as(table, convention)[wrong] - table.boxes[wrong, None, :2]) / table.sides[wrong, None]
        low, high = np.nanmin(moved, 1), np.nanmax(moved, 1)  # (K, 2)
        middle = (low + high) / 2
        fit = (low > -_OVER) & (high < 1 + _OVER) & (np.abs(middle - 0.5) < _MIDDLE)
        # points of a face lie apart; read in too small a unit they are one
        fit &= (high - low > _APART) | (np.isfinite(moved).all(-1).sum(1) < 2)[:, None]
        shares[convention] = float(fit.all(1).mean())
    best = max(shares, key=lambda convention: shares[convention])
    return best if shares[best] >= _MOST_FIT else None
