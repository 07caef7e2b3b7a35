"""FDDB's ellipses, `FDDB-fold-01-ellipseList.txt`: read only, each face as the box around its ellipse.

    <path of the image without its suffix>
    <number of faces>
    <longer half axis> <shorter half axis> <angle> <centre x> <centre y> 1

The angle of the longer axis is in radians. Names are those of JPEG files.
"""

from collections.abc import Iterator, Sequence
from math import cos, hypot, sin
from pathlib import Path

from facetrain.core.images import SUFFIXES
from facetrain.data.each_image import label_files
from facetrain.data.holds import Holds
from facetrain.data.label_file import LabelFile
from facetrain.data.label_text import MalformedError, first_lines, is_number, lines_of, numbers, read_text
from facetrain.data.places import Split, images_of
from facetrain.data.rows import Rows

FILE = "FDDB-fold-*-ellipseList.txt"
HOLDS = Holds()
FORM = "an image is its path, the number of its faces, and for each a line of six numbers"

_NUMBERS = 6


def recognises(path: Path) -> bool:
    """Whether a name, a whole number and a line of six numbers come first; of a folder, in its first list."""
    if path.is_dir():
        return any(map(recognises, label_files(path, FILE, 1)))
    lines = first_lines(path, 3)
    if len(lines) < 3 or lines[0].startswith("#") or not lines[1].strip().isdigit():
        return False
    tokens = lines[2].split()
    return len(tokens) == _NUMBERS and all(map(is_number, tokens)) and tokens[-1] == "1"


def places(root: Path, split: str) -> Iterator[Split]:
    """The folder of all folds; they are parts to be measured by, not one to train on and one to judge by."""
    images = next((folder for folder in (root / "originalPics",) if folder.is_dir()), images_of(root))
    for folder in (root / "FDDB-folds", root):
        if folder.is_dir() and any(folder.glob(FILE)):
            yield Split(folder, images, whole=True)


def read(labels: Path, images: Path, points: Sequence[str] | None = None, classes: Sequence[str] = ()) -> LabelFile:
    """Read one list, or all of a folder."""
    rows = Rows(labels, images)
    for file in label_files(labels, FILE) if labels.is_dir() else [labels]:
        rows.file = file
        lines = lines_of(read_text(file))
        at = 0
        while at < len(lines):
            name = lines[at].strip()
            at += 1
            if not name:
                rows.blank_lines += 1
                continue
            count = rows.count_below(lines, at, name)
            if count is None:
                break  # nothing tells where the next image begins
            image = rows.image(name if name.lower().endswith(SUFFIXES) else f"{name}.jpg", None, at)
            faces = lines[at + 1 : at + 1 + count]
            if len(faces) < count:
                rows.problem(len(lines), lines[-1], f"the file ends before the {count} faces that the image tells")
            _read_faces(rows, image, faces, at + 2)
            at += 1 + count
    return rows.label_file(points, form=FORM)


def _read_faces(rows: Rows, image: int, lines: Sequence[str], first: int) -> None:
    for place, line in enumerate(lines, first):
        try:
            tokens = line.split()
            if len(tokens) < _NUMBERS - 1:
                raise MalformedError(line.strip(), "a face is `longer shorter angle x y 1`")
            longer, shorter, angle, x, y = numbers(tokens[: _NUMBERS - 1])
            if not abs(angle) < 1e6:
                raise MalformedError(tokens[2], "not an angle in radians")
        except MalformedError as error:
            rows.problem(place, error.token, error.message)
            continue
        half_width = hypot(longer * cos(angle), shorter * sin(angle))
        half_height = hypot(longer * sin(angle), shorter * cos(angle))
        if image >= 0:
            rows.face(image, (x - half_width, y - half_height, x + half_width, y + half_height), place)
