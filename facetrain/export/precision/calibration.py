"""Images to calibrate with, which must not be those that the result is judged on."""

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

from facetrain.core.errors import DataError, InputError, UsageError
from facetrain.core.files import sha256
from facetrain.core.images import SUFFIXES
from facetrain.data.sample_set.make import sample_root

CALIBRATION_IMAGES = 64
_TRAINING = (("WIDER_train", "images"), ("train", "images"))
_JUDGED = (("WIDER_val", "images"), ("val", "images"))


def calibration_images(folder: Path, limit: int = CALIBRATION_IMAGES, seed: int = 0) -> list[Path]:
    """At most `limit` images of a folder, drawn evenly; the same ones wherever the folder lies.

    folder: images in any depth, a data set in one of facetrain's layouts, of which the training part is taken, or
    `sample`. Raises InputError where there is none, or only a validation part.
    """
    if limit < 1:
        raise UsageError(f"calibration with {limit} images: must be at least 1")
    if str(folder) == "sample" and not folder.is_dir():
        folder = sample_root()
    if not folder.is_dir():
        reason = "not a folder" if folder.exists() else "no such folder"
        raise InputError(f"{folder}: {reason}", "give a folder of training images to calibrate with")
    training = _part(folder, _TRAINING)
    if training is None and _part(folder, _JUDGED) is not None:
        raise InputError(
            f"{folder}: holds a validation part and no training part",
            "calibrate with training images: the validation ones are there to judge the result",
        )
    paths = _images(training or folder)
    if not paths:
        raise InputError(f"{training or folder}: no image in it", f"taken are: {' '.join(SUFFIXES)}")
    return sorted(random.Random(seed).sample(paths, min(limit, len(paths))))


def judged_images(data: Path) -> list[Path]:
    """The images that AP is measured on: those of the validation part of a data set, or of `sample`."""
    if str(data) == "sample" and not data.is_dir():
        data = sample_root()
    return [path for place in _JUDGED for path in _images(data.joinpath(*place))]


def refuse_overlap(calibration: Sequence[Path], judged: Iterable[Path]) -> None:
    """Raise UsageError where an image is in both, by its place or by its content."""
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


def _refuse(image: Path, judged: Path) -> None:
    same = "" if image == judged else f" (the same as {judged})"
    raise UsageError(
        f"{image}: calibrates and judges{same}",
        "calibrate with training images, so that the AP says what other images will give",
    )


def _part(folder: Path, places: Sequence[tuple[str, str]]) -> Path | None:
    return next((part for place in places if (part := folder.joinpath(*place)).is_dir()), None)


def _images(folder: Path) -> list[Path]:
    """Images below a folder, in an order that depends on their names alone; hidden ones are left out."""
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
