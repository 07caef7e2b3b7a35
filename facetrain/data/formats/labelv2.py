"""The labelv2 text format: a header for each image, below it a line for each face.

    # <path relative to the image folder> <width> <height>
    x1 y1 x2 y2                                   a box alone
    x1 y1 x2 y2 f                                 ignored if f is 1, otherwise an ordinary box
    x1 y1 x2 y2 lx0 ly0 v0 lx1 ly1 v1 … [more]    a box and L landmarks; one or two numbers behind them are not read

A landmark `-1 -1 -1` is missing. Any other v must be at least 0 and says nothing further: 0 is as usable as 1.
The original trainer refuses boxes alone in training and stops at a blank line; here both are ordinary.
"""

import math
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetrain.core.errors import DataError
from facetrain.core.faces import Floats, LabelledImage
from facetrain.core.files import as_spelled
from facetrain.data.holds import Holds
from facetrain.data.image_names import checked_name
from facetrain.data.label_file import LabelFile, LabelProblem, LabelStatistics, at_place
from facetrain.data.label_text import MalformedError, lines_of, numbers, read_text
from facetrain.data.landmark_names import columns_of, default_names, other_number
from facetrain.data.places import Split, usual_places
from facetrain.data.rows import LARGEST, NOT_PIXELS
from facetrain.data.writing import check_images, number, size_of, write_lines

FILE = "labelv2.txt"  # its name in a data set
HOLDS = Holds(landmarks=True, names=False, ignore=True, blanks=False, needs_size=True)
FORM = "an image is `# <path> <width> <height>`, and each of its faces a line `x1 y1 x2 y2` below"

# Looser than a good header (a path with blanks, sizes of 0): such a file is meant, and `read` says what is wrong.
_FIRST_LINE = re.compile(r"\s*#\s*\S.*?\s-?\d+\s+-?\d+(\s|$)")


@dataclass(frozen=True)
class _Lines:
    """A label file taken apart. R face lines under good headers, in the file's order.

    headers: name, size and number of the first face line, for each good header
    table:   (R, 4 + 3 L) float64: x1 y1 x2 y2, then x y v of each landmark, -1 where there is none
    ignore:  (R,) bool
    numbers: (R,) line number of each face line, from 1
    """

    headers: list[tuple[str, tuple[int, int], int]]
    table: NDArray[np.float64]
    ignore: NDArray[np.bool_]
    numbers: NDArray[np.int64]
    problems: list[LabelProblem]
    blank_lines: int


def recognises(path: Path) -> bool:
    """Whether the first line that is not blank looks like a header of this format."""
    try:
        with path.open("rb") as file:
            line = b""
            while not line.strip():
                line = file.readline(4096)
                if not line:
                    return False
                line = line.removeprefix(b"\xef\xbb\xbf")
    except OSError:
        return False
    return _FIRST_LINE.match(line.decode(errors="replace")) is not None


def places(root: Path, split: str) -> Iterator[Split]:
    """In the folders of WIDER FACE, and as a plain pair of folders; then the usual ones."""
    yield Split(root / "labelv2" / split / FILE, root / f"WIDER_{split}" / "images")
    yield Split(root / split / FILE, root / split / "images")
    yield from usual_places(root, split, FILE)


def target(root: Path, split: str) -> Split:
    """Where a conversion puts it."""
    return Split(root / split / FILE, root / split / "images")


def read(labels: Path, images: Path, points: Sequence[str] | None = None, classes: Sequence[str] = ()) -> LabelFile:
    """Read a label file whose paths are relative to the folder `images`.

    points: names of the landmarks that the model learns, in the order of the columns, as the format has no names; or
            some of the usual five. With none the columns behind the box are not read. None: as many as most lines have.

    Faces that cannot be read are listed in `problems`, and reading goes on. Boxes without area, which could only
    teach nonsense, are left out and counted. Raises DataError where the file as a whole cannot be read, and where most
    lines have other landmarks than `points`.
    """
    path, lines = labels, lines_of(read_text(labels))
    usual = _usual_landmarks(lines)
    points = default_names(usual) if points is None else points
    landmarks = usual if points and usual else len(points)  # of a line
    columns = columns_of(points, default_names(landmarks), named=False)
    if columns is None:
        first = next(row for row, line in enumerate(lines, 1) if _landmarks_of(line) == usual)
        raise other_number(at_place(path, first), usual, len(points))
    taken = _take_apart(path, lines, landmarks)
    readable, problems = _check_numbers(path, lines, taken)
    problems = sorted(taken.problems + problems, key=lambda problem: int(problem.line))
    if not taken.headers and not problems:
        raise DataError(f"{path}: no images in this label file", "an image begins with `# <path> <width> <height>`")

    table = np.where(readable[:, None], taken.table, 0).astype(np.float32)
    # has an area; lines that cannot be read hold zeros now, so they have none
    kept = (table[:, 2] > table[:, 0]) & (table[:, 3] > table[:, 1])  # (R,)
    every_mark = table[:, 4:].reshape(len(table), landmarks, 3)[:, columns]  # (R, L, 3)
    every_mark[..., 2] = every_mark[..., 2] >= 0
    boxes, marks, ignore = table[kept, :4], every_mark[kept], taken.ignore[kept]  # (F, …) of all images

    # A header that comes again starts its image afresh, in its old place: what a dictionary does.
    stops = [*(first for _, _, first in taken.headers), len(kept)][1:]
    spans = {name: (size, first, stop) for (name, size, first), stop in zip(taken.headers, stops, strict=True)}
    kept_before = np.concatenate([[0], np.cumsum(kept)])  # (R + 1,)
    without_area = readable & ~kept
    labelled: list[LabelledImage] = []
    listings: dict[Path, dict[str, str]] = {}
    flat: list[LabelledImage] = []
    for name, (size, first, stop) in spans.items():
        faces = slice(kept_before[first], kept_before[stop])
        labelled.append(
            LabelledImage(as_spelled(images, name, listings), name, size, boxes[faces], marks[faces], ignore[faces])
        )
        lost = first + np.flatnonzero(without_area[first:stop])
        if len(lost):
            marks_of_lost, ignored = every_mark[lost], taken.ignore[lost]
            flat.append(replace(labelled[-1], boxes=table[lost, :4], landmarks=marks_of_lost, ignore=ignored))
    repeated = len(taken.headers) - len(spans)
    left_out = sum(len(image.boxes) for image in flat)
    statistics = LabelStatistics.of(labelled, left_out, repeated, taken.blank_lines)
    return LabelFile(labelled, problems, statistics, tuple(points), FORM, flat=tuple(flat), named=False)


def write(labels: Path, images: Sequence[LabelledImage], points: Sequence[str] = ()) -> None:
    """Write a label file. The format has no room for landmarks of ignored faces.

    Raises DataError for an image that the format cannot hold, OutputError where the file cannot be written.
    """
    lines = []
    for image in check_images(images, HOLDS):
        width, height = size_of(image)
        lines.append(f"# {image.name} {width} {height}")
        lines += [_face_line(*face) for face in zip(image.boxes, image.landmarks, image.ignore, strict=True)]
    write_lines(labels, lines)


def _usual_landmarks(lines: Sequence[str]) -> int:
    """How many landmarks most lines with any have."""
    counts = Counter(map(_landmarks_of, lines))
    return max((count for count in counts if count > 0), key=lambda count: (counts[count], count), default=0)


def _landmarks_of(line: str) -> int:
    """How many landmarks a face line has, as it seems; below 1 for any other line."""
    return 0 if line.lstrip().startswith("#") else (len(line.split()) - 4) // 3


def _take_apart(path: Path, lines: Sequence[str], landmarks: int) -> _Lines:
    """Sort the lines into headers and face lines and read their numbers."""
    width = 4 + 3 * landmarks
    missing = [-1.0] * (3 * landmarks)
    headers: list[tuple[str, tuple[int, int], int]] = []
    values, ignore, line_numbers = array("d"), bytearray(), array("q")
    problems: list[LabelProblem] = []
    blank_lines = 0
    # Faces below a bad header have no image; one message for the header is enough, and so is one for
    # all faces before the first header (in a file of another format that is every line).
    place = "before"  # the first header; then "inside" an image, or "lost" below a bad header
    for row, line in enumerate(lines, 1):
        tokens = line.split()
        if not tokens:
            blank_lines += 1
            continue
        try:
            if tokens[0].startswith("#"):
                place = "lost"
                headers.append((*_parse_header(line), len(ignore)))
                place = "inside"
            elif place == "inside":
                face, ignored = _parse_face(tokens, landmarks)
                values.extend(face)
                if len(face) < width:
                    values.extend(missing)
                ignore.append(ignored)
                line_numbers.append(row)
            elif place == "before":
                place = "lost"
                raise MalformedError(line.strip(), "a face line before any header `# <path> <width> <height>`")
        except MalformedError as error:
            problems.append(LabelProblem(path, row, error.token, error.message))
    table = np.array(values).reshape(-1, width)
    return _Lines(headers, table, np.array(ignore, bool), np.array(line_numbers), problems, blank_lines)


def _parse_header(line: str) -> tuple[str, tuple[int, int]]:
    """Name and (width, height) from a header line. Tokens after the third are not read."""
    tokens = line.strip()[1:].split()
    if len(tokens) < 3:
        raise MalformedError(line.strip(), "a header is `# <path> <width> <height>`")
    for token in tokens[1:3]:
        if not _is_side(token):
            message = "width and height are whole numbers above 0"
            if len(tokens) > 3 and _is_side(tokens[-2]) and _is_side(tokens[-1]):
                message += "; is there a blank in the path? It must not have any"
            raise MalformedError(token, message)
    return checked_name(tokens[0]), (int(tokens[1]), int(tokens[2]))


def _is_side(token: str) -> bool:
    return token.isascii() and token.isdigit() and len(token) <= 9 and int(token) > 0


def _parse_face(tokens: list[str], landmarks: int) -> tuple[list[float], bool]:
    """4 or 4 + 3 L numbers (the box, and its landmarks if the line has them), and whether the face is ignored."""
    count = len(tokens)
    if count == 5:
        used = 5
    elif count >= 4 and landmarks in (0, (count - 4) // 3):
        used = 4 + 3 * landmarks
    elif count == 4:
        used = 4
    else:
        raise MalformedError(" ".join(tokens), _count_message(count, landmarks))
    values = numbers(tokens[:used])
    if used != 5:
        return values, False
    if not math.isfinite(values[4]):
        raise MalformedError(tokens[4], "the mark for ignored faces is 1 or 0")
    return values[:4], values[4] == 1


def _count_message(count: int, landmarks: int) -> str:
    """What to say of a face line with a wrong number of tokens."""
    usual = "4 (a box) or 5 (with an ignore mark)"
    if count < 4:
        return f"{count} numbers; a face line has {usual} or more"
    triples, over = divmod(count - 4, 3)
    seems = f"{triples} landmark{'' if triples == 1 else 's'}" + (f" and {over} more" if over else "")
    return (
        f"{count} numbers, a box and it seems {seems}; the others have {landmarks}, "
        f"so a face line has {usual} or {4 + 3 * landmarks} to {6 + 3 * landmarks}"
    )


def _check_numbers(path: Path, lines: Sequence[str], taken: _Lines) -> tuple[NDArray[np.bool_], list[LabelProblem]]:
    """Which face lines, (R,) bool, have usable numbers only; and the first problem of each that has not."""
    # written so that NaN, which compares with nothing, counts as wrong
    not_pixels = ~(np.abs(taken.table) <= LARGEST)  # (R, 4 + 3 L)
    bad_mark = np.zeros_like(not_pixels)
    landmarks = (taken.table.shape[1] - 4) // 3
    triples = taken.table[:, 4:].reshape(len(taken.table), landmarks, 3)  # (R, L, 3)
    bad_mark[:, 6::3] = (triples[..., 2] < 0) & (triples != -1).any(-1)
    wrong = not_pixels | bad_mark
    problems = []
    for row in np.flatnonzero(wrong.any(1)):
        column = int(wrong[row].argmax())
        line = int(taken.numbers[row])
        token = lines[line - 1].split()[column]
        if not_pixels[row, column]:
            message = NOT_PIXELS
        else:
            message = "below 0 behind a landmark; only `-1 -1 -1` is, where the landmark is missing"
        problems.append(LabelProblem(path, line, token, message))
    return np.logical_not(wrong.any(1)), problems


def _face_line(box: Floats, points: Floats, ignore: np.bool_) -> str:
    """box: (4,), points: (L, 3) x y weight."""
    tokens = [number(value) for value in box]
    if ignore:
        tokens.append("1")
    elif (points[:, 2] > 0).any():
        for x, y, weight in points:
            tokens += [number(x), number(y), "1"] if weight > 0 else ["-1", "-1", "-1"]
    return " ".join(tokens)
