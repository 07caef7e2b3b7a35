"""YOLO and YOLO-pose: a text file for each image, lines `class x y width height` in shares of it, x y the centre.

Landmarks follow as x y, or x y v with v 0 missing, 1 hidden, 2 visible. The set's yaml says the rest: where `train` and
`val` lie, the `names` of the classes, `kpt_shape`, `kpt_names`. Labels lie where the last `images` of an image's path
is `labels`, or beside the images. An image without a file has no faces. Without a yaml five landmarks are read as they
come.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from facetrain.core.errors import InputError
from facetrain.core.faces import LabelledImage
from facetrain.core.files import write_text
from facetrain.core.image_header import file_header
from facetrain.data.each_image import image_names, label_files, write_for_each
from facetrain.data.holds import Holds
from facetrain.data.label_file import LabelFile
from facetrain.data.label_text import MalformedError, first_lines, is_number, lines_of, numbers, read_text
from facetrain.data.landmark_names import default_names
from facetrain.data.places import PARTS, Split, folder_pairs, matches
from facetrain.data.rows import MISSING, VISIBLE, Rows
from facetrain.data.writing import as_float, check_images, marked_points, size_of
from facetrain.data.yolo_yaml import YoloYaml, find_yaml, listed_images, read_yaml, yaml_text

FILE = "*.yaml"
HOLDS = Holds(landmarks=True, hidden=True, needs_size=True, asks_for_parts="Ultralytics")
FORM = "a face is `class x y width height`, the centre and the sides in shares of the image (0 … 1)"

_WIDEST = 2.0  # a share beyond it is a pixel
_DECIMALS = 9  # of pixels: what multiplying by the size blurs is behind them


def recognises(path: Path) -> bool:
    """Whether a yaml names classes and where images lie; of a folder, whether its first text has such lines."""
    if path.is_dir():
        return any(map(_is_text, label_files(path, "*.txt", 3)))
    return path.suffix.lower() in (".yaml", ".yml") and read_yaml(path) is not None


def places(root: Path, split: str) -> Iterator[Split]:
    """Where the yaml points to; else folders of images and of labels for each part."""
    for file in [*matches(root, "*.yaml"), *matches(root, "*.yml")]:
        spec = read_yaml(file)
        told = spec and next((spec.parts[part] for part in PARTS[split] if part in spec.parts), None)
        if told:
            yield _split(file, told)
    yield from folder_pairs(root, split, ("labels",), "*.txt")


def target(root: Path, split: str) -> Split:
    """Where a conversion puts it."""
    return Split(root / "labels" / split, root / "images" / split)


def read(
    labels: Path,
    images: Path,
    points: Sequence[str] | None = None,
    classes: Sequence[str] = (),
    among: Sequence[Path] = (),
) -> LabelFile:
    """Read the labels of all images below a folder, or of those `among` it. labels: the yaml, or the labels' folder."""
    file = labels if labels.is_file() else find_yaml(labels)
    spec = (file and read_yaml(file)) or YoloYaml()
    if not images.is_dir():
        raise InputError(f"{images}: no such folder of images", "sizes of images turn shares into pixels")
    rows = Rows(labels, images)
    pending: list[tuple[int, list[float]]] = []  # row and x y v of its points
    broken = 0
    folders: dict[Path, Path] = {}  # of labels, by the folder of images
    for name in _names(images, among):
        if labels.is_file():
            above = (images / name).parent
            folder = folders.get(above) or folders.setdefault(above, _labels_of(above))
            rows.file = (folder / Path(name).name).with_suffix(".txt")
        else:
            rows.file = (labels / name).with_suffix(".txt")
        lines = lines_of(read_text(rows.file)) if rows.file.is_file() else []
        faces = [(place, line.split()) for place, line in enumerate(lines, 1) if line.strip()]
        size = _size(images / name) if faces else None
        image = rows.image(name, size, 1)
        if image >= 0 and size is not None:
            for place, tokens in faces:
                try:
                    _read_face(rows, image, size, tokens, place, spec, pending)
                except MalformedError as error:
                    rows.problem(place, error.token, error.message)
        broken += bool(faces) and size is None
    if broken:
        rows.notes.append(f"{broken:,} images with labels cannot be read")
    if file and spec.outside:
        rows.notes.append(f"{file} points to images outside of its folder")
    count = max((len(values) // 3 for _, values in pending), default=0)
    rows.points = spec.points or default_names(count)
    for row, values in pending:
        rows.landmarks_of(row, values)
    declared = list(spec.names.values())
    named = bool(spec.points)
    found = rows.label_file(points, classes=classes, declared=declared, named=named, hidden=True, form=FORM)
    return replace(found, convention="cxcywh-shares")


def write(labels: Path, images: Sequence[LabelledImage], points: Sequence[str] = ()) -> None:
    """Write a folder of texts, and the yaml of all parts two folders above, or one above a set without parts."""
    write_for_each(labels, check_images(images, HOLDS), ".txt", lambda image: _text(image, points))
    if labels.name == "labels":
        write_text(labels.parent / "data.yaml", yaml_text(points, ()))
    else:
        parts = [part for part in PARTS if (labels.parent / part).is_dir()]
        write_text(labels.parents[1] / "data.yaml", yaml_text(points, parts))


def _split(file: Path, told: Sequence[Path]) -> Split:
    """The place of what a yaml tells of a part: one folder, or the folder above some of them and all listed images."""
    missing = [place for place in told if not place.exists()]
    if missing or (len(told) == 1 and told[0].is_dir()):
        return Split(file, (missing or told)[0])
    above = {str(image.parent) for place in told for image in listed_images(place)}
    base = Path(os.path.commonpath(above)) if above else file.parent
    return Split(file, base, among=tuple(told))


def _names(images: Path, among: Sequence[Path]) -> list[str]:
    if not among:
        return image_names(images)
    return sorted({path.relative_to(images).as_posix() for place in among for path in listed_images(place)})


def _labels_of(images: Path) -> Path:
    """The folder of labels of a folder of images: its last `images` is `labels`; the folder itself if none is there."""
    parts = images.parts
    for place in range(len(parts) - 1, -1, -1):
        folder = Path(*parts[:place], "labels", *parts[place + 1 :])
        if parts[place] == "images" and folder.is_dir():
            return folder
    return images


def _size(path: Path) -> tuple[int, int] | None:
    try:
        header = file_header(path)
    except OSError:
        return None
    return None if header is None else header.upright


def _read_face(
    rows: Rows,
    image: int,
    size: tuple[int, int],
    tokens: list[str],
    place: int,
    spec: YoloYaml,
    pending: list[tuple[int, list[float]]],
) -> None:
    dims = _dimensions(tokens, spec)
    values = numbers(tokens)
    if any(not abs(value) <= _WIDEST for value in values[1:5]):
        wrong = next(token for token, value in zip(tokens[1:5], values[1:5], strict=True) if not abs(value) <= _WIDEST)
        raise MalformedError(wrong, "not a share of the image (0 … 1); are these pixels?")
    if values[0] != int(values[0]) or values[0] < 0:
        raise MalformedError(tokens[0], "a class is a whole number from 0")
    (width, height), (x, y, w, h) = size, values[1:5]
    x, y, w, h = x * width, y * height, w * width, h * height
    corners = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    kind = spec.names.get(int(values[0]), tokens[0])
    if spec.names and int(values[0]) not in spec.names:
        raise MalformedError(tokens[0], f"no such class in the yaml, which has {len(spec.names)}")
    rows.face(image, [round(value, _DECIMALS) for value in corners], place, kind=kind)
    if not dims:
        return
    points: list[float] = []
    for at in range(5, len(tokens) - (len(tokens) - 5) % dims, dims):
        px, py = values[at : at + 2]
        mark = values[at + 2] if dims == 3 else VISIBLE
        if px < 0 or py < 0 or mark == 0 or (dims == 2 and px == py == 0):
            points += [0, 0, MISSING]
        else:
            points += [round(px * width, _DECIMALS), round(py * height, _DECIMALS), mark]
    pending.append((len(rows) - 1, points))


def _dimensions(tokens: Sequence[str], spec: YoloYaml) -> int:
    """How many numbers a landmark of this line has; 0 for a box alone, with or without a score behind it."""
    count = len(tokens) - 5
    if count in (0, 1):
        return 0
    if spec.shape is not None:
        points, dims = spec.shape
        if count in (points * dims, points * dims + 1):
            return dims
        message = f"{len(tokens)} numbers; with `kpt_shape` {list(spec.shape)} a line has 5 or {5 + points * dims}"
    else:
        if count in (10, 15):  # the five of a face, as face detectors of this family have them
            return count // 5
        message = f"{len(tokens)} numbers; a line has 5, or a `kpt_shape` in the yaml says how many landmarks follow"
    raise MalformedError(" ".join(tokens), message)


def _is_text(path: Path) -> bool:
    lines = first_lines(path, 1)
    tokens = lines[0].split() if lines else []
    if len(tokens) < 5 or not tokens[0].isdigit() or not all(map(is_number, tokens)):
        return False
    return all(abs(float(token)) <= _WIDEST for token in tokens[1:5])


def _text(image: LabelledImage, points: Sequence[str]) -> str:
    width, height = size_of(image)
    lines = []
    for face, box in enumerate(image.boxes):
        x1, y1, x2, y2 = map(as_float, box)
        values = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]
        tokens = ["0", *map(repr, values)]
        for x, y, mark in marked_points(image, face) if points else ():
            tokens += [repr(as_float(x) / width), repr(as_float(y) / height), f"{mark:.0f}"] if mark else ["0"] * 3
        lines.append(" ".join(tokens))
    return "".join(line + "\n" for line in lines)
