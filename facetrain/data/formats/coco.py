"""COCO: one JSON file with `images`, `categories` and `annotations`; boxes are x y width height.

Landmarks are COCO's keypoints, x y v each: v 0 is missing, 1 hidden, 2 visible. Their names stand in the
category; where none do, they are taken in order. A crowd (`iscrowd` 1) is ignored. A `score`, as result files have it,
is kept.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from facetrain.core.faces import LabelledImage
from facetrain.core.files import write_text
from facetrain.data.holds import Holds
from facetrain.data.label_file import LabelFile
from facetrain.data.label_json import plain, read_json, show, size_in, value_of
from facetrain.data.label_text import MalformedError, ends_of
from facetrain.data.landmark_names import default_names
from facetrain.data.places import Split, usual_places
from facetrain.data.rows import Rows
from facetrain.data.writing import as_float, as_json, check_images, marked_points, size_of, xywh_of

FILE = "*.json"
HOLDS = Holds(landmarks=True, hidden=True, ignore=True, ignored_landmarks=True, scores=True, needs_size=True)
FORM = "an annotation has `image_id`, `category_id` and `bbox`: [x, y, width, height] in pixels"

_OUTER = re.compile(r'"(images|annotations|categories)"\s*:\s*\[')
_INNER = re.compile(r'"(file_name|image_id|category_id|supercategory)"\s*:')


def recognises(path: Path) -> bool:
    """Whether a JSON file has the lists of COCO and what stands in them, by its start and end."""
    text = ends_of(path)
    return text.lstrip().startswith("{") and bool(_OUTER.search(text) and _INNER.search(text))


def places(root: Path, split: str) -> Iterator[Split]:
    """Such as `annotations/instances_train2017.json`, or Roboflow's `train/_annotations.coco.json`."""
    yield from usual_places(root, split, FILE)


def target(root: Path, split: str) -> Split:
    """Where a conversion puts it."""
    return Split(root / split / "_annotations.coco.json", root / split / "images")


def read(labels: Path, images: Path, points: Sequence[str] | None = None, classes: Sequence[str] = ()) -> LabelFile:
    """Read a file whose `file_name`s are relative to the folder `images`."""
    document = read_json(labels)
    rows = Rows(labels, images, place=lambda row: f"annotations[{row}]")
    numbers = _read_images(document, rows)
    names, categories = _read_categories(document, rows)
    annotations = _list_of(document, "annotations", rows)
    if not rows.points:
        lists = (each.get("keypoints") for each in annotations if isinstance(each, dict))
        rows.points = default_names(next((len(values) // 3 for values in lists if isinstance(values, list)), 0))
    for row, annotation in enumerate(annotations):
        try:
            image = numbers.get(annotation["image_id"], -1)
            if image < 0:
                if image == -1:
                    rows.problem(f"annotations[{row}].image_id", show(annotation["image_id"]), "no image has this `id`")
                continue
            kind = names[annotation["category_id"]]
            box = annotation["bbox"]
            score = annotation.get("score")
            ignore = annotation.get("iscrowd") == 1 or annotation.get("ignore") == 1
        except (KeyError, TypeError, AttributeError):
            _explain(rows, row, annotation, names)
            continue
        if not isinstance(score, int | float):
            score = float("nan")
        if rows.face(image, box, row, ignore=ignore, kind=kind, score=score) and annotation.get("keypoints"):
            rows.landmarks(_in_columns(annotation["keypoints"], categories.get(annotation["category_id"]), rows))
    named = bool(categories)
    return rows.label_file(
        points, xywh=True, classes=classes, declared=_declared(document, names), named=named, hidden=True, form=FORM
    )


def write(labels: Path, images: Sequence[LabelledImage], points: Sequence[str] = ()) -> None:
    """Write a file with one category, `face`."""
    annotations: list[dict[str, Any]] = []
    listed = []
    for number, image in enumerate(check_images(images, HOLDS), 1):
        width, height = size_of(image)
        listed.append({"id": number, "file_name": image.name, "width": width, "height": height})
        for face in range(len(image.boxes)):
            x, y, w, h = map(float, xywh_of(image.boxes[face]))
            annotation: dict[str, Any] = {"id": len(annotations) + 1, "image_id": number, "category_id": 1}
            annotation |= {"bbox": [plain(v) for v in (x, y, w, h)], "area": plain(round(w * h, 3))}
            annotation["iscrowd"] = int(image.ignore[face])
            if points:
                annotation |= _keypoints(image, face)
            if image.scores is not None:
                annotation["score"] = as_float(image.scores[face])
            annotations.append(annotation)
    category: dict[str, Any] = {"id": 1, "name": "face", "supercategory": "face"}
    if points:
        category |= {"keypoints": list(points), "skeleton": []}
    write_text(labels, as_json({"images": listed, "categories": [category], "annotations": annotations}))


def _list_of(document: dict[str, Any], name: str, rows: Rows) -> list[Any]:
    try:
        return value_of(document, name, list)
    except MalformedError as error:
        rows.problem(name, error.token, error.message)
        return []


def _read_images(document: dict[str, Any], rows: Rows) -> dict[Any, int]:
    """Number of the image of every `id`; -2 where its entry is wrong, which is said once."""
    numbers: dict[Any, int] = {}
    for place, entry in enumerate(_list_of(document, "images", rows)):
        where = f"images[{place}]"
        key = None
        try:
            key = value_of(entry, "id", object)
            if not isinstance(key, int | str):
                raise MalformedError(show(key), "`id` must be a whole number")
            if key in numbers:
                raise MalformedError(show(key), "another image has this `id` too")
            name = value_of(entry, "file_name", str)
            numbers[key] = -2
            number = rows.image(name, size_in(entry, "width", "height"), f"{where}.file_name")
            numbers[key] = number if number >= 0 else -2
        except MalformedError as error:
            rows.problem(where, error.token, error.message)
            if isinstance(key, int | str):
                numbers.setdefault(key, -2)
    return numbers


def _read_categories(document: dict[str, Any], rows: Rows) -> tuple[dict[Any, str], dict[Any, list[int]]]:
    """Name of every category, and of those with keypoints the columns of `rows.points`, all names together."""
    names: dict[Any, str] = {}
    keypoints: dict[Any, list[str]] = {}
    for place, entry in enumerate(_list_of(document, "categories", rows)):
        try:
            key = value_of(entry, "id", object)
            if not isinstance(key, int | str):
                raise MalformedError(show(key), "`id` must be a whole number")
            names[key] = value_of(entry, "name", str)
            own = entry.get("keypoints") or []
            if not _is_list(own) or not all(isinstance(name, str) for name in own):
                raise MalformedError(show(own), "`keypoints` must be a list of names")
            if own:
                keypoints[key] = own
        except MalformedError as error:
            rows.problem(f"categories[{place}]", error.token, error.message)
    rows.points = tuple(dict.fromkeys(name for own in keypoints.values() for name in own))
    columns = {key: [rows.points.index(name) for name in own] for key, own in keypoints.items()}
    return names, columns


def _declared(document: dict[str, Any], names: dict[Any, str]) -> list[str]:
    """Classes without those that only stand above others, as Roboflow writes one."""
    entries = [entry for entry in document.get("categories") or [] if isinstance(entry, dict)]
    above = {str(entry.get("supercategory")) for entry in entries if entry.get("supercategory") != entry.get("name")}
    listed = document.get("annotations") if above.intersection(names.values()) else None
    keys = (each.get("category_id") for each in listed or [] if isinstance(each, dict))
    used = {key for key in keys if isinstance(key, int | str)}
    return [name for key, name in names.items() if name not in above or key in used]


def _in_columns(keypoints: Any, columns: list[int] | None, rows: Rows) -> Any:
    """Keypoints of a category in the columns of all; as they are where these are the same."""
    count = len(rows.points)
    if (
        columns is None
        or columns == list(range(count))
        or not _is_list(keypoints)
        or len(keypoints) != 3 * len(columns)
    ):
        return keypoints
    whole = [0] * (3 * count)
    for place, column in enumerate(columns):
        whole[3 * column : 3 * column + 3] = keypoints[3 * place : 3 * place + 3]
    return whole


def _explain(rows: Rows, row: int, annotation: Any, names: dict[Any, str]) -> None:
    """Say what is wrong with an annotation."""
    try:
        value_of(annotation, "bbox", list)
        for key in ("image_id", "category_id"):
            if not isinstance(value := value_of(annotation, key, object), int | str):
                raise MalformedError(show(value), f"`{key}` must be a whole number")
        raise MalformedError(show(annotation["category_id"]), f"no category has this `id`: {show(list(names))}")
    except MalformedError as error:
        rows.problem(f"annotations[{row}]", error.token, error.message)


def _keypoints(image: LabelledImage, face: int) -> dict[str, Any]:
    values: list[int | float] = []
    for x, y, mark in marked_points(image, face):
        values += [plain(as_float(x)), plain(as_float(y)), int(mark)] if mark else [0, 0, 0]
    return {"keypoints": values, "num_keypoints": sum(v > 0 for v in values[2::3])}


def _is_list(value: Any) -> bool:
    return isinstance(value, list)
