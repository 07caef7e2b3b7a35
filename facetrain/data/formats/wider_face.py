"""WIDER FACE's own list, `wider_face_train_bbx_gt.txt`: for each image its name, how many faces, and a line for each.

    <path relative to the image folder>
    <number of faces>
    x y width height blur expression illumination invalid occlusion pose

A face marked invalid is ignored. Old copies lack some of the marks; an image without faces may be followed by a line of
zeros. There are no landmarks, and numbers are whole pixels.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from facetrain.core.faces import LabelledImage
from facetrain.core.images import SUFFIXES
from facetrain.data.holds import Holds
from facetrain.data.label_file import LabelFile
from facetrain.data.label_text import MalformedError, first_lines, is_number, lines_of, numbers, read_text
from facetrain.data.places import Split, usual_places
from facetrain.data.rows import Rows
from facetrain.data.writing import check_images, write_lines, xywh_of

FILE = "wider_face_*_bbx_gt.txt"
HOLDS = Holds(ignore=True, decimals=False)
FORM = "an image is its path, the number of its faces, and for each a line `x y width height …`"

_INVALID = 7  # column of the mark


def recognises(path: Path) -> bool:
    """Whether the first lines are the name of an image and a whole number."""
    lines = first_lines(path, 2)
    return len(lines) == 2 and lines[0].strip().lower().endswith(SUFFIXES) and lines[1].strip().isdigit()


def places(root: Path, split: str) -> Iterator[Split]:
    """The official folders, and the usual ones."""
    name = FILE.replace("*", split)
    for folder in (root / "wider_face_split", root):
        yield Split(folder / name, root / f"WIDER_{split}" / "images")
    whole = FILE.replace("*", "all")
    yield Split(root / "wider_face_split" / whole, root / "WIDER_all" / "images", whole=True)
    yield from usual_places(root, split, FILE)


def target(root: Path, split: str) -> Split:
    """Where a conversion puts it."""
    name = FILE.replace("*", split or "all")
    return Split(root / "wider_face_split" / name, root / f"WIDER_{split or 'all'}" / "images")


def read(labels: Path, images: Path, points: Sequence[str] | None = None, classes: Sequence[str] = ()) -> LabelFile:
    """Read a list whose paths are relative to the folder `images`."""
    rows = Rows(labels, images)
    lines = lines_of(read_text(labels))
    at = 0
    while at < len(lines):
        name = lines[at].strip()
        at += 1
        if not name:
            rows.blank_lines += 1
            continue
        count = rows.count_below(lines, at, name)
        if count is None:
            at = _next_image(lines, at)
            continue
        image = rows.image(name, None, at)
        at = _read_faces(rows, image, lines, at + 1, count)
    return rows.label_file(points, xywh=True, form=FORM)


def write(labels: Path, images: Sequence[LabelledImage], points: Sequence[str] = ()) -> None:
    """Write a list, positions rounded to whole pixels."""
    lines = []
    for image in check_images(images, HOLDS):
        lines += [image.name, str(len(image.boxes))]
        for box, ignore in zip(image.boxes, image.ignore, strict=True):
            lines.append(" ".join([*xywh_of(box, whole=True), f"0 0 0 {int(ignore)} 0 0 "]))
        if not len(image.boxes):
            lines.append("0 0 0 0 0 0 0 0 0 0 ")  # as the official lists have it
    write_lines(labels, lines)


def _read_faces(rows: Rows, image: int, lines: Sequence[str], at: int, count: int) -> int:
    """Read the faces of an image from the line with index `at` on; the index of the line behind them."""
    first, stop = at, min(at + count, len(lines))
    while at < stop:
        tokens = lines[at].split()
        try:
            if len(tokens) < 4:
                raise MalformedError(lines[at].strip(), "a face is `x y width height` and marks behind it")
            values = numbers(tokens[: _INVALID + 1])
        except MalformedError as error:
            if _begins_image(lines, at):  # the next one, too early
                rows.problem(at + 1, lines[at].strip(), f"a face expected: the image tells {count:,} of them")
                return at
            rows.problem(at + 1, error.token, error.message)
        else:
            if image >= 0:
                rows.face(image, values[:4], at + 1, ignore=len(values) > _INVALID and values[_INVALID] == 1)
        at += 1
    if first + count > len(lines):
        rows.problem(len(lines), lines[-1], f"the file ends before the {count:,} faces that the image tells")
    return stop + 1 if not count and stop < len(lines) and _is_face(lines[stop]) else stop


def _is_face(line: str) -> bool:
    tokens = line.split()
    return len(tokens) >= 4 and all(map(is_number, tokens))


def _begins_image(lines: Sequence[str], at: int) -> bool:
    """Whether a line is no face and stands before a number."""
    below = lines[at + 1].strip() if at + 1 < len(lines) else ""
    return bool(lines[at].strip()) and below.isdigit() and not _is_face(lines[at])


def _next_image(lines: Sequence[str], at: int) -> int:
    while at < len(lines) and not _begins_image(lines, at):
        at += 1
    return at
