"""Labels in another convention are refused with its name and the command; a few odd ones are not; correct sets stay."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetrain.core.errors import DataError
from facetrain.core.faces import LabelledImage
from facetrain.core.image_header import Header
from facetrain.data.plausibility.conventions import CONVENTIONS
from facetrain.data.plausibility.judge import Judgement, judge
from facetrain.data.plausibility.points import points_of
from facetrain.data.plausibility.refuse import refusals, refused
from tests.data.plausibility.drawn_labels import NAMES, PLACES, correct, in_convention, with_boxes

POINTS = points_of(NAMES)
ROOT = Path("my faces")
OTHERS = [name for name in CONVENTIONS if name != "xyxy"]


def judged(images: list[LabelledImage], flat: Sequence[LabelledImage] = ()) -> tuple[Judgement, list[DataError]]:
    judgement = judge(images, POINTS, {}, flat)
    errors = refusals(judgement, POINTS, "xyxy", ROOT)
    assert bool(errors) == any(kind.refused for kind in refused(judgement, POINTS, "xyxy", ROOT).kinds)
    return judgement, errors


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 6))
def test_correct_sets_stay_what_they_are(seed: int, images: int, faces: int) -> None:
    labels = correct(seed, images, faces)
    judgement, errors = judged(labels)
    assert errors == []
    assert judgement.kinds == ()
    assert len(judgement.images) == len(labels)
    assert all(used is image for used, image in zip(judgement.images, labels, strict=True))


@pytest.mark.parametrize("convention", OTHERS)
@pytest.mark.parametrize("points", [True, False])
def test_a_whole_set_in_another_convention_is_named(convention: str, points: bool) -> None:
    for seed in range(3):
        _, errors = judged(*in_convention(correct(seed, 60, points=points), convention))
        assert f"facetrain data convert 'my faces' --boxes {convention} --to NEW" in str(errors[0]), errors[0]
        assert "two conventions" not in str(errors[0])


def test_all_faces_in_a_corner_are_percent_unless_few_or_of_another_shape() -> None:
    """Boxes within 0 … 100 pixels may be small faces in a corner: only of many that is no chance."""
    large = [image for image in correct(4, 40) if min(image.size or (0,)) >= 300]
    percent, _ = in_convention(large[:12], "xyxy-percent")
    judgement, errors = judged(percent)
    assert judgement.masks["in_percent"].all() and "--boxes xyxy-percent --to NEW" in str(errors[0])
    assert all(used is image for used, image in zip(judgement.images, percent, strict=True))
    assert judged(percent[:4])[0].masks["in_percent"].sum() == 0  # 16 faces
    small = [replace(image, size=(299, 299)) for image in percent]
    assert judged(small)[0].masks["in_percent"].sum() == 0
    one_elsewhere = [*percent[:-1], with_boxes(percent[-1], [(100, 100, 140, 150)], 5)]
    assert judged(one_elsewhere)[0].masks["in_percent"].sum() == 0
    # in the corner, and as percent too flat: a camera above a door
    corner = [with_boxes(image, [(10, 30, 20, 42), (60, 50, 80, 75)], 5) for image in correct(4, 12)]
    corner = [replace(image, size=(3000, 600)) for image in corner]
    judgement, errors = judged(corner)
    assert judgement.masks["in_percent"].sum() == 24
    assert errors == []


@pytest.mark.parametrize("convention", ["xywh", "cxcywh", "xyxy-shares", "cxcywh-shares"])
def test_a_fifth_in_another_convention_is_refused_and_a_twentieth_is_not(convention: str) -> None:
    _, errors = judged(*in_convention(correct(1, 100), convention, 0.2))
    assert f"--boxes {convention} " in str(errors[0])
    assert "two conventions in one set" in str(errors[0])
    labels = correct(1, 100)
    judgement, errors = judged(*in_convention(labels, convention, 0.05))
    assert errors == []
    assert judgement.kinds[0].first[0].image in {image.name for image in labels[:5]}
    assert sum(kind.count for kind in judgement.kinds if kind.kind != "odd_shape") >= 10
    assert all(used is image for used, image in zip(judgement.images[5:], labels[5:], strict=True))
    for image in judgement.images[:5]:
        assert image.size is not None
        assert (image.boxes >= 0).all() and (image.boxes <= np.tile(image.size, 2)).all()


def test_the_very_limit_is_allowed() -> None:
    ten = [(10 + 40 * i, 10, 40 + 40 * i, 50) for i in range(9)] + [(500, 10, 530, 50)]
    [one] = correct(0, 1)
    sized = replace(one, size=(400, 300))
    assert judged([with_boxes(sized, ten, 5)])[1] == []
    assert len(judged([with_boxes(sized, ten[1:], 5)])[1]) == 1


def test_left_out_and_clipped_as_said() -> None:
    labels = correct(3, 12)
    first = labels[0]
    width = (first.size or (0, 0))[0]
    boxes = first.boxes.copy()
    boxes[1] = [-30, 20, 20, 70]
    boxes[2] = [width + 5, 20, width + 60, 70]
    scores, hidden = np.array([0.1, 0.2, 0.3, 0.4], np.float32), np.arange(20).reshape(4, 5) % 2 == 0
    labels[0] = replace(first, boxes=boxes, landmarks=np.zeros_like(first.landmarks), scores=scores, hidden=hidden)
    judgement, errors = judged(labels)
    assert errors == []
    assert [(kind.kind, kind.count, kind.of, kind.done) for kind in judgement.kinds] == [
        ("misses", 1, 48, "left out"),
        ("leaves", 1, 48, "clipped"),
    ]
    used = judgement.images[0]
    assert np.array_equal(used.boxes, np.array([boxes[0], [0, 20, 20, 70], boxes[3]], np.float32))
    assert used.scores is not None and used.scores.tolist() == scores[[0, 1, 3]].tolist()
    assert used.hidden is not None and np.array_equal(used.hidden, hidden[[0, 1, 3]])
    assert used.landmarks.shape == (3, 5, 3) and used.boxes.dtype == np.float32
    assert (judgement.kinds[0].first[0].image, judgement.kinds[0].first[0].face) == ("0000.jpg", 2)
    reported = judge(labels, POINTS, {}, act=False)
    assert all(image is same for image, same in zip(reported.images, labels, strict=True))
    assert [kind.done for kind in reported.kinds] == ["kept", "kept"]


def turned(image: LabelledImage, order: list[int]) -> LabelledImage:
    return replace(image, landmarks=image.landmarks[:, order])


@pytest.mark.parametrize(
    ("order", "named"),
    [
        ([1, 0, 2, 4, 3], "left_eye,right_eye,nose,left_mouth,right_mouth"),  # the viewer's right and left
        ([2, 1, 0, 4, 3], "nose,left_eye,right_eye,left_mouth,right_mouth"),
        ([3, 4, 2, 0, 1], "right_mouth,left_mouth,nose,right_eye,left_eye"),
    ],
)
def test_landmarks_in_another_order(order: list[int], named: str) -> None:
    _, errors = judged([turned(image, order) for image in correct(5, 40)])
    assert any(f"--order {named} --to NEW" in str(error) for error in errors), errors
    labels = correct(5, 40)
    _, errors = judged([turned(image, order) for image in labels[:3]] + labels[3:])
    assert errors == []


@pytest.mark.parametrize("convention", ["yx", "box", "box-shares", "shares", "percent"])
def test_landmarks_in_another_convention(convention: str) -> None:
    labels = []
    for image in correct(6, 40):
        xy, low = image.landmarks[..., :2], image.boxes[:, None, :2]
        sides, size = image.boxes[:, None, 2:] - low, np.array(image.size, np.float32)
        moved = {
            "yx": xy[..., ::-1],
            "box": xy - low,
            "box-shares": (xy - low) / sides,
            "shares": xy / size,
            "percent": xy / size * 100,
        }[convention]
        labels.append(replace(image, landmarks=np.concatenate([moved, image.landmarks[..., 2:]], -1)))
    _, errors = judged(labels)
    assert any(f"--landmarks {convention} --to NEW" in str(error) for error in errors), errors


def test_larger_copies_and_what_nobody_knows() -> None:
    larger = [replace(image, boxes=image.boxes * 2) for image in correct(7, 40, points=False)]
    _, errors = judged(larger)
    assert "up to 1.95 times over their images: were they made on larger copies?" in str(errors[0])
    assert "`trust_labels`" in (errors[0].hint or "")
    rng = np.random.default_rng(0)
    noise = [with_boxes(image, rng.uniform(-300, 1200, (4, 4)).tolist(), 5) for image in correct(8, 40)]
    assert "are these x y width height, or shares of the image?" in str(judged(noise)[1][0])


def test_faces_of_a_shape_of_their_own_are_taken() -> None:
    """Wide ones, such as cats', in images whose other axis they do not fit."""
    wide = []
    for image in correct(9, 60, points=False):
        boxes = image.boxes.copy()
        middle, half = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 3] - boxes[:, 1]) * 0.75
        boxes[:, 0], boxes[:, 2] = middle - half, middle + half
        wide.append(replace(image, boxes=boxes, size=(2000, 500)))
    judgement, errors = judged(wide)
    assert "odd_shape" in {kind.kind for kind in judgement.kinds}
    assert [str(error) for error in errors if "narrower" in error.message] == []


@pytest.mark.parametrize(
    ("header", "said", "words"),
    [
        (Header("JPEG", 480, 640, 6), (480, 640), "before EXIF orientation 6 turns it upright"),
        (Header("JPEG", 480, 640), (640, 480), "a copy that was turned, as by EXIF"),
        (Header("JPEG", 1280, 960), (640, 480), "a copy 0.5 times as large"),
        (Header("JPEG", 333, 700), (640, 480), "333x700 pixels, its label says 640x480"),
    ],
)
def test_another_size_than_the_file_has(header: Header, said: tuple[int, int], words: str) -> None:
    labels = [replace(image, size=said) for image in correct(10, 12)]
    none = [with_boxes(image, [(10, 10, 40, 50)]) for image in labels]
    headers = {image.name: Header("JPEG", *said) for image in none}
    assert judge(none, POINTS, headers).kinds == ()
    few = judge(none, POINTS, headers | {none[3].name: header})
    assert [kind.kind for kind in few.kinds] == ["size"] and words in few.kinds[0].line
    assert [image.name for image in few.images] == [image.name for image in none if image is not none[3]]
    assert refusals(few, POINTS, "xyxy", ROOT) == []
    many = judge(none, POINTS, dict.fromkeys(headers, header))
    [error] = refusals(many, POINTS, "xyxy", ROOT)
    assert words in error.message and "--rescale" in (error.hint or "")


def test_the_places_of_points_are_those_of_the_rule() -> None:
    """The drawn sets would show nothing if they came from other numbers than a face's."""
    assert np.allclose(PLACES[:, 0].mean(), 0.506, atol=0.01)
