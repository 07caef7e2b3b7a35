"""Which family a network belongs to, judged by its metadata and its outputs, never by its file's name.

Each family is one file in `families/`. Such a file has `NAME`, as a user types it after --family, and
`recognise(outputs, width, height, metadata) -> Family | None`, which is shown the outputs of one run on a blank
(height, width) image and the texts stored in the file. `STRETCH`, where it has that, is a number of pixels: an image
of any size is stretched until its sides are multiples of it. Without it images are padded, which is `prepare`'s part.
`LANDMARKS`, where it has that, are the names of its points; without it they are the usual ones, see `landmarks_of`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Protocol

import numpy as np

from facetrain.config.landmark_names import landmarks_of, stored_names
from facetrain.core.errors import DataError, UsageError
from facetrain.core.faces import Faces, Floats, Image
from facetrain.core.suggest import choices_hint
from facetrain.detect import families

# The first family whose rule fits wins; one that is not named here is asked after these. The rules leave no choice but
# at fixed sizes with a side below 50 pixels, where two families of boxes and two classes can have as many priors.
ORDER = (
    "facetrain_decoded",
    "yunet",
    "scrfd",
    "yolo5face",
    "yolov8face",
    "ultralight",
    "faceboxes",
    "retinaface",
    "eresfd",
    "yunet_2021",
    "blazeface",
    "centerface",
)


class Family(Protocol):
    """How one kind of network wants its image and what its outputs mean."""

    def prepare(self, image: Image, size: tuple[int, int] | None) -> Floats:
        """An image (H, W, 3) uint8 BGR as (1, 3, h, w), of (w, h) = `size` or what the network wants for it."""
        ...

    def faces(self, outputs: Mapping[str, Floats], width: int, height: int, score: float) -> Faces:
        """All boxes that score at least `score`, in no order, in pixels of the (1, 3, height, width) input.

        What is not finite is dropped by the caller, who has silenced NumPy's warnings about it. Raises ValueError where
        the outputs are not those of such an input.
        """
        ...


@dataclass(frozen=True)
class Recognised:
    """A network's family. stretch: see above, 0 where images are padded; landmarks: names of the points of a face."""

    name: str
    family: Family
    stretch: int
    landmarks: tuple[str, ...]


def family_names() -> list[str]:
    """The names of all families, sorted. Each is the name of its file."""
    return sorted(module.name for module in iter_modules(families.__path__))


def check_family(name: str | None) -> None:
    """Raise UsageError, listing the families, unless `name` is one of them or None."""
    names = family_names()
    if name is not None and name not in names:
        raise UsageError(f"`family` {name}: no such family", choices_hint(name, names))


def recognise(
    outputs: Mapping[str, Floats], width: int, height: int, metadata: Mapping[str, str], family: str | None = None
) -> Recognised | None:
    """The family that these outputs of a blank (height, width) image fit; None where there is none.

    family: the only one to ask. Otherwise the one that the metadata names comes first, then `ORDER`.
    """
    for name in _candidates(metadata) if family is None else [family]:
        module: Any = import_module(f"{families.__name__}.{name}")
        found: Family | None = module.recognise(outputs, width, height, metadata)
        if found is not None:
            own = getattr(module, "LANDMARKS", ())
            names = landmarks_of(
                _points(found, outputs, width, height), stored_names(metadata.get("landmarks", "")), own
            ).names
            return Recognised(name, found, getattr(module, "STRETCH", 0), names)
    return None


def _points(family: Family, outputs: Mapping[str, Floats], width: int, height: int) -> int:
    """How many points a face has: arrays without any face have their shape."""
    with np.errstate(all="ignore"):
        points: int = family.faces(outputs, width, height, np.inf).landmarks.shape[1]
    return points


def unknown(outputs: Mapping[str, Floats], family: str | None, path: object) -> DataError:
    """The error for a network that fits no family, or not the given one. outputs: those of the blank image."""
    seen = ", ".join(f"{name} {list(value.shape)}" for name, value in outputs.items())
    known = f"known families: {', '.join(family_names())}; `family` NAME asks for one of them"
    if family is not None:
        return DataError(
            f"{path}: outputs ({seen}) are not those of the family '{family}'",
            f"leave `family` away to have it recognised; {known}",
        )
    if any(0 in value.shape for value in outputs.values()):
        known = (
            "a blank image gives no rows, so its suppression is inside: such files (BlazeFace end to end) are not "
            f"supported, export it without; {known}"
        )
    return DataError(f"{path}: outputs ({seen}) fit no known detector family", known)


def _candidates(metadata: Mapping[str, str]) -> list[str]:
    names = family_names()
    ordered = [name for name in (metadata.get("family", ""), *ORDER, *names) if name in names]
    return list(dict.fromkeys(ordered))
