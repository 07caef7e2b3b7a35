"""Turned crops: pixels, boxes, landmarks and ignored regions stay together."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from views import dot, noise, view_of, where_bright

from facetrain.config.schema import RotateConfig
from facetrain.data.augment.rotate import apply, draw
from facetrain.data.augmentations import augmented

SIZE = 48
angles = st.floats(-180, 180)
inside = st.floats(10, SIZE - 10)


def turned(x: float, y: float, degrees: float, size: int = SIZE) -> tuple[float, float]:
    """A point turned counter-clockwise around the centre, by complex numbers; y points down."""
    moved = complex(x - size / 2, size / 2 - y) * complex(
        math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    )
    return size / 2 + moved.real, size / 2 - moved.imag


@given(x=inside, y=inside, degrees=angles, flip=st.booleans())
def test_a_bright_dot_stays_on_its_landmark(x: float, y: float, degrees: float, flip: bool) -> None:
    view = view_of(dot(SIZE, x, y), [[x - 4, y - 4, x + 4, y + 4]], [[(x, y, 1)] * 5])
    after = augmented(view, {"flip": True, "rotate": degrees} if flip else {"rotate": degrees})
    place = turned(SIZE - x if flip else x, y, degrees)
    if min(*place, SIZE - place[0], SIZE - place[1]) < 6:
        return  # the dot is cut off
    np.testing.assert_allclose(after.landmarks[0], [(*place, 1)] * 5, atol=1e-4)
    np.testing.assert_allclose(where_bright(after.image), place, atol=0.02)
    box = after.boxes[0]
    np.testing.assert_allclose(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), place, atol=1e-4)


@given(degrees=angles.filter(lambda angle: angle % 90 != 0))
def test_pixels_are_those_of_scipy(degrees: float) -> None:
    """Bilinear at half-pixel centres, blending into black at the border."""
    image = noise(SIZE)
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    back = np.array([[cosine, sine], [-sine, cosine]])  # rows and columns of the result to those of the source
    centre = np.full(2, (SIZE - 1) / 2)
    got = apply(view_of(image), degrees).image
    for channel, plane in zip(got, image.double().numpy(), strict=True):
        wanted = ndimage.affine_transform(plane, back, centre - back @ centre, order=1, mode="grid-constant")
        np.testing.assert_allclose(channel, wanted, atol=0.02)


@given(x=inside, y=inside, w=st.floats(2, 20), h=st.floats(2, 20), degrees=angles.filter(lambda angle: angle % 90 != 0))
def test_box_is_around_the_ellipse_and_region_around_the_corners(
    x: float, y: float, w: float, h: float, degrees: float
) -> None:
    x1, y1, x2, y2 = max(0, x - w / 2), max(0, y - h / 2), min(SIZE, x + w / 2), min(SIZE, y + h / 2)
    after = apply(view_of(noise(SIZE), [[x1, y1, x2, y2]] * 2, ignore=[False, True]), degrees)
    if len(after.boxes) == 0:
        return  # the centre has left
    w, h = (x2 - x1) / 2, (y2 - y1) / 2
    ellipse = [(x1 + w + w * math.cos(t), y1 + h + h * math.sin(t)) for t in np.linspace(0, 2 * math.pi, 4000)]
    corners = [(px, py) for px in (x1, x2) for py in (y1, y2)]
    for box, points in zip(after.boxes, (ellipse, corners), strict=True):
        moved = np.array([turned(px, py, degrees) for px, py in points])
        wanted = np.concatenate([moved.min(0), moved.max(0)]).clip(0, SIZE)
        np.testing.assert_allclose(box, wanted, atol=1e-3)
    assert after.ignore.tolist() == [False, True]


def test_a_square_box_does_not_grow() -> None:
    """Around the turned corners it would be twice as large."""
    [box] = apply(view_of(noise(SIZE), [[14, 18, 24, 28]]), 45.0).boxes
    np.testing.assert_allclose(box[2:] - box[:2], [10, 10], atol=1e-4)


# Right angles

eighths = st.integers(0, 8 * SIZE).map(lambda place: place / 8)  # `size - x` is exact


@given(x=st.tuples(eighths, eighths).map(sorted), y=st.tuples(eighths, eighths).map(sorted), ignored=st.booleans())
def test_right_angles_are_exact_and_reversible(x: list[float], y: list[float], ignored: bool) -> None:
    points = [(x[0], y[0], 1), (x[1], y[1], 0), (x[0], y[1], 1), (0, 0, 1), (SIZE, SIZE, 1)]
    view = view_of(noise(SIZE), [[x[0], y[0], x[1], y[1]]], [points], [ignored])
    for quarters in (1, 2, 3):
        after = apply(view, 90.0 * quarters)
        assert torch.equal(after.image, torch.rot90(view.image, quarters, (1, 2)))
        moved = [turned(px, py, 90 * quarters) for px, py, _ in points]
        np.testing.assert_allclose(after.landmarks[0, :, :2], moved, atol=1e-9)
        assert after.landmarks[0, :, 2].tolist() == [1, 0, 1, 1, 1]
        corners = np.array(moved[:2])
        np.testing.assert_allclose(after.boxes[0], [*corners.min(0), *corners.max(0)], atol=1e-9)
        again = apply(after, 360 - 90.0 * quarters)
        assert torch.equal(again.image, view.image)
        assert np.array_equal(again.boxes, view.boxes)
        assert np.array_equal(again.landmarks, view.landmarks)
        assert again.ignore.tolist() == [ignored]


def test_the_given_image_is_left_alone() -> None:
    view = view_of(noise(SIZE))
    for degrees in (90.0, 180.0, 17.0):
        after = apply(view, degrees)
        assert after.image.untyped_storage().data_ptr() != view.image.untyped_storage().data_ptr()
        assert torch.equal(view.image, noise(SIZE))


# What leaves the crop


def test_corners_are_black_and_the_middle_stays() -> None:
    white = torch.full((3, SIZE, SIZE), 255.0)
    after = apply(view_of(white), 45.0).image
    assert [float(after[0, y, x]) for y in (0, SIZE - 1) for x in (0, SIZE - 1)] == [0] * 4
    assert bool((after[:, 16:32, 16:32] > 254.9).all())


def test_face_whose_centre_leaves_is_dropped_and_points_outside_lose_their_weight() -> None:
    corner, edge = [40, 0, 46, 6], [18, 0, 30, 8]
    points = [[(43, 3, 1)] * 5, [(20, 2, 1), (24, 0, 1), (24, 4, 1), (24, 6, 1), (4, 44, 1)]]
    view = view_of(noise(SIZE), [corner, edge, corner], [*points, [(0, 0, 0)] * 5], [False, False, True])
    after = apply(view, 30.0)
    assert after.ignore.tolist() == [False]
    [box], [landmarks] = after.boxes, after.landmarks
    wanted = [turned(x, y, 30.0) for x, y, _ in points[1]]
    assert landmarks[:, 2].tolist() == [float(0 <= x <= SIZE and 0 <= y <= SIZE) for x, y in wanted]
    assert 0 < landmarks[:, 2].sum() < 5
    np.testing.assert_allclose(landmarks[:, :2], np.clip(wanted, 0, SIZE), atol=1e-4)
    assert box.min() >= 0


def test_views_without_faces_or_landmarks() -> None:
    empty = apply(view_of(noise(SIZE)), 12.0)
    assert (empty.boxes.shape, empty.landmarks.shape, empty.ignore.shape) == ((0, 4), (0, 5, 3), (0,))
    assert empty.boxes.dtype == empty.landmarks.dtype == np.float32


def test_flip_comes_first() -> None:
    view = view_of(noise(SIZE), [[5, 10, 20, 30]], [[(8, 12, 1)] * 5])
    both = augmented(view, {"flip": True, "rotate": 20.0})
    wanted = apply(augmented(view, {"flip": True}), 20.0)
    assert torch.equal(both.image, wanted.image)
    assert np.array_equal(both.boxes, wanted.boxes)
    assert not torch.equal(both.image, augmented(view, {"rotate": 20.0, "flip": True}).image)


# Draws


@pytest.mark.parametrize(("degrees", "chance"), [(15.0, 1.0), (180.0, 0.4), (0.0, 1.0)])
def test_angles_are_drawn_evenly_to_both_sides(degrees: float, chance: float) -> None:
    rng = np.random.default_rng(0)
    numbers = [draw(rng, RotateConfig(chance, degrees)) for _ in range(3000)]
    drawn = np.array([number for number in numbers if number is not None])
    assert abs(len(drawn) / 3000 - chance) < 0.03
    assert abs(drawn).max(initial=0) <= degrees
    assert abs(drawn.mean()) <= 0.05 * degrees
    assert abs(drawn.std() - degrees / math.sqrt(3)) <= 0.03 * degrees


def test_right_angles_are_drawn_evenly() -> None:
    rng = np.random.default_rng(0)
    drawn, counts = np.unique([draw(rng, RotateConfig(1.0, 15.0, True)) for _ in range(3000)], return_counts=True)
    assert drawn.tolist() == [90, 180, 270]
    assert (abs(counts - 1000) < 100).all()
