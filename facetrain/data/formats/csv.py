"""CSV: a header that names the columns, then a row for each face, or one without a box for an image that has none.

image      image, filename, file, path, image_path, image_name, image_id
box        x1 y1 x2 y2, or xmin ymin xmax ymax, or left top right bottom, or x y with w h or width height
class      class, label, category
size       image_width image_height; width height too where the box has two corners
ignore     ignore, difficult, iscrowd: 1 or true
score      score, confidence
landmarks  <name>_x <name>_y, and <name>_v where it is told: 0 missing, 1 hidden, 2 visible

Commas, semicolons or tabs stand between columns.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from facetrain.core.errors import DataError
from facetrain.core.faces import LabelledImage
from facetrain.core.files import write_text
from facetrain.data.holds import Holds
from facetrain.data.label_file import LabelFile
from facetrain.data.label_text import MalformedError, first_lines, numbers, read_text
from facetrain.data.places import Split, usual_places
from facetrain.data.rows import MISSING, VISIBLE, Rows
from facetrain.data.writing import check_images, marked_points, number

FILE = "*.csv"
HOLDS = Holds(landmarks=True, hidden=True, ignore=True, ignored_landmarks=True, scores=True)
FORM = "the header names the columns: image, x1, y1, x2, y2 or x, y, w, h, and others that examples/own_images.md lists"

_IMAGE = ("image", "filename", "file", "path", "image_path", "image_name", "file_name", "image_id")
_CORNERS = ("x1 y1 x2 y2", "xmin ymin xmax ymax", "x_min y_min x_max y_max", "left top right bottom")
_SIDES = ("x y w h", "x y width height", "left top width height", "xmin ymin width height", "x1 y1 w h")
_TRUE = ("1", "true", "yes", "1.0")
_EMPTY = ("", "nan", "none", "null")


@dataclass(frozen=True)
class _Columns:
    """Numbers of the columns, from 0; None or [] for what is not there."""

    image: int
    box: list[int]
    xywh: bool
    size: list[int]
    kind: int | None
    ignore: int | None
    score: int | None
    points: dict[str, tuple[int, int, int | None]]


def recognises(path: Path) -> bool:
    """Whether the first line names the columns of an image and of a box."""
    lines = first_lines(path, 1)
    return bool(lines) and _columns(next(csv.reader(lines, delimiter=_delimiter(lines[0])), [])) is not None


def places(root: Path, split: str) -> Iterator[Split]:
    """In the folder of each part, or named by it."""
    yield from usual_places(root, split, FILE)


def target(root: Path, split: str) -> Split:
    """Where a conversion puts it."""
    return Split(root / split / "labels.csv", root / split / "images")


def read(labels: Path, images: Path, points: Sequence[str] | None = None, classes: Sequence[str] = ()) -> LabelFile:
    """Read a file whose names are relative to the folder `images`."""
    text = read_text(labels)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text.partition("\n")[0]))
    try:
        header = next(reader, [])
        columns = _columns(header)
        if columns is None:
            raise DataError(f"{labels}:1: {', '.join(header)[:80]!r}: not the header of label columns", FORM)
        rows = Rows(labels, images, tuple(columns.points))
        for cells in reader:
            if not any(cells):
                rows.blank_lines += 1
                continue
            try:
                _read_row(rows, columns, cells, len(header), reader.line_num)
            except MalformedError as error:
                rows.problem(reader.line_num, error.token, error.message)
    except csv.Error as error:
        raise DataError(f"{labels}:{reader.line_num}: not CSV: {error}") from error
    hidden = any(mark is not None for _, _, mark in columns.points.values())
    return rows.label_file(points, xywh=columns.xywh, classes=classes, hidden=hidden, form=FORM)


def write(labels: Path, images: Sequence[LabelledImage], points: Sequence[str] = ()) -> None:
    """Write a file with two corners for each box."""
    scored = any(image.scores is not None for image in images)
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    header = ["image", "image_width", "image_height", "x1", "y1", "x2", "y2", "ignore"]
    writer.writerow([*header, *(["score"] if scored else []), *(f"{p}_{axis}" for p in points for axis in "xyv")])
    for image in check_images(images, HOLDS):
        start = [image.name, *(("", "") if image.size is None else map(str, image.size))]
        for face, box in enumerate(image.boxes):
            cells = [*start, *map(number, box), str(int(image.ignore[face]))]
            if scored:
                cells.append("" if image.scores is None else number(image.scores[face]))
            for x, y, mark in marked_points(image, face):
                cells += [number(x), number(y), f"{mark:.0f}"] if mark else ["", "", "0"]
            writer.writerow(cells)
        if not len(image.boxes):
            writer.writerow([*start, *[""] * (len(header) - 3 + int(scored) + 3 * len(points))])
    write_text(labels, stream.getvalue())


def _delimiter(line: str) -> str:
    return max(",;\t", key=line.count)


def _columns(header: Sequence[str]) -> _Columns | None:
    """What the columns are; None where no image or no box is among them."""
    places = {name.strip().lower(): place for place, name in reversed(list(enumerate(header)))}

    def first(*names: str) -> int | None:
        return next((places[name] for name in names if name in places), None)

    image = first(*_IMAGE)

    def all_of(names: str) -> list[int]:
        return [places[name] for name in names.split()] if all(name in places for name in names.split()) else []

    corners, sides = (list(filter(None, map(all_of, choices))) for choices in (_CORNERS, _SIDES))
    if image is None or not (corners or sides):
        return None
    size = all_of("image_width image_height") or (all_of("width height") if corners else [])
    points = {}
    for place, name in enumerate(header):
        start, _, axis = name.strip().rpartition("_")
        if axis.lower() == "x" and f"{start.lower()}_y" in places:
            points[start] = place, places[f"{start.lower()}_y"], places.get(f"{start.lower()}_v")
    return _Columns(
        image,
        (corners or sides)[0],
        not corners,
        size,
        first("class", "label", "category"),
        first("ignore", "difficult", "iscrowd"),
        first("score", "confidence"),
        points,
    )


def _read_row(rows: Rows, columns: _Columns, cells: list[str], width: int, line: int) -> None:
    if len(cells) != width:
        raise MalformedError(",".join(cells)[:80], f"{len(cells)} columns; the header has {width}")
    name = cells[columns.image].strip()
    image = rows.known(name)
    if image is None:
        image = rows.image(name, _size(cells, columns.size), line)
    if image < 0 or all(cells[place].strip().lower() in _EMPTY for place in columns.box):
        return
    ignore = columns.ignore is not None and cells[columns.ignore].strip().lower() in _TRUE
    scored = columns.score is not None and cells[columns.score].strip() != ""
    score = numbers([cells[columns.score]])[0] if scored and columns.score is not None else float("nan")
    kind = None if columns.kind is None else cells[columns.kind].strip()
    box = numbers([cells[place] for place in columns.box])
    if not rows.face(image, box, line, ignore=ignore, kind=kind, score=score) or not columns.points:
        return
    values: list[float] = []
    for x, y, mark in columns.points.values():
        if cells[x].strip().lower() in _EMPTY or cells[y].strip().lower() in _EMPTY:
            values += [0, 0, MISSING]
        else:
            told = cells[mark].strip() if mark is not None else ""
            values += [*numbers([cells[x], cells[y]]), numbers([told])[0] if told else VISIBLE]
    rows.landmarks(values)


def _size(cells: Sequence[str], places: Sequence[int]) -> tuple[int, int] | None:
    told = [cells[place] for place in places if cells[place].strip().lower() not in _EMPTY]
    sides = numbers(told)
    if len(sides) != 2:
        return None
    if not all(0 < side < 2**31 and side == int(side) for side in sides):
        raise MalformedError(" ".join(told), "width and height of an image are whole numbers above 0")
    return int(sides[0]), int(sides[1])
