"""Where the labels and images of a data set lie, and in which format: found, forced, read."""

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Literal, Protocol, cast

import numpy as np

from facetrain.config.schema import DataConfig
from facetrain.core.errors import FacetrainError, InputError
from facetrain.core.faces import LabelledImage
from facetrain.core.files import sha256
from facetrain.core.images import SUFFIXES
from facetrain.core.suggest import choices_hint, path_hint
from facetrain.data import formats
from facetrain.data.above import set_above
from facetrain.data.holds import Holds
from facetrain.data.label_file import LabelFile
from facetrain.data.places import Split, images_of
from facetrain.data.plausibility.labels import judged

Part = Literal["train", "val"]

LAYOUT = """\
WIDER FACE                           your own images
<folder>/                            <folder>/
  labelv2/train/labelv2.txt            train/labelv2.txt
  labelv2/val/labelv2.txt              train/images/…
  WIDER_train/images/<event>/…         val/labelv2.txt
  WIDER_val/images/<event>/…           val/images/…
"""

_SAMPLE = "or try things on drawn images with `data` sample"
_HINT = f"lay the files out in one of these two ways, or keep your own format; {_SAMPLE}\n{LAYOUT}"

_NOT_FOR_TRAINING = ("val", "WIDER_val", "test", "WIDER_test")  # folders that never count as training images

_FIRST = "labelv2"  # of the formats: the one that messages speak of

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """How labels are to be read.

    format:  a file of `formats/`; None: the one that recognises them
    classes: names of the classes that are faces; (): the only one, or the one called a face
    trust:   take labels as they are, whatever they say
    """

    format: str | None = None
    classes: tuple[str, ...] = ()
    trust: bool = False


def reading_of(config: DataConfig) -> Reading:
    """As a configuration says."""
    return Reading(config.format, config.classes, config.trust_labels)


class Format(Protocol):
    """What a file of `formats/` has. `target` and `write` are in data/convert: some formats are only read."""

    FILE: str  # the name of its label files, perhaps with a `*`
    HOLDS: Holds

    def recognises(self, path: Path) -> bool:
        """Whether a file, or a folder of files, looks like it; cheap."""
        ...

    def places(self, root: Path, split: str) -> Iterator[Split]:
        """Where labels and images of a split may lie below a folder, the likeliest first."""
        ...

    def read(self, labels: Path, images: Path, points: Sequence[str] | None, classes: Sequence[str]) -> LabelFile:
        """What the labels say. points: names of the landmarks that are wanted, None for their own."""
        ...


class SelectiveFormat(Format, Protocol):
    """A format that can be asked for some of the images below a folder, see `Split.among`."""

    def read(
        self,
        labels: Path,
        images: Path,
        points: Sequence[str] | None,
        classes: Sequence[str],
        among: Sequence[Path] = (),
    ) -> LabelFile:
        """What the labels of these images say."""
        ...


def format_names() -> list[str]:
    """The names of all label formats, sorted. Each is the name of its file."""
    return sorted(module.name for module in iter_modules(formats.__path__))


def format_module(name: str, field: str = "format") -> Format:
    """A format by its name. Raises InputError for one that is not there; field: where it was named."""
    if name not in format_names():
        raise InputError(f"`{field}` {name}: no such label format", choices_hint(name, format_names()))
    module: Format = import_module(f"{formats.__name__}.{name}")
    return module


def find_split(root: Path, split: Part, reading: Reading = Reading()) -> Split:
    """Find labels and images of a split below `root`, in any layout; or of one label file, with its images beside it.

    Of several formats that are there labelv2 goes first, then the one whose files have the longest name. Raises
    InputError that says what is missing, what was looked for, and shows LAYOUT.
    """
    if root.is_file():
        return _of_file(root, split, reading)
    if not root.is_dir():
        raise InputError(
            f"{root}: {'not a folder' if root.exists() else 'no such folder'}",
            path_hint(root, f"name a folder of labels and images, {_SAMPLE}"),
        )
    modules = _modules(reading)
    found, half = _all_places(root, split, reading, modules)
    if found:
        others = sorted({place.format for place in found} - {found[0].format})
        if others:
            _log.info(
                "%s: read as %s; also there: %s (`format` chooses)", found[0].labels, found[0].format, ", ".join(others)
            )
        return found[0]
    hint = _hint(modules)
    if (above := folder_above(root, reading)) is not None:
        hint = f"a part of a set, not the set: name the folder above, {above}"
    raise InputError(f"{root}: cannot find {_missing(root, split, half, modules)}", hint)


def folder_above(root: Path, reading: Reading = Reading()) -> Path | None:
    """The folder of the set that `root` is a part of; None where there is none."""
    modules = _modules(reading)

    def find(folder: Path, split: str) -> Split | None:
        try:
            return next(iter(_all_places(folder, split, reading, modules)[0]), None)
        except (FacetrainError, OSError):  # nobody has asked for what lies there
            return None

    return set_above(root, find)


def undivided(root: Path, reading: Reading = Reading()) -> str:
    """What to say of a set without parts, which may be a part itself."""
    above = folder_above(root, reading)
    return "one set for all, not divided into train and val" + ("" if above is None else f"; a part of {above}")


def _all_places(
    root: Path, split: str, reading: Reading, modules: dict[str, Format]
) -> tuple[list[Split], list[Split]]:
    """The places of a split, the likeliest first, and those of which only the labels or the images are there."""
    found: list[Split] = []
    half: list[Split] = []
    for name, module in modules.items():
        for place in module.places(root, split):
            if not place.labels.exists():
                half += [place] if place.images.is_dir() else []
            elif reading.format or place.labels.stem == name or module.recognises(place.labels):
                (found if place.images.is_dir() else half).append(replace(place, format=name))
    return sorted(found, key=lambda place: place.whole), half


def load_split(root: Path, split: Part, points: Sequence[str] | None, reading: Reading = Reading()) -> LabelFile:
    """Find a split, read its labels, leave out what cannot be right, and log what they hold.

    points: names of the landmarks that are wanted, (L,); None: those that the labels have
    Raises InputError, or DataError on any bad line, and where too much cannot be right, see plausibility/.
    """
    labels = read_place(find_split(root, split, reading), points, reading.classes)
    labels.raise_on_problems()
    labels = judged(labels, root, split, trust=reading.trust)
    _log.info("%s", labels.said())
    return labels


def read_place(place: Split, points: Sequence[str] | None, classes: Sequence[str] = ()) -> LabelFile:
    """What the labels of a place say, their problems among it."""
    module = format_module(place.format)
    if place.among:
        found = cast("SelectiveFormat", module).read(place.labels, place.images, points, classes, place.among)
    else:
        found = module.read(place.labels, place.images, points, classes)
    return replace(found, place=place)


def digest(labels: LabelFile) -> str:
    """SHA-256 of the label file, or of all of them where each image has its own."""
    assert labels.place is not None
    if not labels.files:
        return sha256(labels.place.labels)
    whole = hashlib.sha256()
    for path in sorted(labels.files):
        content = sha256(path) if path.is_file() else "no faces"  # of an image without a file
        whole.update(f"{path.name} {content}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def _modules(reading: Reading) -> dict[str, Format]:
    """The formats that are asked, in the order in which they answer."""
    if reading.format is not None:
        return {reading.format: format_module(reading.format)}
    modules = {name: format_module(name) for name in format_names()}
    return dict(
        sorted(modules.items(), key=lambda item: (item[0] != _FIRST, -len(item[1].FILE.replace("*", "")), item[0]))
    )


def _of_file(file: Path, split: Part, reading: Reading) -> Split:
    """The place of a label file that was named itself."""
    modules = _modules(reading)
    names = [name for name, module in modules.items() if reading.format or module.recognises(file)]
    if not names:
        raise InputError(f"{file}: none of the label formats", _forms(modules))
    if len(names) > 1:
        _log.info("%s: read as %s; it could also be %s (`format` chooses)", file, names[0], ", ".join(names[1:]))
    for above in list(file.parents)[:3]:  # in a layout that the format knows its images are known too
        for part in (split, "val" if split == "train" else "train"):
            for place in modules[names[0]].places(above, part):
                if place.labels == file and place.images.is_dir():
                    return replace(place, format=names[0], whole=place.whole or part != split)
    return Split(file, images_of(file.parent), names[0], whole=True)


def _missing(root: Path, split: str, half: Sequence[Split], modules: dict[str, Format]) -> str:
    """What is not there, in words, by the first place of which a half is there."""
    for place in half:
        if place.labels.exists():
            kind = "file" if place.images.suffix == ".txt" else "folder"  # a list of images, or where they lie
            return f"the images of {place.labels}: no {kind} {place.images}"
    for place in half:
        return f"the labels of {place.images}: no file {place.labels}"
    wanted = [place.labels for place in _first(modules).places(root, split)]
    return f"the {split} labels: no file " + " or ".join(map(str, list(dict.fromkeys(wanted))[:2]))


def _first(modules: dict[str, Format]) -> Format:
    return next(iter(modules.values()))


def _hint(modules: dict[str, Format]) -> str:
    return f"{_HINT.rstrip()}\n{_forms(modules)}"


def _forms(modules: dict[str, Format]) -> str:
    files = ", ".join(f"{name} ({module.FILE})" for name, module in modules.items())
    return f"looked for: {files}"


def find_images(root: Path, points: Sequence[str]) -> list[LabelledImage]:
    """The training images below a folder without their labels, sorted by name: no size, no faces.

    Those of the two layouts; without their folders, all of the folder but what lies in folders named `val` or `test`.
    Raises InputError where there is none.
    """
    if not root.is_dir():
        reason = "not a folder" if root.exists() else "no such folder"
        raise InputError(f"{root}: {reason}", path_hint(root, "name a folder of images"))
    named = [folder for folder in (root / "WIDER_train" / "images", root / "train" / "images") if folder.is_dir()]
    base = named[0] if named else root
    names = []
    for folder, below, files in os.walk(base):
        below[:] = sorted(name for name in below if named or name not in _NOT_FOR_TRAINING)
        here = Path(folder).relative_to(base)
        names += [(here / name).as_posix() for name in files if Path(name).suffix.lower() in SUFFIXES]
    if not names:
        raise InputError(f"{base}: no images in this folder", f"known: {', '.join(SUFFIXES)}")
    nothing = np.zeros((0, 4), np.float32), np.zeros((0, len(points), 3), np.float32), np.zeros(0, np.bool_)
    return [LabelledImage(base / name, name, None, *nothing) for name in sorted(names)]
