"""Names that choose a file of a folder: a preset, a subcommand, a detector family."""

import difflib
import re
from collections.abc import Iterable

_MARKS = re.compile(r"[_\-. ]+")  # between the words of a name


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """The choice that `name` was probably meant to be, or None."""
    likely = [choice for choice in choices if not _other_size(name, choice)]
    found = difflib.get_close_matches(name, likely, n=1, cutoff=0.6)
    return found[0] if found else None


def choices_hint(name: str, choices: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest choice if there is one, and all of them."""
    listed = sorted(choices)
    close = nearest(name, listed)
    everything = "there are: " + ", ".join(listed)
    return f"did you mean '{close}'? {everything}" if close else everything


def _other_size(name: str, choice: str) -> bool:
    """Whether two names differ in a word of one letter, such as the s of yunet_s: that is a size, nobody's slip."""
    pairs = zip(_MARKS.split(name.lower()), _MARKS.split(choice.lower()), strict=False)
    return any(a != b and len(a) == len(b) == 1 and a.isalpha() and b.isalpha() for a, b in pairs)
