"""Where the labels and images of a data set lie: the WIDER FACE folders, or a plain pair of folders."""

import logging
import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Literal

import numpy as np

from facetrain.core.errors import DataError, InputError
from facetrain.core.faces import LabelledImage
from facetrain.core.images import SUFFIXES
from facetrain.data import formats
from facetrain.data.label_file import LabelFile

LAYOUT = """\
WIDER FACE                           your own images
<folder>/                            <folder>/
  labelv2/train/labelv2.txt            train/labelv2.txt
  labelv2/val/labelv2.txt              train/images/…
  WIDER_train/images/<event>/…         val/labelv2.txt
  WIDER_val/images/<event>/…           val/images/…
"""

_HINT = f"lay the files out in one of these two ways, or try things on drawn images with `data` sample\n{LAYOUT}"

_NOT_FOR_TRAINING = ("val", "WIDER_val", "test", "WIDER_test")  # folders that never count as training images

_FIRST = "labelv2"  # of the formats: the one that messages speak of

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """The training or the validation part of a data set."""

    labels: Path
    images: Path  # the folder that the paths in it start from
    format: str = _FIRST  # of the labels: a file of `formats/`


def find_split(root: Path, split: Literal["train", "val"]) -> Split:
    """Find labels and images of a split below `root`, in either way of LAYOUT; WIDER's goes first.

    Raises InputError that says what is missing and shows LAYOUT.
    """
    if not root.is_dir():
        raise InputError(f"{root}: {'not a folder' if root.exists() else 'no such folder'}", _HINT.rstrip())
    names = sorted(format_names(), key=lambda name: name != _FIRST)
    places = [place for name in names for place in _places(root, split, name)]
    for place in places:
        if place.labels.is_file() and place.images.is_dir():
            return place
    for place in places:
        if place.labels.is_file():
            missing = f"the images of {place.labels}: no folder {place.images}"
            break
        if place.images.is_dir():
            missing = f"the labels of {place.images}: no file {place.labels}"
            break
    else:
        missing = f"the {split} labels: no file {places[0].labels} or {places[1].labels}"
    raise InputError(f"{root}: cannot find {missing}", _HINT.rstrip())


def format_names() -> list[str]:
    """The names of all label formats, sorted. Each is the name of its file."""
    return sorted(module.name for module in iter_modules(formats.__path__))


def _places(root: Path, split: str, name: str) -> tuple[Split, Split]:
    """Where a split lies with labels of a format: as WIDER FACE, or as a plain pair."""
    file = import_module(f"{formats.__name__}.{name}").FILE
    wider = Split(root / "labelv2" / split / file, root / f"WIDER_{split}" / "images", name)
    return wider, Split(root / split / file, root / split / "images", name)


def load_split(root: Path, split: Literal["train", "val"], landmarks: int) -> LabelFile:
    """Find a split, read its labels and log what they hold. Raises InputError, or DataError on any bad line."""
    place = find_split(root, split)
    read = import_module(f"{formats.__name__}.{place.format}").read
    labels: LabelFile = read(place.labels, place.images, landmarks)
    labels.raise_on_problems()
    counted = labels.statistics
    if counted.boxes_without_area > counted.faces:
        every = counted.boxes_without_area + counted.faces
        raise DataError(
            f"{place.labels}: {counted.boxes_without_area:,} of {every:,} boxes have no area",
            "a face is `x1 y1 x2 y2`, two corners in pixels: are these x y width height, or shares of the image?",
        )
    _log.info("%s: %s", place.labels, labels.statistics.summary())
    return labels


def find_images(root: Path, landmarks: int) -> list[LabelledImage]:
    """The training images below a folder without their labels, sorted by name: no size, no faces.

    Those of the two layouts; without their folders, all of the folder but what lies in folders named `val` or `test`.
    Raises InputError where there is none.
    """
    if not root.is_dir():
        raise InputError(f"{root}: {'not a folder' if root.exists() else 'no such folder'}", "name a folder of images")
    named = [folder for folder in (root / "WIDER_train" / "images", root / "train" / "images") if folder.is_dir()]
    base = named[0] if named else root
    names = []
    for folder, below, files in os.walk(base):
        below[:] = sorted(name for name in below if named or name not in _NOT_FOR_TRAINING)
        here = Path(folder).relative_to(base)
        names += [(here / name).as_posix() for name in files if Path(name).suffix.lower() in SUFFIXES]
    if not names:
        raise InputError(f"{base}: no images in this folder", f"known: {', '.join(SUFFIXES)}")
    nothing = np.zeros((0, 4), np.float32), np.zeros((0, landmarks, 3), np.float32), np.zeros(0, np.bool_)
    return [LabelledImage(base / name, name, None, *nothing) for name in sorted(names)]
