"""Windows and the faces in them, against the loops of the recipe and the original's own transforms."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facetrain.config.schema import ColourConfig, DataConfig, LandmarksConfig
from facetrain.core.faces import LabelledImage
from facetrain.data.augment.colour import Colour
from facetrain.data.augmentations import augmented
from facetrain.data.batches import mirror_order
from facetrain.data.crops import ROUNDS, Crop, CropFaces, crop_faces, draw_crop, epoch_order
from facetrain.data.view import View

MIRROR = mirror_order(LandmarksConfig())
FLIP = {"flip": True}


def labelled(
    size: tuple[int, int], boxes: list, landmarks: list | None = None, ignore: list | None = None
) -> LabelledImage:
    count = len(boxes)
    if landmarks is None:
        landmarks = [[(-1.0, -1.0, 0.0)] * 5] * count
    return LabelledImage(
        Path("image.png"),
        "image.png",
        size,
        np.array(boxes, np.float32).reshape(count, 4),
        np.array(landmarks, np.float32).reshape(count, 5, 3),
        np.array(ignore if ignore is not None else [False] * count, bool),
    )


def faces_of(image: LabelledImage, crop: Crop, size: int, reproduce: bool, mirror: np.ndarray = MIRROR) -> CropFaces:
    """The faces of a crop and of what was drawn for it, as a batch has them."""
    view = augmented(View(torch.zeros(3, size, size), *crop_faces(image, crop, size, reproduce), mirror), crop.drawn)
    return view.boxes, view.landmarks, view.ignore


def around(x: float, y: float, side: float = 8.0) -> list[float]:
    return [x - side / 2, y - side / 2, x + side / 2, y + side / 2]


# The reference's golden `augment`, from the original's own transforms: an image of 130 x 90 with four faces and an
# ignored box (last), scale 1.1, window at (7, -5), resized to 64, then mirrored. Face 1 reaches over its border.
GOLDEN = labelled(
    (130, 90),
    [[20, 10, 50, 55], [90, 60, 115, 88], [100, 20, 120, 40], [2, 2, 10, 12], [60, 5, 80, 25]],
    [
        [[29, 28, 1], [41, 28, 1], [35, 37, 1], [30.5, 46, 1], [39.5, 46, 1]],
        [[97.5, 71.2, 1], [107.5, 71.2, 1], [102.5, 76.8, 1], [98.75, 82.4, 1], [106.25, 82.4, 1]],
        [[-1, -1, 0]] * 5,
        [[4, 5, 1]] * 5,
        [[-1, -1, 0]] * 5,
    ],
    [False, False, False, False, True],
)
STEPS = {
    "crop": (
        Crop(0, 7, -5, 99),
        99,
        [[13, 15, 43, 60], [83, 65, 99, 93]],
        [
            [[22, 33], [34, 33], [28, 42], [23.5, 51], [32.5, 51]],
            [[90.5, 76.2], [99, 76.2], [95.5, 81.8], [91.75, 87.4], [99, 87.4]],
        ],
        [53, 10, 73, 30],
    ),
    "resize": (
        Crop(0, 7, -5, 99),
        64,
        [[8.40404, 9.69697, 27.79798, 38.78788], [53.65657, 42.0202, 64.0, 60.12121]],
        [
            [[14.22222, 21.33333], [21.9798, 21.33333], [18.10101, 27.15152], [15.19192, 32.9697], [21.0101, 32.9697]],
            [[58.50505, 49.2606], [64.0, 49.2606], [61.73737, 52.88081], [59.31313, 56.50101], [64.0, 56.50101]],
        ],
        [34.26263, 6.46465, 47.19192, 19.39394],
    ),
    "flip": (
        Crop(0, 7, -5, 99, FLIP),
        64,
        [[36.20202, 9.69697, 55.59596, 38.78788], [0.0, 42.0202, 10.34343, 60.12121]],
        [
            [[42.0202, 21.33333], [49.77778, 21.33333], [45.89899, 27.15152], [42.9899, 32.9697], [48.80808, 32.9697]],
            [[0.0, 49.2606], [5.49495, 49.2606], [2.26263, 52.88081], [0.0, 56.50101], [4.68687, 56.50101]],
        ],
        [16.80808, 6.46465, 29.73737, 19.39394],
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_golden_crop(name: str) -> None:
    crop, size, boxes, points, ignored = STEPS[name]
    got_boxes, got_landmarks, ignore = faces_of(GOLDEN, crop, size, reproduce=True)
    assert ignore.tolist() == [False, False, True]
    np.testing.assert_allclose(got_boxes, [*boxes, ignored], atol=1e-4)
    np.testing.assert_allclose(got_landmarks[:2, :, :2], points, atol=1e-4)
    assert got_landmarks[..., 2].tolist() == [[1] * 5, [1] * 5, [0] * 5]
    # the points at x = 107.5 and 106.25 are outside of the window, which ends at 106
    weights = faces_of(GOLDEN, crop, size, reproduce=False)[1][1, :, 2]
    assert weights.tolist() == ([0, 1, 1, 0, 1] if crop.drawn else [1, 0, 1, 1, 0])


def test_golden_numbers_are_the_reference(golden: dict) -> None:
    for name, (_, _, boxes, points, ignored) in STEPS.items():
        step = golden["augment"]["steps"][name]
        assert (boxes, [ignored]) == (step["boxes"], step["ignored"])
        assert points == [[point[:2] for point in face] for face in step["landmarks"]]


def expected_faces(
    image: LabelledImage, crop: Crop, size: int, reproduce: bool
) -> tuple[list[list[float]], list[list[list[float]]], list[bool]]:
    """B.2, steps 2 to 4, one face and one number at a time."""
    boxes, landmarks, ignore = [], [], []
    right, bottom = crop.left + crop.side, crop.top + crop.side
    factor = size / crop.side
    for box, points, ignored in zip(image.boxes.tolist(), image.landmarks.tolist(), image.ignore.tolist(), strict=True):
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        if not (crop.left < x < right and crop.top < y < bottom):
            continue
        x1, x2 = ((min(max(v, crop.left), right) - crop.left) * factor for v in box[::2])
        y1, y2 = ((min(max(v, crop.top), bottom) - crop.top) * factor for v in box[1::2])
        moved = []
        for px, py, weight in points:
            outside = not (crop.left <= px <= right and crop.top <= py <= bottom)
            cx = (min(max(px, crop.left), right) - crop.left) * factor
            cy = (min(max(py, crop.top), bottom) - crop.top) * factor
            mean = sum(point[2] for point in points) / len(points) if points else 0.0
            moved.append([cx, cy, mean if reproduce else 0.0 if outside else weight])
        if crop.drawn:
            x1, x2 = size - x2, size - x1
            moved = [[size - px, py, weight] for px, py, weight in (moved[k] for k in (1, 0, 2, 4, 3))]
        boxes.append([x1, y1, x2, y2])
        landmarks.append(moved)
        ignore.append(ignored)
    return boxes, landmarks, ignore


coordinates = st.integers(-80, 480).map(lambda v: v / 4)  # quarter pixels: which side of a border is exact in float32


@st.composite
def images(draw: st.DrawFn) -> LabelledImage:
    """An image of 96 x 64 with up to six faces and points anywhere, also outside of it."""
    boxes, landmarks, ignore = [], [], []
    for _ in range(draw(st.integers(0, 6))):
        x, y, w, h = draw(st.tuples(coordinates, coordinates, st.integers(1, 160), st.integers(1, 160)))
        boxes.append([x, y, x + w / 4, y + h / 4])
        point = st.tuples(coordinates, coordinates, st.sampled_from([0.0, 1.0]))
        landmarks.append(draw(st.lists(point, min_size=5, max_size=5)))
        ignore.append(draw(st.booleans()))
    return labelled((96, 64), boxes, landmarks, ignore)


windows = st.builds(
    Crop, st.just(0), st.integers(-60, 90), st.integers(-60, 60), st.integers(1, 140), st.sampled_from([{}, FLIP])
)


@settings(max_examples=200, deadline=None)
@given(image=images(), crop=windows, size=st.sampled_from([32, 96, 320]), reproduce=st.booleans())
def test_faces_of_a_window_follow_the_recipe(image: LabelledImage, crop: Crop, size: int, reproduce: bool) -> None:
    given_before = image.boxes.copy(), image.landmarks.copy()
    boxes, landmarks, ignore = faces_of(image, crop, size, reproduce)
    wanted = expected_faces(image, crop, size, reproduce)
    count = len(wanted[0])
    assert (boxes.shape, landmarks.shape) == ((count, 4), (count, 5, 3))
    assert boxes.dtype == landmarks.dtype == np.float32
    np.testing.assert_allclose(boxes, np.array(wanted[0]).reshape(-1, 4), atol=1e-3 * size / 32)
    np.testing.assert_allclose(landmarks, np.array(wanted[1]).reshape(-1, 5, 3), atol=1e-3 * size / 32)
    assert ignore.tolist() == wanted[2]
    assert boxes.size == 0 or (boxes.min() >= 0 and boxes.max() <= size)
    assert np.array_equal(image.boxes, given_before[0])
    assert np.array_equal(image.landmarks, given_before[1])


@pytest.mark.parametrize(("x", "y"), [(20, 30), (60, 30), (30, 10), (30, 50)])
def test_face_with_its_centre_on_the_border_is_outside(x: float, y: float) -> None:
    window = Crop(0, 20, 10, 40)
    assert len(faces_of(labelled((96, 64), [around(x, y)]), window, 64, False)[0]) == 0
    inward = labelled((96, 64), [around(x + 0.25 * np.sign(40 - x), y + 0.25 * np.sign(30 - y))])
    assert len(faces_of(inward, window, 64, False)[0]) == 1


def test_window_is_not_accepted_for_a_face_on_its_border() -> None:
    """A face at the image's corner is only reached by a window that is larger than the image."""
    corner = labelled((64, 64), [around(0, 0)])
    assert draw_crop(corner, 0, DataConfig(crop_scales=(0.5,)), 0, 0, 0).side > 64


@settings(max_examples=100, deadline=None)
@given(image=images(), crop=windows)
def test_mirroring_twice_is_identity(image: LabelledImage, crop: Crop) -> None:
    plain = faces_of(image, replace(crop, drawn={}), 96, reproduce=False)
    once = faces_of(image, replace(crop, drawn=FLIP), 96, reproduce=False)
    # mirrored faces on the border have their centre outside of an open window: one pixel more all around
    again = LabelledImage(image.path, "", (98, 98), once[0] + 1, once[1] + np.float32([1, 1, 0]), once[2])
    twice = faces_of(again, Crop(0, 0, 0, 98, FLIP), 98, reproduce=False)
    np.testing.assert_allclose(twice[0] - 1, plain[0], atol=1e-4)
    np.testing.assert_allclose(twice[1] - np.float32([1, 1, 0]), plain[1], atol=1e-4)
    assert twice[2].tolist() == plain[2].tolist()


@settings(max_examples=200, deadline=None)
@given(
    image=images(),
    crop=windows,
    size=st.sampled_from([32, 96, 320]),
    least=st.sampled_from([0.0, 3.5, 10.0]),
    share=st.sampled_from([0.0, 0.3, 0.6, 1.0]),
)
def test_small_and_cut_faces_become_ignored(
    image: LabelledImage, crop: Crop, size: int, least: float, share: float
) -> None:
    """Face by face: the shorter side in pixels of the crop, and the share of the area inside the window."""
    plain = crop_faces(image, crop, size, False)
    held = crop_faces(image, crop, size, False, min_face=least, min_visible=share)
    assert np.array_equal(plain[0], held[0])
    assert np.array_equal(plain[1], held[1])
    wanted = []
    right, bottom = crop.left + crop.side, crop.top + crop.side
    for (x1, y1, x2, y2), ignored in zip(image.boxes.tolist(), image.ignore.tolist(), strict=True):
        if not (crop.left < (x1 + x2) / 2 < right and crop.top < (y1 + y2) / 2 < bottom):
            continue
        side = min(x2 - x1, y2 - y1) * size / crop.side
        seen = (min(x2, right) - max(x1, crop.left)) * (min(y2, bottom) - max(y1, crop.top))
        visible = seen / ((x2 - x1) * (y2 - y1))
        close = abs(side - least) < 1e-3 or abs(visible - share) < 1e-3
        wanted.append(None if close and share < 1 else ignored or side < least or (visible < share - 1e-4))
    assert [w for w in wanted if w is not None] == [
        h for h, w in zip(held[2].tolist(), wanted, strict=True) if w is not None
    ]
    assert share or least or np.array_equal(plain[2], held[2])


def test_windows_are_drawn_around_faces_that_are_large_enough() -> None:
    """At a large scale the face has 8 pixels in the crop, at a small one 40: with 10 asked for only that is drawn."""
    image = labelled((200, 200), [around(100, 100, 20)])
    config = DataConfig(size=64, crop_scales=(0.16, 0.8), min_face=10)
    assert {crop.side for crop in draw_many(image, config, 40)} == {32}
    assert {crop.side for crop in draw_many(image, replace(config, min_face=0.0), 40)} == {32, 160}
    # where no window will do, one is taken all the same
    assert draw_crop(labelled((200, 200), [around(100, 100, 2)]), 0, config, 0, 0, 0).side in {32, 160}


def test_images_without_landmark_branch() -> None:
    image = LabelledImage(
        Path("p"), "p", (96, 64), np.float32([[10, 10, 30, 30]]), np.zeros((1, 0, 3), np.float32), np.array([False])
    )
    mirror = mirror_order(LandmarksConfig((), ()))
    for reproduce in (False, True):
        boxes, landmarks, _ = faces_of(image, Crop(0, 0, 0, 64, FLIP), 64, reproduce, mirror)
        assert boxes.tolist() == [[34, 10, 54, 30]]
        assert landmarks.shape == (1, 0, 3)


# Windows


def draw_many(image: LabelledImage, config: DataConfig, count: int, seed: int = 0) -> list[Crop]:
    return [draw_crop(image, 3, config, seed, 0, position) for position in range(count)]


@pytest.mark.parametrize(
    ("scale", "short", "side"),
    [(0.7, 90, 62), (0.5, 683, 341), (1.1, 90, 99), (1.5, 1001, 1501), (0.45, 1024, 460), (0.3, 10, 3)],
)
def test_golden_sides(scale: float, short: int, side: int) -> None:
    """The reference's `side_examples`: scale times shorter side in doubles, truncated."""
    for size in ((short, short + 20), (short + 20, short)):
        crop = draw_crop(labelled(size, []), 0, DataConfig(crop_scales=(scale,)), 0, 0, 0)
        assert crop.side == side


@pytest.mark.parametrize("reproduce", [False, True])
def test_offsets_reach_both_ends(reproduce: bool) -> None:
    """Of an image of 20 x 12 every place is drawn; the original leaves the last one out."""
    config = DataConfig(crop_scales=(0.5, 1.0, 1.5), reproduce=reproduce)
    seen: dict[int, tuple[set[int], set[int]]] = {}
    for crop in draw_many(labelled((20, 12), []), config, 1500):
        lefts, tops = seen.setdefault(crop.side, (set(), set()))
        lefts.add(crop.left)
        tops.add(crop.top)
    less = 1 if reproduce else 0
    assert seen == {
        6: (set(range(15 - less)), set(range(7 - less))),
        12: (set(range(9 - less)), {0}),
        18: (set(range(3 - less)), set(range(-6, 1 - less))),
    }


def test_offset_of_a_window_one_pixel_smaller() -> None:
    image = labelled((11, 10), [])
    for reproduce, wanted in ((False, {0, 1}), (True, {0})):
        config = DataConfig(crop_scales=(1.0,), reproduce=reproduce)
        assert {crop.left for crop in draw_many(image, config, 60)} == wanted


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(32, 150), st.integers(32, 150)),
    places=st.lists(st.tuples(st.floats(0.15, 0.85), st.floats(0.15, 0.85)), min_size=1, max_size=5),
    scales=st.lists(st.sampled_from([0.3, 0.5, 0.8, 1.0, 1.3]), min_size=1, max_size=4, unique=True),
    reproduce=st.booleans(),
    position=st.integers(0, 10**6),
)
def test_window_holds_a_face(
    size: tuple[int, int], places: list, scales: list[float], reproduce: bool, position: int
) -> None:
    """Its centre strictly inside; ignored faces attract nothing."""
    centres = [(x * size[0], y * size[1]) for x, y in places]
    boxes = [around(x, y) for x, y in centres] + [around(2, 2)] * 8
    image = labelled(size, boxes, ignore=[False] * len(centres) + [True] * 8)
    config = DataConfig(crop_scales=tuple(scales), reproduce=reproduce)
    crop = draw_crop(image, 0, config, 1, 2, position)
    assert crop.side in {int(scale * min(size)) for scale in scales}
    boxes, _, ignore = faces_of(image, crop, 64, reproduce)
    assert (~ignore).any()


@settings(max_examples=100, deadline=None)
@given(
    size=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    faces=st.lists(st.tuples(st.floats(-500, 900), st.floats(-500, 900), st.booleans()), max_size=4),
    scales=st.lists(st.floats(0.01, 2), min_size=1, max_size=4),
    reproduce=st.booleans(),
    position=st.integers(0, 10**6),
)
def test_window_is_always_found_and_bounded(
    size: tuple[int, int], faces: list, scales: list[float], reproduce: bool, position: int
) -> None:
    """The original tries for ever where no face can be hit: only ignored ones, none, or out of reach."""
    image = labelled(size, [around(x, y) for x, y, _ in faces], ignore=[ignore for _, _, ignore in faces])
    crop = draw_crop(image, 5, DataConfig(crop_scales=tuple(scales), reproduce=reproduce), 0, 0, position)
    growth = 1 if max(scales) > 1 else 1.2 ** (ROUNDS - 1)
    assert 1 <= crop.side <= max(1, math.ceil(max(scales) * min(size) * growth))
    for place, length in ((crop.left, size[0]), (crop.top, size[1])):
        assert min(0, length - crop.side) <= place <= max(0, length - crop.side)
    assert crop.image == 5


def test_window_grows_where_only_small_ones_were_asked_for() -> None:
    """A face whose centre lies outside of the image is reached by a window larger than the image."""
    image = labelled((64, 64), [[-20, -20, 10, 10]])
    config = DataConfig(crop_scales=(0.8,))
    hits = 0
    for crop in draw_many(image, config, 20):
        hits += len(faces_of(image, crop, 64, False)[0])
        assert crop.side in {int(0.8 * 1.2**k * 64 + 1e-9) for k in range(ROUNDS)}
    assert hits == 20


def test_scales_are_drawn_evenly() -> None:
    sides = [crop.side for crop in draw_many(labelled((100, 100), []), DataConfig(), 3000)]
    counts = np.unique(sides, return_counts=True)
    assert counts[0].tolist() == [50, 70, 90, 110, 130, 150]
    assert (abs(counts[1] - 500) < 110).all()


def test_draws_depend_on_seed_epoch_and_position_only() -> None:
    image, config = labelled((100, 80), [around(50, 40)]), DataConfig()
    first = draw_crop(image, 0, config, 0, 0, 0)
    assert draw_crop(image, 0, config, 0, 0, 0) == first
    others = [draw_crop(image, 0, config, *key) for key in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (0, 1, 1))]
    places = {(crop.left, crop.top, crop.side) for crop in [first, *others]}
    assert len(places) >= 5


def test_epochs_differ_and_hold_every_image_once() -> None:
    orders = [epoch_order(50, seed, epoch).tolist() for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert epoch_order(50, 0, 0).tolist() == orders[0]


def test_chance_of_a_mirrored_crop() -> None:
    image = labelled((100, 80), [])
    for chance in (0.0, 0.25, 1.0):
        flips = [bool(crop.drawn) for crop in draw_many(image, DataConfig(flip=chance), 800)]
        assert abs(np.mean(flips) - chance) < 0.06
        assert chance not in (0.0, 1.0) or len(set(flips)) == 1


def test_colours_are_drawn_within_their_bounds_and_move_no_window() -> None:
    image = labelled((100, 80), [around(50, 40)])
    plain = draw_many(image, DataConfig(), 400)
    coloured = draw_many(image, DataConfig(colour=ColourConfig(jitter=0.3, grey=0.25, blur=0.5)), 400)
    assert not any("colour" in crop.drawn for crop in plain)
    windows = [(crop.left, crop.top, crop.side, crop.drawn.get("flip")) for crop in plain]
    assert [(crop.left, crop.top, crop.side, crop.drawn.get("flip")) for crop in coloured] == windows
    colours = [crop.drawn["colour"] for crop in coloured]
    factors = np.array([(colour.brightness, colour.contrast, colour.saturation) for colour in colours])
    assert factors.min() >= 0.7
    assert factors.max() <= 1.3
    assert (np.ptp(factors, axis=0) > 0.5).all()
    assert abs(np.mean([colour.grey for colour in colours]) - 0.25) < 0.08
    sigmas = np.array([colour.blur for colour in colours])
    assert abs(np.mean(sigmas > 0) - 0.5) < 0.1
    assert sigmas[sigmas > 0].min() >= 0.5
    assert sigmas.max() <= 2.5


# Windows, mirrors and colours by seed, epoch and position, as drawn before augmentations had files of their own.
DRAWN_BEFORE = {
    (0, 0, 0): (-5, -34, 135, True, (1.3952214169679873, 1.2249524016611026, 0.9884281110236701)),
    (0, 0, 1): (
        -8,
        -2,
        135,
        None,
        (0.8243998780750451, 1.0700957049980802, 1.3053073458606281, False, 2.0567131604708315),
    ),
    (7, 2, 31): (14, 3, 81, True, (0.9503639071839378, 0.9624398583861222, 0.9369000740743687)),
    (2**40, 5, 1000): (
        13,
        18,
        45,
        True,
        (0.9470075090432464, 0.6640599082816241, 1.238093824346972, True, 2.025443052554536),
    ),
}


@pytest.mark.parametrize("key", DRAWN_BEFORE)
def test_old_runs_are_drawn_again_bit_by_bit(key: tuple[int, int, int]) -> None:
    image = labelled((120, 90), [[20, 10, 50, 55], [90, 60, 115, 88]])
    left, top, side, flip, numbers = DRAWN_BEFORE[key]
    wanted = {"flip": True, "colour": Colour(*numbers)} if flip else {"colour": Colour(*numbers)}
    crop = draw_crop(image, 0, DataConfig(colour=ColourConfig(0.4, 0.3, 0.5)), *key)
    assert crop == Crop(0, left, top, side, wanted)
    assert list(crop.drawn) == list(wanted)
