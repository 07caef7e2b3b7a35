"""Every two models of a comparison: which is better, and whether the images can tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from facetrain.compare.accuracy import Accuracy
from facetrain.core.documents.compare import PairDocument
from facetrain.eval.difference import Difference, difference_of, holm
from facetrain.eval.intervals import Estimate, Resampling, ap_estimate

MOST = 6  # models of which every two are compared; of more, each with the first


@dataclass(frozen=True)
class Pair:
    """Two models by their rows' numbers. differences: per subset, AP of the second less that of the first."""

    first: int
    second: int
    differences: Mapping[str, Difference]

    def as_dict(self, names: Mapping[int, str]) -> PairDocument:
        """Plain values for JSON."""
        return {
            "first": names[self.first],
            "second": names[self.second],
            "differences": {subset: found.as_dict() for subset, found in self.differences.items()},
        }


def intervals_of(accuracy: Accuracy, resampling: Resampling) -> dict[str, Estimate]:
    """The AP of each subset with its interval."""
    return {
        subset: ap_estimate(ap, accuracy.tallies[subset], resampling)
        for subset, ap in accuracy.ap.items()
        if ap is not None
    }


def compare_pairs(intervals: Mapping[int, Mapping[str, Estimate]], resampling: Resampling) -> list[Pair]:
    """Every two of the models, or each with the first where there are many; p corrected for all that is looked at.

    intervals: of each model's APs, by its row's number, from the same draws
    """
    if not resampling.draws:
        return []
    found = {
        (first, second, subset): difference_of(a, intervals[second][subset], resampling)
        for first, second in _numbers(list(intervals))
        for subset, a in intervals[first].items()
        if subset in intervals[second]
    }
    corrected = holm(found)
    pairs: dict[tuple[int, int], dict[str, Difference]] = {}
    for (first, second, subset), difference in corrected.items():
        pairs.setdefault((first, second), {})[subset] = difference
    return [Pair(*numbers, differences) for numbers, differences in pairs.items()]


def _numbers(known: Sequence[int]) -> list[tuple[int, int]]:
    places = range(len(known))
    two = [(first, second) for second in places for first in range(second) if first == 0 or len(known) <= MOST]
    return [(known[first], known[second]) for first, second in two]
