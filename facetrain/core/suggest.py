"""Names that choose a file of a folder: a preset, a subcommand, a detector family."""

import difflib
from collections.abc import Iterable


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """The choice that `name` was probably meant to be, or None."""
    found = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return found[0] if found else None


def choices_hint(name: str, choices: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest choice if there is one, and all of them."""
    listed = sorted(choices)
    close = nearest(name, listed)
    everything = "there are: " + ", ".join(listed)
    return f"did you mean '{close}'? {everything}" if close else everything
