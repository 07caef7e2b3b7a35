"""RetinaFace's `label.txt`: a header for each image, below it a line for each face.

    # <path relative to the image folder>
    x y width height                                      a box alone
    x y width height  lx0 ly0 f0 … lx4 ly4 f4  [blur]     a box, its landmarks, and a number that is not read

A landmark `-1 -1 -1` is missing; f is 0 where it is visible and 1 where it is hidden. There is no mark for faces
that are to be ignored.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from facetrain.core.faces import LabelledImage
from facetrain.data.formats import labelv2
from facetrain.data.holds import Holds
from facetrain.data.label_file import LabelFile
from facetrain.data.label_text import MalformedError, first_lines, is_number, lines_of, numbers, read_text
from facetrain.data.landmark_names import default_names
from facetrain.data.places import Split, usual_places
from facetrain.data.rows import HIDDEN, MISSING, VISIBLE, Rows
from facetrain.data.writing import check_images, marked_points, number, write_lines, xywh_of

FILE = "label.txt"
HOLDS = Holds(landmarks=True, names=False, hidden=True)
FORM = "an image is `# <path>`, and each of its faces a line `x y width height`, and `x y 0` for each landmark"


def recognises(path: Path) -> bool:
    """Whether a header without a size stands above a line of numbers, or above another header."""
    lines = first_lines(path, 2)
    if not lines or not lines[0].lstrip().startswith("#") or labelv2.recognises(path):
        return False
    below = lines[1].split() if len(lines) > 1 else ["#"]
    return below[0].startswith("#") or (len(below) >= 4 and all(map(is_number, below)))


def places(root: Path, split: str) -> Iterator[Split]:
    """In the folder of each part, as it comes."""
    yield from usual_places(root, split, FILE)


def target(root: Path, split: str) -> Split:
    """Where a conversion puts it."""
    return Split(root / split / FILE, root / split / "images")


def read(labels: Path, images: Path, points: Sequence[str] | None = None, classes: Sequence[str] = ()) -> LabelFile:
    """Read a file whose paths are relative to the folder `images`."""
    lines = lines_of(read_text(labels))
    count = _usual_landmarks(lines)
    rows = Rows(labels, images, default_names(count))
    image = None
    for place, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            rows.blank_lines += 1
        elif text.startswith("#"):
            image = rows.image(text[1:].strip(), None, place)
        elif image is None:
            rows.problem(place, text, "a face line before any header `# <path>`")
            image = -1
        elif image >= 0:
            try:
                _read_face(rows, image, text.split(), place, count)
            except MalformedError as error:
                rows.problem(place, error.token, error.message)
    return rows.label_file(points, xywh=True, named=False, hidden=True, form=FORM)


def write(labels: Path, images: Sequence[LabelledImage], points: Sequence[str] = ()) -> None:
    """Write a file, without the number behind the landmarks."""
    lines = []
    for image in check_images(images, HOLDS):
        lines.append(f"# {image.name}")
        for face, box in enumerate(image.boxes):
            tokens = xywh_of(box)
            if (image.landmarks[face, :, 2] > 0).any():
                for x, y, mark in marked_points(image, face):
                    tokens += [number(x), number(y), str(int(mark == HIDDEN))] if mark else ["-1"] * 3
            lines.append(" ".join(tokens))
    write_lines(labels, lines)


def _usual_landmarks(lines: Sequence[str]) -> int:
    """How many landmarks most faces with any have."""
    lengths = (len(line.split()) for line in lines if not line.lstrip().startswith("#"))
    counts = Counter((length - 4) // 3 for length in lengths if length >= 7)
    return max(counts, key=lambda count: (counts[count], count), default=0)


def _read_face(rows: Rows, image: int, tokens: list[str], place: int, count: int) -> None:
    whole = 4 + 3 * count
    if len(tokens) < 4 or (count and len(tokens) > 5 and not 0 <= len(tokens) - whole < 3):
        message = f"{len(tokens)} numbers; a face line has 4 (a box)" + (f" or {whole} to {whole + 2}" if count else "")
        raise MalformedError(" ".join(tokens), message)
    values = numbers(tokens[:whole] if len(tokens) >= whole else tokens[:4])
    if not rows.face(image, values[:4], place) or len(values) == 4:
        return
    points: list[float] = []
    for at in range(4, whole, 3):
        x, y, flag = values[at : at + 3]
        if flag < 0 and (x, y, flag) != (-1, -1, -1):
            raise MalformedError(tokens[at + 2], "below 0 behind a landmark; only `-1 -1 -1` is, where it is missing")
        points += [x, y, MISSING if flag < 0 else VISIBLE if flag == 0 else HIDDEN]
    rows.landmarks(points)
