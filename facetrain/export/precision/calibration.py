"""Pictures to calibrate with, which must not be those that the result is judged on."""

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

from facetrain.core.errors import DataError, InputError, UsageError
from facetrain.core.files import sha256
from facetrain.core.images import SUFFIXES
from facetrain.data.sample_set.make import sample_root

CALIBRATION_PICTURES = 64
_TRAINING = (("WIDER_train", "images"), ("train", "images"))
_JUDGED = (("WIDER_val", "images"), ("val", "images"))


def calibration_pictures(folder: Path, limit: int = CALIBRATION_PICTURES, seed: int = 0) -> list[Path]:
    """At most `limit` pictures of a folder, drawn evenly; the same ones wherever the folder lies.

    folder: pictures in any depth, a data set in one of facetrain's layouts, of which the training part is taken, or
    `sample`. Raises InputError where there is none, or only a validation part.
    """
    if limit < 1:
        raise UsageError(f"calibration with {limit} pictures: must be at least 1")
    if str(folder) == "sample" and not folder.is_dir():
        folder = sample_root()
    if not folder.is_dir():
        reason = "not a folder" if folder.exists() else "no such folder"
        raise InputError(f"{folder}: {reason}", "give a folder of training pictures to calibrate with")
    training = _part(folder, _TRAINING)
    if training is None and _part(folder, _JUDGED) is not None:
        raise InputError(
            f"{folder}: holds a validation part and no training part",
            "calibrate with training pictures: the validation ones are there to judge the result",
        )
    paths = _pictures(training or folder)
    if not paths:
        raise InputError(f"{training or folder}: no picture in it", f"taken are: {' '.join(SUFFIXES)}")
    return sorted(random.Random(seed).sample(paths, min(limit, len(paths))))


def judged_pictures(data: Path) -> list[Path]:
    """The pictures that AP is measured on: those of the validation part of a data set, or of `sample`."""
    if str(data) == "sample" and not data.is_dir():
        data = sample_root()
    return [path for place in _JUDGED for path in _pictures(data.joinpath(*place))]


def refuse_overlap(calibration: Sequence[Path], judged: Iterable[Path]) -> None:
    """Raise UsageError where a picture is in both, by its place or by its content."""
    places = {path.resolve(): path for path in calibration}
    sizes = {_size(path) for path in calibration}
    contents: dict[str, Path] = {}
    for path in judged:
        if path.resolve() in places:
            _refuse(places[path.resolve()], path)
        if _size(path) in sizes:  # else it cannot be the same, and need not be read
            contents.setdefault(_hash(path), path)
    for path in calibration:
        if contents and _hash(path) in contents:
            _refuse(path, contents[_hash(path)])


def _refuse(picture: Path, judged: Path) -> None:
    same = "" if picture == judged else f" (the same as {judged})"
    raise UsageError(
        f"{picture}: calibrates and judges{same}",
        "calibrate with training pictures, so that the AP says what other pictures will give",
    )


def _part(folder: Path, places: Sequence[tuple[str, str]]) -> Path | None:
    return next((part for place in places if (part := folder.joinpath(*place)).is_dir()), None)


def _pictures(folder: Path) -> list[Path]:
    """Pictures below a folder, in an order that depends on their names alone; hidden ones are left out."""
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    ]
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _hash(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
