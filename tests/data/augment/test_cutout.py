"""Erased rectangles: where they lie, what they cover, and what becomes of the faces."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from views import noise, view_of

from facetrain.config.schema import CutoutConfig
from facetrain.data.augment.cutout import apply, draw

shares = st.floats(0.001, 1.0)


@given(area=st.tuples(shares, shares).map(sorted), seed=st.integers(0, 2**32))
def test_rectangles_lie_inside_with_the_area_asked_for(area: list[float], seed: int) -> None:
    numbers = draw(np.random.default_rng(seed), CutoutConfig(1.0, (area[0], area[1])))
    assert numbers is not None
    x1, y1, x2, y2 = numbers
    assert min(x1, y1) >= 0
    assert max(x2, y2) <= 1 + 1e-9
    assert area[0] - 1e-9 <= (x2 - x1) * (y2 - y1) <= area[1] + 1e-9
    assert 0.3 - 1e-9 <= (x2 - x1) / (y2 - y1) <= 1 / 0.3 + 1e-9


def test_rectangles_are_drawn_evenly() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw(rng, CutoutConfig(0.6, (0.02, 0.2))) for _ in range(4000)]
    x1, y1, x2, y2 = np.array([numbers for numbers in drawn if numbers is not None]).T
    assert abs(len(x1) / 4000 - 0.6) < 0.03
    area, wide = (x2 - x1) * (y2 - y1), (x2 - x1) > (y2 - y1)
    assert abs(area.mean() - 0.11) < 0.005
    assert abs(wide.mean() - 0.5) < 0.04
    for low, high in ((x1, x2), (y1, y2)):
        assert abs(((low + high) / 2).mean() - 0.5) < 0.02


def test_the_rectangle_is_erased_in_place_and_nothing_else() -> None:
    batch = torch.stack([noise(40, 0), noise(40, 1)])
    before = batch.clone()
    view = view_of(batch[1], [[2, 2, 30, 38]], [[(10, 20, 1)] * 5])
    after = apply(view, (0.25, 0.5, 0.75, 0.9))
    assert after.image is view.image
    erased = torch.zeros(40, 40, dtype=torch.bool)
    erased[20:36, 10:30] = True
    assert bool((batch[1][:, erased] == 128).all())
    assert torch.equal(batch[1][:, ~erased], before[1][:, ~erased])
    assert torch.equal(batch[0], before[0])
    assert np.array_equal(after.boxes, view.boxes)
    assert np.array_equal(after.landmarks, view.landmarks)  # the covered point too
    assert after.ignore.tolist() == [False]


@pytest.mark.parametrize(("right", "ignored"), [(0.25, False), (0.6, False), (0.69, False), (0.71, True), (1.0, True)])
def test_a_face_that_is_mostly_covered_becomes_an_ignored_region(right: float, ignored: bool) -> None:
    """Half a face is to be found; of less than a third nobody could tell."""
    view = view_of(noise(100), [[0, 20, 100, 30], [0, 60, 100, 70], [0, 20, 100, 30]], ignore=[False, False, True])
    after = apply(view, (0.0, 0.1, right, 0.4))
    assert after.ignore.tolist() == [ignored, False, True]
    assert np.array_equal(after.boxes, view.boxes)


def test_a_view_without_faces() -> None:
    assert len(apply(view_of(noise()), (0.0, 0.0, 0.5, 0.5)).boxes) == 0
