"""Any affine map of a view, beyond the mirrors and turns that there are."""

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from views import dot, noise, view_of, where_bright

from facetrain.data.view import move

SIZE = 64
factors = st.floats(0.7, 1.4) | st.floats(-1.4, -0.7)
shears = st.floats(-0.4, 0.4)


@given(x=st.floats(16, 48), y=st.floats(16, 48), a=factors, b=shears, c=shears, d=factors)
def test_a_bright_dot_stays_on_its_landmark(x: float, y: float, a: float, b: float, c: float, d: float) -> None:
    linear = np.array([[a, b], [c, d]])
    matrix = np.concatenate([linear, SIZE / 2 - linear @ np.full((2, 1), SIZE / 2)], 1).astype(np.float32)
    place = linear @ (x - SIZE / 2, y - SIZE / 2) + SIZE / 2
    assume(bool((abs(place - SIZE / 2) < SIZE / 2 - 12).all()))  # the dot is not cut off
    points = [(x, y, 1), (x, y, 0), (x, y, 1), (x, y, 1), (x, y, 1)]
    after = move(view_of(dot(SIZE, x, y, 2.0), [[x - 3, y - 2, x + 3, y + 2]], [points]), matrix)
    np.testing.assert_allclose(where_bright(after.image), place, atol=0.05)
    np.testing.assert_allclose(after.landmarks[0, :, :2], [place] * 5, atol=1e-4)
    mirrored = a * d - b * c < 0
    assert after.landmarks[0, :, 2].tolist() == ([0, 1, 1, 1, 1] if mirrored else [1, 0, 1, 1, 1])
    centre = after.boxes.reshape(2, 2).mean(0)
    np.testing.assert_allclose(centre, place, atol=1e-4)


def test_a_larger_image_has_larger_boxes() -> None:
    """Sides that stay upright: an ellipse's box and its corners' box are one."""
    matrix = np.array([[2, 0, -20], [0, 1.5, -10]], np.float32)
    after = move(view_of(noise(SIZE), [[20, 20, 30, 40]] * 2, ignore=[False, True]), matrix)
    assert after.boxes.tolist() == [[20, 20, 40, 50]] * 2
