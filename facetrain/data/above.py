"""The set that a folder is a part of: for one who names `my_faces/val/images` where `my_faces` is meant."""

import os
from collections.abc import Callable
from pathlib import Path

from facetrain.data.places import PARTS, Split, words

Find = Callable[[Path, str], Split | None]

# What the folders below a set are called. Only from such a one it is looked further up: not through a whole disk.
_INSIDE = {
    *(part for parts in PARTS.values() for part in parts),
    *("test", "wider", "images", "jpegimages", "img", "imgs", "labels", "labelv", "annotations"),
}
_HIGHEST = 3  # of folders above


def set_above(folder: Path, find: Find) -> Path | None:
    """The folder above that is a set with parts; else one without, whose images or labels lie in this one or around it.

    find: gives the place of a part below a folder
    """
    whole: Path | None = None
    here = Path(os.path.abspath(folder))  # noqa: PTH100 (as it was typed, whatever links there are)
    for level, above in enumerate(here.parents[:_HIGHEST]):
        name = words([here, *here.parents][level].name)
        if not name or not _INSIDE.issuperset(name):
            break
        named = folder.parents[level] if level < len(folder.parents) else above
        for part in PARTS:
            place = find(named, part)
            if place is not None and not place.whole:
                return named
            if place is not None and _touches(place, here):
                whole = whole or named
    return whole


def _touches(place: Split, folder: Path) -> bool:
    """Whether a place lies in a folder, or has its images or labels around it."""
    there = [Path(os.path.abspath(path)) for path in (place.images, place.labels)]  # noqa: PTH100
    return any(path.is_relative_to(folder) or folder.is_relative_to(path) for path in there)
