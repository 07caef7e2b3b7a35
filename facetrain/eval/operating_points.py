"""The scores that give the usual precisions on a benchmark, each with its interval."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facetrain.detect.operating_points import PRECISIONS, OperatingPoints, OperatingScore
from facetrain.eval.benchmark import Scores
from facetrain.eval.details import Ranking, operating_point, ranking
from facetrain.eval.details import precisions as precisions_of
from facetrain.eval.intervals import MIN_IMAGES, Resampling

Doubles = NDArray[np.float64]

_MARGIN = 0.3  # no draw of MIN_IMAGES images and more changes a precision by more
_AT_A_TIME = 64  # draws


def operating_points(
    scores: Scores, resampling: Resampling, precisions: Sequence[float] = PRECISIONS
) -> OperatingPoints | None:
    """The operating points of a detector on a benchmark; those that no score reaches are left out.

    Each interval is a percentile bootstrap over images: every draw looks for its own score, as `operating_point` does.
    None where there is none at all.
    """
    outcomes, found, images = scores.outcomes, scores.found, scores.benchmark.images
    reached = [operating_point(outcomes, found, images, precision) for precision in precisions]
    points = [point for point in reached if point is not None]
    if not points:
        return None
    ends: dict[float, tuple[float | None, float | None]] = {}
    if resampling.draws and len(images) >= MIN_IMAGES:
        ends = _ends(scores, resampling, [point.precision for point in points])
    known = tuple(
        OperatingScore(
            point.precision, round(point.score, 4), *ends.get(point.precision, (None, None)), round(point.recall, 4)
        )
        for point in points
    )
    return OperatingPoints(len(images), scores.benchmark.name, known)


def _ends(
    scores: Scores, resampling: Resampling, precisions: Sequence[float]
) -> dict[float, tuple[float | None, float | None]]:
    """Of each precision the ends of the interval of its score."""
    ranked = ranking(scores.outcomes, scores.found)
    hits, alarms = ranked.true.cumsum(dtype=np.float64), ranked.false.cumsum(dtype=np.float64)
    good = np.flatnonzero((hits > 0) & (precisions_of(hits, alarms) >= min(precisions) - _MARGIN))
    ranked = ranked.until(int(good[-1]) + 1)
    drawn: dict[float, list[float]] = {precision: [] for precision in precisions}
    for first in range(0, resampling.draws, _AT_A_TIME):
        weights = resampling.weights[first : first + _AT_A_TIME, ranked.image].astype(np.float64)
        reached = precisions_of((weights * ranked.true).cumsum(1), (weights * ranked.false).cumsum(1))
        for precision in precisions:
            drawn[precision] += _lowest(ranked, reached, precision)
    return {precision: _interval(some) for precision, some in drawn.items()}


def _lowest(ranked: Ranking, reached: Doubles, precision: float) -> list[float]:
    """Of each draw that has one the lowest score that keeps the precision. reached: (draws, N)."""
    enough = ranked.last & (reached >= precision)
    at = enough.shape[1] - 1 - np.argmax(enough[:, ::-1], axis=1)
    return [float(one) for one in ranked.score[at[np.flatnonzero(enough.sum(1))]]]


def _interval(drawn: Sequence[float]) -> tuple[float | None, float | None]:
    if not drawn:
        return None, None
    low, high = np.percentile(drawn, [2.5, 97.5])
    return round(float(low), 4), round(float(high), 4)
