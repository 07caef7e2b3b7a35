"""Pascal VOC: an XML file for each image, with an `object` for each box and its two corners in `bndbox`.

Positions are taken as they stand: most tools count pixels from 0, the challenge itself counted from 1. An object marked
`difficult` is ignored. There are no landmarks.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from facetrain.core.errors import DataError
from facetrain.core.faces import LabelledImage
from facetrain.data.each_image import label_files, name_beside, write_for_each
from facetrain.data.holds import Holds
from facetrain.data.label_file import LabelFile
from facetrain.data.label_text import MalformedError, lines_of, numbers, read_text, start_of
from facetrain.data.label_xml import Element, elements
from facetrain.data.places import PARTS, Split, folder_pairs
from facetrain.data.rows import Rows
from facetrain.data.writing import check_images, number, size_of

FILE = "*.xml"
HOLDS = Holds(ignore=True, needs_size=True)
FORM = "an object has a `name` and a `bndbox` with `xmin`, `ymin`, `xmax` and `ymax` in pixels"

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_FOLDERS = ("Annotations", "annotations", "labels", "")


def recognises(path: Path) -> bool:
    """Whether the first XML file has one `annotation`; or a list of such files, as VOC's own for each part."""
    if path.is_dir():
        return any(map(recognises, label_files(path, FILE, 1)))
    if path.suffix == ".txt":
        return path.parent.name == "Main" and (path.parents[2] / "Annotations").is_dir()
    start = start_of(path)
    return "<annotation>" in start or "<annotation " in start


def places(root: Path, split: str) -> Iterator[Split]:
    """Folders of each part, and the challenge's own, whose lists in `ImageSets/Main` tell the parts."""
    for part in PARTS[split]:
        yield Split(root / "ImageSets" / "Main" / f"{part}.txt", root / "JPEGImages")
    yield from folder_pairs(root, split, _FOLDERS, FILE)


def target(root: Path, split: str) -> Split:
    """Where a conversion puts it."""
    return Split(root / split / "Annotations", root / split / "images")


def read(labels: Path, images: Path, points: Sequence[str] | None = None, classes: Sequence[str] = ()) -> LabelFile:
    """Read a folder of XML files, one of them, or those that a list names."""
    rows = Rows(labels, images)
    folder = labels if labels.is_dir() else labels.parent
    if labels.suffix == ".txt":
        folder = labels.parents[2] / "Annotations"
        stems = [line.split()[0] for line in lines_of(read_text(labels)) if line.split()]
        files = [folder / f"{stem}.xml" for stem in stems]
    else:
        files = label_files(labels, FILE) if labels.is_dir() else [labels]
    for file in files:
        rows.file = file
        root = next(elements(file, "annotation"), None)
        if root is None:
            raise DataError(f"{file}: no `annotation` in it", FORM)
        try:
            _read_image(rows, file, folder, images, root)
        except MalformedError as error:
            rows.problem(root.line, error.token, error.message)
    return rows.label_file(points, classes=classes, form=FORM)


def write(labels: Path, images: Sequence[LabelledImage], points: Sequence[str] = ()) -> None:
    """Write a folder of XML files, which have the names of their images."""
    write_for_each(labels, check_images(images, HOLDS), ".xml", _text)


def _read_image(rows: Rows, file: Path, folder: Path, images: Path, root: Element) -> None:
    size = root.child("size")
    sides = None
    if size is not None:
        width, height = numbers([size.said("width") or "0", size.said("height") or "0"])
        sides = (int(width), int(height)) if min(width, height) > 0 and max(width, height) < 2**31 else None
    image = rows.image(name_beside(file, folder, images, root.said("filename")), sides, root.line)
    for each in root.children:
        if each.tag != "object" or image < 0:
            continue
        try:
            box = each.child("bndbox")
            if box is None:
                raise MalformedError("<object>", "has no `bndbox`")
            absent = [name for name in _CORNERS if not box.said(name)]
            if absent:
                raise MalformedError("<bndbox>", f"has no `{absent[0]}`")
            corners = numbers([box.said(name) for name in _CORNERS])
        except MalformedError as error:
            rows.problem(each.line, error.token, error.message)
            continue
        rows.face(image, corners, each.line, ignore=each.said("difficult") == "1", kind=each.said("name"))


def _text(image: LabelledImage) -> str:
    width, height = size_of(image)
    lines = ["<annotation>", f"  <filename>{escape(image.name.rpartition('/')[2])}</filename>"]
    lines.append(f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>")
    for box, ignore in zip(image.boxes, image.ignore, strict=True):
        corners = "".join(f"<{tag}>{number(v)}</{tag}>" for tag, v in zip(_CORNERS, box, strict=True))
        lines.append("  <object>")
        lines.append(f"    <name>face</name><truncated>0</truncated><difficult>{int(ignore)}</difficult>")
        lines.append(f"    <bndbox>{corners}</bndbox>")
        lines.append("  </object>")
    return "\n".join([*lines, "</annotation>", ""])
