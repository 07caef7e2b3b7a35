"""The list of an audit: a table to open, to fill in, and to apply.

    image,kind,score,x1,y1,x2,y2,label,decision
    0--Parade/a.jpg,missing,0.83,12.5,40,31,66.25,,yes

`decision` is empty or `no` (the labels stay), `yes` (what the finding says is done) or `ignore` (its face is marked to
be ignored). The other columns say what it is about and are held against the labels.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facetrain.core.errors import DataError, InputError
from facetrain.core.faces import LabelledImage
from facetrain.core.files import write_text
from facetrain.core.suggest import path_hint
from facetrain.label.audit import KINDS, Finding, Kind

COLUMNS = ("image", "kind", "score", "x1", "y1", "x2", "y2", "label", "decision")
DECISIONS = ("", "no", "yes", "ignore")
_MOST_BYTES = 64 << 20
_NEAR = 0.02  # pixels by which a box may differ from the label's: the list is rounded
_BEFORE = "./"  # so that no spreadsheet takes a name for a formula


def write_list(path: Path, findings: Sequence[Finding], images: Sequence[LabelledImage]) -> None:
    """Write the list, decisions empty."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for finding in findings:
        box = [f"{value:.2f}".rstrip("0").rstrip(".") for value in finding.box.tolist()]
        label = "" if finding.label < 0 else str(finding.label + 1)
        name = images[finding.image].name
        name = _BEFORE + name if name[:1] in "=+-@\t\r" else name
        table.writerow([name, finding.kind, f"{finding.score:.3f}", *box, label, ""])
    write_text(path, text.getvalue())


def read_list(path: Path, images: Sequence[LabelledImage]) -> dict[int, list[tuple[Finding, str]]]:
    """The decisions that change something, by the number of their image.

    Raises InputError where there is no such file, DataError naming line and column for what does not fit the labels.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path}: too large for a list of findings")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}", path_hint(path)) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8", "save the table as CSV, UTF-8") from error
    delimiter = ";" if text.partition("\n")[0].count(";") > text.partition("\n")[0].count(",") else ","
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    missing = set(COLUMNS) - set(rows.fieldnames or ())
    if missing:
        raise DataError(f"{path}:1: no column {', '.join(sorted(missing))}", f"the columns are {','.join(COLUMNS)}")
    numbers = {image.name: number for number, image in enumerate(images)}
    decided: dict[int, list[tuple[Finding, str]]] = {}
    try:
        for row in rows:
            decision = (row["decision"] or "").strip().lower()
            place = f"{path}:{rows.line_num}"
            if decision not in DECISIONS:
                raise DataError(f"{place}: decision {decision!r}", "yes, ignore, no, or nothing")
            if decision in ("yes", "ignore"):
                finding = _finding(row, place, numbers, images)
                decided.setdefault(finding.image, []).append((finding, decision))
    except csv.Error as error:
        raise DataError(f"{path}:{rows.line_num}: not a table: {error}") from error
    return decided


def _finding(row: dict[str, str], place: str, numbers: dict[str, int], images: Sequence[LabelledImage]) -> Finding:
    name = (row["image"] or "").removeprefix(_BEFORE)
    if name not in numbers:
        raise DataError(f"{place}: image {name!r}: not in the labels", "is this the list of another set?")
    image = images[numbers[name]]
    kind: Kind | None = next((each for each in KINDS if each == row["kind"]), None)
    if kind is None:
        raise DataError(f"{place}: kind {row['kind']!r}", f"there are: {', '.join(KINDS)}")
    try:
        box = np.array([float(row[column]) for column in ("x1", "y1", "x2", "y2")], np.float32)
        label = int(row["label"]) - 1 if kind != "missing" else -1
    except (TypeError, ValueError) as error:
        raise DataError(f"{place}: box and label must be numbers: {error}") from error
    if not np.isfinite(box).all() or (box[2:] <= box[:2]).any():
        raise DataError(f"{place}: a box without area: {box.tolist()}")
    if kind != "missing":
        if not 0 <= label < len(image.boxes):
            raise DataError(f"{place}: label {label + 1}: the image has {len(image.boxes)}")
        if np.abs(image.boxes[label] - box).max() > _NEAR:
            raise DataError(
                f"{place}: label {label + 1} of {name} is {image.boxes[label].tolist()}, not {box.tolist()}",
                "the labels have changed since: make a new list",
            )
    return Finding(kind, numbers[name], box, label, 0.0, 0.0, "")
