"""Numbers beyond AP against plain loops over random cases, and one case by hand."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetrain.core.faces import Faces, LabelledImage
from facetrain.eval.details import landmark_error, measure_details, operating_point, outcomes, recall_by_size
from facetrain.eval.labelled import labelled_curve


def labelled(boxes: list, ignore: list[bool] | None = None, landmarks: np.ndarray | None = None) -> LabelledImage:
    count = len(boxes)
    points = np.zeros((count, 0, 3), np.float32) if landmarks is None else landmarks
    marks = np.array(ignore if ignore is not None else [False] * count, bool)
    return LabelledImage(Path("a.jpg"), "a.jpg", None, np.array(boxes, np.float32).reshape(-1, 4), points, marks)


def detections(boxes: list, scores: list[float], landmarks: np.ndarray | None = None) -> Faces:
    points = np.zeros((len(boxes), 0, 2), np.float32) if landmarks is None else landmarks
    return Faces(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), points)


def test_by_hand() -> None:
    picture = labelled([[0, 0, 20, 20], [50, 50, 60, 60], [80, 0, 120, 40]], [False, False, True])
    found = detections(
        [[0, 0, 20, 20], [1, 0, 21, 20], [82, 0, 120, 40], [200, 200, 220, 220], [50, 50, 60, 60]],
        [0.9, 0.8, 0.7, 0.6, 0.3],
    )
    empty = detections([[5, 5, 9, 9]], [0.55])
    details = measure_details([found, empty], [picture, labelled([])], score=0.5, precision=0.5)
    assert details.recall == 0.5
    assert details.false_alarms == 1.5  # the duplicate, the lone one, the one on the empty picture
    assert [(r.low, r.faces, r.found) for r in details.by_size if r.faces] == [(8, 1, 0), (16, 1, 1)]
    assert details.by_size[0].recall is None
    point = details.operating_point
    assert point is not None
    # rising from the best score: 1/1, 1/2, (dropped), 1/3, 1/4, 2/5: one half holds down to .8 and, dropped, to .7
    assert point.score == pytest.approx(0.7)
    assert (point.recall, point.false_alarms) == (0.5, 0.5)
    assert details.landmark_error is None
    assert details.as_dict()["operating_point"]["precision"] == 0.5


boxes = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 30), st.integers(1, 30)), max_size=6
).map(lambda rows: [[x, y, x + w, y + h] for x, y, w, h in rows])


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Faces], list[LabelledImage]]:
    found, pictures = [], []
    for _ in range(draw(st.integers(1, 4))):
        truth = draw(boxes)
        pictures.append(labelled(truth, draw(st.lists(st.booleans(), min_size=len(truth), max_size=len(truth)))))
        some = draw(boxes) + [box for box in truth if draw(st.booleans())]
        scores = sorted((draw(st.integers(1, 8)) / 8 for _ in some), reverse=True)
        found.append(detections(some, scores))
    return found, pictures


def iou(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
    return float(width * height / (sum(areas) - width * height))


def loops(found: list[Faces], pictures: list[LabelledImage], score: float) -> tuple[int, int, int]:
    """Faces that count, found ones, false alarms."""
    faces = hits = alarms = 0
    for some, picture in zip(found, pictures, strict=True):
        taken: set[int] = set()
        faces += sum(not ignored for ignored in picture.ignore)
        for box, confidence in zip(some.boxes, some.scores, strict=True):
            if confidence < score:
                continue
            overlaps = [iou(box.astype(float), truth.astype(float)) for truth in picture.boxes]
            best = max(overlaps, default=0.0)
            if best < 0.5:
                alarms += 1
            elif not picture.ignore[overlaps.index(best)]:
                alarms += overlaps.index(best) in taken
                taken.add(overlaps.index(best))
        hits += len(taken)
    return faces, hits, alarms


@settings(max_examples=120, deadline=None)
@given(cases(), st.integers(1, 8), st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_equals_the_loops(case: tuple[list[Faces], list[LabelledImage]], eighths: int, precision: float) -> None:
    found, pictures = case
    score = eighths / 8
    faces, hits, alarms = loops(found, pictures, score)
    details = measure_details(found, pictures, score=score, precision=precision)
    assert details.recall == (hits / faces if faces else None)
    assert details.false_alarms == alarms / len(pictures)
    assert sum(row.faces for row in details.by_size) == faces
    assert sum(row.found for row in details.by_size) == hits
    wanted = None
    for step in range(1, 9):
        faces, hits, alarms = loops(found, pictures, step / 8)
        occurs = any(step / 8 in some.scores for some in found)
        if occurs and hits and hits >= precision * (hits + alarms):
            wanted = step / 8
            break
    point = operating_point(found, pictures, precision)
    assert (point.score if point else None) == wanted


@settings(max_examples=40, deadline=None)
@given(cases())
def test_agrees_with_the_curve(case: tuple[list[Faces], list[LabelledImage]]) -> None:
    found, pictures = case
    curve = labelled_curve(found, pictures)
    results = outcomes(found, pictures, 0.0)
    assert sum(int(result.found.sum()) for result in results) == curve.found[-1]
    assert sum(int(result.true.sum() + result.false.sum()) for result in results) == curve.proposals[-1]
    assert sum(row.faces for row in recall_by_size(results, pictures)) == curve.faces


def test_landmark_error() -> None:
    truth = np.array([[[5, 5, 1], [15, 5, 0]], [[55, 55, 1], [65, 55, 1]]], np.float32)
    picture = labelled([[0, 0, 20, 5], [50, 50, 70, 70]], landmarks=truth)
    points = np.array([[[8, 9], [99, 99]], [[55, 55], [65, 59]]], np.float32)
    error = landmark_error([detections([[0, 0, 20, 5], [50, 50, 70, 70]], [0.9, 0.8], points)], [picture])
    assert error is not None
    assert error.faces == 2
    assert error.per_point == pytest.approx([(5 / 10 + 0) / 2, 4 / 20])
    assert error.mean == pytest.approx((0.5 + 0 + 0.2) / 3)
    assert landmark_error([detections([[0, 0, 20, 5]], [0.9])], [picture]) is None
