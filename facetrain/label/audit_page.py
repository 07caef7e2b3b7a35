"""An audit as a page to look through: each place cut out of its image, with its labels, and the list to decide in."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facetrain import __version__
from facetrain.core.drawing import dotted, outline, whole_pixels
from facetrain.core.errors import DataError, UsageError
from facetrain.core.faces import Floats, Image, LabelledImage
from facetrain.core.files import as_utf8
from facetrain.core.images import opencv, read_image, write_image
from facetrain.core.report import check_report, templates, writing_report
from facetrain.label.audit import KINDS, Finding
from facetrain.label.audit_list import write_list

LIST = "findings.csv"
_MARK = '<meta name="generator" content="facetrain data audit">'
_PARTS = {"index.html", LIST, "places"}
_SIDE = 256  # pixels of a place as it is shown
_AROUND, _LEAST = 3.0, 64  # a place's side: so many times the face's, and at least so many pixels
_FINDING, _LABEL, _IGNORED = (50, 50, 255), (80, 200, 60), (190, 190, 190)  # BGR
_KEY = {"what is doubted": _FINDING, "labels": _LABEL, "ignored": _IGNORED}


@dataclass(frozen=True)
class Tile:
    """A place on the page. line: of the list."""

    name: str
    said: str
    line: int
    file: str


def check_page_folder(folder: Path) -> None:
    """Refuse a folder that holds something else, or a list with decisions in it. Raises UsageError."""
    check_report(folder, _PARTS, _MARK)
    try:
        with (folder / LIST).open(encoding="utf-8", errors="replace", newline="") as file:
            decided = any((row.get("decision") or "").strip() for row in csv.DictReader(file))
    except (OSError, csv.Error):
        return
    if decided:
        raise UsageError(f"{folder / LIST}: holds decisions, which would be lost", "apply it, or choose another folder")


def write_page(
    folder: Path,
    title: str,
    findings: Sequence[Finding],
    images: Sequence[LabelledImage],
    unreadable: Sequence[str],
    shown: int = 48,
) -> Path:
    """Write page and list into `folder`, whole or not at all; an earlier audit there is replaced. Returns the page.

    shown: places of each kind on the page; all are in the list
    """
    check_page_folder(folder)
    with writing_report(folder, _PARTS, _MARK) as new:
        (new / "places").mkdir()
        write_list(new / LIST, findings, images)
        sheets = []
        for kind, heading in KINDS.items():
            chosen = [(line, finding) for line, finding in enumerate(findings, 2) if finding.kind == kind]
            sheets.append((heading, len(chosen), _tiles(new, chosen[:shown], images)))
        (new / "index.html").write_bytes(as_utf8(_page(title, sheets, images, unreadable)))
    return folder / "index.html"


def _tiles(folder: Path, chosen: Sequence[tuple[int, Finding]], images: Sequence[LabelledImage]) -> list[Tile]:
    tiles = []
    for line, finding in chosen:
        labelled, file = images[finding.image], f"places/{line:06}.jpg"
        try:
            write_image(folder / file, cut_out(read_image(labelled.path), labelled, finding), quality=85)
        except DataError:
            continue  # it could be read a moment ago
        tiles.append(Tile(labelled.name, finding.said, line, file))
    return tiles


def cut_out(image: Image, labelled: LabelledImage, finding: Finding) -> Image:
    """The square around a finding, enlarged, with all labels in it and the finding on top; grey beyond the image."""
    cv2 = opencv()
    centre = (finding.box[:2] + finding.box[2:]) / 2
    side = max(_LEAST, round(_AROUND * float(np.max(finding.box[2:] - finding.box[:2]))))
    left, top = (round(float(value) - side / 2) for value in centre)
    height, width = image.shape[:2]
    square = np.full((side, side, 3), 128, np.uint8)
    rows, columns = slice(max(top, 0), min(top + side, height)), slice(max(left, 0), min(left + side, width))
    if rows.start < rows.stop and columns.start < columns.stop:
        there = image[rows, columns]
        square[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = there
    scale = _SIDE / side
    canvas: Image = cv2.resize(square, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)

    def shown(boxes: Floats) -> np.ndarray:
        return whole_pixels((boxes - np.tile([left, top], 2)) * scale, _SIDE)

    for box, ignore in zip(shown(labelled.boxes), labelled.ignore, strict=True):
        (dotted if ignore else _thin)(canvas, box, _IGNORED if ignore else _LABEL)
    outline(canvas, shown(finding.box[None])[0], _FINDING, 2)
    if finding.kind == "landmarks":
        for x, y, weight in labelled.landmarks[finding.label].tolist():
            if weight > 0:
                cv2.circle(canvas, (round((x - left) * scale), round((y - top) * scale)), 3, _LABEL, cv2.FILLED)
    return canvas


def _thin(canvas: Image, box: np.ndarray, colour: tuple[int, int, int]) -> None:
    outline(canvas, box, colour, 1)


def _page(
    title: str,
    sheets: Sequence[tuple[str, int, Sequence[Tile]]],
    images: Sequence[LabelledImage],
    unreadable: Sequence[str],
) -> str:
    from markupsafe import Markup

    return (
        templates(Path(__file__).parent)
        .get_template("audit_page.html")
        .render(
            title=title,
            images=f"{len(images):,}",
            faces=f"{sum(int((~image.ignore).sum()) for image in images):,}",
            sheets=sheets,
            unreadable=unreadable,
            key={name: f"rgb({red},{green},{blue})" for name, (blue, green, red) in _KEY.items()},
            side=_SIDE,
            mark=Markup(_MARK),
            version=__version__,
        )
    )
