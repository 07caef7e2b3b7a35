"""Writes examples/json.md from what `facetrain.core.documents` says: `python -m tests.documents.page`."""

import re
from pathlib import Path

from facetrain.core.documents import (
    audit,
    check,
    compare,
    convert,
    detect,
    export,
    info,
    init,
    label,
    prepare,
    train,
    weights,
)
from facetrain.core.documents import eval as evaluation
from facetrain.core.documents.common import Header, ProtocolDocument
from tests.documents.fields import hints, in_words, parts, title

_OPTIONS = re.compile(r"`(against|data|image|resume|threads|weights)`")  # as the code calls the command's options
PAGE = Path(__file__).parents[2] / "examples" / "json.md"
DOCUMENTS = {
    "facetrain detect --json": detect.DetectDocument,
    "facetrain eval --json": evaluation.EvalDocument,
    "facetrain compare --json": compare.CompareDocument,
    "facetrain train --json": train.TrainDocument,
    "facetrain export-onnx --json": export.OnnxDocument,
    "facetrain export-cpp --json": export.CppDocument,
    "facetrain info --json": info.InfoDocument,
    "facetrain info MODEL --json": info.ModelInfo,
    "facetrain info CONFIG --yaml --json": info.ConfigDocument,
    "facetrain data audit --json": audit.AuditDocument,
    "facetrain data audit --apply LIST --to DIR --json": audit.AppliedDocument,
    "facetrain data convert --json": convert.ConvertedDocument,
    "facetrain data label --json": label.LabelledDocument,
    "facetrain init --json": init.InitDocument,
    "facetrain init --list --json": init.StartsDocument,
    "facetrain init NAME --print --json": init.PrintedDocument,
    "facetrain data check DIR --json": check.CheckDocument,
    "facetrain data prepare --json": prepare.PreparedDocument,
    "facetrain weights --json": weights.WeightsDocument,
    "facetrain weights get NAME --json": weights.FetchedDocument,
}
FILES = {
    "metrics.jsonl, lines of kind train": train.TrainLine,
    "metrics.jsonl, lines of kind val": train.ValidationLine,
    "metrics.jsonl, lines of kind plan": train.PlanLine,
    "environment.json": train.EnvironmentDocument,
    "protocol.json": ProtocolDocument,
    "faces.jsonl, the first line": detect.LinesHead,
    "faces.jsonl, a line behind the last frame of a video": detect.VideoEnd,
    "faces.jsonl, lines of what failed, at the end": detect.FailedLine,
}
_TOP = """# JSON

Every command prints its result as JSON with `--json`: one document on stdout, progress and messages on stderr. It is
ASCII, so that it is the same whatever the terminal's encoding; what JSON does not have (NaN, infinity) is null. Fields
may be added without notice; `schema` is raised when one changes its meaning or goes.

```sh
facetrain detect photo.jpg --json > faces.json
python -c "import json; print(len(json.load(open('faces.json'))['images'][0]['faces']))"
```

Exit codes: 0 done, 1 part of the work failed (see `errors`), 2 wrong usage (no document then), 130 interrupted.
"""
_FILES_TOP = """A run's folder has `metrics.jsonl` (a document a line) and `environment.json`; result files that
`eval --save-predictions` writes have `protocol.json` beside them. `detect --save jsonl=faces.jsonl` writes a line
about how it looks, then one for each image or frame, as an element of `images` above, as soon as it was looked at."""


def page() -> str:
    """The whole page."""
    lines = [_TOP, "## Every document", "", *_table(Header)]
    told: list[type] = []
    for command, document in DOCUMENTS.items():
        lines += ["", f"## `{command}`", "", *_section(document, told)]
    lines += [
        "",
        "## Files",
        "",
        "A run's folder has `metrics.jsonl` (a document a line) and `environment.json`; result",
    ]
    lines += ["files that `eval --save-predictions` writes have `protocol.json` beside them.", ""]
    for name, document in FILES.items():
        lines += [f"### {name}", "", *_section(document, told), ""]
    return "\n".join(lines).rstrip() + "\n"


def _section(document: type, told: list[type]) -> list[str]:
    """A document's table, and those of its parts that no earlier section has."""
    lines = [_flagged(document.__doc__ or ""), "", *_table(document)]
    told.append(document)
    for part in parts(document):
        if part not in told:
            told.append(part)
            lines += ["", f"**{title(part)}**: {_flagged(part.__doc__ or '')}", "", *_table(part)]
    return lines


def _flagged(text: str) -> str:
    return _OPTIONS.sub(r"`--\1`", text)


def _table(document: type) -> list[str]:
    rows = [
        (f"`{name}`" if there else f"`{name}` (may be absent)", in_words(kind), _flagged(meaning))
        for name, (kind, meaning, there) in hints(document).items()
    ]
    return ["| field | type | meaning |", "| --- | --- | --- |", *(f"| {' | '.join(row)} |" for row in rows)]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
