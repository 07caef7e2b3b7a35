"""What the formats' `write` share: labels that can be written, and numbers as short as they come back the same."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facetrain.core.errors import DataError
from facetrain.core.faces import Floats, LabelledImage
from facetrain.core.files import write_text
from facetrain.data.holds import Holds
from facetrain.data.image_names import checked_name
from facetrain.data.label_text import MalformedError
from facetrain.data.rows import HIDDEN, MISSING, VISIBLE


def check_images(images: Sequence[LabelledImage], holds: Holds) -> Sequence[LabelledImage]:
    """The images, all of which can be read again once they are written. Raises DataError for the first that cannot."""
    seen: set[str] = set()
    for image in images:
        if holds.needs_size:
            size_of(image)
        points = image.landmarks[image.landmarks[..., 2] > 0]
        if not (np.isfinite(image.boxes).all() and np.isfinite(points).all()):
            raise DataError(f"{image.name}: a box or landmark that is not finite")
        if image.name in seen:
            raise DataError(f"{image.name}: label files hold an image only once")
        seen.add(image.name)
        try:
            if not holds.blanks and image.name.split() != [image.name]:
                raise MalformedError(image.name, "a path in this format must not contain blanks")
            if checked_name(image.name) != image.name:
                raise MalformedError(image.name, "not a plain path with forward slashes")
            if not holds.name(image.name):
                raise MalformedError(image.name, "a path with blanks at its ends, or with line breaks")
        except MalformedError as error:
            raise DataError(f"{error.token!r}: {error.message}") from error
    return images


def size_of(image: LabelledImage) -> tuple[int, int]:
    """(width, height) of an image whose labels tell it. Raises DataError."""
    if image.size is None or min(image.size) < 1:
        raise DataError(f"{image.name}: this format needs the width and height of every image")
    return image.size


def number(value: float | np.floating) -> str:
    """A float32 in the fewest digits that give it again, without an exponent."""
    text = np.format_float_positional(np.float32(value), unique=True, trim="-")
    return "0" if text == "-0" else text


def as_float(value: float | np.floating) -> float:
    """The number that `number` writes, for formats whose numbers are written by others."""
    return float(number(value))


def marked_points(image: LabelledImage, face: int) -> Iterator[tuple[float, float, float]]:
    """x, y and MISSING, HIDDEN or VISIBLE of each landmark of a face."""
    for place, (x, y, weight) in enumerate(image.landmarks[face]):
        unseen = image.hidden is not None and image.hidden[face, place]
        yield x, y, MISSING if weight <= 0 else HIDDEN if unseen else VISIBLE


def xywh_of(box: Floats, *, whole: bool = False) -> list[str]:
    """X y width height of a box (4,) float32, two corners. whole: rounded to pixels, sides at least 1.

    x + width, added up in float64, gives the second corner's float32 again.
    """
    if whole:
        x1, y1, x2, y2 = np.rint(box.astype(np.float64)).astype(np.int64).tolist()
        return [str(x1), str(y1), str(max(x2 - x1, 1)), str(max(y2 - y1, 1))]
    texts = [number(value) for value in box]
    return [*texts[:2], _length(texts[0], texts[2]), _length(texts[1], texts[3])]


def _length(low: str, high: str) -> str:
    digits = max(len(text.partition(".")[2]) for text in (low, high))
    length = round(float(high) - float(low), digits)
    if np.float32(float(low) + length) != np.float32(high):
        length = float(high) - float(low)
    text = np.format_float_positional(length, unique=True, trim="-")
    return "0" if text == "-0" else text


def as_json(document: dict[str, Any]) -> str:
    """A label file: a line for each element of its lists, characters as they are."""
    entries = []
    for key, value in document.items():
        text = json.dumps(value, ensure_ascii=False)
        if isinstance(value, list) and value:
            text = "[\n" + ",\n".join(json.dumps(element, ensure_ascii=False) for element in value) + "\n]"
        entries.append(f"{json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(entries) + "\n}\n"


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text file, whole or not at all."""
    write_text(path, "".join(line + "\n" for line in lines))
