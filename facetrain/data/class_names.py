"""Classes of boxes by their names: which of them are faces."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from facetrain.core.errors import InputError
from facetrain.core.suggest import nearest

_FACE = re.compile(r"(?<![a-z])faces?(?![a-z])")
_SHOWN = 20


def chosen_classes(labels: Path, there: Sequence[str], wanted: Sequence[str], boxes: Mapping[str, int]) -> set[str]:
    """The classes whose boxes are faces: those that are wanted; else the only one, or the only one called a face.

    there: all that the labels know; boxes: how many boxes each has, for the message
    Raises InputError that lists the classes where that does not decide.
    """
    listed = ", ".join(f"{name} ({boxes.get(name, 0):,})" for name in there[:_SHOWN])
    listed += f" and {len(there) - _SHOWN:,} more" if len(there) > _SHOWN else ""
    if wanted:
        by_key = {name.casefold(): name for name in there}
        missing = [name for name in wanted if name.casefold() not in by_key]
        if missing and there:
            close = nearest(missing[0], there)
            hint = f"did you mean `classes` {close}? " if close else ""
            raise InputError(f"{labels}: no class {missing[0]!r}", f"{hint}its classes, with their boxes: {listed}")
        return {by_key[name.casefold()] for name in wanted if name.casefold() in by_key}
    if len(there) <= 1:
        return set(there)
    exact = [name for name in there if name.strip().lower() == "face"]
    like = exact or [name for name in there if _FACE.search(name.lower())]
    if len(like) == 1:
        return set(like)
    raise InputError(
        f"{labels}: which of its {len(there):,} classes are faces? {listed}",
        f"choose with `classes`, such as `classes` {like[0] if like else there[0]}; several with commas between",
    )
