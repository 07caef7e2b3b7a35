"""Several sets trained on together: how often each image comes, and that nothing but seed and epoch decides it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from facetrain.config.schema import SourceConfig
from facetrain.core.faces import LabelledImage
from facetrain.data.crops import epoch_order
from facetrain.data.mixture import epoch_images, epoch_length, samples


def images(*counts: int) -> list[LabelledImage]:
    nothing = np.zeros((0, 4), np.float32), np.zeros((0, 5, 3), np.float32), np.zeros(0, np.bool_)
    return [
        LabelledImage(Path(f"{source}/{n}"), f"{n}", (9, 9), *nothing, source=source)
        for source, count in enumerate(counts)
        for n in range(count)
    ]


def roots(*shares: float | None) -> list[SourceConfig]:
    return [SourceConfig(f"r{number}", share) for number, share in enumerate(shares)]


@pytest.mark.parametrize("given_roots", [(), (None,), (None, None)])
def test_without_shares_an_epoch_is_what_it_always_was(given_roots: Sequence[None]) -> None:
    for epoch in range(3):
        found = epoch_images(images(5, 4), roots(*given_roots), 7, epoch)
        np.testing.assert_array_equal(found, epoch_order(9, 7, epoch))
    assert epoch_length(images(5, 4), roots(*given_roots)) == 9


@pytest.mark.parametrize(
    ("counts", "shares", "wanted"),
    [
        ((70, 1000), (None, 0.3), [70, 30]),
        ((70, 10), (None, 0.3), [70, 30]),  # those of a small set come several times
        ((60, 1000, 10), (None, 0.3, None), [60, 30, 10]),
        ((80, 5, 5), (0.5, 0.25, 0.25), [80, 40, 40]),  # the first once
        ((10, 100), (None, 0.001), [10, 1]),
        ((7,), (1.0,), [7]),
    ],
)
def test_samples(counts: tuple[int, ...], shares: tuple[float | None, ...], wanted: list[int]) -> None:
    assert samples(counts, shares) == wanted
    found = images(*counts)
    for epoch in range(3):
        order = epoch_images(found, roots(*shares), 0, epoch)
        assert len(order) == epoch_length(found, roots(*shares)) == sum(wanted)
        assert np.bincount([found[i].source for i in order], minlength=len(counts)).tolist() == wanted


@given(
    some.integers(1, 40), some.integers(1, 40), some.floats(0.01, 0.95), some.integers(0, 2**32), some.integers(1, 12)
)
def test_no_image_comes_again_before_all_of_its_set(
    first: int, second: int, share: float, seed: int, epochs: int
) -> None:
    found, mixed = images(first, second), roots(None, share)
    counted = np.zeros(first + second, int)
    for epoch in range(epochs):
        order = epoch_images(found, mixed, seed, epoch)
        counted += np.bincount(order, minlength=len(found))
        assert (counted[:first] == epoch + 1).all()
        assert np.ptp(counted[first:]) <= 1
    again = epoch_images(found, mixed, seed, epochs - 1)  # without the epochs before
    np.testing.assert_array_equal(again, order)


def test_epochs_and_seeds_differ() -> None:
    found, mixed = images(30, 90), roots(None, 0.5)
    orders = [epoch_images(found, mixed, seed, epoch).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    sources = [found[i].source for i in orders[0]]
    assert 0 < sum(sources[:30]) < 30  # both kinds stand side by side
