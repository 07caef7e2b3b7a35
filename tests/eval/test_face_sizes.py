"""Recall by size of the face: what is pasted where, when it ends, and the range that a curve comes to."""

import numpy as np
import pytest

from facetrain.core.faces import Faces
from facetrain.detect.face_range import FaceRange
from facetrain.eval.face_sizes import (
    Cutout,
    background_of,
    cut_out,
    pasted,
    range_of_recalls,
    recall_at,
    recall_by_size,
)

RED = (0, 0, 255)


class Finds:
    """Finds the red rectangle of an image, if its shorter side is between two sizes."""

    def __init__(self, least: float, most: float) -> None:
        self.least, self.most = least, most
        self.shapes: list[tuple[int, ...]] = []

    def detect_batch(self, images):
        return [self.one(image) for image in images]

    def one(self, image):
        self.shapes.append(image.shape[:2])
        y, x = np.nonzero((image[..., 2] > 128) & (image[..., 0] < 128))
        box = np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1]], np.float32) if len(x) else np.zeros((0, 4))
        size = (box[:, 2:] - box[:, :2]).min(1, initial=np.inf)
        box = box[(size >= self.least * 0.9) & (size <= self.most * 1.1)]
        return Faces(box, np.ones(len(box), np.float32), np.zeros((len(box), 0, 2), np.float32))


@pytest.fixture
def face() -> Cutout:
    """Red, 40 x 52, with blue around it."""
    image = np.zeros((120, 100, 3), np.uint8)
    image[..., 0] = 255
    image[30:82, 20:60] = RED
    return cut_out(image, np.array([20, 30, 60, 82], np.float32))


@pytest.fixture
def grey() -> np.ndarray:
    return np.full((90, 150, 3), 200, np.uint8)


def test_what_is_cut_out(face):
    assert face.pixels.shape == (52 + 24 + 19, 40 + 18 + 18, 3)  # .45 of both sides, but .35 below the chin
    assert face.box.tolist() == [18, 24, 58, 76]
    image = np.zeros((50, 50, 3), np.uint8)
    assert cut_out(image, np.array([0, 0, 50, 50], np.float32)).pixels.shape == (50, 50, 3)  # there is no more of it


@pytest.mark.parametrize("size", [8, 23, 40, 100])
def test_what_is_pasted_is_as_large_and_where_it_says(face, size):
    background = np.full((320, 320, 3), 200, np.uint8)
    image, box = pasted(background, face, size, (7, -5))
    assert min(box[2:] - box[:2]) == pytest.approx(size, abs=0.6)
    assert (box[:2] + box[2:]) / 2 == pytest.approx([167, 155], abs=1)
    (seen,) = Finds(0, 999).detect_batch([image])
    assert seen.boxes[0] == pytest.approx(box, abs=1.5)
    assert (image[0] == 200).all()
    assert (image[:, 0] == 200).all()  # the background is kept
    assert (background == 200).all()


def test_a_face_larger_than_its_window_is_cut_off(face):
    image, box = pasted(np.full((64, 64, 3), 200, np.uint8), face, 90)
    assert image.shape == (64, 64, 3)
    assert (image[32, 32] == RED).all()
    assert (box[:2] < 0).all()
    assert (box[2:] > 64).all()


def test_backgrounds_cover_the_window(grey):
    for size in ((320, 320), (64, 20), (20, 64), (150, 90)):
        assert background_of(grey, *size).shape == (size[1], size[0], 3)


def test_recall_counts_faces_that_are_found_where_they_are(face, grey):
    assert recall_at(Finds(0, 999), [face] * 5, [grey], 64) == 1
    assert recall_at(Finds(100, 999), [face] * 5, [grey], 64) == 0

    class Beside(Finds):
        def one(self, image):
            found = super().one(image)
            return Faces(found.boxes + 64, found.scores, found.landmarks)

    assert recall_at(Beside(0, 999), [face] * 5, [grey], 64) == 0


def test_windows_grow_with_the_face_and_are_the_input_of_a_file_that_fixes_it(face, grey):
    detector = Finds(0, 999)
    recall_by_size(detector, [face], [grey], sizes=(8, 128, 200))
    assert detector.shapes == [(320, 320), (320, 320), (500, 500)]
    detector = Finds(0, 999)
    found = recall_by_size(detector, [face], [grey], sizes=(8, 100, 200, 400), fixed=(320, 240))
    assert list(found) == [8, 100, 168]  # .7 of 240 in place of what does not fit
    assert set(detector.shapes) == {(240, 320)}
    assert set(found.values()) == {1}


def test_sizes_behind_the_end_are_not_looked_at(face, grey):
    sizes = (8, 16, 64, 100, 150, 200)
    assert recall_by_size(Finds(30, 120), [face], [grey], sizes=sizes) == {8: 0, 16: 0, 64: 1, 100: 1, 150: 0}
    assert list(recall_by_size(Finds(30, 120), [face], [grey], sizes=sizes, whole=True)) == list(sizes)
    assert list(recall_by_size(Finds(998, 999), [face], [grey], sizes=sizes)) == list(sizes)  # nothing found as yet


def test_the_range_of_a_curve():
    """Between sizes recall is a line over the logarithm: half way from 8 to 32 is 16."""
    assert range_of_recalls({8: 0.0, 32: 1.0, 128: 1.0, 512: 0.8}) == FaceRange(16, 256)
    assert range_of_recalls({8: 0.0, 32: 0.8, 128: 0.8, 512: 0.64}) == FaceRange(16, 256)  # beside the best, .8
    assert range_of_recalls({8: 0.4, 16: 0.8, 32: 0.3, 64: 0.0}) == FaceRange(8, float(f"{16 * 2**0.16:.3g}"))


def test_a_curve_that_does_not_end_gives_the_sizes_that_were_looked_at():
    assert range_of_recalls({8: 0.9, 32: 1.0, 128: 0.95}) == FaceRange(8, 128)


def test_a_dip_between_sizes_that_are_found_is_no_end():
    assert range_of_recalls({8: 1.0, 32: 0.8, 128: 1.0}) == FaceRange(8, 128)


def test_a_network_that_finds_less_than_half_has_no_range():
    assert range_of_recalls({8: 0.0, 32: 0.49, 128: 0.3}) is None
    assert range_of_recalls({}) is None


def test_one_size_alone_is_no_range():
    assert range_of_recalls({32: 1.0}) is None
