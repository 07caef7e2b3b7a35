"""AP against the literal rules, the golden case of three images, and the truth as its own detections."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.average_precision import Image, official

from facetrain.eval import average_precision
from facetrain.eval.average_precision import Curve, best_box, curve, match, tally


def corners(boxes: Sequence[Sequence[float]]) -> np.ndarray:
    """(N, 4) xyxy of x y w h."""
    array = np.array([box[:4] for box in boxes], np.float64).reshape(-1, 4)
    return np.concatenate([array[:, :2], array[:, :2] + array[:, 2:]], 1)


def measured(images: Sequence[Image], *, skip_empty: bool = False) -> Curve:
    matches = match([(corners(p.detections), np.array([d[4] for d in p.detections]), corners(p.boxes)) for p in images])
    counted = np.array([flag for p in images for flag in p.counted], bool)
    skipped = np.array([not p.boxes for p in images], bool) if skip_empty else None
    return curve(tally(matches, counted, skipped))


def assert_equal_to_rules(images: Sequence[Image], *, skip_empty: bool = False) -> float | None:
    got, wanted = measured(images, skip_empty=skip_empty), official(images, skip_empty=skip_empty)
    assert got.proposals.tolist() == wanted.proposals
    assert got.found.tolist() == wanted.found
    assert got.ap == (None if wanted.ap is None else pytest.approx(wanted.ap, abs=1e-12))
    return got.ap


# The golden case: faces a1 a2 a3, b1 b2, c1, and which of them count
A = [(10, 10, 20, 20), (50, 10, 10, 10), (80, 80, 6, 6)]
B = [(5, 5, 40, 40), (100, 100, 30, 30)]
C = [(0, 0, 8, 8)]
COUNTED = {
    "easy": ([True, False, False], [True, False], [False]),
    "medium": ([True, True, False], [True, False], [False]),
    "hard": ([True, True, False], [True, True], [False]),
}
FOUND = (
    [(10, 10, 20, 20, 0.95), (12, 10, 20, 20, 0.90), (50, 10, 6, 8, 0.52), (80, 80, 6, 6, 0.60)],
    [(5, 5, 40, 30, 0.79), (200, 200, 20, 20, 0.70), (101, 101, 30, 30, 0.30)],
    [(60, 60, 10, 10, 0.85), (0, 0, 8, 8, 0.20)],
)
AP = {"easy": 0.75, "medium": 2 / 3, "hard": 19 / 28}
# (proposals, found) each time something changes: step t, pair
CHANGES = {
    "easy": {1: (1, 1), 67: (2, 1), 134: (3, 1), 214: (4, 2), 334: (5, 2)},
    "medium": {1: (1, 1), 67: (2, 1), 134: (3, 1), 214: (4, 2), 334: (5, 2), 574: (6, 3)},
    "hard": {1: (1, 1), 67: (2, 1), 134: (3, 1), 214: (4, 2), 334: (5, 2), 574: (6, 3), 867: (7, 4)},
}


def golden(subset: str, found: Sequence[list] = FOUND) -> list[Image]:
    boxes = (A, B, C)
    return [Image(list(f), list(b), c) for f, b, c in zip(found, boxes, COUNTED[subset], strict=True)]


def replaced(old: float, new: float | None) -> list[list[tuple]]:
    """The golden detections with another score for one of them, or without it."""
    lists = []
    for some in FOUND:
        kept = [d for d in some if d[4] != old or new is not None]
        lists.append([(*d[:4], new) if d[4] == old else d for d in kept])
    return lists


@pytest.mark.parametrize("subset", COUNTED)
def test_golden_case(subset: str) -> None:
    images = golden(subset)
    assert assert_equal_to_rules(images) == pytest.approx(AP[subset], abs=1e-12)
    result = measured(images)
    pairs = list(zip(result.proposals.tolist(), result.found.tolist(), strict=True))
    changes = {t: pair for t, pair in enumerate(pairs, 1) if t == 1 or pair != pairs[t - 2]}
    assert changes == CHANGES[subset]
    assert result.faces == {"easy": 2, "medium": 3, "hard": 4}[subset]
    # every image has a box, so the rule for those without makes no difference
    assert measured(images, skip_empty=True).ap == result.ap


@pytest.mark.parametrize(("subset", "ap"), [("easy", 0.5), ("medium", 0.5), ("hard", 4 / 7)])
def test_two_scores_within_a_step_enter_together(subset: str, ap: float) -> None:
    assert assert_equal_to_rules(golden(subset, replaced(0.90, 0.9495))) == pytest.approx(ap, abs=1e-12)


@pytest.mark.parametrize("subset", COUNTED)
def test_lowest_score_only_moves_the_thresholds(subset: str) -> None:
    images = golden(subset, replaced(0.20, None))
    assert assert_equal_to_rules(images) == pytest.approx(AP[subset], abs=1e-12)
    assert measured(images).found.tolist() != measured(golden(subset)).found.tolist()


@pytest.mark.parametrize("subset", COUNTED)
def test_order_of_lines_and_images_means_nothing(subset: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        images = golden(subset)
        for image in images:
            rng.shuffle(image.detections)
        rng.shuffle(images)
        assert measured(images).ap == pytest.approx(AP[subset], abs=1e-12)


@pytest.mark.parametrize(("subset", "ap"), [("easy", 0.75), ("medium", 0.5), ("hard", 27 / 56)])
def test_extra_pixel_decides_in_the_golden_case(subset: str, ap: float) -> None:
    """Without it .52 would not match: 48/100 instead of 63/121. The rules confirm; ours always has it."""
    assert official(golden(subset), pixel=0.0).ap == pytest.approx(ap, abs=1e-12)
    assert best_box(corners([(50, 10, 6, 8)]), corners(A)).tolist() == [1]
    assert best_box(corners([(50, 10, 6, 7)]), corners(A)).tolist() == [-1]  # 56/121


# Random cases: small whole numbers, so that equal overlaps, equal scores and overlaps of exactly 1/2 are common

boxes = st.tuples(st.integers(0, 14), st.integers(0, 14), st.integers(1, 12), st.integers(1, 12))
coarse = st.integers(0, 20).map(lambda v: v / 20)
fine = st.floats(-3, 3, allow_nan=False)


@st.composite
def cases(draw: st.DrawFn) -> list[Image]:
    scores = draw(st.sampled_from([coarse, fine, st.just(0.5)]))
    images = []
    for _ in range(draw(st.integers(1, 4))):
        truth = draw(st.lists(boxes, max_size=5))
        detections = draw(st.lists(st.tuples(boxes, scores), max_size=8))
        copies = draw(st.lists(st.tuples(st.sampled_from(truth), scores), max_size=4)) if truth else []
        counted = draw(st.lists(st.booleans(), min_size=len(truth), max_size=len(truth)))
        images.append(Image([(*box, score) for box, score in detections + copies], truth, counted))
    return images


@settings(max_examples=60, deadline=None)
@given(images=cases(), skip_empty=st.booleans())
def test_random_cases_equal_the_rules(images: list[Image], skip_empty: bool) -> None:
    assert_equal_to_rules(images, skip_empty=skip_empty)


@settings(max_examples=30, deadline=None)
@given(images=cases(), block=st.integers(1, 20))
def test_blocks_of_rows_equal_the_whole(images: list[Image], block: int) -> None:
    whole = measured(images)
    before = average_precision._BLOCK
    average_precision._BLOCK = block
    try:
        parts = measured(images)
    finally:
        average_precision._BLOCK = before
    assert parts.proposals.tolist() == whole.proposals.tolist()
    assert parts.found.tolist() == whole.found.tolist()


def test_overlap_of_exactly_one_half_matches() -> None:
    """With the extra pixel 10 x 10 and 10 x 5."""
    assert best_box(corners([(0, 0, 9, 4)]), corners([(0, 0, 9, 9)])).tolist() == [0]
    assert best_box(corners([(0, 0, 9, 4 - 1e-9)]), corners([(0, 0, 9, 9)])).tolist() == [-1]
    assert_equal_to_rules([Image([(0, 0, 9, 4, 1.0)], [(0, 0, 9, 9)], [True])])


def test_first_of_equal_overlaps_is_taken() -> None:
    """A detection between two boxes belongs to the first, even where that one is ignored."""
    detection, left, right = (10, 0, 9, 9), (8, 0, 9, 9), (12, 0, 9, 9)
    assert best_box(corners([detection]), corners([left, right])).tolist() == [0]
    assert best_box(corners([detection]), corners([right, left])).tolist() == [0]
    for counted, ap in (([True, False], 1.0), ([False, True], 0.0)):
        assert assert_equal_to_rules([Image([(*detection, 0.5)], [left, right], counted)]) == ap


def test_no_second_best_box() -> None:
    """Two detections nearest to one face: the second is a false positive, though another face is free."""
    faces = [(0, 0, 20, 20), (3, 0, 20, 20)]
    found = [(0, 0, 20, 20, 0.9), (1, 0, 20, 20, 0.8)]
    assert assert_equal_to_rules([Image(found, faces, [True, True])]) == 0.5


def test_overlap_that_is_negative_in_both_directions_is_none() -> None:
    assert best_box(corners([(0, 0, 5, 5)]), corners([(50, 50, 5, 5)])).tolist() == [-1]


def test_nothing_to_measure() -> None:
    face = (0, 0, 20, 20)
    assert assert_equal_to_rules([Image([], [face], [True])]) == 0
    assert assert_equal_to_rules([Image([(*face, 0.5)], [face], [False])]) is None
    assert assert_equal_to_rules([Image([(*face, 0.5)], [], [])]) is None
    assert assert_equal_to_rules([Image([], [], [])]) is None
    assert measured([]).ap is None
    assert best_box(np.zeros((0, 4)), np.zeros((3, 4))).tolist() == []
    assert best_box(np.zeros((2, 4)), np.zeros((0, 4))).tolist() == [-1, -1]


def test_false_alarms_on_empty_images_count_unless_skipped() -> None:
    """The skipped ones still take part in the normalising of scores."""
    face = (0, 0, 20, 20)
    images = [Image([(*face, 0.5)], [face], [True]), Image([(*face, 0.9), (*face, 0.1)], [], [])]
    assert assert_equal_to_rules(images) == 0.5
    assert assert_equal_to_rules(images, skip_empty=True) == 1.0
    assert measured(images, skip_empty=True).proposals.tolist() == [0] * 499 + [1] * 501


def test_equal_scores_all_enter_at_once() -> None:
    face = (0, 0, 20, 20)
    images = [Image([(*face, 0.3), (60, 60, 5, 5, 0.3)], [face], [True])]
    assert assert_equal_to_rules(images) == 0.5
    assert measured(images).proposals.tolist() == [2] * 1000


# The truth as its own detections, on the official files


@pytest.fixture(scope="module")
def wider(shared: Path) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """Boxes (k, 4) x y w h of all images in the order of the files, and which boxes count."""
    loadmat = pytest.importorskip("scipy.io").loadmat
    folder = shared / "widerface/labelv2/val/gt"
    if not (folder / "wider_face_val.mat").is_file():
        pytest.skip("needs the official ground truth in the reference folder")
    events = loadmat(folder / "wider_face_val.mat", variable_names=["face_bbx_list"])["face_bbx_list"]
    truth = [image[0] for event in events[:, 0] for image in event]
    counted = {}
    for subset in COUNTED:
        lists = loadmat(folder / f"wider_{subset}_val.mat", variable_names=["gt_list"])["gt_list"]
        masks = []
        for boxes_here, numbers in zip(truth, (p[0] for event in lists[:, 0] for p in event), strict=True):
            mask = np.zeros(len(boxes_here), bool)
            mask[numbers.astype(np.int64).ravel() - 1] = True
            masks.append(mask)
        counted[subset] = np.concatenate(masks)
    return truth, counted


SELF_TEST = {
    "one": (7211 / 7212, 13319 / 13320, (31956 / 31958) ** 2),
    "height": (1.0, 0.99999997, 0.99991253),
    "place": (0.99995033, 0.99997573, 0.99991348),
}


@pytest.mark.parametrize("rule", SELF_TEST)
def test_truth_as_detections(wider: tuple[list[np.ndarray], dict[str, np.ndarray]], rule: str) -> None:
    """Not quite 1: one box is there twice, and one of width -2 overlaps nothing, not even itself."""
    truth, counted = wider
    count = sum(map(len, truth))
    assert (len(truth), count) == (3226, 39708)
    assert [int(mask.sum()) for mask in counted.values()] == [7211, 13319, 31958]
    start, images = 0, []
    for some in truth:
        place = 1 - np.arange(start, start + len(some)) / count
        scores = {"one": np.ones(len(some)), "height": some[:, 3].astype(float), "place": place}[rule]
        images.append((corners(some), scores, corners(some)))
        start += len(some)
    matches = match(images)
    for (subset, mask), ap in zip(counted.items(), SELF_TEST[rule], strict=True):
        assert curve(tally(matches, mask)).ap == pytest.approx(ap, abs=1e-8), subset
