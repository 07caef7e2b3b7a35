"""Accuracy over latency as an image: a bubble for each model, as large as the model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetrain.core.errors import UsageError
from facetrain.core.files import replacing
from facetrain.core.inert import for_plot
from facetrain.core.plots import new_figure

SUFFIXES = (".png", ".svg", ".pdf")
_INK, _SOFT, _GRID = "#1b1f24", "#5d6773", "#e3e7eb"
_FREE, _FIXED = "#2f7ed8", "#e07b39"
_SIZE = (9.0, 6.0)  # inches
_LEAST_AREA, _MOST_AREA = 40.0, 1400.0  # square points
# Where a label may stand around its bubble, best place first: x and y from -1 to 1
_PLACES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
_REACHES = (3.0, 12.0, 24.0, 40.0, 60.0, 85.0)  # points between bubble and label


@dataclass(frozen=True)
class Bubble:
    """One model: latency in milliseconds, AP, parameters; fixed: timed and measured at a size of its own."""

    name: str
    latency: float
    ap: float
    parameters: int
    fixed: bool


def check_plot_path(path: Path) -> None:
    """Raise UsageError for a format that is not written: now, and not after all the work."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"`plot` {path}: not a format that is written", f"name it .png, or {' or '.join(SUFFIXES[1:])}"
        )


def write_scatter(path: Path, bubbles: Sequence[Bubble], *, x_title: str, y_title: str, note: str) -> None:
    """Write the image, of one bubble at least; `note` stands below it. Raises OutputError."""
    figure = new_figure(*_SIZE)
    axes = figure.add_subplot()
    axes.set_axisbelow(True)
    latencies = np.array([bubble.latency for bubble in bubbles])
    if latencies.max() > 4 * latencies.min():
        axes.set_xscale("log")
    areas = _areas([bubble.parameters for bubble in bubbles])
    for fixed, colour, label in ((False, _FREE, "any input size"), (True, _FIXED, "input size fixed in the file")):
        chosen = [i for i, bubble in enumerate(bubbles) if bubble.fixed == fixed]
        if chosen:
            axes.scatter(
                latencies[chosen],
                [bubbles[i].ap for i in chosen],
                s=areas[chosen],
                color=colour,
                alpha=0.55,
                linewidths=1,
                edgecolors=colour,
                label=label,
            )
    _dress(figure, axes, x_title, y_title, note)
    _widen(axes, bubbles)
    _label(figure, axes, bubbles, areas)
    with replacing(path) as scratch:
        figure.savefig(scratch, dpi=150, format=path.suffix.lower()[1:])


def _areas(parameters: Sequence[int]) -> NDArray[np.float64]:
    """Areas in square points, in proportion to the parameters as far as the smallest stays visible."""
    counts = np.array(parameters, np.float64)
    areas: NDArray[np.float64] = np.maximum(counts / max(float(np.max(counts)), 1.0) * _MOST_AREA, _LEAST_AREA)
    return areas


def _dress(figure: Any, axes: Any, x_title: str, y_title: str, note: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xlabel(x_title, color=_INK)
    axes.set_ylabel(y_title, color=_INK)
    if axes.get_xscale() == "log":
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(True, which="major", color=_GRID, linewidth=0.8)
    axes.tick_params(colors=_SOFT, which="both")
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(_SOFT)
    legend = axes.legend(loc="best", frameon=False, labelcolor=_SOFT, fontsize=9)
    for handle in legend.legend_handles:
        handle.set_sizes([60])
    figure.supxlabel(note, fontsize=8, color=_SOFT)


def _widen(axes: Any, bubbles: Sequence[Bubble]) -> None:
    """Room for bubbles and labels at the edges."""
    latencies, aps = [b.latency for b in bubbles], [b.ap for b in bubbles]
    if axes.get_xscale() == "log":
        axes.set_xlim(min(latencies) / 1.35, max(latencies) * 1.45)
    else:
        room = max((max(latencies) - min(latencies)) * 0.25, max(latencies) * 0.15)
        axes.set_xlim(max(min(latencies) - room, 0), max(latencies) + room)
    room = max((max(aps) - min(aps)) * 0.15, 0.01)
    axes.set_ylim(min(aps) - room, max(aps) + room)


def _label(figure: Any, axes: Any, bubbles: Sequence[Bubble], areas: NDArray[np.float64]) -> None:
    """Write each name beside its bubble, at the first place where it covers no bubble and no other name."""
    figure.draw_without_rendering()  # the layout is settled now
    figure.set_layout_engine("none")
    renderer = figure.canvas.get_renderer()
    point = figure.dpi / 72  # pixels
    centres = axes.transData.transform([(bubble.latency, bubble.ap) for bubble in bubbles])
    radii = np.sqrt(areas / np.pi) * point
    taken = [(x - r, y - r, x + r, y + r) for (x, y), r in zip(centres, radii, strict=True)]
    taken.append(tuple(axes.get_legend().get_window_extent(renderer).extents))
    frame = axes.get_window_extent(renderer)
    for index in np.argsort(-areas, kind="stable"):
        bubble, (x, y), radius = bubbles[index], centres[index], radii[index]
        text = axes.annotate(for_plot(bubble.name), (bubble.latency, bubble.ap), fontsize=8.5, color=_INK)
        box = text.get_window_extent(renderer)
        others = [area for i, area in enumerate(taken) if i != index]
        place, reach = _free_place((x, y, radius), (box.width, box.height), others, frame.extents, point)
        left, bottom = _corner((x, y, radius), (box.width, box.height), place, reach)
        text.set_position(axes.transData.inverted().transform((left, bottom)))
        taken.append((left, bottom, left + box.width, bottom + box.height))
        if reach > _REACHES[1] * point:
            # from the bubble's rim to the near edge of the name
            edge = (np.clip(x, left, left + box.width), np.clip(y, bottom, bottom + box.height))
            ends = axes.transData.inverted().transform([(x, y), edge])
            axes.plot(ends[:, 0], ends[:, 1], color=_SOFT, linewidth=0.6, zorder=1)


def _free_place(
    bubble: tuple[float, float, float],
    size: tuple[float, float],
    taken: Sequence[tuple[float, ...]],
    frame: tuple[float, ...],
    point: float,
) -> tuple[tuple[int, int], float]:
    """The place and reach where a name of (width, height) pixels covers least; the first where it covers nothing."""
    best = (np.inf, _PLACES[0], _REACHES[0] * point)
    for reach in _REACHES:
        for place in _PLACES:
            left, bottom = _corner(bubble, size, place, reach * point)
            right, top = left + size[0], bottom + size[1]
            outside = max(frame[0] - left, 0) + max(right - frame[2], 0) + max(frame[1] - bottom, 0)
            covered = outside * size[1] + max(top - frame[3], 0) * size[0]
            for x1, y1, x2, y2 in taken:
                covered += max(min(right, x2) - max(left, x1), 0) * max(min(top, y2) - max(bottom, y1), 0)
            if covered == 0:
                return place, reach * point
            if covered < best[0]:
                best = (covered, place, reach * point)
    return best[1], best[2]


def _corner(
    bubble: tuple[float, float, float], size: tuple[float, float], place: tuple[int, int], reach: float
) -> tuple[float, float]:
    """Lower left corner, in pixels, of a name beside a bubble (x, y, radius)."""
    x, y, radius = bubble
    shift = (radius + reach) * (0.71 if all(place) else 1)
    left = x + place[0] * shift - size[0] * (1 - place[0]) / 2
    return left, y + place[1] * shift - size[1] * (1 - place[1]) / 2
