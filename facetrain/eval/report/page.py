"""What the page of a report is given, and in which words; the page itself is page.html, a template that escapes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetrain import __version__
from facetrain.core.faces import LabelledImage
from facetrain.core.report import templates
from facetrain.core.words import count
from facetrain.eval.against import Against
from facetrain.eval.average_precision import Curve
from facetrain.eval.details import Details
from facetrain.eval.intervals import Estimate
from facetrain.eval.metrics import without_sentence
from facetrain.eval.outcomes import Outcome

_FOLDER = Path(__file__).parent  # of the template
MARK = '<meta name="generator" content="facetrain eval">'  # tells an earlier report from a folder of something else
FOUND, MISSED, FALSE, IGNORED = (80, 200, 60), (50, 50, 255), (0, 215, 255), (190, 190, 190)
_KEY = {"found": FOUND, "missed (thick)": MISSED, "false alarm, with its score": FALSE, "ignored": IGNORED}


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

    @property
    def counts(self) -> str:
        """What went wrong in it."""
        missed, false = self.result.missed, int(self.result.false.sum())
        below = f" ({self.below.sum()} with a lower score)" if self.below.any() else ""
        faces = count(int((self.result.found | missed).sum()), "face")
        return f"{missed.sum()} of {faces} missed{below}, {count(false, 'false alarm')}"


def page(
    title: str,
    protocol: Mapping[str, Any],
    curves: Mapping[str, Curve],
    details: Details,
    intervals: Mapping[str, Estimate],
    against: Against | None,
    images: Sequence[LabelledImage],
    sheets: Mapping[str, Sequence[Tile]],
    unreadable: Sequence[str],
) -> str:
    """The whole page. sheets: by their headings; unreadable: what is wrong with the images that cannot be shown."""
    from markupsafe import Markup

    environment = templates(_FOLDER)
    environment.filters |= {"number": _number, "span": _span, "rate": _rate, "plain": _plain, "spaced": _spaced}
    return environment.get_template("page.html").render(
        title=title,
        protocol=protocol,
        curves=curves,
        details=details,
        intervals=intervals,
        draws=next((some.draws for some in intervals.values() if some.draws), 0),
        against=against,
        sizes=list(zip(details.by_size, details.by_size_any, strict=True)),
        labelled_landmarks=any((image.landmarks[..., 2] > 0).any() for image in images),
        sheets=sheets,
        unreadable=unreadable,
        key={name: f"rgb({red},{green},{blue})" for name, (blue, green, red) in _KEY.items()},
        metrics={name: row.title for name, row in without_sentence().items()},
        mark=Markup(MARK),
        version=__version__,
    )


def _span(interval: Estimate | None, form: str) -> str:
    """An interval in brackets; empty where there is none."""
    if interval is None or interval.low is None or interval.high is None:
        return ""
    return f"[{interval.low:{form}}, {interval.high:{form}}]"


def _rate(value: float | None) -> str:
    return f"{_number(value, '.2g' if value and value < 0.1 else '.2f')} false alarms per image"


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _plain(value: object) -> str:
    """A value of the protocol in words."""
    if value is None or isinstance(value, bool):
        return "–" if value is None else "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    return str(value)


def _spaced(name: str) -> str:
    """A point's name in words."""
    return name.replace("_", " ")
