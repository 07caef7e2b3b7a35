"""A measurement as a page that a person would rather look at: AP, curves, recall by size, and the worst pictures."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from facetrain.core.errors import DataError, OutputError, UsageError
from facetrain.core.faces import Faces, Image, LabelledImage
from facetrain.core.images import fit_image, opencv, read_image, write_image
from facetrain.eval.average_precision import Curve
from facetrain.eval.details import Details, Outcome, outcomes

_MARK = '<meta name="generator" content="facetrain eval">'  # tells an earlier report from a folder of something else
_MAX_SIDE = 1280
_FOUND, _MISSED, _FALSE, _IGNORED = (80, 200, 60), (40, 40, 240), (0, 210, 255), (150, 150, 150)  # BGR

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #888; --bar: #3a7; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1.5rem; }
h1 { margin: 0 0 .2em; overflow-wrap: anywhere } h2 { margin-top: 2em }
.ap { display: flex; gap: 2.5rem; flex-wrap: wrap } .ap b { display: block; font-size: 2.6rem; line-height: 1.2 }
.soft, figcaption { color: var(--soft); font-size: .9rem }
table { border-collapse: collapse } td, th { padding: .2rem .9rem .2rem 0; text-align: left; font-weight: normal }
td.n { text-align: right; font-variant-numeric: tabular-nums }
.bar { background: var(--bar); height: .8rem; border-radius: 2px }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1rem }
figure { margin: 0 } img { width: 100%; border: 1px solid var(--line); border-radius: 4px }
figcaption { overflow-wrap: anywhere } .curves { max-width: 40rem }
"""


@dataclass(frozen=True)
class _Tile:
    """A picture of a contact sheet."""

    name: str
    file: str
    misses: int
    alarms: int


def write_report(
    folder: Path,
    *,
    title: str,
    protocol: Mapping[str, Any],
    curves: Mapping[str, Curve],
    details: Details,
    found: Sequence[Faces],
    pictures: Sequence[LabelledImage],
    worst: int = 24,
) -> Path:
    """Write the page and its pictures into `folder`, whole or not at all; an earlier report there is replaced.

    Returns the page's path. Raises UsageError where the folder holds something else, OutputError where it cannot be
    written.
    """
    check_report_folder(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise OutputError(f"{folder}: cannot write here: {error.strerror}", "choose another folder") from error
    try:
        _draw_curves(scratch / "curves.png", curves)
        results = outcomes(found, pictures, details.score)
        misses = [int((~r.found & ~p.ignore).sum()) for r, p in zip(results, pictures, strict=True)]
        alarms = [int(r.false.sum()) for r in results]
        sheets, unreadable = {}, []
        for heading, counts in (("Most faces missed", misses), ("Most false alarms", alarms)):
            order = [i for i in np.argsort([-count for count in counts], kind="stable")[:worst] if counts[i]]
            tiles = []
            for i in order:
                try:
                    file = _draw_picture(scratch, i, pictures[i], found[i], results[i])
                except DataError as error:
                    unreadable.append(error.message)
                    continue
                tiles.append(_Tile(pictures[i].name, file, misses[i], alarms[i]))
            sheets[heading] = tiles
        page = _page(title, protocol, curves, details, sheets, unreadable)
        (scratch / "index.html").write_text(page, encoding="utf-8")
        scratch.chmod(0o755)  # mkdtemp gives 0700; a report is for others too
        if folder.exists():
            shutil.rmtree(folder)
        scratch.rename(folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder / "index.html"


def check_report_folder(folder: Path) -> None:
    """Refuse a folder that holds something other than an earlier report. Raises UsageError."""
    if not folder.exists():
        return
    page = folder / "index.html"
    is_report = page.is_file() and _MARK in page.read_text(encoding="utf-8", errors="replace")[:2000]
    if not folder.is_dir() or (any(folder.iterdir()) and not is_report):
        raise UsageError(f"{folder}: holds something else than an earlier report", "name a new folder")


def _draw_curves(path: Path, curves: Mapping[str, Curve]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, curve in curves.items():
        started = curve.proposals > 0
        label = f"{name} (no face)" if curve.ap is None else f"{name} {curve.ap:.3f}"
        axes.plot(curve.recall[started], curve.precision[started], label=label)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.01))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    figure.savefig(path, dpi=120)


def _draw_picture(folder: Path, number: int, picture: LabelledImage, faces: Faces, result: Outcome) -> str:
    """Draw what was found, missed and wrong; returns the file's path inside the report."""
    cv2 = opencv()
    name = f"pictures/{number:05}.jpg"
    if (folder / name).exists():
        return name
    image = read_image(picture.path)
    side = max(image.shape[:2])
    factors = (1.0, 1.0)
    if side > _MAX_SIDE:
        image, factors = fit_image(image, _MAX_SIDE, _MAX_SIDE)
    canvas: Image = image.copy()
    scale = np.tile(np.array(factors, np.float32), 2)

    def rectangle(box: np.ndarray, colour: tuple[int, int, int], width: int) -> tuple[int, int]:
        x1, y1, x2, y2 = (round(float(v)) for v in np.clip(box * scale, -9999, 9999))
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, width, cv2.LINE_AA)
        return x1, y1

    for box, ignored, hit in zip(picture.boxes, picture.ignore, result.found, strict=True):
        rectangle(box, _IGNORED if ignored else _FOUND if hit else _MISSED, 1 if ignored or hit else 3)
    for box, score in zip(faces.boxes[result.false], faces.scores[result.false], strict=True):
        x, y = rectangle(box, _FALSE, 2)
        cv2.putText(canvas, f"{score:.2f}", (x, max(y - 3, 10)), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _FALSE, 1, cv2.LINE_AA)
    write_image(folder / name, canvas, quality=85)
    return name


def _page(
    title: str,
    protocol: Mapping[str, Any],
    curves: Mapping[str, Curve],
    details: Details,
    sheets: Mapping[str, Sequence[_Tile]],
    unreadable: Sequence[str],
) -> str:
    big = "".join(
        f"<div><b>{'–' if c.ap is None else f'{c.ap:.4f}'}</b>AP {escape(name)}, {c.faces:,} faces</div>"
        for name, c in curves.items()
    )
    rules = "".join(f"<tr><th>{escape(str(k))}</th><td>{escape(str(v))}</td></tr>" for k, v in protocol.items())
    sections = [
        f"<h2>Protocol</h2><table>{rules}</table>",
        '<h2>Precision and recall</h2><img class="curves" src="curves.png" alt="precision over recall">',
        f"<h2>At score {details.score:g}</h2>{_sentences(details)}{_sizes(details)}",
    ]
    for heading, tiles in sheets.items():
        figures = "".join(
            f'<figure><a href="{tile.file}"><img loading="lazy" src="{tile.file}" alt=""></a>'
            f"<figcaption>{escape(tile.name)}<br>{tile.misses} missed, {tile.alarms} false</figcaption></figure>"
            for tile in tiles
        )
        sections.append(f'<h2>{heading}</h2><div class="sheet">{figures or "none"}</div>')
    if unreadable:
        sections.append("<h2>Not readable</h2>" + "".join(f"<p>{escape(text)}</p>" for text in unreadable))
    legend = "green: found, thick red: missed, yellow: false alarm with its score, grey: ignored"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{_MARK}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f'<div class="ap">{big}</div>{"".join(sections)}<p class="soft">{legend}</p></body></html>\n'
    )


def _sentences(details: Details) -> str:
    parts = []
    if details.recall is not None and details.false_alarms is not None:
        parts.append(f"{details.recall:.1%} of the faces are found, {details.false_alarms:.2f} false alarms a picture.")
    point = details.operating_point
    if point is not None:
        parts.append(
            f"A precision of {point.precision:g} needs a score of {point.score:.3f}: recall {point.recall:.1%}, "
            f"{point.false_alarms:.2f} false alarms a picture."
        )
    error = details.landmark_error
    if error is None:
        parts.append("The labels or the detections have no landmarks.")
    else:
        parts.append(f"Landmarks are off by {error.mean:.1%} of the box side, over {error.faces:,} faces.")
    return f"<p>{' '.join(parts)}</p>"


def _sizes(details: Details) -> str:
    rows = []
    for row in details.by_size:
        name = f"{row.low} px and more" if row.high is None else f"{row.low} to {row.high} px"
        share = "–" if row.recall is None else f"{row.recall:.1%}"
        width = 0 if row.recall is None else 16 * row.recall
        rows.append(
            f'<tr><th>{name}</th><td class="n">{row.faces:,}</td><td class="n">{share}</td>'
            f'<td><div class="bar" style="width:{width:.1f}rem"></div></td></tr>'
        )
    return f"<table><tr><th>shorter side</th><th>faces</th><th>recall</th><th></th></tr>{''.join(rows)}</table>"
