"""What `data check` found, in words and as plain values."""

import textwrap
from pathlib import Path

from facetrain.cli import console
from facetrain.core.documents.check import CheckDocument, PartDocument
from facetrain.core.errors import FacetrainError
from facetrain.core.words import count
from facetrain.data.check.look_over import Checked, CheckedPart

_WIDTH = 80


def check_document(checked: Checked, page: Path | None) -> CheckDocument:
    """The JSON document."""
    document: CheckDocument = {
        "data": str(checked.root),
        "absent": {str(part): reason for part, reason in checked.absent.items()},
        "in_both": [[str(one), str(other)] for one, other in checked.in_both],
        "errors": [console.error_entry(error, str(checked.root)) for error in checked.errors],
        "report": None if page is None else str(page),
    }
    if "train" in checked.parts:
        document["train"] = _part(checked.parts["train"])
    if "val" in checked.parts:
        document["val"] = _part(checked.parts["val"])
    return document


def _part(part: CheckedPart) -> PartDocument:
    place, judgement = part.labels.place, part.labels.judgement
    assert place is not None and judgement is not None
    return {
        "labels": str(place.labels),
        "images": str(place.images),
        "format": place.format,
        "notes": list(part.labels.notes),
        "survey": part.survey.as_dict(),
        "found": judgement.as_dict(),
        "twice": [list(pair) for pair in part.twice],
        "unlabelled": part.unlabelled,
    }


def check_text(checked: Checked) -> str:
    """The set for a person: a table of both parts, what was found, and whether it can be used."""
    lines = []
    for name, part in checked.parts.items():
        place = part.labels.place
        assert place is not None
        lines += _wrapped(f"{name}: {place.format}, {place.labels}")
    lines += [line for name, reason in checked.absent.items() for line in _wrapped(f"{name}: not there: {reason}")]
    lines += ["", console.table(_rows(checked)), ""]
    for name, part in checked.parts.items():
        lines += [line for text in _remarks(part) for line in _wrapped(f"{name}: {text}")]
    if checked.in_both:
        one, other = checked.in_both[0]
        lines += _wrapped(f"{count(len(checked.in_both), 'image')} in train and in val, such as {one} ({other})")
    if lines[-1]:
        lines.append("")
    return "\n".join([*lines, *_verdict(checked.errors)])


def _rows(checked: Checked) -> list[list[str]]:
    """A column for each part."""
    surveys = [part.survey for part in checked.parts.values()]
    rows = [
        ["", *checked.parts],
        ["images", *(f"{one.images:,}" for one in surveys)],
        ["  without a face that counts", *(f"{one.empty:,}" for one in surveys)],
        ["  in the folder, without labels", *(f"{part.unlabelled:,}" for part in checked.parts.values())],
        ["faces", *(f"{one.faces:,}" for one in surveys)],
        ["  with landmarks", *(f"{one.with_landmarks:,}" for one in surveys)],
        ["  most in one image", *(f"{one.most_faces:,}" for one in surveys)],
        ["ignored", *(f"{one.ignored:,}" for one in surveys)],
        ["shorter side, pixels: 5 %", *(_percentile(one.percentiles(), 0) for one in surveys)],
        ["  50 %", *(_percentile(one.percentiles(), 1) for one in surveys)],
        ["  95 %", *(_percentile(one.percentiles(), 2) for one in surveys)],
    ]
    if "train" in checked.parts:
        one = checked.parts["train"].survey
        rest = [""] * (len(surveys) - 1)
        rows.append([f"below {one.least:g} pixels in training crops", f"{one.often_small:.1%}", *rest])
        rows.append(["  however they are drawn", f"{one.always_small:.1%}", *rest])
    return rows


def _percentile(values: list[float], index: int) -> str:
    return f"{values[index]:g}" if values else "-"


def _remarks(part: CheckedPart) -> list[str]:
    judgement = part.labels.judgement
    texts = list(part.labels.notes)
    if part.labels.statistics.repeated_headers:
        texts.append(f"{part.labels.statistics.repeated_headers:,} images are there twice; the last of each counts")
    texts += [] if judgement is None else judgement.lines
    if part.twice:
        one, other = part.twice[0]
        texts.append(f"{count(len(part.twice), 'pair')} of images look the same, such as {one} and {other}")
    return texts


def _verdict(errors: list[FacetrainError]) -> list[str]:
    if not errors:
        return ["no errors: it can be trained on and measured with"]
    return [f"{count(len(errors), 'error')}, told above: mend them first"]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
