"""Time several works in turn, A B C A B C, so that a machine which drifts treats all alike."""

import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

import numpy as np

from facetrain.core.documents.compare import TimesDocument
from facetrain.core.errors import FacetrainError

WARM_UP = 3  # calls of each work before the first round: memory is got, code and weights are in the caches
ROUNDS = 20
REPEATS = 3

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Times:
    """Measured times of one work, in milliseconds.

    median, p90: half of the runs, and nine of ten, were at least as fast
    spread:      half of what lies between the quartiles, as a share of the median
    runs:        how many were measured
    """

    median: float
    p90: float
    spread: float
    runs: int

    def as_dict(self) -> TimesDocument:
        """Plain values for JSON."""
        return {
            "median_ms": round(self.median, 4),
            "p90_ms": round(self.p90, 4),
            "spread": round(self.spread, 4),
            "runs": self.runs,
        }


def times_of(seconds: Sequence[float]) -> Times | None:
    """Summary of measured seconds; None where nothing was measured."""
    if not seconds:
        return None
    middle = median(seconds)
    low, high, slow = (float(value) for value in np.quantile(seconds, (0.25, 0.75, 0.9)))
    return Times(middle * 1e3, slow * 1e3, (high - low) / 2 / middle if middle else 0.0, len(seconds))


def time_in_turn(
    works: Mapping[Key, Callable[[], object]],
    *,
    rounds: int = ROUNDS,
    repeats: int = REPEATS,
    warm_up: int = WARM_UP,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[tuple[Key, list[float] | FacetrainError]]:
    """The seconds of each work's runs, turn by turn, or the error of one that fails; that one gets no more turns.

    First every work runs `warm_up` times. In each of the `rounds` every work has its turn: one run that is not
    measured, since the other works have just emptied the caches and threads of theirs may still be spinning, and then
    `repeats` that are.
    """
    alive = dict(works)
    for turn in range(-1, rounds):
        for key, work in list(alive.items()):
            try:
                if turn < 0:
                    for _ in range(warm_up):
                        work()
                    continue
                work()
                seconds = []
                for _ in range(repeats):
                    begun = clock()
                    work()
                    seconds.append(clock() - begun)
            except FacetrainError as error:
                del alive[key]
                yield key, error
            else:
                yield key, seconds
