"""The nearest name to one that is not there: of a preset, a subcommand, a detector family, a file."""

import difflib
import os
import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

_MOST = 5000  # entries of a folder that are compared with a name: each takes some microseconds
_ALIKE = 0.75  # of files, which are many and none of facetrain's: `absent` is no slip for `set`
_MARKS = re.compile(r"[_\-. ]+")  # between the words of a name


def nearest(name: str, choices: Iterable[str], likeness: float = 0.6) -> str | None:
    """The choice that `name` was probably meant to be, or None. likeness: the least, 0 to 1."""
    likely = [choice for choice in choices if not _other_size(name, choice)]
    found = difflib.get_close_matches(name, likely, n=1, cutoff=likeness)
    return found[0] if found else None


def choices_hint(name: str, choices: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest choice if there is one, and all of them."""
    listed = sorted(choices)
    close = nearest(name, listed)
    everything = "there are: " + ", ".join(listed)
    return f"did you mean '{close}'? {everything}" if close else everything


def nearest_path(path: Path) -> Path | None:
    """The path that was probably meant: the first part of it that is not there by the nearest name beside it."""
    missing = path
    while not os.path.lexists(missing.parent) and missing.parent != missing:
        missing = missing.parent
    try:
        with os.scandir(missing.parent) as entries:
            there = [entry.name for entry in islice(entries, _MOST) if not entry.name.startswith(".")]
    except (OSError, ValueError):
        return None
    near = nearest(missing.name, there, _ALIKE)
    if near is None:
        return None
    below = path.relative_to(missing)
    meant = missing.parent / near
    return meant / below if os.path.lexists(meant / below) else meant


def path_hint(path: Path, hint: str | None = None) -> str | None:
    """A hint for a path that is not there: the nearest one in front of what there is to say anyway."""
    near = nearest_path(path)
    return hint if near is None else f"did you mean '{near}'?{f' {hint}' if hint else ''}"


def _other_size(name: str, choice: str) -> bool:
    """Whether two names differ in a word of one letter, such as the s of yunet_s: that is a size, nobody's slip."""
    pairs = zip(_MARKS.split(name.lower()), _MARKS.split(choice.lower()), strict=False)
    return any(a != b and len(a) == len(b) == 1 and a.isalpha() and b.isalpha() for a, b in pairs)
