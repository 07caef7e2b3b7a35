"""The page of a report: HTML from numbers and tiles, nothing of it unescaped."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetrain import __version__
from facetrain.core.faces import LabelledImage
from facetrain.eval.against import Against
from facetrain.eval.average_precision import Curve
from facetrain.eval.details import Details, SizeRecall
from facetrain.eval.intervals import Estimate
from facetrain.eval.metrics import METRICS
from facetrain.eval.outcomes import Outcome

MARK = '<meta name="generator" content="facetrain eval">'  # tells an earlier report from a folder of something else
FOUND, MISSED, FALSE, IGNORED = (80, 200, 60), (50, 50, 255), (0, 215, 255), (190, 190, 190)
_FIVE = ("right eye", "left eye", "nose", "right mouth corner", "left mouth corner")

_STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1b1f24; --soft: #667080; --card: #f4f6f8; --line: #dfe3e8;
  --bar: #2f9e6e; --pale: #2f9e6e40 } * { box-sizing: border-box }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --ink: #e4e7eb; --soft: #98a2ae; --card: #1e2328;
  --line: #333a42; --bar: #3fb984; --pale: #3fb98440 } }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
main { max-width: 78rem; margin: 0 auto; padding: 1.5rem 1rem 3rem } h2 { font-size: 1.2rem; margin: 2.5rem 0 .6rem }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 } h1, td, figcaption { overflow-wrap: anywhere }
.soft, footer { color: var(--soft) } .soft, figcaption, footer { font-size: .875rem }
p { margin: .4rem 0; max-width: 46rem } .ap { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0 }
.ap div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .7rem 1.3rem .8rem }
.ap b { display: block; font-size: 2.5rem; line-height: 1.15; font-variant-numeric: tabular-nums }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); gap: 0 3rem }
table { border-collapse: collapse } th { font-weight: normal; text-align: left; color: var(--soft) }
th, td { padding: .12rem .9rem .12rem 0 } .sizes { width: 100%; max-width: 36rem } .sizes * { white-space: nowrap }
.sizes .n { text-align: right; font-variant-numeric: tabular-nums } .sizes .track { width: 60%; min-width: 5rem }
.bar { position: relative; height: 1rem; border-radius: 3px; background: var(--card); overflow: hidden }
.bar i { position: absolute; inset: 0 auto 0 0; background: var(--pale) } .bar i + i { background: var(--bar) }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem } .key :last-child i { border-style: dotted }
.key i { display: inline-block; width: 1.1em; height: .8em; margin-right: .4em; border: 2px solid; border-radius: 2px }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); gap: 1.6rem 1.2rem }
figure { margin: 0 } figcaption { line-height: 1.4; margin-top: .3rem } footer { margin-top: 3rem }
img { display: block; max-width: 100%; height: auto } .sheet img { max-height: 24rem; width: auto; border-radius: 6px }
"""


@dataclass(frozen=True)
class Tile:
    """An image of a contact sheet.

    below: (F,) bool, missed faces that a detection under the threshold would have found
    file:  path inside the report, without the ending that tells the small from the large version
    size:  (width, height) of the small version
    """

    name: str
    result: Outcome
    below: NDArray[np.bool_]
    file: str
    size: tuple[int, int]


def whole_page(title: str, parts: Iterable[str]) -> str:
    """The page around its parts."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n{MARK}\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style></head>\n<body><main>\n{''.join(parts)}"
        f"<footer>facetrain {__version__}</footer></main></body></html>\n"
    )


def head_section(title: str, curves: Mapping[str, Curve], details: Details, intervals: Mapping[str, Estimate]) -> str:
    """Title and the AP of each subset, shown large."""
    cards = []
    for name, curve in curves.items():
        span = _span(intervals.get(name), ".3f")
        faces = f'<br><span class="soft">{span and span + ", "}{_plural(curve.faces, "face")}</span>'
        cards.append(f"<div><b>{_number(curve.ap, '.4f')}</b>AP {escape(name)}{faces}</div>")
    counts = f"{_plural(details.images, 'image')}, {_plural(details.faces, 'face')} to find"
    known = [some for some in intervals.values() if some.draws]
    if known:
        counts += f". In brackets: 95 % intervals, from {known[0].draws:,} draws of the images"
        why = "; ".join(f"{escape(name)}: none, {escape(i.why)}" for name, i in intervals.items() if i.low is None)
        counts += f" ({why})" if why else ""
    return f'<h1>{escape(title)}</h1>\n<p class="soft">{counts}</p>\n<div class="ap">{"".join(cards)}</div>\n'


def against_section(against: Against | None) -> str:
    """How the detector does against another one; nothing without one."""
    if against is None:
        return ""
    rows = "".join(f"<li>{escape(line)}</li>\n" for line in [*against.sentences(), *against.others()])
    title, note = escape(against.name), escape(against.note())
    return f'<section><h2>Against {title}</h2>\n<ul>{rows}</ul>\n<p class="soft">{note}</p></section>\n'


def _soft_span(details: Details, place: str, form: str) -> str:
    """The interval of a number inside a sentence; empty where there is none."""
    span = _span(details.intervals.get(place), form)
    return f' <span class="soft">{span}</span>' if span else ""


def _span(interval: Estimate | None, form: str) -> str:
    """An interval in brackets; empty where there is none."""
    if interval is None or interval.low is None or interval.high is None:
        return ""
    return f"[{interval.low:{form}}, {interval.high:{form}}]"


def numbers_section(protocol: Mapping[str, Any], details: Details, images: Sequence[LabelledImage]) -> str:
    """Sentences, curves, sizes and protocol, in two columns where there is room."""
    rows = "".join(f"<tr><th>{escape(str(k))}</th><td>{escape(_plain(v))}</td></tr>\n" for k, v in protocol.items())
    curves = (
        '<image><source srcset="curves-dark.png" media="(prefers-color-scheme: dark)">'
        '<img src="curves-light.png" width="960" height="690" alt="precision over recall, a line for each subset">'
        "</image>"
    )
    return (
        f'<div class="two"><section><h2>At a threshold</h2>\n{_threshold(details)}\n'
        f"<h2>Precision and recall</h2>\n{curves}</section>\n"
        f"<section><h2>Recall by size of the face</h2>\n{_sizes(details)}\n"
        f"<h2>Landmarks</h2>\n{_landmarks(details, images)}\n"
        f"<h2>Protocol</h2>\n<table>{rows}</table></section></div>\n"
    )


def _threshold(details: Details) -> str:
    point, wanted = details.operating_point, f"{details.wanted_precision:.4g}"

    def soft(place: str, form: str) -> str:
        return _soft_span(details, place, form)

    if point is None:
        advice = f"No threshold reaches a precision of {wanted}."
    else:
        advice = (
            f"For a precision of <b>{wanted}</b>, keep what scores at least <b>{point.score:.4g}</b>: that finds "
            f"{point.recall:.1%} of the faces{soft('operating_point.recall', '.1%')}, with "
            f"{_rate(point.false_alarms)}{soft('operating_point.false_alarms', '.2f')}."
        )
    recall, precision = (_number(value, ".1%") for value in (details.recall, details.precision))
    return (
        f"<p>At a score of <b>{details.score:g}</b> the detector finds <b>{recall}</b> of the faces"
        f"{soft('recall', '.1%')}. {precision} of its detections are right{soft('precision', '.1%')}; "
        f"{_rate(details.false_alarms)}{soft('false_alarms', '.2f')}.{_further(details)}</p>\n<p>{advice}</p>\n"
    )


def _further(details: Details) -> str:
    """Metrics that no sentence says already."""
    told = ("recall", "precision", "false_alarms")
    return "".join(
        f" {escape(metric.title)}: {details.numbers[name]:.3f}{_soft_span(details, name, '.3f')}."
        for name, metric in METRICS.items()
        if name not in told and details.numbers[name] is not None
    )


def _landmarks(details: Details, images: Sequence[LabelledImage]) -> str:
    error = details.landmark_error
    if error is None:
        if not any((image.landmarks[..., 2] > 0).any() for image in images):
            return "<p>The labels have no landmarks.</p>"
        return "<p>The detections have no landmarks, or others than the labels.</p>"
    names = _FIVE if len(error.per_point) == len(_FIVE) else [f"point {n}" for n in range(1, len(error.per_point) + 1)]
    points = ", ".join(
        f"{name} {_number(e, '.1%')}{_soft_span(details, f'landmark_error.per_point.{n}', '.1%')}"
        for n, (name, e) in enumerate(zip(names, error.per_point, strict=True))
    )
    return (
        f"<p>On average <b>{error.mean:.1%}</b> of the face's size away from their place"
        f"{_soft_span(details, 'landmark_error.mean', '.1%')}, over "
        f'{_plural(error.faces, "face")} found at any score.</p>\n<p class="soft">{points}. The size is '
        "&radic;(width &times; height) of the labelled box.</p>"
    )


def _sizes(details: Details) -> str:
    def row(number: int, at: SizeRecall, limit: SizeRecall) -> str:
        name = f"{at.low}+" if at.high is None else f"{at.low}&ndash;{at.high}" if at.low else f"&lt; {at.high}"
        bars = "".join(f'<i style="width:{100 * (size.recall or 0):.1f}%"></i>' for size in (limit, at))
        return (
            f'<tr><th>{name}</th><td class="track"><div class="bar">{bars}</div></td>'
            f'<td class="n">{_number(at.recall, ".1%")}</td>'
            f'<td class="n soft">{_span(details.intervals.get(f"by_size.{number}.recall"), ".0%")}</td>'
            f'<td class="n">{at.faces:,}</td></tr>\n'
        )

    rows = "".join(row(n, *pair) for n, pair in enumerate(zip(details.by_size, details.by_size_any, strict=True)))
    return (
        '<table class="sizes"><tr><th>pixels</th><th></th><th class="n">recall</th><th></th>'
        f'<th class="n">faces</th></tr>\n{rows}</table><p class="soft">Shorter side of the face. Full bars: at a '
        f"score of {details.score:g}. Pale: by any detection, however low its score; no threshold brings back the "
        "rest.</p>"
    )


def sheet_sections(sheets: tuple[Sequence[Tile], Sequence[Tile]], score: float) -> list[str]:
    """The two contact sheets, missed faces and false alarms."""
    names = "found", "missed (thick)", "false alarm, with its score", "ignored"
    key = "".join(
        f'<span><i style="border-color:rgb({red},{green},{blue})"></i>{name}</span>'
        for name, (blue, green, red) in zip(names, (FOUND, MISSED, FALSE, IGNORED), strict=True)
    )
    parts = []
    for heading, tiles in zip(("Most faces missed", "Most false alarms"), sheets, strict=True):
        figures = "".join(map(_figure, tiles)) or "None to show."
        legend = f'<p class="soft key"><span>At a score of {score:g}:</span>{key}</p>'
        parts.append(f'<section><h2>{heading}</h2>\n{legend}\n<div class="sheet">{figures}</div></section>\n')
    return parts


def _figure(tile: Tile) -> str:
    result, (width, height) = tile.result, tile.size
    below = f" ({tile.below.sum()} with a lower score)" if tile.below.any() else ""
    faces = _plural(int((result.found | result.missed).sum()), "face")
    counts = f"{result.missed.sum()} of {faces} missed{below}, {_plural(int(result.false.sum()), 'false alarm')}"
    name = escape(tile.name).replace("/", "/<wbr>").replace("_", "_<wbr>")
    return (
        f'<figure><a href="{tile.file}.jpg"><img loading="lazy" src="{tile.file}-small.jpg" width="{width}" '
        f'height="{height}" alt="{counts}"></a><figcaption>{counts}<br><span class="soft">{name}</span>'
        "</figcaption></figure>\n"
    )


def unreadable_section(problems: Sequence[str]) -> str:
    """The images that cannot be shown; nothing if there are none."""
    rows = "".join(f"<li>{escape(text)}</li>\n" for text in problems)
    return f"<section><h2>Images that cannot be shown</h2>\n<ul>{rows}</ul></section>\n" if problems else ""


def _rate(value: float | None) -> str:
    return f"{_number(value, '.2g' if value and value < 0.1 else '.2f')} false alarms per image"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _plain(value: object) -> str:
    """A value of the protocol in words."""
    if value is None or isinstance(value, bool):
        return "–" if value is None else "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    return str(value)
