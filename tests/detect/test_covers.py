"""Covers: nothing of a face's box stays, whatever its size and place, and nothing far from it changes."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from facetrain.core.boxes import box_iou
from facetrain.core.errors import UsageError
from facetrain.core.images import read_image
from facetrain.detect.covers import (
    BLOCKS,
    LEAST_BLOCK,
    MARGINS,
    SHAPES,
    Cover,
    blackened,
    blurred,
    cover_faces,
    pixelated,
)
from facetrain.detect.detector import FaceDetector

FILLS = (blurred, pixelated, blackened)
WIDTH, HEIGHT = 37, 29
places = some.floats(-60, 90)
sides = some.sampled_from([0.0, 0.01, 0.4, 1.0, 3.3, 12.0, 36.9, 400.0, 1e9])


def white(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    return np.full((height, width, 3), 255, np.uint8)


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def pixels_met(x1: float, y1: float, x2: float, y2: float) -> tuple[slice, slice]:
    """Rows and columns of the pixels that a box touches in its inner."""
    clipped = [np.clip(value, 0, limit) for value, limit in ((x1, WIDTH), (y1, HEIGHT), (x2, WIDTH), (y2, HEIGHT))]
    return (
        slice(math.floor(clipped[1]), math.ceil(clipped[3])),
        slice(math.floor(clipped[0]), math.ceil(clipped[2])),
    )


@given(
    places, places, sides, sides, some.sampled_from(SHAPES), some.sampled_from([0, 0.1, 1]), some.sampled_from([0, 0.3])
)
@settings(max_examples=300)
def test_the_enlarged_box_is_covered_whole(
    x: float, y: float, width: float, height: float, shape: str, margin: float, feather: float
) -> None:
    image = cover_faces(white(), np.array([[x, y, x + width, y + height]]), Cover(shape, margin, feather), blackened)
    rows, columns = pixels_met(
        x - margin * width, y - margin * height, x + width * (1 + margin), y + height * (1 + margin)
    )
    assert (image[rows, columns] == 0).all()
    reach = (1 + 2 * margin) * (math.sqrt(2) if shape == "ellipse" else 1) + 2 * feather
    half_x, half_y = max(width * reach / 2, 0.5 * reach), max(height * reach / 2, 0.5 * reach)
    rows, columns = pixels_met(
        *(x + width / 2 - half_x - 1, y + height / 2 - half_y - 1),
        *(x + width / 2 + half_x + 1, y + height / 2 + half_y + 1),
    )
    image[rows, columns] = 255
    assert (image == 255).all()


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_soft_edge_lies_outside(shape: str, fill: object) -> None:
    image, box = noise(200, 200), np.array([[70.3, 60.1, 130.7, 139.2]])
    hard = cover_faces(image, box, Cover(shape, 0.1, 0), fill)  # type: ignore[arg-type]
    soft = cover_faces(white(200, 200), box, Cover(shape, 0.1, 0.5), blackened)
    black = cover_faces(white(200, 200), box, Cover(shape, 0.1, 0), blackened)
    assert (soft[black == 0] == 0).all()
    assert ((soft > 0) & (soft < 255)).any()
    assert (hard != image)[black[..., 0] == 0].mean() > 0.9
    assert (hard == image)[black[..., 0] == 255].all()


def test_an_ellipse_passes_through_the_corners() -> None:
    image = cover_faces(white(400, 400), np.array([[100, 100, 300, 300]]), Cover("ellipse", 0, 0), blackened)
    covered = image[..., 0] == 0
    assert covered.sum() == pytest.approx(math.pi * 100**2 * 2, rel=0.02)
    assert not covered[:50, :50].any()


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize(
    "box",
    [
        *((-50, -40, 20, 30), (90, 70, 160, 150), (-500, 20, 600, 60), (-1e7, -1e7, 1e7, 1e7)),
        *((40, 40, 40.2, 40.3), (-20, 30, 1, 60), (20, 60, 10, 40), (99, 79, 100, 80), (3e38, 3e38, 3.1e38, 3.1e38)),
    ],
)
def test_any_place(box: tuple[float, ...], fill: object) -> None:
    image = noise(100, 80)
    before = image.copy()
    covered = cover_faces(image, np.array([box], np.float32), Cover(), fill)  # type: ignore[arg-type]
    assert (image == before).all()
    assert covered.shape == image.shape
    inside = np.clip(
        np.array([min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3])]), 0, 100
    )
    touched = inside[0] < 100 and inside[1] < 80 and inside[2] > 0 and inside[3] > 0
    assert (covered != image).any() == touched


def test_no_faces() -> None:
    image = noise(10, 10)
    assert (cover_faces(image, np.zeros((0, 4)), Cover(), blurred) == image).all()


@pytest.mark.parametrize("fill", [blurred, pixelated])
@pytest.mark.parametrize("side", [1.0, 9.0, 32.0, 80.0, 400.0])
def test_nothing_is_left_but_means(fill: object, side: float) -> None:
    """Pixels that change their places within a block change nothing in the cover."""
    block = int(max(side / BLOCKS, LEAST_BLOCK))
    part = noise(block * 5, block * 4)
    mixed = part.copy()
    generator = np.random.default_rng(1)
    for y in range(0, part.shape[0], block):
        for x in range(0, part.shape[1], block):
            pixels = mixed[y : y + block, x : x + block].reshape(-1, 3)
            mixed[y : y + block, x : x + block] = generator.permutation(pixels).reshape(block, block, 3)
    assert (mixed != part).any()
    assert (fill(part, side) == fill(mixed, side)).all()  # type: ignore[operator]


@pytest.mark.parametrize("side", [10, 40, 300])
def test_few_values_across(side: int) -> None:
    image = noise(3 * side, 3 * side)
    box = np.array([[side, side, 2 * side, 2 * side]])
    squares = cover_faces(image, box, Cover(), pixelated)[side : 2 * side, side : 2 * side]
    assert len(np.unique(squares.reshape(-1, 3), axis=0)) <= (BLOCKS + 1) ** 2
    soft = cover_faces(image, box, Cover(), blurred)[side : 2 * side, side : 2 * side].astype(float)
    # a cosine of more waves across than it has means is not in it
    waves = np.abs(np.fft.fft(soft.mean(2).mean(0)))
    assert waves[BLOCKS + 1 : side - BLOCKS].max(initial=0) < 0.02 * waves[0]


def test_the_order_of_faces_changes_nothing() -> None:
    image = noise(160, 120)
    boxes = np.array([[10, 10, 70, 80], [50, 20, 90, 60], [60, 50, 80, 70], [62, 52, 70, 60]], float)
    for fill in FILLS:
        first = cover_faces(image, boxes, Cover(), fill)
        assert (first == cover_faces(image, boxes[::-1], Cover(), fill)).all()


def test_a_small_cover_shows_nothing_of_a_large_face() -> None:
    """The small one's means would be finer than those of the large one that it lies beside."""
    image = np.full((300, 300, 3), 128, np.uint8)
    image[60:200, 60:200] = noise(140, 140) // 128 * 255
    large, small = [60, 60, 200, 200], [150, 150, 182, 182]
    alone = cover_faces(image, np.array([large], float), Cover(), pixelated)
    both = cover_faces(image, np.array([small, large], float), Cover(), pixelated)
    again = cover_faces(alone, np.array([small], float), Cover(), pixelated)
    assert (both == again).all()


@pytest.mark.parametrize("name", ["family.jpg", "group.jpg", "portrait.jpg"])
@pytest.mark.parametrize("fill", FILLS)
def test_no_face_is_found_again(shared: Path, name: str, fill: object) -> None:
    detector = FaceDetector(threads=1)
    image = read_image(shared / "reference/images" / name)
    for scale in (0.3, 1.0, 2.5) if name == "portrait.jpg" else (1.0,):
        shown = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        found = detector.detect(shown)
        assert len(found)
        covered = cover_faces(shown, found.boxes, Cover(), fill)  # type: ignore[arg-type]
        again = detector.detect(covered)  # elsewhere the network may err, as on any image
        assert len(again) == 0 or float(np.max(box_iou(found.boxes, again.boxes))) < 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("elipse", 0, 0), "did you mean 'ellipse'"),
        (("box", -0.1, 0), "`margin` -0.1"),
        (("box", math.nan, 0), "`margin` nan"),
        (("box", 0, 11), "`feather` 11"),
    ],
)
def test_what_means_nothing_is_refused(arguments: tuple[str, float, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Cover(*arguments)
    assert set(MARGINS) == set(SHAPES)
