"""Landmarks by their names: which of a file's points is which of the model's."""

import re
from collections.abc import Collection, Sequence

from facetrain.config.landmark_names import landmarks_of
from facetrain.config.schema import LandmarksConfig
from facetrain.core.errors import DataError
from facetrain.core.words import count

FIVE = LandmarksConfig().names  # of a format that has no room for names, in the order that all of them use

_SIDES = {"l": "left", "r": "right", "lt": "left", "rt": "right"}
_FILLERS = {"corner", "center", "centre", "tip", "point", "pt", "of", "the"}  # say nothing that tells points apart
_WORDS = re.compile(r"[a-z]+|\d+")
_JOINED = re.compile(r"^(left|right)(?=[a-z])|(?<=[a-z])(left|right)$")


def default_names(number: int) -> tuple[str, ...]:
    """Names for points that have none: the usual ones where they are as many, or numbers."""
    return landmarks_of(number).names


def other_number(place: str, there: int, wanted: int) -> DataError:
    """For labels that do not name their points, and have another number of them: nobody knows which is which."""
    return DataError(
        f"{place}: {count(there, 'landmark')} a face, without names, where the model has {wanted}",
        "`facetrain init` writes a model file with as many; or name these in `model.landmarks.names`, in their "
        "order; or `facetrain data convert` to csv gives them names, by which some of them can be learnt",
    )


def in_order_of(wanted: Sequence[str], there: Sequence[str]) -> list[int] | None:
    """Which of a detector's points, `there`, is measured against each point of labels, `wanted`; -1: none.

    By their names. Labels that do not name their points, as labelv2, are taken in order where there are as many, as in
    training. None: the points have nothing to do with each other.
    """
    nameless = tuple(wanted) == default_names(len(wanted))
    if nameless and len(there) == len(wanted):
        return list(range(len(wanted)))
    return columns_of(wanted, there)


def columns_of(wanted: Sequence[str], there: Sequence[str], *, named: bool = True) -> list[int] | None:
    """For each point that is wanted its column among those that are there, -1 where it is not among them.

    named: whether the labels name their points; without names they are taken in order, where there are as many. Of
           five, which have one order everywhere, some may be wanted by their names.
    None: the points have nothing to do with each other.
    """
    if not named:
        if len(wanted) == len(there):
            return list(range(len(wanted)))
        some = columns_of(wanted, FIVE) if len(there) == len(FIVE) else None
        return None if some is None or min(some, default=-1) < 0 else some
    known = {_key(name): column for column, name in reversed(list(enumerate(there)))}
    found = [known.get(_key(name), -1) for name in wanted]
    return found if not wanted or max(found) >= 0 else None


def mirror_order(names: Sequence[str]) -> list[int] | None:
    """Which point takes each point's place in a mirrored image; None where the names do not tell.

    Points that are named by number alone do not, nor does a left one without its right one.
    """
    keys = [_key(name) for name in names]
    other = {"left": "right", "right": "left"}
    partners = [tuple(sorted(other.get(word, word) for word in key)) for key in keys]
    if any(
        all(word.isdigit() for word in key) or partner not in keys for key, partner in zip(keys, partners, strict=True)
    ):
        return None
    return [keys.index(partner) for partner in partners]


def ordered_names(names: Collection[str]) -> tuple[str, ...]:
    """Names in an order that does not depend on who met them first: that of the usual five, or of the alphabet."""
    five = {_key(name): place for place, name in enumerate(FIVE)}
    natural = sorted(names, key=_by_number)
    if all(_key(name) in five for name in natural):
        natural.sort(key=lambda name: five[_key(name)])
    return tuple(natural)


def _by_number(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _key(name: str) -> tuple[str, ...]:
    """A name without its spelling: `left_eye`, `Eye Left`, `l-eye` and `lefteye` are one point."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    words: list[str] = []
    for word in _WORDS.findall(spaced):
        words += _JOINED.sub(r"\1\2 " if word.startswith(("left", "right")) else r" \1\2", word).split()
    words = [_SIDES.get(word, word) for word in words]
    return tuple(sorted(word for word in words if word not in _FILLERS)) or tuple(words)
