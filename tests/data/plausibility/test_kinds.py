"""Each kind of face that cannot be right is found, its near miss is not, and geometry agrees with a literal reading."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facetrain.core.boxes import box_iou
from facetrain.core.faces import LabelledImage
from facetrain.data.plausibility.conventions import CONVENTIONS, numbers_of, outside, read_as
from facetrain.data.plausibility.judge import masks_of
from facetrain.data.plausibility.kinds import KINDS, twice
from facetrain.data.plausibility.points import points_of
from facetrain.data.plausibility.table import face_table
from tests.data.plausibility.drawn_labels import NAMES, PLACES

Box = tuple[float, float, float, float]
POINTS = points_of(NAMES)
FACE: Box = (100, 100, 140, 150)


def image(*boxes: Box, landmarks: np.ndarray | None = None, ignored: int = 0) -> LabelledImage:
    """400 x 300 pixels. landmarks: (F, 5, 2) as shares of the box; the last `ignored` faces are."""
    array = np.array(boxes, np.float32).reshape(-1, 4)
    points = np.zeros((len(array), 5, 3), np.float32)
    if landmarks is not None:
        points[..., :2] = array[:, None, :2] + landmarks * (array[:, None, 2:] - array[:, None, :2])
        points[..., 2] = 1
    ignore = np.arange(len(array)) >= len(array) - ignored
    return LabelledImage(Path("a.jpg"), "a.jpg", (400, 300), array, points, ignore)


def kinds_of(labelled: LabelledImage) -> set[str]:
    masks = masks_of(face_table([labelled], {}), POINTS)
    return {name for name, mask in masks.items() if mask.any()}


@pytest.mark.parametrize(
    ("kind", "found", "near"),
    [
        ("in_unit", (0.2, 0.3, 0.4, 0.5), (0.0, 0.0, 2.5, 3.0)),
        ("in_unit", (0.9, 0.9, 1.5, 1.6), (398.0, 298.0, 399.5, 299.9)),
        ("no_area", (100, 100, 100, 150), (100, 100, 140, 150)),
        ("no_area", (300, 200, 40, 50), (40, 50, 80, 100)),
        ("no_area", (0, 0, 0, 0), (0, 0, 4, 5)),
        ("misses", (400, 10, 440, 60), (380, 10, 420, 60)),
        ("misses", (10, -60, 50, 0), (10, -4, 50, 46)),
        ("leaves", (364, 100, 404.1, 150), (364, 100, 404, 150)),
        ("leaves", (-4.1, 100, 36, 150), (-4, 100, 36, 150)),
        ("leaves", (100, 260, 140, 310), (100, 255, 140, 305)),
        ("leaves", (100, -40, 140, 5), (100, -4, 140, 46)),
        ("odd_shape", (100, 100, 119, 150), (100, 100, 121, 150)),
        ("odd_shape", (100, 100, 171, 150), (100, 100, 169, 150)),
    ],
)
def test_boxes(kind: str, found: Box, near: Box) -> None:
    assert kind in kinds_of(image(found))
    assert kind not in kinds_of(image(near))
    assert "odd_shape" not in kinds_of(image(found, ignored=1))


def test_a_box_counts_once() -> None:
    assert kinds_of(image((500, 400, 430, 350))) == kinds_of(image((0.6, 0.7, 0.2, 0.2))) == {"no_area"}
    assert kinds_of(image((0.1, 0.2, 0.5, 0.3))) == {"in_unit"}


def test_twice_is_the_later_of_two_and_not_an_ignored_one() -> None:
    nearly, neighbour = (101, 101, 141, 151), (104, 100, 144, 150)  # IoU .92 and .82
    assert kinds_of(image(FACE, nearly)) == {"twice"}
    assert kinds_of(image(FACE, neighbour)) == set()
    assert kinds_of(image(FACE, nearly, ignored=1)) == set()
    mask = twice(face_table([image(nearly, (10, 10, 40, 50), FACE), image(FACE)], {}), POINTS)
    assert mask.tolist() == [False, False, True, False]


@pytest.mark.parametrize(
    ("kind", "found", "near"),
    [
        ("point_outside", PLACES + np.array((0, 0.6)), PLACES + np.array((0, 0.5))),
        ("point_outside", PLACES - np.array((0.65, 0)), PLACES - np.array((0.55, 0))),
        ("exchanged", PLACES[[1, 0, 2, 4, 3]], PLACES * (0.02, 1) + np.array((0.5, 0))),
        ("out_of_order", PLACES[[3, 4, 2, 0, 1]], PLACES * (1, 0.4)),
        ("out_of_order", PLACES[[2, 1, 0, 3, 4]] + np.array([(0, 0.2), (0, 0), (0, -0.1), (0, 0), (0, 0)]), PLACES),
    ],
)
def test_landmarks(kind: str, found: np.ndarray, near: np.ndarray) -> None:
    assert kind in kinds_of(image(FACE, landmarks=found[None]))
    assert kind not in kinds_of(image(FACE, landmarks=near[None]))
    assert kinds_of(image(FACE, landmarks=found[None], ignored=1)) == set()


def test_missing_points_are_not_judged() -> None:
    labelled = image(FACE, landmarks=PLACES[None] + np.array((0, 5)))
    labelled.landmarks[..., 2] = 0
    assert kinds_of(labelled) == set()


def test_names_say_what_lies_where() -> None:
    assert POINTS.pairs == ((0, 1), (3, 4))
    assert POINTS.below == (((0, 1), (2,)), ((2,), (3, 4)))
    other = points_of(["nose_tip", "l_eye", "Right Eye", "left_ear", "ear_r", "mouth"])
    assert other.pairs == ((2, 1), (4, 3))
    assert other.below == (((1, 2), (0,)), ((0,), (5,)))
    assert points_of([f"p{i}" for i in range(68)]).pairs == points_of([]).below == ()


numbers = st.floats(-20, 520, width=32)


@given(st.lists(st.tuples(numbers, numbers, st.floats(1, 90, width=32), st.floats(1, 90, width=32)), max_size=8))
def test_geometry_agrees_with_pixels_counted_one_by_one(drawn: list[Box]) -> None:
    boxes: list[Box] = [(x, y, x + w, y + h) for x, y, w, h in drawn]
    table = face_table([image(*boxes)], {})
    far = outside(table.boxes, table.sizes)
    pairs = box_iou(table.boxes, table.boxes)
    for number, (x1, y1, x2, y2) in enumerate(table.boxes.tolist()):
        over = max((-x1) / (x2 - x1), (-y1) / (y2 - y1), (x2 - 400) / (x2 - x1), (y2 - 300) / (y2 - y1), 0)
        assert math.isclose(far[number], over, rel_tol=1e-9, abs_tol=1e-9)
        some_pixel = min(x2, 400) > max(x1, 0) and min(y2, 300) > max(y1, 0)
        assert KINDS["misses"].find(table, POINTS)[number] == (not some_pixel)
        repeated = any(pairs[number, other] > 0.9 for other in range(number))
        assert twice(table, POINTS)[number] == repeated


@pytest.mark.parametrize("convention", [name for name in CONVENTIONS if not name.startswith("corners")])
def test_conventions_are_read_as_they_are_written(convention: str) -> None:
    rng = np.random.default_rng(0)
    low, sizes = rng.uniform(0, 200, (50, 2)), rng.uniform(300, 900, (50, 2))
    boxes = np.concatenate([low, low + rng.uniform(1, 90, (50, 2))], 1)
    written = numbers_of(boxes, sizes, convention)
    assert np.allclose(read_as(written, sizes, convention), boxes, atol=1e-9)
    form, _, unit = convention.partition("-")
    x1, y1, x2, y2 = boxes[0]
    literal = {
        "xyxy": (x1, y1, x2, y2),
        "xywh": (x1, y1, x2 - x1, y2 - y1),
        "cxcywh": ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1),
        "yxyx": (y1, x1, y2, x2),
        "xxyy": (x1, x2, y1, y2),
    }[form]
    whole = {"": None, "shares": 1, "percent": 100, "permille": 1000}[unit]
    width, height = sizes[0]
    across = {"yxyx": (height, width, height, width), "xxyy": (width, width, height, height)}
    if whole:
        literal = tuple(v / s * whole for v, s in zip(literal, across.get(form, (width, height) * 2), strict=True))
    assert np.allclose(written[0], literal)
