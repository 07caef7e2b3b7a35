"""The vectorised AP against the official rules: by hand, against the literal program, and on the truth itself."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.average_precision import average_precision

from facetrain.eval import average_precision as module
from facetrain.eval.average_precision import Curve, best_box, curve, match
from facetrain.eval.wider_truth import load_truth
from facetrain.eval.widerface import measure_widerface

# Three pictures: boxes and detections as x y w h, detections with their score; which boxes count in each subset.
BOXES = [[(10, 10, 20, 20), (50, 10, 10, 10), (80, 80, 6, 6)], [(5, 5, 40, 40), (100, 100, 30, 30)], [(0, 0, 8, 8)]]
COUNTED = {
    "easy": [[1, 0, 0], [1, 0], [0]],
    "medium": [[1, 1, 0], [1, 0], [0]],
    "hard": [[1, 1, 0], [1, 1], [0]],
}
DETECTIONS = [
    [(10, 10, 20, 20, 0.95), (12, 10, 20, 20, 0.90), (50, 10, 6, 8, 0.52), (80, 80, 6, 6, 0.60)],
    [(5, 5, 40, 30, 0.79), (200, 200, 20, 20, 0.70), (101, 101, 30, 30, 0.30)],
    [(60, 60, 10, 10, 0.85), (0, 0, 8, 8, 0.20)],
]


def corners(rows: list[tuple[float, ...]]) -> np.ndarray:
    boxes = np.array([row[:4] for row in rows], float).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)


def measure(detections: list[list[tuple[float, ...]]], subset: str) -> Curve:
    pictures = [
        (corners(some), np.array([row[4] for row in some]), corners(boxes))
        for some, boxes in zip(detections, BOXES, strict=True)
    ]
    return curve(match(pictures), np.concatenate(COUNTED[subset]).astype(bool))


def steps(result: Curve) -> list[tuple[int, int, int]]:
    """(t, proposals, found) each time something changes."""
    rows = list(zip(range(1, 1001), result.proposals.tolist(), result.found.tolist(), strict=True))
    return [row for before, row in zip([(0, 0, 0), *rows], rows, strict=False) if row[1:] != before[1:]]


@pytest.mark.parametrize(("subset", "ap"), [("easy", 0.75), ("medium", 2 / 3), ("hard", 19 / 28)])
def test_the_golden_case(subset: str, ap: float) -> None:
    assert measure(DETECTIONS, subset).ap == pytest.approx(ap, abs=1e-12)


def test_the_golden_curves() -> None:
    common = [(1, 1, 1), (67, 2, 1), (134, 3, 1), (214, 4, 2), (334, 5, 2)]
    assert steps(measure(DETECTIONS, "easy")) == common
    assert steps(measure(DETECTIONS, "medium")) == [*common, (574, 6, 3)]
    assert steps(measure(DETECTIONS, "hard")) == [*common, (574, 6, 3), (867, 7, 4)]


def test_close_scores_enter_together() -> None:
    changed = [[row if row[4] != 0.90 else (*row[:4], 0.9495) for row in some] for some in DETECTIONS]
    assert [measure(changed, s).ap for s in ("easy", "medium", "hard")] == pytest.approx([0.5, 0.5, 4 / 7], abs=1e-12)


def test_the_lowest_score_only_moves_the_steps() -> None:
    changed = [[row for row in some if row[4] != 0.20] for some in DETECTIONS]
    for subset in COUNTED:
        assert measure(changed, subset).ap == pytest.approx(measure(DETECTIONS, subset).ap, abs=1e-12)
        assert steps(measure(changed, subset)) != steps(measure(DETECTIONS, subset))


def test_the_order_of_lines_does_not_matter() -> None:
    assert measure([some[::-1] for some in DETECTIONS], "hard").ap == measure(DETECTIONS, "hard").ap


def test_an_overlap_of_exactly_one_half_matches_and_the_first_of_equals_wins() -> None:
    one, half = np.array([[0, 0, 9, 9]], float), np.array([[0, 0, 9, 19]], float)
    assert best_box(half, one).tolist() == [0]
    assert best_box(np.array([[0, 0, 9, 20]], float), one).tolist() == [-1]
    assert best_box(one, np.concatenate([one + 100, one, one])).tolist() == [1]


numbers = st.integers(0, 40)
some_boxes = st.lists(st.tuples(numbers, numbers, st.integers(-2, 20), st.integers(0, 20)), max_size=5)


@st.composite
def cases(draw: st.DrawFn) -> list[tuple[list, list, list, list]]:
    pictures = []
    for _ in range(draw(st.integers(1, 4))):
        boxes = corners(draw(some_boxes)).tolist()
        detections = corners(draw(some_boxes)).tolist() + [box for box in boxes if draw(st.booleans())]
        # few scores, so that there are ties, and both ends of the scale
        scores = [draw(st.sampled_from([-1.0, 0.0, 0.25, 0.4995, 0.5, 0.9, 3.0])) for _ in detections]
        counted = [draw(st.booleans()) for _ in boxes]
        pictures.append((detections, scores, boxes, counted))
    return pictures


@settings(max_examples=150, deadline=None)
@given(cases(), st.booleans())
def test_equals_the_literal_program(pictures: list[tuple[list, list, list, list]], skip_empty: bool) -> None:
    expected, proposals, found = average_precision(pictures, skip_empty=skip_empty)
    arrays = [
        (np.array(d, float).reshape(-1, 4), np.array(s, float), np.array(b, float).reshape(-1, 4))
        for d, s, b, _ in pictures
    ]
    counted = np.array([flag for _, _, _, flags in pictures for flag in flags], bool)
    skipped = np.array([not boxes for _, _, boxes, _ in pictures]) if skip_empty else None
    result = curve(match(arrays), counted, skipped)
    assert result.proposals.tolist() == proposals
    assert result.found.tolist() == found
    assert result.ap == (None if expected is None else pytest.approx(expected, abs=1e-12))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    boxes, detections = (np.sort(rng.integers(0, 90, (n, 2, 2)), 1).reshape(n, 4).astype(float) for n in (40, 300))
    whole = best_box(detections, boxes)
    assert (whole >= 0).sum() > 20
    monkeypatch.setattr(module, "_BLOCK", 100)
    assert np.array_equal(best_box(detections, boxes), whole)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("one", (7211 / 7212, 13319 / 13320, (31956 / 31958) ** 2)),
        ("height", (1.0, 0.99999997, 0.99991253)),
        ("order", (0.99995033, 0.99997573, 0.99991348)),
    ],
)
def test_the_truth_as_detections(shared: Path, rule: str, expected: tuple[float, ...]) -> None:
    truth = load_truth(shared / "widerface/labelv2/val/gt")
    predictions, seen = [], 0
    for boxes in truth.boxes:
        order = 1 - (seen + np.arange(len(boxes))) / 39708
        scores = {"one": np.ones(len(boxes)), "height": boxes[:, 3] - boxes[:, 1], "order": order}[rule]
        predictions.append((boxes, scores))
        seen += len(boxes)
    assert tuple(measure_widerface(predictions, truth).ap.values()) == pytest.approx(expected, abs=1e-8)
