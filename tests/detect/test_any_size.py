"""Faces of every size by several looks: which looks there are, and what a made detector finds by them."""

import math
from dataclasses import dataclass, field

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from facetrain.core.errors import UsageError
from facetrain.core.faces import Faces
from facetrain.detect.any_size import AnySize
from facetrain.detect.face_range import FaceRange
from facetrain.detect.passes import MOST_PIXELS, check_min_face, plan_looks, tiles_of

USUAL = FaceRange(12, 400)
ranges = some.builds(lambda low, times: FaceRange(low, low * times), some.floats(4, 60), some.floats(3, 100))
sides = some.integers(1, 30_000)


@given(
    sides, sides, ranges, some.none() | some.floats(1, 3000), some.none() | some.sampled_from([(320, 240), (640, 640)])
)
def test_looks_answer_for_all_sizes_that_are_sought(width, height, faces, min_face, static):
    plan = plan_looks(width, height, faces, min_face, static)
    first, last = plan.looks[0], plan.looks[-1]
    assert plan.smallest == pytest.approx(faces.least / first.scale)
    assert first.least == 0 and last.most == math.inf
    assert first.scale <= 2 and len(plan.looks) <= 20
    for one, other in zip(plan.looks, plan.looks[1:], strict=False):
        assert one.scale > other.scale
        assert other.least <= one.most * (1 + 1e-9)  # no size falls between them
        assert one.most * one.scale <= faces.most  # none is asked for that the network does not see
    if min_face is None:
        assert first.scale <= 1
        assert width * height * first.scale**2 <= MOST_PIXELS * (1 + 1e-9)
    elif min_face >= faces.least / 2:
        assert plan.smallest <= min_face * (1 + 1e-9)


@given(some.integers(32, 30_000), some.integers(32, 30_000), some.none() | some.floats(4, 100))
def test_coarser_looks_cost_a_third_together(width, height, min_face):
    plan = plan_looks(width, height, USUAL, min_face)
    areas = [look.scale**2 for look in plan.looks]
    assert sum(areas[1:]) <= areas[0] / 3 * (1 + 1e-9)


def test_a_phones_photograph():
    plan = plan_looks(3000, 4000, USUAL)
    assert [round(look.scale, 3) for look in plan.looks] == [0.408, 0.204, 0.102, 0.051]
    assert plan.smallest == pytest.approx(29.4, abs=0.1)
    assert plan_looks(3000, 4000, USUAL, min_face=12).looks[0].scale == 1
    assert plan_looks(640, 480, USUAL, min_face=4).looks[0].scale == 2  # no more than that
    assert plan_looks(640, 480, USUAL).looks[0].scale == 1


@given(sides, sides, some.none() | some.sampled_from([(320, 240), (128, 128), (640, 640)]))
@settings(max_examples=60)
def test_tiles_cover_all_and_answer_for_each_point_once(width, height, static):
    tiles = tiles_of(width, height, static)
    xs, ys = (np.unique(np.linspace(0, side - 1, 40).astype(int)) + 0.5 for side in (width, height))
    for at in ((x, y) for x in xs[:: len(xs) // 7 + 1] for y in ys[:: len(ys) // 7 + 1]):
        own = [t for t in tiles if t.core[0] <= at[0] < t.core[2] and t.core[1] <= at[1] < t.core[3]]
        assert len(own) == 1
        assert own[0].left <= at[0] < own[0].right and own[0].top <= at[1] < own[0].bottom
    for tile in tiles:
        assert 0 <= tile.left < tile.right <= width and 0 <= tile.top < tile.bottom <= height
        if static is not None:
            assert tile.right - tile.left <= static[0] and tile.bottom - tile.top <= static[1]
        else:
            assert (tile.right - tile.left) * (tile.bottom - tile.top) <= 1.1 * MOST_PIXELS


@dataclass
class Squares:
    """Finds white squares of the sizes of its range, and takes the corners of larger ones for faces."""

    faces: FaceRange = USUAL
    shown: list[tuple[int, int]] = field(default_factory=list)

    def detect_batch(self, images):
        return [self._detect(image) for image in images]

    def _detect(self, image):
        self.shown.append((image.shape[1], image.shape[0]))
        _, _, stats, _ = cv2.connectedComponentsWithStats((image[..., 0] > 127).astype(np.uint8))
        boxes = []
        for x, y, w, h, _ in stats[1:].tolist():
            whole = x > 0 and y > 0 and x + w < image.shape[1] and y + h < image.shape[0]
            if whole and self.faces.least <= min(w, h) <= self.faces.most:
                boxes.append((x, y, x + w, y + h))
            elif max(w, h) > self.faces.most:
                boxes.append((x, y, x + 500, y + 500))
        found = np.array(boxes, np.float32).reshape(-1, 4)
        centres = (found[:, None, :2] + found[:, None, 2:]) / 2
        return Faces(found, np.linspace(0.9, 0.8, len(found), dtype=np.float32), centres)


def canvas(width, height, squares):
    image = np.zeros((height, width, 3), np.uint8)
    for x, y, side in squares:
        image[y : y + side, x : x + side] = 255
    return image


def check_all_found(found, squares, tolerance=0.06):
    assert len(found) == len(squares)
    for x, y, side in squares:
        near = np.abs(found.boxes - (x, y, x + side, y + side)).max(1)
        assert near.min() <= max(tolerance * side, 2)
        row = int(np.argmin(near))
        np.testing.assert_allclose(found.landmarks[row, 0], (x + side / 2, y + side / 2), atol=max(tolerance * side, 2))


MANY = [(40, 40, 40), (200, 60, 100), (500, 500, 300), (1000, 300, 700), (100, 1200, 1700), (2100, 900, 800)]


@pytest.mark.parametrize("reduced", [1, 2])
def test_squares_of_all_sizes_are_found_once(reduced):
    image = canvas(3000, 4000, MANY)
    looker = AnySize(Squares(), USUAL, 0.45)
    plan = looker.plan(3000, 4000)
    check_all_found(looker.detect(image[::reduced, ::reduced], plan, reduced), MANY)


def test_a_large_image_in_tiles():
    squares = [(x, y, 14 + (x // 100 + y // 100) % 200) for x in range(50, 5700, 700) for y in range(30, 4700, 500)]
    image = canvas(6000, 5000, squares)
    detector = Squares()
    check_all_found(AnySize(detector, USUAL, 0.45, min_face=12).detect_batch([image])[0], squares)
    assert max(w * h for w, h in detector.shown) <= 1.1 * MOST_PIXELS


def test_an_enlarged_image():
    squares = [(20, 30, 7), (100, 50, 60), (300, 200, 250)]
    detector = Squares()
    check_all_found(AnySize(detector, USUAL, 0.45, min_face=6).detect_batch([canvas(640, 480, squares)])[0], squares)
    assert detector.shown[0] == (1280, 960)


def test_a_network_of_a_fixed_size():
    squares = [(20, 30, 30), (700, 50, 60), (300, 600, 250), (1000, 800, 500)]
    found = AnySize(Squares(), USUAL, 0.45, static_shape=(320, 240)).detect_batch([canvas(1600, 1400, squares)])[0]
    check_all_found(found, squares)


def test_one_look_is_the_detectors_own():
    image = canvas(200, 150, [(20, 30, 50)])
    own = Squares().detect_batch([image])[0]
    found = AnySize(Squares(), USUAL, 0.45).detect_batch([image])[0]
    assert all(np.array_equal(a, b) for a, b in zip(vars(own).values(), vars(found).values(), strict=True))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 20_000), (20_000, 1), (5, 3)])
def test_images_of_odd_shapes(width, height):
    for min_face in (None, 1, 5000):
        assert len(AnySize(Squares(), USUAL, 0.45, min_face).detect_batch([canvas(width, height, [])])[0]) == 0


@pytest.mark.parametrize("value", [0, -3, math.nan, 1e9])
def test_no_such_face(value):
    with pytest.raises(UsageError, match="`min_face`"):
        check_min_face(value)
