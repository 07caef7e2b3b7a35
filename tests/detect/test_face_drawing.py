import numpy as np
import pytest

from facetrain.core import drawing
from facetrain.core.drawing import draw_faces
from facetrain.core.faces import Faces


def one_face(box, points=()):
    landmarks = np.float32(points).reshape(1, len(points), 2)
    return Faces(np.float32([box]), np.float32([0.9]), landmarks)


FIVE = [(80, 80), (120, 80), (100, 100), (85, 120), (115, 120)]


def test_a_copy_is_drawn_on():
    image = np.full((200, 300, 3), 128, np.uint8)
    drawn = draw_faces(image, one_face((60, 60, 140, 150), FIVE))
    assert (image == 128).all()
    assert drawn.shape == image.shape
    assert (drawn != 128).any()


def test_without_faces_nothing_changes():
    image = np.random.default_rng(1).integers(0, 256, (50, 40, 3), np.uint8)
    np.testing.assert_array_equal(draw_faces(image, Faces.none(5)), image)


def test_sides_of_the_person_have_their_own_colours():
    names = ("right_eye", "left_eye", "nose", "mouth_right", "LeftMouth")
    drawn = draw_faces(np.full((200, 300, 3), 128, np.uint8), one_face((60, 60, 140, 150), FIVE), names)
    colours = [tuple(int(v) for v in drawn[y, x]) for x, y in FIVE]
    assert colours[0] == colours[3] == drawing._RIGHT  # at the image's left
    assert colours[1] == colours[4] == drawing._LEFT
    assert len(set(colours)) == 3


@pytest.mark.parametrize("names", [(), ("right_eye", "left_eye")])
def test_points_without_names_have_one_colour(names):
    drawn = draw_faces(np.full((200, 300, 3), 128, np.uint8), one_face((60, 60, 140, 150), FIVE), names)
    assert {tuple(int(v) for v in drawn[y, x]) for x, y in FIVE} == {drawing._RIGHT}


def test_many_points_stay_apart():
    points = [(70 + 9 * (i % 8), 70 + 9 * (i // 8)) for i in range(68)]
    drawn = draw_faces(np.zeros((200, 300, 3), np.uint8), one_face((60, 60, 150, 150), points))
    assert all(drawn[y, x].any() for x, y in points)
    assert not drawn[74, 75].any()  # between four of them


def test_the_box_is_where_the_face_is():
    drawn = draw_faces(np.zeros((200, 300, 3), np.uint8), one_face((60, 60, 140, 150)))
    for x, y in ((60, 100), (140, 100), (100, 60), (100, 150)):
        assert drawn[y, x].any()
    assert not drawn[70:140, 70:130].any()
    assert not drawn[160:].any()


@pytest.mark.parametrize(("side", "least"), [(400, 1), (4000, 6)])
def test_lines_grow_with_the_image(side, least):
    box = np.float32([0.2, 0.2, 0.8, 0.8]) * side
    drawn = draw_faces(np.zeros((side, side, 3), np.uint8), one_face(box))
    row = drawn[side // 2, : side // 2].any(1)
    assert least <= row.sum() <= 3 * least


@pytest.mark.parametrize(
    "box",
    [(-50, -50, 20, 20), (90, 90, 500, 500), (0, 0, 1, 1), (-1e9, -1e9, 1e9, 1e9), (5, 5, 5, 5), (30, 40, 20, 10)],
)
@pytest.mark.parametrize("size", [(1, 1), (100, 100), (3, 400)])
def test_any_box_on_any_image(box, size):
    image = np.zeros((*size, 3), np.uint8)
    assert draw_faces(image, one_face(box, [(box[0], box[1])] * 7)).shape == image.shape
