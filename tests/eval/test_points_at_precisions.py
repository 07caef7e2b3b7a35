"""Scores for the usual precisions: against the search of one precision, and against draws that are made literally."""

from pathlib import Path

import numpy as np
import pytest

from facetrain.core.faces import Faces, LabelledImage
from facetrain.eval.benchmark import Scores
from facetrain.eval.intervals import Resampling
from facetrain.eval.labelled import labelled_benchmark
from facetrain.eval.operating_points import operating_points


def drawn_scores(seed: int, images: int) -> Scores:
    """Faces on a row, found with scores that tend to be higher than those of the false alarms beside them."""
    rng = np.random.default_rng(seed)
    labels, found = [], []
    for number in range(images):
        count = int(rng.integers(0, 5))
        boxes = np.array([[40 * k, 0, 40 * k + 20, 20] for k in range(count)], np.float32).reshape(-1, 4)
        none = np.zeros((count, 0, 3), np.float32)
        labels.append(LabelledImage(Path(f"{number}.jpg"), f"{number}.jpg", None, boxes, none, np.zeros(count, bool)))
        alarms = np.array([[40 * k, 100, 40 * k + 20, 120] for k in range(rng.integers(0, 5))], np.float32)
        scores = np.concatenate([rng.beta(4, 2, count), rng.beta(2, 4, len(alarms))]).astype(np.float32).round(2)
        order = np.argsort(-scores, kind="stable")
        every = np.concatenate([boxes, alarms.reshape(-1, 4)])[order]
        found.append(Faces(every, scores[order], np.zeros((len(every), 0, 2), np.float32)))
    return labelled_benchmark(labels).score(found)


def literal_ends(scores: Scores, resampling: Resampling, precision: float) -> tuple[float, float]:
    """Every draw's search as a plain loop over the thresholds that occur."""
    thresholds = sorted({float(score) for faces in scores.found for score in faces.scores})
    chosen = []
    for weights in resampling.weights.astype(float):
        for threshold in thresholds:  # the lowest that is enough
            hits = alarms = 0.0
            for weight, faces, outcome in zip(weights, scores.found, scores.outcomes, strict=True):
                kept = faces.scores >= np.float32(threshold)
                hits += weight * (outcome.true & kept).sum()
                alarms += weight * (outcome.false & kept).sum()
            if hits and hits / (hits + alarms) >= precision - 1e-12:
                chosen.append(threshold)
                break
    low, high = np.percentile(chosen, [2.5, 97.5])
    return round(float(low), 4), round(float(high), 4)


@pytest.mark.parametrize("seed", range(3))
def test_ends_are_those_of_literal_draws(seed: int) -> None:
    scores = drawn_scores(seed, 30)
    resampling = scores.benchmark.resampling(draws=150)
    found = operating_points(scores, resampling, [0.9, 0.8])
    assert found is not None
    assert (found.images, found.of) == (30, "labelled")
    for point in found.points:
        one = scores.details(precision=point.precision).operating_point
        assert one is not None
        assert (point.score, point.recall) == (round(one.score, 4), round(one.recall, 4))
        assert (point.low, point.high) == literal_ends(scores, resampling, point.precision)
        assert point.low is not None
        assert point.high is not None
        assert point.low <= point.score <= point.high


def test_a_precision_that_is_never_reached_is_left_out() -> None:
    scores = drawn_scores(0, 30)
    assert scores.details(precision=0.9).operating_point is not None
    worse = []  # some of the images have nothing but false alarms, surer than any face
    for number, faces in enumerate(scores.found):
        wrong = number % 4 == 0
        sure = np.ones_like(faces.scores) if wrong else faces.scores
        worse.append(Faces(faces.boxes + np.float32(500 * wrong), sure, faces.landmarks))
    found = operating_points(scores.benchmark.score(worse), scores.benchmark.resampling(draws=0), [0.9, 0.3])
    assert found is not None
    assert [point.precision for point in found.points] == [0.3]
    nothing = [Faces.none() for _ in scores.found]
    assert operating_points(scores.benchmark.score(nothing), scores.benchmark.resampling()) is None


def test_too_few_images_have_no_interval() -> None:
    scores = drawn_scores(1, 10)
    found = operating_points(scores, scores.benchmark.resampling(), [0.8])
    assert found is not None
    assert (found.points[0].low, found.points[0].high) == (None, None)
