"""The yaml of a YOLO set: where its parts lie, and what its classes and landmarks are called.

A part is a folder of images, a .txt with the path of an image on each line, or several of these, as Ultralytics has it.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from facetrain.core.images import SUFFIXES
from facetrain.data.each_image import image_names
from facetrain.data.label_text import lines_of, read_text
from facetrain.data.landmark_names import mirror_order
from facetrain.data.places import PARTS

_LARGEST = 1 << 20  # bytes; such a file has some lines


@dataclass(frozen=True)
class YoloYaml:
    """parts: folders and lists of images of each; names: of classes by number; points: of landmarks, () where they have
    no names; shape: (landmarks, numbers of each); outside: whether images lie outside of the yaml's folder.
    """

    parts: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    points: tuple[str, ...] = ()
    shape: tuple[int, int] | None = None
    outside: bool = False


def read_yaml(path: Path) -> YoloYaml | None:
    """What a yaml says; None where it is none of a YOLO set: one that names classes and the place of images."""
    try:
        if path.stat().st_size > _LARGEST:
            return None
        document = yaml.safe_load(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None
    if not isinstance(document, dict) or "names" not in document:
        return None
    names = _names(document["names"])
    told = {key: _texts(document.get(key)) for part in PARTS.values() for key in part}
    if names is None or not any(told.values()):
        return None
    base = _base(path, document.get("path"))
    parts = {key: tuple(_place(base, text) for text in texts) for key, texts in told.items() if texts}
    home = path.parent.resolve()
    outside = any(
        place.exists() and not place.resolve().is_relative_to(home) for places in parts.values() for place in places
    )
    return YoloYaml(parts, names, _points(document.get("kpt_names")), _shape(document.get("kpt_shape")), outside)


def find_yaml(folder: Path) -> Path | None:
    """The yaml that belongs to a folder of labels, in one of the three above it."""
    for above in list(folder.parents)[:3]:
        for file in sorted([*above.glob("*.yaml"), *above.glob("*.yml")]):
            if read_yaml(file) is not None:
                return file
    return None


def listed_images(place: Path) -> list[Path]:
    """The images that a list names, or that lie below a folder, as absolute paths. Raises DataError for such a list.

    A line is a path from the list's folder if it begins with `./`. Any other relative one starts where the program
    runs, or, if the first is not there, where the list lies or up to two folders above it.
    """
    if place.is_dir():
        return [_plain(place) / name for name in image_names(place)]
    lines = [line.strip() for line in lines_of(read_text(place))]
    lines = [line for line in lines if line.lower().endswith(SUFFIXES)]
    first = next((line for line in lines if not line.startswith("./")), "")
    starts = (Path(), *list(place.parents)[:3])
    start = next((folder for folder in starts if (folder / first).is_file()), place.parent)
    return [_plain((place.parent if line.startswith("./") else start) / line) for line in lines]


def _plain(path: Path) -> Path:
    """An absolute path without `..`, whose links are left as they are: labels are found by the names of its folders."""
    return Path(os.path.normpath(path.absolute()))


def yaml_text(points: Sequence[str], parts: Sequence[str]) -> str:
    """The yaml of a set that a conversion writes. parts: those that are there; () of a set that is not divided."""
    document: dict[str, Any] = {"path": "."}
    document |= {part: f"images/{part}" for part in parts} or {"train": "images"}
    document["names"] = {0: "face"}
    if points:
        document["kpt_shape"] = [len(points), 3]
        order = mirror_order(points)
        document |= {} if order is None else {"flip_idx": order}
        document["kpt_names"] = {0: list(points)}
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, default_flow_style=None))


def _base(path: Path, told: Any) -> Path:
    """The folder that the parts' paths start from: the yaml's own, or where `path` leads, if that is there."""
    if isinstance(told, str):
        for folder in (path.parent / told, Path(told)):
            if folder.is_dir():
                return folder
    return path.parent


def _texts(value: Any) -> list[str]:
    """A text, or a list of texts and nothing else, as a list; [] for anything else."""
    values = value if isinstance(value, list) else [value]
    return values if all(isinstance(each, str) for each in values) else []


def _place(base: Path, told: str) -> Path:
    place = base / told
    if not place.exists() and told.startswith("../"):  # as Roboflow writes it, one folder too high
        place = base / told.removeprefix("../")
    return place


def _names(value: Any) -> dict[int, str] | None:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    names = {int(key): str(name) for key, name in pairs if isinstance(key, int) or str(key).isdigit()}
    return names or None


def _points(value: Any) -> tuple[str, ...]:
    if isinstance(value, dict):
        value = next(iter(value.values()), None)
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _shape(value: Any) -> tuple[int, int] | None:
    if not (isinstance(value, list) and len(value) == 2 and all(type(number) is int for number in value)):
        return None
    points, dims = value
    return (points, dims) if 0 < points < 1000 and dims in (2, 3) else None
