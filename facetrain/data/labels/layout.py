"""Where the labels and pictures of a data set lie: the WIDER FACE folders, or a plain pair of folders."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from facetrain.core.errors import InputError
from facetrain.data.labels import labelv2
from facetrain.data.labels.label_file import LabelFile

LAYOUT = """\
WIDER FACE                           your own pictures
<folder>/                            <folder>/
  labelv2/train/labelv2.txt            train/labelv2.txt
  labelv2/val/labelv2.txt              train/images/…
  WIDER_train/images/<event>/…         val/labelv2.txt
  WIDER_val/images/<event>/…           val/images/…
"""

_HINT = f"lay the files out in one of these two ways, or try things on drawn pictures with --data sample\n{LAYOUT}"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """The training or the validation part of a data set."""

    labels: Path  # a labelv2 file
    images: Path  # the folder that the paths in it start from


def find_split(root: Path, split: Literal["train", "val"]) -> Split:
    """Find labels and pictures of a split below `root`, in either way of LAYOUT; WIDER's goes first.

    Raises InputError that says what is missing and shows LAYOUT.
    """
    if not root.is_dir():
        raise InputError(f"{root}: {'not a folder' if root.exists() else 'no such folder'}", _HINT.rstrip())
    wider = Split(root / "labelv2" / split / "labelv2.txt", root / f"WIDER_{split}" / "images")
    plain = Split(root / split / "labelv2.txt", root / split / "images")
    for place in (wider, plain):
        if place.labels.is_file() and place.images.is_dir():
            return place
    for place in (wider, plain):
        if place.labels.is_file():
            missing = f"the pictures of {place.labels}: no folder {place.images}"
            break
        if place.images.is_dir():
            missing = f"the labels of {place.images}: no file {place.labels}"
            break
    else:
        missing = f"the {split} labels: no file {wider.labels} or {plain.labels}"
    raise InputError(f"{root}: cannot find {missing}", _HINT.rstrip())


def load_split(root: Path, split: Literal["train", "val"], landmarks: int) -> LabelFile:
    """Find a split, read its labels and log what they hold. Raises InputError, or DataError on any bad line."""
    place = find_split(root, split)
    labels = labelv2.read(place.labels, place.images, landmarks)
    labels.raise_on_problems()
    _log.info("%s: %s", place.labels, labels.statistics.summary())
    return labels
