"""The yaml of a YOLO set: where its parts lie, and what its classes and landmarks are called."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from facetrain.data.landmark_names import mirror_order
from facetrain.data.places import PARTS

_LARGEST = 1 << 20  # bytes; such a file has some lines


@dataclass(frozen=True)
class YoloYaml:
    """parts: folder of each; names: of classes by number; points: of landmarks, () where they have no names;
    shape: (landmarks, numbers of each); outside: whether images lie outside of the yaml's folder.
    """

    parts: dict[str, Path] = field(default_factory=dict)
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
    keys = [key for part in PARTS.values() for key in part if isinstance(document.get(key), str)]
    if names is None or not keys:
        return None
    base = _base(path, document.get("path"))
    parts = {key: _folder(base, document[key]) for key in keys}
    home = path.parent.resolve()
    outside = any(folder.is_dir() and not folder.resolve().is_relative_to(home) for folder in parts.values())
    return YoloYaml(parts, names, _points(document.get("kpt_names")), _shape(document.get("kpt_shape")), outside)


def find_yaml(folder: Path) -> Path | None:
    """The yaml that belongs to a folder of labels, in one of the three above it."""
    for above in list(folder.parents)[:3]:
        for file in sorted([*above.glob("*.yaml"), *above.glob("*.yml")]):
            if read_yaml(file) is not None:
                return file
    return None


def yaml_text(points: Sequence[str], *, whole: bool) -> str:
    """The yaml of a set that a conversion writes. whole: without parts."""
    document: dict[str, Any] = {"path": "."}
    document |= {"train": "images"} if whole else {"train": "images/train", "val": "images/val"}
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


def _folder(base: Path, told: str) -> Path:
    folder = base / told
    if not folder.is_dir() and told.startswith("../"):  # as Roboflow writes it, one folder too high
        folder = base / told.removeprefix("../")
    return folder


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
