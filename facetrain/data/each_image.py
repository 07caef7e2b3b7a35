"""Formats with a label file for each image: which file belongs to which image, and many files written."""

import os
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath

from facetrain.core.errors import DataError, OutputError
from facetrain.core.faces import LabelledImage
from facetrain.core.files import as_utf8
from facetrain.core.images import SUFFIXES


def label_files(folder: Path, pattern: str, most: int | None = None) -> list[Path]:
    """The label files below a folder, sorted; with `most` no more than that, whichever come first."""
    try:
        found = (path for path in folder.rglob(pattern) if not path.name.startswith(".") and path.is_file())
        return sorted(islice(found, most))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from error


def image_names(folder: Path) -> list[str]:
    """The names of all images below a folder, sorted."""
    names = []
    for above, below, files in os.walk(folder):
        below[:] = [name for name in below if not name.startswith(".")]
        here = Path(above).relative_to(folder)
        names += [(here / name).as_posix() for name in files if name.lower().endswith(SUFFIXES) and name[0] != "."]
    return sorted(names)


def name_beside(file: Path, folder: Path, images: Path, told: str) -> str:
    """The name of the image that a label file is about.

    told: what the file says itself. Where no such image lies beside it, one with the label file's own name is taken if
    there is one.
    """
    below = PurePosixPath(file.relative_to(folder).parent.as_posix())
    last = told.replace("\\", "/").rpartition("/")[2].strip()
    if last and (not images.is_dir() or (images / below / last).is_file()):
        return (below / last).as_posix()
    same = [suffix for suffix in _cases() if (images / below / f"{file.stem}{suffix}").is_file()]
    if same:
        return (below / f"{file.stem}{same[0]}").as_posix()
    return (below / (last or f"{file.stem}.jpg")).as_posix()


def write_for_each(
    folder: Path, images: Sequence[LabelledImage], suffix: str, text: Callable[[LabelledImage], str]
) -> None:
    """Write a file for each image, with its name and another suffix, into a folder that is not in use yet.

    Raises DataError where two would be one, before any is written, and OutputError.
    """
    seen: dict[str, str] = {}
    for image in images:
        name = PurePosixPath(image.name).with_suffix(suffix).as_posix()
        other = seen.setdefault(name.casefold(), image.name)
        if other != image.name:
            raise DataError(
                f"{image.name}: its labels would be the file {name}, as those of {other}",
                "rename one of the two, or choose a format of one file for all images",
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for image in images:
            file = folder / PurePosixPath(image.name).with_suffix(suffix)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(as_utf8(text(image)))  # not each made sure of by itself: a thousand of these take a minute
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}", "is the disk full?") from error


def _cases() -> Iterable[str]:
    for suffix in SUFFIXES:
        yield suffix
        yield suffix.upper()
