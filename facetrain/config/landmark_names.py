"""Names of a face's points, where a file says how many there are and not, or not all, what they are."""

import json
import re
from collections.abc import Sequence

from facetrain.config.schema import LandmarksConfig
from facetrain.core.inert import is_name

_SIDES = {"right": "left", "Right": "Left", "RIGHT": "LEFT", "r": "l", "R": "L"}
_SIDE = re.compile(r"right|Right|RIGHT|(?<![A-Za-z])[rR](?![A-Za-z])")


def landmarks_of(count: int, *known: Sequence[str]) -> LandmarksConfig:
    """Names and pairs of `count` points: the first of `known` that are as many, else the usual ones, else numbers."""
    for names in (*known, LandmarksConfig().names):
        if len(names) == count:
            return LandmarksConfig(tuple(names), mirror_pairs(names))
    return LandmarksConfig(tuple(f"point_{number}" for number in range(count)), ())


def stored_names(text: str) -> tuple[str, ...]:
    """The names in a file's metadata, a JSON list; none where they are no plain names, each once."""
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    plain = isinstance(names, list) and all(isinstance(name, str) and is_name(name) for name in names)
    return tuple(names) if plain and len(set(names)) == len(names) else ()


def mirror_pairs(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The pairs of names that differ by the side: right_eye and left_eye, eye_r and eye_l, RightEar and LeftEar."""
    pairs = ((name, _SIDE.sub(lambda found: _SIDES[found[0]], name, count=1)) for name in names)
    return tuple((right, left) for right, left in pairs if right != left and left in names)
