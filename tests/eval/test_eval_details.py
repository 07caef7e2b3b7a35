"""Numbers beyond AP: cases by hand, plain loops over random cases, and agreement with the official curve."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facetrain.core.faces import Faces, LabelledImage
from facetrain.eval import details as module
from facetrain.eval.average_precision import STEPS
from facetrain.eval.benchmark import Scores
from facetrain.eval.details import (
    SIZE_EDGES,
    Details,
    LandmarkError,
    OperatingPoint,
    SizeRecall,
)
from facetrain.eval.labelled import labelled_benchmark
from facetrain.eval.outcomes import Outcome, above

Case = tuple[list[Faces], list[LabelledImage]]


def scored(found: list[Faces], images: list[LabelledImage]) -> Scores:
    return labelled_benchmark(images).score(found)


def measure_details(found: list[Faces], images: list[LabelledImage], **settings: float) -> Details:
    return scored(found, images).details(**settings)


def outcomes(found: list[Faces], images: list[LabelledImage], score: float | None = None) -> list[Outcome]:
    everything = scored(found, images).outcomes
    return everything if score is None else [above(o, f, score) for o, f in zip(everything, found, strict=True)]


def recall_by_size(
    found: list[Faces],
    images: list[LabelledImage],
    score: float | None = None,
    edges: tuple[int, ...] = SIZE_EDGES,
) -> list[SizeRecall]:
    return module.recall_by_size(outcomes(found, images, score), images, edges)


def operating_point(found: list[Faces], images: list[LabelledImage], precision: float) -> OperatingPoint | None:
    return module.operating_point(outcomes(found, images), found, images, precision)


def landmark_error(found: list[Faces], images: list[LabelledImage]) -> LandmarkError | None:
    return measure_details(found, images).landmark_error


def labelled(boxes: list, ignore: list[bool] | None = None, landmarks: np.ndarray | None = None) -> LabelledImage:
    count = len(boxes)
    points = np.zeros((count, 0, 3), np.float32) if landmarks is None else np.asarray(landmarks, np.float32)
    marks = np.array(ignore if ignore is not None else [False] * count, bool)
    return LabelledImage(Path("a.jpg"), "a.jpg", None, np.array(boxes, np.float32).reshape(-1, 4), points, marks)


def detections(boxes: list, scores: list[float], landmarks: np.ndarray | None = None) -> Faces:
    points = np.zeros((len(boxes), 0, 2), np.float32) if landmarks is None else np.asarray(landmarks, np.float32)
    return Faces(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), points)


FACE, SMALL, IGNORED, NOTHING = [0, 0, 20, 20], [50, 50, 60, 60], [80, 0, 120, 40], [200, 200, 220, 220]


def by_hand() -> Case:
    """A hit, its duplicate, an ignored hit, nothing there, a late hit; a second image with a lone false alarm."""
    image = labelled([FACE, SMALL, IGNORED], [False, False, True])
    found = detections([FACE, [1, 0, 21, 20], [82, 0, 120, 40], NOTHING, SMALL], [0.9, 0.8, 0.7, 0.6, 0.3])
    return [found, detections([[5, 5, 9, 9]], [0.55])], [image, labelled([])]


def test_outcome_by_hand() -> None:
    found, images = by_hand()
    first, second = outcomes(found, images, 0.5)
    assert first.true.tolist() == [True, False, False, False, False]
    assert first.false.tolist() == [False, True, False, True, False]
    assert first.dropped.tolist() == [False, False, True, False, False]
    assert first.found.tolist() == [True, False, False]
    assert first.missed.tolist() == [False, True, False]
    assert first.owner.tolist() == [0, -1, -1, -1, -1]
    assert second.false.tolist() == [True]
    assert len(second.found) == len(second.missed) == 0
    everything = outcomes(found, images)[0]
    assert everything.found.tolist() == [True, True, False]
    assert everything.owner.tolist() == [0, -1, -1, -1, 1]


def test_details_by_hand() -> None:
    details = measure_details(*by_hand(), score=0.5, precision=0.5)
    assert (details.images, details.faces, details.recall, details.precision) == (2, 2, 0.5, 0.25)
    assert details.false_alarms == 1.5  # the duplicate, the lone one, the one on the empty image
    assert [(r.low, r.high, r.faces, r.found) for r in details.by_size if r.faces] == [(8, 16, 1, 0), (16, 32, 1, 1)]
    assert [r.found for r in details.by_size_any if r.faces] == [1, 1]
    assert details.by_size[0].recall is None
    point = details.operating_point
    assert point is not None
    # rising from the best score: 1/1, 1/2, (dropped), 1/3, 1/4, 2/5: one half holds down to .8 and, dropped, to .7
    assert point.score == pytest.approx(0.7)
    assert (point.precision, point.reached, point.recall, point.false_alarms) == (0.5, 0.5, 0.5, 0.5)
    assert details.landmark_error is None


def test_json_has_null_where_there_is_no_value() -> None:
    document = json.loads(json.dumps(measure_details(*by_hand()).as_dict(), allow_nan=False))
    assert document["operating_point"]["precision"] == document["wanted_precision"] == 0.95
    assert document["landmark_error"] is None
    assert document["by_size"][-1] == {"low": 256, "high": None, "faces": 0, "found": 0, "recall": None}
    nothing = json.loads(json.dumps(measure_details([], []).as_dict(), allow_nan=False))
    for name in ("recall", "precision", "false_alarms", "operating_point", "landmark_error"):
        assert nothing[name] is None
        # images, but no face that counts, and no detection: there are no false alarms, and there is no recall
    silent = measure_details([Faces.none(5)], [labelled([IGNORED], [True])])
    assert (silent.recall, silent.precision, silent.false_alarms, silent.operating_point) == (None, None, 0.0, None)


def test_sizes_are_half_open_and_of_the_shorter_side() -> None:
    boxes = [[0, 0, 8, 50], [100, 0, 107.9, 50], [200, 0, 300, 16], [0, 100, -2, 120], [300, 300, 500, 500]]
    rows = recall_by_size([detections([boxes[0]], [0.2])], [labelled(boxes)], edges=(8, 16))
    # a box turned inside out, as the official labels have, belongs to the smallest
    assert rows == [SizeRecall(0, 8, 2, 0, 0.0), SizeRecall(8, 16, 1, 1, 1.0), SizeRecall(16, None, 2, 0, 0.0)]
    later = recall_by_size([detections([boxes[0]], [0.2])], [labelled(boxes)], 0.3, edges=(8, 16))
    assert [row.found for row in later] == [0, 0, 0]


def test_the_operating_point_is_a_usable_threshold() -> None:
    # 55 / 100 is 0.55, but 0.55 * 100 is a little more than 55: multiplied out, this precision would not be reached
    faces = [[100 * i, 0, 100 * i + 20, 20] for i in range(55)]
    wrong = [[100 * i, 500, 100 * i + 20, 520] for i in range(45)]
    scores = np.linspace(0.9, 0.1, 55).tolist() + [0.1] * 45
    found, images = [detections(faces + wrong, scores)], [labelled(faces)]
    point = operating_point(found, images, 0.55)
    assert point is not None
    assert (point.recall, point.false_alarms, point.reached) == (1.0, 45.0, 0.55)
    # the score goes through JSON and comes back as the threshold that it was
    again = outcomes(found, images, json.loads(json.dumps(point.score)))[0]
    assert (again.true.sum(), again.false.sum()) == (55, 45)
    assert operating_point([detections([NOTHING], [0.9])], images, 0.1) is None


boxes = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 30), st.integers(1, 30)), max_size=6
).map(lambda rows: [[x, y, x + w, y + h] for x, y, w, h in rows])


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Images with crowded boxes, some ignored; detections at random and on the boxes, scores in eighths."""
    found, images = [], []
    for _ in range(draw(st.integers(1, 4))):
        truth = draw(boxes)
        numbers = np.random.default_rng(draw(st.integers(0, 99)))
        points = numbers.integers(0, 60, (len(truth), 2, 3)).astype(np.float32)
        points[..., 2] = numbers.integers(0, 2, (len(truth), 2))
        ignore = draw(st.lists(st.booleans(), min_size=len(truth), max_size=len(truth)))
        images.append(labelled(truth, ignore, points))
        some = draw(boxes) + [box for box in truth if draw(st.booleans())]
        scores = sorted((draw(st.integers(1, 8)) / 8 for _ in some), reverse=True)
        found.append(detections(some, scores, numbers.integers(0, 60, (len(some), 2, 2))))
    return found, images


def iou(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
    return width * height / (sum(areas) - width * height)


def loops(some: Faces, image: LabelledImage, score: float) -> tuple[dict[int, int], list[int], list[int]]:
    """The slow plain way: face by its detection, false detections, dropped detections."""
    owner: dict[int, int] = {}
    false, dropped = [], []
    for number, (box, confidence) in enumerate(zip(some.boxes.tolist(), some.scores.tolist(), strict=True)):
        if confidence < score:
            continue
        overlaps = [iou(box, truth) for truth in image.boxes.tolist()]
        best = max(overlaps, default=0.0)
        if best < 0.5 or overlaps.index(best) in owner.values():
            false.append(number)
        elif image.ignore[overlaps.index(best)]:
            dropped.append(number)
        else:
            owner[number] = overlaps.index(best)
    return owner, false, dropped


def totals(case: Case, score: float) -> tuple[int, int]:
    """Faces found and false alarms in all images."""
    results = [loops(some, image, score) for some, image in zip(*case, strict=True)]
    return sum(len(owner) for owner, _, _ in results), sum(len(false) for _, false, _ in results)


@settings(max_examples=150, deadline=None)
@given(cases(), st.integers(1, 9))
def test_outcomes_equal_the_loops(case: Case, eighths: int) -> None:
    for some, image, result in zip(*case, outcomes(*case, eighths / 8), strict=True):
        owner, false, dropped = loops(some, image, eighths / 8)
        assert np.flatnonzero(result.true).tolist() == sorted(owner)
        assert np.flatnonzero(result.false).tolist() == false
        assert np.flatnonzero(result.dropped).tolist() == dropped
        assert result.owner[result.true].tolist() == [owner[number] for number in sorted(owner)]
        assert (result.owner[~result.true] == -1).all()
        assert np.flatnonzero(result.found).tolist() == sorted(owner.values())
        counted = np.flatnonzero(~image.ignore).tolist()
        assert np.flatnonzero(result.missed).tolist() == [face for face in counted if face not in owner.values()]


@settings(max_examples=120, deadline=None)
@given(cases(), st.integers(1, 8), st.sampled_from([0.3, 0.5, 0.6, 0.8, 1.0]))
def test_numbers_equal_the_loops(case: Case, eighths: int, precision: float) -> None:
    found, images = case
    score, faces = eighths / 8, sum(int((~image.ignore).sum()) for image in images)
    hits, alarms = totals(case, score)
    details = measure_details(found, images, score=score, precision=precision)
    assert details.recall == (hits / faces if faces else None)
    assert details.precision == (hits / (hits + alarms) if hits + alarms else None)
    assert details.false_alarms == alarms / len(images)
    assert details.by_size == recall_by_size(found, images, score)
    assert details.by_size_any == recall_by_size(found, images)
    assert sum(row.faces for row in details.by_size) == faces
    assert sum(row.found for row in details.by_size) == hits
    wanted = None
    for threshold in sorted({float(some) for faces in found for some in faces.scores}):
        hits, alarms = totals(case, threshold)
        if hits and hits / (hits + alarms) >= precision:
            wanted = (threshold, hits / (hits + alarms), hits / faces, alarms / len(images))
            break
    point = details.operating_point
    assert point == operating_point(found, images, precision)
    assert (None if point is None else (point.score, point.reached, point.recall, point.false_alarms)) == wanted


@settings(max_examples=80, deadline=None)
@given(cases())
def test_agrees_with_the_curve(case: Case) -> None:
    found, images = case
    curve = scored(found, images).curves["all"]
    assert curve.faces == sum(row.faces for row in recall_by_size(found, images))
    assert curve.found[-1] == sum(row.found for row in recall_by_size(found, images))
    scores = np.concatenate([faces.scores for faces in found]).astype(float)
    if len(scores) == 0:
        return
    low, high = scores.min(), scores.max()
    for score in np.unique(scores):
        # scores in eighths lie many steps apart, so the step that lets one in lets in nothing below it
        normal = (score - low) / (high - low) if high > low else 1.0
        step = next(t for t in range(1, STEPS + 1) if 1 - t / STEPS <= normal) - 1
        details = measure_details(found, images, score=score)
        if curve.faces:
            assert details.recall == curve.recall[step]
        assert (details.precision or 0.0) == curve.precision[step]


@settings(max_examples=80, deadline=None)
@given(cases())
def test_landmark_error_equals_the_loops(case: Case) -> None:
    of_faces, of_points = [], ([], [])
    for some, image in zip(*case, strict=True):
        for number, face in loops(some, image, 0.0)[0].items():
            x1, y1, x2, y2 = image.boxes[face].tolist()
            errors = []
            for point in range(2):
                x, y, weight = image.landmarks[face, point].tolist()
                if weight:
                    there = some.landmarks[number, point].tolist()
                    errors.append(np.hypot(there[0] - x, there[1] - y) / ((x2 - x1) * (y2 - y1)) ** 0.5)
                    of_points[point].append(errors[-1])
            of_faces += [np.mean(errors)] if errors else []
    error = landmark_error(*case)
    if not of_faces:
        assert error is None
        return
    assert error is not None
    assert error.faces == len(of_faces)
    assert error.mean == pytest.approx(np.mean(of_faces))
    assert error.per_point == [pytest.approx(np.mean(e)) if e else None for e in of_points]


def test_landmark_error_by_hand() -> None:
    truth = np.array([[[5, 5, 1], [-1, -1, 0]], [[55, 55, 1], [65, 55, 1]]])
    image = labelled([[0, 0, 20, 5], [50, 50, 70, 70]], landmarks=truth)
    both = [[0, 0, 20, 5], [50, 50, 70, 70]]
    points = np.array([[[8, 9], [99, 99]], [[55, 55], [65, 59]]])
    error = landmark_error([detections(both, [0.9, 0.8], points)], [image])
    assert error is not None
    assert error.faces == 2
    assert error.per_point == pytest.approx([(5 / 10 + 0) / 2, 4 / 20])
    assert error.mean == pytest.approx((0.5 + (0 + 0.2) / 2) / 2)
    # a mirrored view has no landmarks to give: NaN is left out, not averaged
    mirrored = points.astype(np.float32)
    mirrored[0] = np.nan
    error = landmark_error([detections(both, [0.9, 0.8], mirrored)], [image])
    assert error is not None
    assert (error.faces, error.mean) == (1, pytest.approx(0.1))


def test_no_landmark_error_without_landmarks_on_both_sides() -> None:
    points = np.full((1, 5, 2), 3.0)
    with_points = labelled([FACE], landmarks=np.ones((1, 5, 3)))
    assert landmark_error([detections([FACE], [0.9], points)], [with_points]) is not None
    assert landmark_error([detections([FACE], [0.9])], [with_points]) is None
    assert landmark_error([detections([FACE], [0.9], points[:, :2])], [with_points]) is None
    assert landmark_error([detections([FACE], [0.9], points)], [labelled([FACE])]) is None
    assert (
        landmark_error([detections([FACE], [0.9], points)], [labelled([FACE], landmarks=np.zeros((1, 5, 3)))]) is None
    )
    assert landmark_error([detections([NOTHING], [0.9], points)], [with_points]) is None
    # a face found by the extra pixel alone has no size to divide by
    flat = labelled([[5, 5, 5, 25]], landmarks=np.ones((1, 5, 3)))
    assert outcomes([detections([[5, 5, 5, 25]], [0.9], points)], [flat])[0].true.all()
    assert landmark_error([detections([[5, 5, 5, 25]], [0.9], points)], [flat]) is None
