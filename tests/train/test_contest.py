"""Which other weights of a run the chosen ones cannot be told apart from."""

import numpy as np
import pytest

from facetrain.eval.intervals import Estimate, Resampling, Sums, sum_estimates
from facetrain.train.run.best import Contest
from facetrain.train.validation import ValidationResult

RESAMPLING = Resampling([""] * 200)


def report(hits: int, seed: int) -> ValidationResult:
    """So many of 200 images found, others each time but for the first hundred."""
    rng = np.random.default_rng(seed)
    found = np.ones(200)
    found[100 + rng.permutation(100)[: 200 - hits]] = 0
    estimate: Estimate = sum_estimates([Sums("ap", found, np.ones(200), share=True)], RESAMPLING)["ap"]
    return ValidationResult(estimate.value, {}, 200, hits, [], estimate)


def test_epochs_within_noise_are_named() -> None:
    contest = Contest()
    for epoch, hits in enumerate((110, 160, 164, 161)):
        contest.add(epoch, report(hits, epoch))
    said = contest.sentence(2, RESAMPLING)
    assert said.startswith("best.pt is epoch 3, AP 0.820 [.7")
    assert "; 2 other epochs (2, 4) cannot be told apart from it on these 200 images" in said
    assert "epoch 2 cannot" in contest_of([150, 151]).sentence(0, RESAMPLING)


def contest_of(hits: list[int]) -> Contest:
    contest = Contest()
    for epoch, count in enumerate(hits):
        contest.add(epoch, report(count, epoch))
    return contest


def test_nothing_is_said_where_nothing_can_be() -> None:
    assert Contest().sentence(None, RESAMPLING) == ""
    assert contest_of([110, 199]).sentence(1, RESAMPLING) == ""  # clearly better
    assert contest_of([150]).sentence(0, RESAMPLING) == ""
    assert contest_of([150, 150]).sentence(7, RESAMPLING) == ""  # the best one was before the run was resumed
    contest = Contest()
    contest.add(0, ValidationResult(None, {}, 200, 0, []))
    assert contest.sentence(0, RESAMPLING) == ""


@pytest.mark.parametrize("epochs", [3, 9])
def test_long_lists_end(epochs: int) -> None:
    said = contest_of([150] * epochs).sentence(0, RESAMPLING)
    shown = said.partition("(")[2].partition(")")[0]
    assert shown == ("2, 3" if epochs == 3 else "… 4, 5, 6, 7, 8, 9")
