"""Numbers beside AP, each one sum over images by another: a row of `METRICS` is one more, everywhere.

`eval`, its report, its JSON, `--against` and `facetrain.difference` show every row, with its interval.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetrain.core.faces import Faces, LabelledImage
from facetrain.eval.outcomes import Outcome

Doubles = NDArray[np.float64]
PerImage = Callable[[Sequence[Outcome], Sequence[Faces], Sequence[LabelledImage]], tuple[Doubles, Doubles]]


@dataclass(frozen=True)
class Metric:
    """A number at a score threshold.

    title: as people read it
    sums:  of the outcomes at that score, all detections and labels of the images: numerator and denominator, (images,)
    share: whether it lies between 0 and 1; else it is positive
    """

    title: str
    sums: PerImage
    share: bool


def _recall(
    outcomes: Sequence[Outcome], found: Sequence[Faces], images: Sequence[LabelledImage]
) -> tuple[Doubles, Doubles]:
    return _counts([some.true for some in outcomes]), _counts([~image.ignore for image in images])


def _precision(
    outcomes: Sequence[Outcome], found: Sequence[Faces], images: Sequence[LabelledImage]
) -> tuple[Doubles, Doubles]:
    hits = _counts([some.true for some in outcomes])
    return hits, hits + _counts([some.false for some in outcomes])


def _false_alarms(
    outcomes: Sequence[Outcome], found: Sequence[Faces], images: Sequence[LabelledImage]
) -> tuple[Doubles, Doubles]:
    return _counts([some.false for some in outcomes]), np.ones(len(images))


def _counts(flags: Sequence[NDArray[np.bool_]]) -> Doubles:
    return np.array([some.sum() for some in flags], np.float64)


def without_sentence() -> dict[str, Metric]:
    """The rows that no sentence of the words and of the report says already."""
    return {name: row for name, row in METRICS.items() if name not in ("recall", "precision", "false_alarms")}


METRICS = {
    "recall": Metric("recall", _recall, share=True),
    "precision": Metric("precision", _precision, share=True),
    "false_alarms": Metric("false alarms per image", _false_alarms, share=False),
}
