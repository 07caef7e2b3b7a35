"""LabelMe: a JSON file for each image, beside it, with `shapes`: a rectangle for each face, a point for each landmark.

The label of a rectangle is its class, that of a point the landmark's name; equal `group_id`s tie a point to its face,
and without one it belongs to the smallest face around it. LabelMe's own flags say the rest: `ignore` of a rectangle,
`hidden` of a point.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from facetrain.core.faces import LabelledImage
from facetrain.data.each_image import label_files, name_beside, write_for_each
from facetrain.data.holds import Holds
from facetrain.data.label_file import LabelFile
from facetrain.data.label_json import plain, read_json, show, size_in, value_of
from facetrain.data.label_text import MalformedError, ends_of
from facetrain.data.places import Split, folder_pairs
from facetrain.data.rows import HIDDEN, VISIBLE, Rows
from facetrain.data.tied_points import Point, tie_points
from facetrain.data.writing import as_float, as_json, check_images, marked_points, size_of

FILE = "*.json"
HOLDS = Holds(landmarks=True, hidden=True, ignore=True, ignored_landmarks=True, needs_size=True)
FORM = "a shape has `label`, `shape_type` (rectangle or point), `points` and `group_id`"


def recognises(path: Path) -> bool:
    """Whether a file, or the first of a folder, has shapes and the path of its image."""
    if path.is_dir():
        return any(map(recognises, label_files(path, FILE, 1)))
    text = ends_of(path)
    return text.lstrip().startswith("{") and '"shapes"' in text and ('"imagePath"' in text or '"imageData"' in text)


def places(root: Path, split: str) -> Iterator[Split]:
    """Beside the images, or in a folder of their own."""
    yield from folder_pairs(root, split, ("", "labels", "annotations", "json"), FILE)


def target(root: Path, split: str) -> Split:
    """Where a conversion puts it: beside the images."""
    return Split(root / split / "images", root / split / "images")


def read(labels: Path, images: Path, points: Sequence[str] | None = None, classes: Sequence[str] = ()) -> LabelFile:
    """Read a folder of files, or one of them."""
    rows = Rows(labels, images, place=lambda shape: f"shapes[{shape}]")
    folder = labels if labels.is_dir() else labels.parent
    others = 0
    for file in label_files(labels, FILE) if labels.is_dir() else [labels]:
        rows.file = file
        document = read_json(file)
        try:
            told = document.get("imagePath") or ""
            if not isinstance(told, str):
                raise MalformedError(show(told), "`imagePath` must be a text")
            size = size_in(document, "imageWidth", "imageHeight")
            image = rows.image(name_beside(file, folder, images, told), size, "imagePath")
            shapes = value_of(document, "shapes", list)
        except MalformedError as error:
            rows.problem("shapes" if error.token else "", error.token, error.message)
            continue
        if image >= 0:
            others += _read_shapes(rows, image, shapes)
    if others:
        rows.notes.append(f"{others:,} shapes are neither rectangles nor points of a face, and left out")
    return rows.label_file(points, classes=classes, hidden=True, form=FORM)


def write(labels: Path, images: Sequence[LabelledImage], points: Sequence[str] = ()) -> None:
    """Write a file for each image."""
    write_for_each(labels, check_images(images, HOLDS), ".json", lambda image: as_json(_document(image, points)))


def _read_shapes(rows: Rows, image: int, shapes: list[Any]) -> int:
    """Read the shapes of an image; how many are of other kinds."""
    faces: list[tuple[int, Any, list[float]]] = []  # row, group, corners
    points: list[tuple[Any, Point]] = []
    others = 0
    for place, shape in enumerate(shapes):
        try:
            kind = value_of(shape, "shape_type", str)
            if kind not in ("rectangle", "point"):
                others += 1
                continue
            label, corners = value_of(shape, "label", str), _corners(shape, 1 if kind == "point" else 2)
        except MalformedError as error:
            rows.problem(f"shapes[{place}]", error.token, error.message)
            continue
        if kind == "point":
            mark = HIDDEN if _flag(shape, "hidden") else VISIBLE
            points.append((shape.get("group_id"), (label, corners[0], corners[1], mark)))
            continue
        (x1, x2), (y1, y2) = sorted(corners[::2]), sorted(corners[1::2])  # drawn from any corner
        if rows.face(image, (x1, y1, x2, y2), place, ignore=_flag(shape, "ignore"), kind=label):
            faces.append((len(rows) - 1, shape.get("group_id"), [x1, y1, x2, y2]))
    return others + tie_points(rows, faces, points)


def _corners(shape: dict[str, Any], count: int) -> list[float]:
    points = value_of(shape, "points", list)
    flat = [value for point in points if isinstance(point, list) for value in point]
    if len(flat) != 2 * count or len(points) != count or not all(type(value) in (int, float) for value in flat):
        raise MalformedError(show(points), f"`points` must be {count} times [x, y]")
    try:
        return [float(value) for value in flat]
    except OverflowError as error:
        raise MalformedError(show(points), "a number of too many digits") from error


def _flag(shape: dict[str, Any], name: str) -> bool:
    flags = shape.get("flags")
    return isinstance(flags, dict) and flags.get(name) is True


def _document(image: LabelledImage, points: Sequence[str]) -> dict[str, Any]:
    width, height = size_of(image)
    shapes: list[dict[str, Any]] = []
    for face, box in enumerate(image.boxes):
        flags = {"ignore": True} if image.ignore[face] else {}
        shapes.append(_shape("face", face, "rectangle", [box[:2], box[2:]], flags))
        for name, (x, y, mark) in zip(points, marked_points(image, face), strict=True):
            if mark:
                shapes.append(_shape(name, face, "point", [(x, y)], {"hidden": True} if mark == HIDDEN else {}))
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": image.name.rpartition("/")[2],
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def _shape(label: str, group: int, kind: str, corners: Any, flags: dict[str, bool]) -> dict[str, Any]:
    points = [[plain(as_float(x)), plain(as_float(y))] for x, y in corners]
    return {"label": label, "points": points, "group_id": group, "shape_type": kind, "flags": flags}
