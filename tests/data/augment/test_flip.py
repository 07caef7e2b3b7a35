"""Mirrored crops; their boxes and landmarks against the recipe stand in test_crops."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from views import noise, view_of

from facetrain.data.augment.flip import apply, draw

edges = st.floats(0, 24, width=32)


@given(x=st.tuples(edges, edges).map(sorted), y=st.tuples(edges, edges).map(sorted), ignored=st.booleans())
def test_every_bit_is_that_of_the_size_minus_x(x: list[float], y: list[float], ignored: bool) -> None:
    """Boxes, points and pixels: what ran before mirrors were one of several maps goes on."""
    points = np.array([[(x[0], y[0], 1), (x[1], y[1], 0), (x[0], y[1], 1), (0, 0, 1), (24, 24, 1)]], np.float32)
    view = view_of(noise(), [[x[0], y[0], x[1], y[1]]], points, [ignored])
    after = apply(view, True)
    x1, y1, x2, y2 = view.boxes.T
    assert np.array_equal(after.boxes, np.stack([24 - x2, y1, 24 - x1, y2], 1))
    wanted = points[:, [1, 0, 2, 4, 3]]
    wanted[..., 0] = 24 - wanted[..., 0]
    assert np.array_equal(after.landmarks, wanted)
    assert after.ignore.tolist() == [ignored]
    assert torch.equal(after.image, view.image.flip(-1))
    assert torch.equal(view.image, noise())  # the given one is left alone


def test_drawn_as_often_as_asked_for() -> None:
    rng = np.random.default_rng(0)
    assert abs(sum(bool(draw(rng, 0.3)) for _ in range(2000)) / 2000 - 0.3) < 0.04
    assert {draw(rng, 0.0) for _ in range(50)} == {None}
    assert {draw(rng, 1.0) for _ in range(50)} == {True}
