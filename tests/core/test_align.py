import cv2
import numpy as np
import pytest

from facetrain.core.align import TEMPLATE, alignment, cut_out, square_of, template_columns, warped
from facetrain.core.errors import UsageError

POINTS = np.array(list(TEMPLATE.values()))


def moved(points, turn, scale, shift):
    cos, sin = np.cos(turn), np.sin(turn)
    return scale * points @ np.array([[cos, sin], [-sin, cos]]) + shift


@pytest.mark.parametrize("side", [112, 224, 50])
@pytest.mark.parametrize("turn", [-2.5, 0.0, 0.4])
def test_a_turned_face_lands_on_the_template(turn, side):
    affine = alignment(moved(POINTS, turn, 3.7, (200, 90)), side)
    back = moved(POINTS, turn, 3.7, (200, 90)) @ affine[:, :2].T + affine[:, 2]
    assert np.abs(back - POINTS * side / 112).max() < 1e-9


def test_the_nearest_turn_scale_and_shift_by_brute_force():
    rng = np.random.default_rng(0)
    points = moved(POINTS, 0.3, 0.8, (5, 5)) + rng.normal(0, 4, (5, 2))
    affine = alignment(points, 112)

    def error(a, b, x, y):
        return ((points @ np.array([[a, b], [-b, a]]) + (x, y) - POINTS) ** 2).sum()

    best = affine[0, 0], affine[1, 0], *affine[:, 2]
    for _ in range(500):
        assert error(*(np.array(best) + rng.normal(0, 0.01, 4))) > error(*best)


@pytest.mark.parametrize("points", [np.zeros((5, 2)), np.full((5, 2), 7.0), np.full((5, 2), np.nan)])
def test_points_in_one_place_turn_nothing(points):
    assert alignment(points, 112) is None


@pytest.mark.parametrize("size", [112, 700, 3000])
def test_a_crop_shows_the_face_at_any_size(size):
    """A dot at each point of the face is found again where the template has it, also where pixels become fewer."""
    scale = size / 112
    points = POINTS * scale + (40, 30)
    image = np.zeros((size + 90, size + 90, 3), np.uint8)
    for x, y in points:
        cv2.circle(image, (round(x), round(y)), max(round(3 * scale), 2), (255, 255, 255), cv2.FILLED)
    crop = warped(image, alignment(points, 112), 112)
    assert crop.shape == (112, 112, 3)
    _, _, _, centres = cv2.connectedComponentsWithStats((crop[..., 0] > 127).astype(np.uint8))
    found = sorted(map(tuple, centres[1:]))
    assert len(found) == 5
    assert np.abs(np.array(found) - np.array(sorted(map(tuple, POINTS)))).max() < 1


def test_fine_stripes_become_grey_and_not_stripes():
    image = np.zeros((1000, 1000, 3), np.uint8)
    image[:, ::2] = 255
    crop = warped(image, square_of(np.array([100.0, 100, 900, 900]), 0.0, 50), 50)
    assert np.abs(crop.astype(int) - 127).max() < 12


def test_what_lies_outside_is_black():
    image = np.full((20, 20, 3), 200, np.uint8)
    crop = warped(image, square_of(np.array([-10.0, 0, 10, 20]), 0.0, 20), 20)
    assert (crop[:, :9] == 0).all()
    assert (crop[:, 11:] == 200).all()
    assert (warped(image, square_of(np.array([100.0, 100, 110, 110]), 0.0, 20), 20) == 0).all()


def test_a_box_with_its_margin_within_the_image():
    image = np.arange(20 * 30 * 3, dtype=np.uint16).astype(np.uint8).reshape(20, 30, 3)
    assert (cut_out(image, np.array([5.0, 5, 15, 10]), 0.2) == image[4:11, 3:17]).all()
    assert cut_out(image, np.array([-9.0, -9, 100, 100]), 0).shape == image.shape
    assert cut_out(image, np.array([40.0, 5, 50, 10]), 0.2) is None


def test_points_are_found_by_name():
    names = ["nose", "left_eye", "right_eye", "left_mouth", "right_mouth", "chin"]
    assert template_columns(names) == [2, 1, 0, 4, 3]
    with pytest.raises(UsageError, match=r"`align` needs the landmarks right_eye.*; it has none"):
        template_columns([])
    with pytest.raises(UsageError, match="it has nose"):
        template_columns(["nose"])
