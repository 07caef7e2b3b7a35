"""Works are timed in turn, and what is measured is what the clock said."""

from collections.abc import Callable

import numpy as np
import pytest

from facetrain.compare.timing import time_in_turn, times_of
from facetrain.core.errors import DataError


class Clock:
    """Time goes on only where a work takes some."""

    def __init__(self) -> None:
        self.now = 100.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def work(self, name: str, *seconds: float) -> Callable[[], None]:
        """A work that takes these times, one after the other and again from the first."""
        done = 0

        def run() -> None:
            nonlocal done
            self.calls.append(name)
            self.now += seconds[done % len(seconds)]
            done += 1

        return run


def test_models_take_turns_after_a_warm_up() -> None:
    clock = Clock()
    works = {name: clock.work(name, seconds) for name, seconds in (("a", 1.0), ("b", 2.0), ("c", 4.0))}
    found = list(time_in_turn(works, rounds=2, repeats=2, warm_up=2, clock=clock))
    assert "".join(clock.calls) == "aabbcc" + 2 * "aaabbbccc"  # a turn: one run that is not measured, two that are
    assert found == 2 * [("a", [1.0, 1.0]), ("b", [2.0, 2.0]), ("c", [4.0, 4.0])]


def test_the_first_run_of_a_turn_is_not_measured() -> None:
    clock = Clock()
    found = dict(time_in_turn({"a": clock.work("a", 9, 1, 2)}, rounds=1, repeats=2, warm_up=0, clock=clock))
    assert found == {"a": [1.0, 2.0]}


@pytest.mark.parametrize(("fails_at", "turns_of_b"), [(1, 0), (3, 0), (6, 1)])
def test_a_work_that_fails_gets_no_more_turns(fails_at: int, turns_of_b: int) -> None:
    clock = Clock()
    inner = clock.work("b", 1.0)

    def b() -> None:
        inner()
        if clock.calls.count("b") == fails_at:
            raise DataError("b fails")

    found = list(time_in_turn({"a": clock.work("a", 1.0), "b": b}, rounds=3, repeats=2, warm_up=2, clock=clock))
    assert clock.calls.count("b") == fails_at
    assert [key for key, outcome in found if isinstance(outcome, list)].count("a") == 3
    assert [key for key, outcome in found if isinstance(outcome, list)].count("b") == turns_of_b
    assert [outcome.message for _, outcome in found if isinstance(outcome, DataError)] == ["b fails"]


def test_an_interrupt_leaves_what_was_measured() -> None:
    clock = Clock()
    inner = clock.work("a", 1.0)

    def a() -> None:
        inner()
        if len(clock.calls) == 6:
            raise KeyboardInterrupt

    turns = time_in_turn({"a": a}, rounds=5, repeats=1, warm_up=1, clock=clock)
    assert [next(turns), next(turns)] == [("a", [1.0]), ("a", [1.0])]
    with pytest.raises(KeyboardInterrupt):
        next(turns)


def test_summary() -> None:
    seconds = [0.004, 0.001, 0.002, 0.010, 0.003]
    times = times_of(seconds)
    assert times is not None
    assert times.median == pytest.approx(3.0)
    assert times.p90 == pytest.approx(4 + 0.6 * (10 - 4))  # between the last two of five, in proportion
    assert times.spread == pytest.approx((4 - 2) / 2 / 3)
    assert times.as_dict() == {"median_ms": 3.0, "p90_ms": 7.6, "spread": 0.3333, "runs": 5}
    assert times_of([]) is None
    assert times_of(list(np.full(7, 0.25))).spread == 0  # type: ignore[union-attr]
