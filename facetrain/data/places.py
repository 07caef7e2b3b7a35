"""Where labels and their images usually lie: what every format's `places` is made of."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from facetrain.core.images import SUFFIXES

PARTS = {"train": ("train", "training"), "val": ("val", "valid", "validation")}  # what folders call a split


@dataclass(frozen=True)
class Split:
    """The training or the validation part of a data set.

    labels: a label file, or a folder of one file for each image
    images: the folder that the names of images start from
    format: of the labels: a file of `formats/`; "" until a format answers for the place
    whole:  whether the set is not divided, so that these labels are all of it
    among:  the folders of images, and lists of them, that are meant of all below `images`; (): all
    """

    labels: Path
    images: Path
    format: str = ""
    whole: bool = False
    among: tuple[Path, ...] = ()


def usual_places(root: Path, split: str, pattern: str) -> Iterator[Split]:
    """Label files of a name, which may hold a `*`, in the layouts that most tools write; each with its images.

    A folder for each part, with the labels in it; labels of all parts in one folder, named by their part; and a set
    that is not divided. Folders that are not there are given too: a message may name them.
    """
    parts = [part for part in PARTS[split] if (root / part).is_dir()] or [split]
    for part in parts:
        for labels in matches(root / part, pattern):
            yield Split(labels, images_of(root / part))
    for folder in (root, root / "annotations", root / "labels"):
        for labels in matches(folder, pattern):
            named = [part for part in PARTS[split] if part in words(labels.stem)]
            if "*" in pattern and named:
                yield Split(labels, _named_images(root, named))
    if not any(part in words(path.stem) for names in PARTS.values() for part in names for path in _files(root)):
        for labels in matches(root, pattern):
            yield Split(labels, images_of(root), whole=True)


def folder_pairs(root: Path, split: str, folders: Sequence[str], pattern: str) -> Iterator[Split]:
    """Folders of label files, one for each image, with the folders of these: of each part, or of a set without parts.

    folders: what the labels' folder may be called; "" where they lie beside the images
    """
    for part in PARTS[split]:
        beside = next(
            (folder for folder in (root / "images" / part, root / "JPEGImages" / part) if folder.is_dir()),
            images_of(root / part),
        )
        for name in folders:
            for labels in (root / part / name, root / name / part) if name else (beside,):
                if _holds(labels, pattern):
                    yield Split(labels, beside)
    if not _divided(root):
        for name in folders:
            labels = root / name if name else images_of(root)
            if _holds(labels, pattern) and not _divided(labels):
                yield Split(labels, images_of(root), whole=True)


def images_of(folder: Path) -> Path:
    """The folder of the images that belong to a folder: `images` in it, or the folder itself if it holds some."""
    inside = [folder / name for name in ("images", "JPEGImages") if (folder / name).is_dir()]
    if inside:
        return inside[0]
    return folder if _holds_images(folder) else folder / "images"


def matches(folder: Path, pattern: str) -> list[Path]:
    """The files of a folder that a pattern names, sorted; one name without `*` need not be there."""
    if "*" not in pattern:
        return [folder / pattern]
    try:
        return sorted(path for path in folder.glob(pattern) if path.is_file() and not path.name.startswith("."))
    except OSError:
        return []


def _divided(folder: Path) -> bool:
    return any((folder / part).is_dir() for names in PARTS.values() for part in names)


def _holds(folder: Path, pattern: str) -> bool:
    """Whether a folder has such a file in it or below."""
    return folder.is_dir() and next(folder.rglob(pattern), None) is not None


def _named_images(root: Path, parts: list[str]) -> Path:
    """The images of a part whose labels lie in a folder for all parts: `train`, `images/train`, and so on."""
    for part in parts:
        for folder in (root / "images" / part, root / part / "images", root / part):
            if folder.is_dir():
                return folder
        for above in (root / "images", root):
            for folder in sorted(above.glob(f"{part}[0-9]*")):
                if folder.is_dir():
                    return folder
    return images_of(root)


def words(stem: str) -> list[str]:
    """The words of a name, in small letters: `instances_train2017` has `train`."""
    letters = "".join(c.lower() if c.isalpha() else " " for c in stem)
    return letters.split()


def _files(folder: Path) -> Iterator[Path]:
    try:
        yield from folder.iterdir()
    except OSError:
        return


def _holds_images(folder: Path) -> bool:
    """Whether a folder has an image in it or right below; looks at no more than it must."""
    for above, below, files in os.walk(folder):
        if any(name.lower().endswith(SUFFIXES) for name in files):
            return True
        if Path(above) != folder:
            below.clear()
    return False
