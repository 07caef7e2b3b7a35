"""WIDER FACE's official ground truth: images, boxes, and which boxes count in easy, medium and hard."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetrain.core.errors import DataError, InputError
from facetrain.core.suggest import path_hint
from facetrain.eval.wider_face.mat_reader import read_mat

SUBSETS = ("easy", "medium", "hard")

_FILES = tuple(f"wider_{subset}_val.mat" for subset in SUBSETS)
_PLACES = (".", "labelv2/val/gt", "ground_truth", "eval_tools/ground_truth", "wider_face_split")
_VARIABLES = ("event_list", "file_list", "face_bbx_list", "gt_list")
_SUFFIX = re.compile(r"\.(jpg|jpeg|png)$", re.IGNORECASE)
_NOT_A_NAME = re.compile(r"[\x00-\x1f/\\:]|^\.{0,2}$")  # names become paths, which must not lead elsewhere
_EDITION = "take all three files from the same official archive"

Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class WiderGroundTruth:
    """What the official files say, images in their order. K boxes of an image, counted or not.

    names:   `<event>/<image>`, without suffix
    boxes:   per image (K, 4) xyxy pixels with x2 = x + width; a few have no width or height
    counted: per subset and image (K,): the boxes that count; the others are ignored in that subset
    """

    names: list[str]
    boxes: list[Doubles]
    counted: dict[str, list[Mask]]

    def restricted(self, names: Collection[str]) -> "WiderGroundTruth":
        """The images that are among `names` alone, in the same order. Names that are not there are no matter."""
        wanted = frozenset(names)
        kept = [i for i, name in enumerate(self.names) if name in wanted]
        return WiderGroundTruth(
            [self.names[i] for i in kept],
            [self.boxes[i] for i in kept],
            {subset: [masks[i] for i in kept] for subset, masks in self.counted.items()},
        )


def has_ground_truth(root: Path) -> bool:
    """Whether `find_ground_truth` finds the three files."""
    return _folder(root) is not None


def find_ground_truth(root: Path) -> Path:
    """The folder of the three official .mat files: `root`, or one of the usual places below it.

    Raises InputError that says which file is missing, and where it was looked for.
    """
    folder = _folder(root)
    if folder is not None:
        return folder
    if not root.is_dir():
        reason = "not a folder" if root.exists() else "no such folder"
        raise InputError(f"{root}: {reason}", path_hint(root, _where(root)))
    best = max(_candidates(root), key=lambda place: sum((place / name).is_file() for name in _FILES))
    missing = [name for name in _FILES if not (best / name).is_file()]
    place = root if len(missing) == len(_FILES) else best
    above = next((folder for folder in root.absolute().parents[:3] if _folder(folder) is not None), None)
    hint = _where(root) if above is None else f"a part of the data set: name the folder above, {above}"
    raise InputError(f"{place}: cannot find {', '.join(missing)}, the ground truth of WIDER FACE", hint)


def _folder(root: Path) -> Path | None:
    places = _candidates(root)
    return next((place for place in places if all((place / name).is_file() for name in _FILES)), None)


def _candidates(root: Path) -> list[Path]:
    return [root / place for place in _PLACES]


def _where(root: Path) -> str:
    return (
        f"give the folder that holds {', '.join(_FILES)}, part of the official eval_tools archive; "
        f"looked for in {', '.join(map(str, _candidates(root)))}"
    )


def load_ground_truth(folder: Path) -> WiderGroundTruth:
    """Read the three files of a folder.

    Raises DataError naming file, event and image where a file is damaged, an index is out of range, or the three
    files do not speak of the same images and boxes.
    """
    parts = [_read_file(folder / name) for name in _FILES]
    first = parts[0]
    for part in parts[1:]:
        _check_same(first, part)
    boxes = [np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], axis=1) for b in first.boxes]
    return WiderGroundTruth(
        first.names, boxes, {subset: part.counted for subset, part in zip(SUBSETS, parts, strict=True)}
    )


@dataclass(frozen=True)
class _GroundTruthFile:
    """One of the three files. boxes: per image (K, 4) x y width height."""

    path: Path
    names: list[str]
    boxes: list[Doubles]
    counted: list[Mask]


def _read_file(path: Path) -> _GroundTruthFile:
    variables = read_mat(path, _VARIABLES)
    events, *columns = (_cells(variables[name], f"{path}: {name}") for name in _VARIABLES)
    for name, column in zip(_VARIABLES[1:], columns, strict=True):
        if len(column) != len(events):
            raise DataError(f"{path}: {len(events)} events, but {len(column)} in {name}", _EDITION)
    found = _GroundTruthFile(path, [], [], [])
    for cell, *lists in zip(events, *columns, strict=True):
        event = _text(cell, f"{path}: an event")
        images, boxes, indexes = (
            _cells(value, f"{path}: {event}: {name}") for name, value in zip(_VARIABLES[1:], lists, strict=True)
        )
        if not len(images) == len(boxes) == len(indexes):
            raise DataError(
                f"{path}: {event}: {len(images)} images, {len(boxes)} lists of boxes, {len(indexes)} of indexes",
                _EDITION,
            )
        for image, box, index in zip(images, boxes, indexes, strict=True):
            name = f"{event}/{_SUFFIX.sub('', _text(image, f'{path}: {event}: an image'))}"
            found.names.append(name)
            found.boxes.append(_boxes(box, f"{path}: {name}"))
            found.counted.append(_counted(index, len(found.boxes[-1]), f"{path}: {name}"))
    if len(set(found.names)) < len(found.names):
        twice = next(name for name in found.names if found.names.count(name) > 1)
        raise DataError(f"{path}: {twice}: this image stands in the file twice")
    return found


def _cells(value: Any, place: str) -> Sequence[Any]:
    """The cells of a cell array, in MATLAB's order. An empty one may come as an empty array of numbers."""
    if value.size and value.dtype != object:
        raise DataError(f"{place}: not a cell array", _EDITION)
    return list(value.ravel(order="F"))


def _text(value: Any, place: str) -> str:
    """The one string of a cell, fit to be part of a path."""
    text = str(value.item()) if value.size == 1 and value.dtype.kind == "U" else ""
    if _NOT_A_NAME.search(text):
        raise DataError(f"{place} has no usable name: {text!r}")
    return text


def _boxes(value: Any, place: str) -> Doubles:
    """(K, 4) x y width height. No boxes at all come in many shapes."""
    if value.size == 0:
        return np.zeros((0, 4))
    if value.dtype.kind not in "iuf" or value.ndim != 2 or value.shape[1] != 4:
        raise DataError(f"{place}: boxes must be numbers, four a face; these are {_describe(value)}", _EDITION)
    boxes: Doubles = value.astype(np.float64)
    if not np.isfinite(boxes).all():
        raise DataError(f"{place}: a box that is not finite", _EDITION)
    return boxes


def _counted(value: Any, count: int, place: str) -> Mask:
    """(K,) mask from a list of indexes that start at 1. An empty list comes as (0, 0) or (0, 1), of any type."""
    mask = np.zeros(count, bool)
    if value.size == 0:
        return mask
    if value.dtype.kind not in "iuf" or not np.isfinite(value).all() or (value != np.floor(value)).any():
        raise DataError(f"{place}: indexes must be whole numbers; these are {_describe(value)}", _EDITION)
    low, high = value.min(), value.max()
    if low < 1 or high > count:
        wrong = int(low) if low < 1 else int(high)
        raise DataError(f"{place}: index {wrong} of a face that counts, but there are {count} boxes", _EDITION)
    index = value.ravel().astype(np.int64) - 1  # uint8 and uint16 in the file, where 0 - 1 would be large
    mask[index] = True
    if mask.sum() != len(index):
        raise DataError(f"{place}: a face that counts twice", _EDITION)
    return mask


def _describe(value: Any) -> str:
    return f"{' x '.join(map(str, value.shape))} of type {value.dtype}"


def _check_same(first: _GroundTruthFile, other: _GroundTruthFile) -> None:
    """Raise DataError at the first image in which two files differ."""
    if len(first.names) != len(other.names):
        raise DataError(
            f"{other.path}: {len(other.names):,} images, but {len(first.names):,} in {first.path.name}", _EDITION
        )
    for name, here, mine, theirs in zip(first.names, other.names, first.boxes, other.boxes, strict=True):
        if name != here:
            raise DataError(f"{other.path}: {here}: {first.path.name} has {name} in this place", _EDITION)
        if not np.array_equal(mine, theirs):
            raise DataError(f"{other.path}: {name}: other boxes than in {first.path.name}", _EDITION)
