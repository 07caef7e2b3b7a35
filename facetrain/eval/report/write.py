"""A measurement as a page that a person likes to read: AP, curves, recall by size, and the images that went worst.

The report is a folder: `index.html`, the curves for a light and a dark page, and `images/` with each shown image
twice, as a tile and larger. The page needs no script and no network.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facetrain.core.drawing import dotted, outline, plate, whole_pixels
from facetrain.core.errors import DataError
from facetrain.core.faces import Faces, Image, LabelledImage
from facetrain.core.files import as_utf8
from facetrain.core.images import opencv, read_image, write_image
from facetrain.core.plots import load_matplotlib, new_figure
from facetrain.core.report import check_report, writing_report
from facetrain.eval.against import Against
from facetrain.eval.average_precision import Curve
from facetrain.eval.benchmark import Scores
from facetrain.eval.details import Details
from facetrain.eval.intervals import Estimate
from facetrain.eval.outcomes import Outcome, above
from facetrain.eval.report.page import FALSE, FOUND, IGNORED, MARK, MISSED, Tile, page

# What a report may consist of (`pictures` in older ones): a folder that holds anything more is not replaced.
_PARTS = {"index.html", "curves-light.png", "curves-dark.png", "images", "pictures"}
_TILE, _TALLEST, _LARGE, _SMALL = 480, 640, 1280, 640  # pixels: a tile's box, and the larger version's longer side
_DENSE = 16_000  # pixels of the image for each score that is written; more of them would hide it
_LINES = ("#3b82f6", "#f59e0b", "#ec4899", "#14b8a6")  # seen on white and on black


def write_report(
    folder: Path,
    *,
    title: str,
    protocol: Mapping[str, Any],
    scores: Scores,
    details: Details,
    intervals: Mapping[str, Estimate],
    against: Against | None = None,
    worst: int = 24,
) -> Path:
    """Write the report into `folder`, whole or not at all; an earlier report there is replaced. Returns the page.

    intervals: of the AP of each subset
    against:   what another detector does on the same images
    worst:     images on each of the two sheets, at the score of `details`; only these are read, and one that cannot
               be read is named on the page

    Raises UsageError where the folder holds something else, OutputError where it cannot be written.
    """
    with writing_report(folder, _PARTS, MARK) as new:
        (new / "images").mkdir()
        for scheme, ink in (("light", "#1b1f24"), ("dark", "#e4e7eb")):
            _draw_curves(new / f"curves-{scheme}.png", scores.curves, details, ink)
        sheets, unreadable = _draw_sheets(new, details.score, scores, worst)
        images = scores.benchmark.images
        text = page(title, protocol, scores.curves, details, intervals, against, images, sheets, unreadable)
        (new / "index.html").write_bytes(as_utf8(text))
    return folder / "index.html"


def check_report_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but an earlier report. Raises UsageError; nothing is changed."""
    check_report(folder, _PARTS, MARK)


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


def _draw_sheets(folder: Path, score: float, scores: Scores, worst: int) -> tuple[dict[str, list[Tile]], list[str]]:
    """Draw the images with the most misses and those with the most false alarms, and name the unreadable ones."""
    everything, found, images = scores.outcomes, scores.found, scores.benchmark.images
    results = [above(outcome, faces, score) for outcome, faces in zip(everything, found, strict=True)]
    by_misses = _most([int(result.missed.sum()) for result in results], worst)
    by_alarms = _most([int(result.false.sum()) for result in results], worst)
    tiles: dict[int, Tile] = {}
    unreadable = []
    for number in dict.fromkeys(by_misses + by_alarms):  # each image once, though it may be on both sheets
        labelled, result = images[number], results[number]
        try:
            image = read_image(labelled.path)
        except DataError as error:
            unreadable.append(error.message.replace(str(labelled.path), labelled.name))
            continue
        file, (height, width) = f"images/{number:05}", image.shape[:2]
        # each version is drawn anew: the lines of the large one would vanish in the small one
        factor = min(max(width, height, _SMALL), _LARGE) / max(width, height)
        write_image(folder / f"{file}.jpg", _drawn(image, factor, labelled, found[number], result), quality=88)
        small = _drawn(image, min(_TILE / width, _TALLEST / height), labelled, found[number], result)
        write_image(folder / f"{file}-small.jpg", small, quality=82)
        below = result.missed & everything[number].found
        tiles[number] = Tile(labelled.name, result, below, file, (small.shape[1], small.shape[0]))
    sheets = {"Most faces missed": by_misses, "Most false alarms": by_alarms}
    return {heading: [tiles[n] for n in numbers if n in tiles] for heading, numbers in sheets.items()}, unreadable


def _most(counts: Sequence[int], worst: int) -> list[int]:
    """Numbers of the images with the highest counts, highest first, none of them 0; equal ones in their order."""
    order = np.argsort([-count for count in counts], kind="stable")[: max(worst, 0)]
    return [int(number) for number in order if counts[number]]


def _drawn(image: Image, factor: float, labelled: LabelledImage, faces: Faces, result: Outcome) -> Image:
    """The image at another size with what was found, missed and wrong in it."""
    cv2 = opencv()
    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    canvas: Image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    scale = np.tile(np.divide(size, image.shape[1::-1]), 2)
    boxes, alarms = (whole_pixels(some * scale, max(size)) for some in (labelled.boxes, faces.boxes[result.false]))
    for box in boxes[labelled.ignore]:
        dotted(canvas, box, IGNORED)
    for box in boxes[result.found]:
        outline(canvas, box, FOUND, 2)
    for box, score in zip(alarms, faces.scores[result.false], strict=True):
        outline(canvas, box, FALSE, 2)
        if len(alarms) * _DENSE <= size[0] * size[1]:
            plate(canvas, box, f"{score:.2f}", FALSE)
    for box in boxes[result.missed]:  # last, so that nothing hides them
        outline(canvas, box, MISSED, 4)
    return canvas
