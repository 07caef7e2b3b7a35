"""CVAT for images 1.1: one XML file with an `image` for each image, in it a `box` for each face and `points`.

The label of a box is its class. Points that share its `group_id`, or lie in it, are its landmarks: one point each with
the landmark's name as label, all in one in the order of the model, or a `skeleton`. `occluded` points are hidden; a box
with an attribute `ignore` that is true is ignored.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

from facetrain.core.faces import LabelledImage
from facetrain.data.holds import Holds
from facetrain.data.label_file import LabelFile
from facetrain.data.label_text import MalformedError, numbers, start_of
from facetrain.data.label_xml import Element, elements
from facetrain.data.landmark_names import default_names
from facetrain.data.places import Split, usual_places
from facetrain.data.rows import HIDDEN, VISIBLE, Rows
from facetrain.data.tied_points import Point, tie_points
from facetrain.data.writing import check_images, marked_points, number, size_of, write_lines

FILE = "*.xml"
HOLDS = Holds(landmarks=True, hidden=True, ignore=True, ignored_landmarks=True, needs_size=True)
FORM = "an `image` has `name`, `width` and `height`, a `box` in it `label`, `xtl`, `ytl`, `xbr` and `ybr` in pixels"

_CORNERS = ("xtl", "ytl", "xbr", "ybr")  # of a box, as attributes


def recognises(path: Path) -> bool:
    """Whether the root is `annotations` and an image or CVAT's own header is near."""
    start = start_of(path)
    return "<annotations" in start and any(mark in start for mark in ("<image ", "<version>", "<meta>"))


def places(root: Path, split: str) -> Iterator[Split]:
    """In the folder of each part, or named by it."""
    yield from usual_places(root, split, FILE)


def target(root: Path, split: str) -> Split:
    """Where a conversion puts it."""
    return Split(root / split / "annotations.xml", root / split / "images")


def read(labels: Path, images: Path, points: Sequence[str] | None = None, classes: Sequence[str] = ()) -> LabelFile:
    """Read a file whose names are relative to the folder `images`."""
    rows = Rows(labels, images)
    alone = 0
    for each in elements(labels, "image"):
        try:
            width, height = numbers([each.attributes.get("width", "0"), each.attributes.get("height", "0")])
            size = (int(width), int(height)) if min(width, height) > 0 and max(width, height) < 2**31 else None
            image = rows.image(each.attribute("name"), size, each.line)
        except MalformedError as error:
            rows.problem(each.line, error.token, error.message)
            continue
        if image >= 0:
            alone += _read_image(rows, image, each)
    if alone:
        rows.notes.append(f"{alone:,} points belong to no face, and are left out")
    return rows.label_file(points, classes=classes, hidden=True, form=FORM)


def write(labels: Path, images: Sequence[LabelledImage], points: Sequence[str] = ()) -> None:
    """Write a file with one label, `face`, and one for each landmark."""
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "  <version>1.1</version>"]
    for place, image in enumerate(check_images(images, HOLDS)):
        width, height = size_of(image)
        lines.append(f'  <image id="{place}" name={quoteattr(image.name)} width="{width}" height="{height}">')
        for face in range(len(image.boxes)):
            lines += _face_lines(image, face, points)
        lines.append("  </image>")
    write_lines(labels, [*lines, "</annotations>"])


def _read_image(rows: Rows, image: int, parent: Element) -> int:
    """Read the faces of an image; how many points have none."""
    faces: list[tuple[int, str | None, list[float]]] = []
    points: list[tuple[str | None, Point]] = []
    for each in parent.children:
        try:
            group = each.attributes.get("group_id")
            if each.tag == "box":
                corners = _corners(each)
                ignore = bool(each.children) and any(map(_says_ignore, each.children))
                if rows.face(image, corners, each.line, ignore=ignore, kind=each.attribute("label")):
                    faces.append((len(rows) - 1, group, corners))
            elif each.tag == "points":
                points += [(group, point) for point in _points(each)]
            elif each.tag == "skeleton":
                parts = [child for child in each.children if child.tag == "points"]
                points += [(group, point) for child in parts for point in _points(child)]
        except MalformedError as error:
            rows.problem(each.line, error.token, error.message)
    return tie_points(rows, faces, points)


def _corners(box: Element) -> list[float]:
    told = box.attributes
    try:
        return numbers([told["xtl"], told["ytl"], told["xbr"], told["ybr"]])
    except KeyError as error:
        raise MalformedError("<box>", f"has no `{error.args[0]}`") from error


def _says_ignore(element: Element) -> bool:
    return element.attributes.get("name") == "ignore" and element.text.strip().lower() in ("true", "1", "yes")


def _points(element: Element) -> list[Point]:
    """One point with the name of its label; of several in one element each has the name of its place."""
    if element.attributes.get("outside") == "1":
        return []
    mark = HIDDEN if element.attributes.get("occluded") == "1" else VISIBLE
    pairs = [pair.split(",") for pair in element.attribute("points").split(";")]
    if any(len(pair) != 2 for pair in pairs):
        raise MalformedError(element.attributes["points"], "`points` are `x,y`, with semicolons between several")
    names = (element.attribute("label"),) if len(pairs) == 1 else default_names(len(pairs))
    return [(name, *numbers(pair), mark) for name, pair in zip(names, pairs, strict=True)]  # type: ignore[misc]


def _face_lines(image: LabelledImage, face: int, points: Sequence[str]) -> list[str]:
    corners = " ".join(f'{tag}="{number(v)}"' for tag, v in zip(_CORNERS, image.boxes[face], strict=True))
    box = f'    <box label="face" source="manual" occluded="0" {corners} z_order="0" group_id="{face + 1}">'
    ignore = ['      <attribute name="ignore">true</attribute>'] if image.ignore[face] else []
    lines = [box, *ignore, "    </box>"]
    for name, (x, y, mark) in zip(points, marked_points(image, face), strict=True):
        if mark:
            lines.append(
                f'    <points label={quoteattr(name)} source="manual" occluded="{int(mark == HIDDEN)}" '
                f'points="{number(x)},{number(y)}" z_order="0" group_id="{face + 1}"></points>'
            )
    return lines
