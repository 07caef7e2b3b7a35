"""A measurement as a page that a person likes to read: AP, curves, recall by size, and the pictures that went worst.

The report is a folder: `index.html`, the curves for a light and a dark page, and `pictures/` with each shown picture
twice, as a tile and larger. The page needs no script and no network.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetrain import __version__
from facetrain.core.errors import DataError, OutputError, UsageError
from facetrain.core.faces import Faces, Image, LabelledImage
from facetrain.core.files import as_utf8
from facetrain.core.images import opencv, read_image, write_image
from facetrain.core.plots import load_matplotlib, new_figure
from facetrain.eval.average_precision import Curve
from facetrain.eval.details import Details, Outcome, SizeRecall, outcomes

Colour = tuple[int, int, int]  # BGR

_MARK = '<meta name="generator" content="facetrain eval">'  # tells an earlier report from a folder of something else
# What a report may consist of: a folder that holds anything more is not replaced. File managers leave the last three.
_PARTS = {"index.html", "curves-light.png", "curves-dark.png", "pictures", ".DS_Store", "Thumbs.db", "desktop.ini"}
_TILE, _TALLEST, _LARGE, _SMALL = 480, 640, 1280, 640  # pixels: a tile's box, and the larger version's longer side
_DENSE = 16_000  # pixels of the picture for each score that is written; more of them would hide it
_FOUND, _MISSED, _FALSE, _IGNORED = (80, 200, 60), (50, 50, 255), (0, 215, 255), (190, 190, 190)
_LINES = ("#3b82f6", "#f59e0b", "#ec4899", "#14b8a6")  # seen on white and on black
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
class _Tile:
    """A picture of a contact sheet.

    below: (F,) bool, missed faces that a detection under the threshold would have found
    file:  path inside the report, without the ending that tells the small from the large version
    size:  (width, height) of the small version
    """

    name: str
    result: Outcome
    below: NDArray[np.bool_]
    file: str
    size: tuple[int, int]


def write_report(
    folder: Path,
    *,
    title: str,
    protocol: Mapping[str, Any],
    curves: Mapping[str, Curve],
    details: Details,
    found: Sequence[Faces],
    pictures: Sequence[LabelledImage],
    summary: Mapping[str, float | None] | None = None,
    worst: int = 24,
) -> Path:
    """Write the report into `folder`, whole or not at all; an earlier report there is replaced. Returns the page.

    summary: the AP of each subset, shown large; those of the curves if not given
    curves:  per subset, in the order of the legend
    worst:   pictures on each of the two sheets, at the score of `details`; only these are read, and one that cannot
             be read is named on the page

    Raises UsageError where the folder holds something else, OutputError where it cannot be written.
    """
    check_report_folder(folder)
    place = folder.resolve()  # a link to the folder stays one
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.", ignore_cleanup_errors=True) as scratch:
            new = Path(scratch, "new")
            (new / "pictures").mkdir(parents=True)
            for scheme, ink in (("light", "#1b1f24"), ("dark", "#e4e7eb")):
                _draw_curves(new / f"curves-{scheme}.png", curves, details, ink)
            sheets, unreadable = _draw_sheets(new, details.score, found, pictures, worst)
            shown = {name: curve.ap for name, curve in curves.items()} if summary is None else summary
            parts = [_head(title, shown, curves, details), _numbers(protocol, details, pictures)]
            parts += [*_sheets(sheets, details.score), _unreadable(unreadable)]
            (new / "index.html").write_bytes(as_utf8(_page(title, parts)))
            _put(new, place, Path(f"{scratch}-earlier"))
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}", "choose another folder") from error
    return folder / "index.html"


def check_report_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier report. Raises UsageError; nothing is changed."""
    hint = "name a new folder, or one that holds an earlier report and nothing else"
    try:
        if not folder.exists():
            return
        names = sorted(path.name for path in folder.iterdir())
        page = folder / "index.html"
        is_report = page.is_file() and _MARK in page.read_text(encoding="utf-8", errors="replace")[:2000]
    except OSError as error:
        raise UsageError(f"{folder}: not a folder for a report: {error.strerror}", hint) from error
    foreign = [name for name in names if name not in _PARTS or not is_report]
    if foreign:
        raise UsageError(f"{folder}: holds something else than an earlier report, such as {foreign[0]}", hint)


def _put(new: Path, place: Path, earlier: Path) -> None:
    """Move a finished report into its place; the earlier one is deleted only when the new one stands there."""
    try:
        if place.exists():
            place.rename(earlier)
        new.rename(place)
    except BaseException:
        if earlier.exists() and not place.exists():
            earlier.rename(place)
        raise
    shutil.rmtree(earlier, ignore_errors=True)


def _draw_curves(path: Path, curves: Mapping[str, Curve], details: Details, ink: str) -> None:
    """Precision over recall, a line for each subset, without a background."""
    load_matplotlib()
    from matplotlib import rc_context

    coloured = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
    settings: dict[Any, Any] = {"font.size": 11, **dict.fromkeys(coloured, ink)}
    with rc_context(settings):
        figure = new_figure(6.4, 4.6)
        axes = figure.subplots()
        axes.set_prop_cycle(color=_LINES)
        for name, curve in curves.items():
            started = curve.proposals > 0
            label = f"{name} (no face)" if curve.ap is None else f"{name} {curve.ap:.3f}"
            axes.plot(curve.recall[started], curve.precision[started], label=label, linewidth=2)
        if details.recall is not None and details.precision is not None:
            label = f"at score {details.score:g}"
            axes.plot(details.recall, details.precision, "o", color=ink, markersize=6, label=label, linestyle="none")
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.15)
        if axes.has_data():
            axes.legend(loc="lower left", frameon=False)
        figure.savefig(path, dpi=150, transparent=True)


def _draw_sheets(
    folder: Path, score: float, found: Sequence[Faces], pictures: Sequence[LabelledImage], worst: int
) -> tuple[tuple[list[_Tile], list[_Tile]], list[str]]:
    """Draw the pictures with the most misses and those with the most false alarms, and name the unreadable ones."""
    everything, results = outcomes(found, pictures), outcomes(found, pictures, score)
    by_misses = _most([int(result.missed.sum()) for result in results], worst)
    by_alarms = _most([int(result.false.sum()) for result in results], worst)
    tiles: dict[int, _Tile] = {}
    unreadable = []
    for number in dict.fromkeys(by_misses + by_alarms):  # each picture once, though it may be on both sheets
        picture, result = pictures[number], results[number]
        try:
            image = read_image(picture.path)
        except DataError as error:
            unreadable.append(error.message.replace(str(picture.path), picture.name))
            continue
        file, (height, width) = f"pictures/{number:05}", image.shape[:2]
        # each version is drawn anew: the lines of the large one would vanish in the small one
        factor = min(max(width, height, _SMALL), _LARGE) / max(width, height)
        write_image(folder / f"{file}.jpg", _drawn(image, factor, picture, found[number], result), quality=88)
        small = _drawn(image, min(_TILE / width, _TALLEST / height), picture, found[number], result)
        write_image(folder / f"{file}-small.jpg", small, quality=82)
        below = result.missed & everything[number].found
        tiles[number] = _Tile(picture.name, result, below, file, (small.shape[1], small.shape[0]))
    by_misses, by_alarms = ([n for n in numbers if n in tiles] for numbers in (by_misses, by_alarms))
    return ([tiles[n] for n in by_misses], [tiles[n] for n in by_alarms]), unreadable


def _most(counts: Sequence[int], worst: int) -> list[int]:
    """Numbers of the pictures with the highest counts, highest first, none of them 0; equal ones in their order."""
    order = np.argsort([-count for count in counts], kind="stable")[: max(worst, 0)]
    return [int(number) for number in order if counts[number]]


def _drawn(image: Image, factor: float, picture: LabelledImage, faces: Faces, result: Outcome) -> Image:
    """The picture at another size with what was found, missed and wrong in it."""
    cv2 = opencv()
    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    canvas: Image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    scale = np.tile(np.divide(size, image.shape[1::-1]), 2)
    boxes, alarms = (_pixels(some * scale, max(size)) for some in (picture.boxes, faces.boxes[result.false]))
    for box in boxes[picture.ignore]:
        _dotted(canvas, box, _IGNORED)
    for box in boxes[result.found]:
        _outline(canvas, box, _FOUND, 2)
    for box, score in zip(alarms, faces.scores[result.false], strict=True):
        _outline(canvas, box, _FALSE, 2)
        if len(alarms) * _DENSE <= size[0] * size[1]:
            _text(canvas, box, f"{score:.2f}")
    for box in boxes[result.missed]:  # last, so that nothing hides them
        _outline(canvas, box, _MISSED, 4)
    return canvas


def _pixels(boxes: NDArray[np.float64], side: int) -> NDArray[np.int64]:
    """Boxes in whole pixels. What lies far outside is not seen, but OpenCV would walk all the way there."""
    return np.clip(np.nan_to_num(boxes), -side, 2 * side).round().astype(np.int64)


def _outline(canvas: Image, box: NDArray[np.int64], colour: Colour, line: int) -> None:
    """A rectangle around the box and not on its edge, thinner on a small face, which so stays visible."""
    line = min(line, max((line + 1) // 2, int(min(box[2:] - box[:2])) // 5))
    x1, y1, x2, y2 = (box + np.array((-line, -line, line, line))).tolist()
    opencv().rectangle(canvas, (x1, y1), (x2, y2), colour, line)


def _dotted(canvas: Image, box: NDArray[np.int64], colour: Colour) -> None:
    """A thin dotted rectangle, which OpenCV cannot draw: two pixels, then a gap of two."""
    x1, y1, x2, y2 = box.tolist()
    height, width = canvas.shape[:2]
    x, y = np.arange(max(x1, 0), min(x2 + 1, width)), np.arange(max(y1, 0), min(y2 + 1, height))
    for row in {y1, y2} & set(range(height)):
        canvas[row, x[(x - x1) % 4 < 2]] = colour
    for column in {x1, x2} & set(range(width)):
        canvas[y[(y - y1) % 4 < 2], column] = colour


def _text(canvas: Image, box: NDArray[np.int64], text: str) -> None:
    """A score on a dark plate above the box, or inside it where there is no room above."""
    cv2 = opencv()
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.42
    (width, height), _ = cv2.getTextSize(text, font, scale, 1)
    left = min(max(int(box[0]) - 2, 0), max(canvas.shape[1] - width - 2, 0))
    bottom = int(box[1]) - 3
    if bottom < height + 3:
        bottom = max(int(box[1]), 0) + height + 3
    cv2.rectangle(canvas, (left, bottom - height - 3), (left + width + 1, bottom), (0, 0, 0), cv2.FILLED)
    cv2.putText(canvas, text, (left + 1, bottom - 2), font, scale, _FALSE, 1, cv2.LINE_AA)


def _page(title: str, parts: Iterable[str]) -> str:
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n{_MARK}\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style></head>\n<body><main>\n{''.join(parts)}"
        f"<footer>facetrain {__version__}</footer></main></body></html>\n"
    )


def _head(title: str, summary: Mapping[str, float | None], curves: Mapping[str, Curve], details: Details) -> str:
    cards = []
    for name, value in summary.items():
        faces = f'<br><span class="soft">{_plural(curves[name].faces, "face")}</span>' if name in curves else ""
        cards.append(f"<div><b>{_number(value, '.4f')}</b>AP {escape(name)}{faces}</div>")
    counts = f"{_plural(details.images, 'picture')}, {_plural(details.faces, 'face')} to find"
    return f'<h1>{escape(title)}</h1>\n<p class="soft">{counts}</p>\n<div class="ap">{"".join(cards)}</div>\n'


def _numbers(protocol: Mapping[str, Any], details: Details, pictures: Sequence[LabelledImage]) -> str:
    """Sentences, curves, sizes and protocol, in two columns where there is room."""
    rows = "".join(f"<tr><th>{escape(str(k))}</th><td>{escape(_plain(v))}</td></tr>\n" for k, v in protocol.items())
    curves = (
        '<picture><source srcset="curves-dark.png" media="(prefers-color-scheme: dark)">'
        '<img src="curves-light.png" width="960" height="690" alt="precision over recall, a line for each subset">'
        "</picture>"
    )
    return (
        f'<div class="two"><section><h2>At a threshold</h2>\n{_threshold(details)}\n'
        f"<h2>Precision and recall</h2>\n{curves}</section>\n"
        f"<section><h2>Recall by size of the face</h2>\n{_sizes(details)}\n"
        f"<h2>Landmarks</h2>\n{_landmarks(details, pictures)}\n"
        f"<h2>Protocol</h2>\n<table>{rows}</table></section></div>\n"
    )


def _threshold(details: Details) -> str:
    point, wanted = details.operating_point, f"{details.wanted_precision:.4g}"
    if point is None:
        advice = f"No threshold reaches a precision of {wanted}."
    else:
        advice = (
            f"For a precision of <b>{wanted}</b>, keep what scores at least <b>{point.score:.4g}</b>: that finds "
            f"{point.recall:.1%} of the faces, with {_rate(point.false_alarms)}."
        )
    return (
        f"<p>At a score of <b>{details.score:g}</b> the detector finds <b>{_number(details.recall, '.1%')}</b> of the "
        f"faces. {_number(details.precision, '.1%')} of its detections are right; {_rate(details.false_alarms)}.</p>\n"
        f"<p>{advice}</p>\n"
    )


def _landmarks(details: Details, pictures: Sequence[LabelledImage]) -> str:
    error = details.landmark_error
    if error is None:
        if not any((picture.landmarks[..., 2] > 0).any() for picture in pictures):
            return "<p>The labels have no landmarks.</p>"
        return "<p>The detections have no landmarks, or others than the labels.</p>"
    names = _FIVE if len(error.per_point) == len(_FIVE) else [f"point {n}" for n in range(1, len(error.per_point) + 1)]
    points = ", ".join(f"{name} {_number(e, '.1%')}" for name, e in zip(names, error.per_point, strict=True))
    return (
        f"<p>On average <b>{error.mean:.1%}</b> of the face's size away from their place, over "
        f'{_plural(error.faces, "face")} found at any score.</p>\n<p class="soft">{points}. The size is '
        "&radic;(width &times; height) of the labelled box.</p>"
    )


def _sizes(details: Details) -> str:
    def row(at: SizeRecall, limit: SizeRecall) -> str:
        name = f"{at.low}+" if at.high is None else f"{at.low}&ndash;{at.high}" if at.low else f"&lt; {at.high}"
        bars = "".join(f'<i style="width:{100 * (size.recall or 0):.1f}%"></i>' for size in (limit, at))
        return (
            f'<tr><th>{name}</th><td class="track"><div class="bar">{bars}</div></td>'
            f'<td class="n">{_number(at.recall, ".1%")}</td><td class="n">{at.faces:,}</td></tr>\n'
        )

    rows = "".join(row(*pair) for pair in zip(details.by_size, details.by_size_any, strict=True))
    return (
        f'<table class="sizes"><tr><th>pixels</th><th></th><th class="n">recall</th><th class="n">faces</th></tr>\n'
        f'{rows}</table><p class="soft">Shorter side of the face. Full bars: at a score of {details.score:g}. '
        "Pale: by any detection, however low its score; no threshold brings back the rest.</p>"
    )


def _sheets(sheets: tuple[Sequence[_Tile], Sequence[_Tile]], score: float) -> list[str]:
    names = "found", "missed (thick)", "false alarm, with its score", "ignored"
    key = "".join(
        f'<span><i style="border-color:rgb({red},{green},{blue})"></i>{name}</span>'
        for name, (blue, green, red) in zip(names, (_FOUND, _MISSED, _FALSE, _IGNORED), strict=True)
    )
    parts = []
    for heading, tiles in zip(("Most faces missed", "Most false alarms"), sheets, strict=True):
        figures = "".join(map(_figure, tiles)) or "None to show."
        legend = f'<p class="soft key"><span>At a score of {score:g}:</span>{key}</p>'
        parts.append(f'<section><h2>{heading}</h2>\n{legend}\n<div class="sheet">{figures}</div></section>\n')
    return parts


def _figure(tile: _Tile) -> str:
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


def _unreadable(problems: Sequence[str]) -> str:
    rows = "".join(f"<li>{escape(text)}</li>\n" for text in problems)
    return f"<section><h2>Pictures that cannot be shown</h2>\n<ul>{rows}</ul></section>\n" if problems else ""


def _rate(value: float | None) -> str:
    return f"{_number(value, '.2g' if value and value < 0.1 else '.2f')} false alarms per picture"


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
