"""Fused boxes, against the paper's steps done literally."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facetrain.core.faces import Faces
from facetrain.label.fusion import fuse
from tests.oracles.fusion import weighted_boxes_fusion


def faces(boxes: list, scores: list, landmarks: list | None = None, points: int = 0) -> Faces:
    count = len(boxes)
    marks = np.full((count, points, 2), np.nan) if landmarks is None else np.array(landmarks)
    return Faces(np.float32(boxes).reshape(count, 4), np.float32(scores), marks.astype(np.float32))


@st.composite
def detectors(draw: st.DrawFn) -> list[Faces]:
    """Up to four detectors that see some of a few places, each a little elsewhere; no two scores are equal."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    places = rng.uniform(0, 60, (draw(st.integers(0, 5)), 2))
    found = []
    for _ in range(draw(st.integers(1, 4))):
        seen = places[rng.random(len(places)) < 0.7] + rng.normal(0, 2, 2)
        corners = seen + rng.normal(0, 1.5, seen.shape)
        boxes = np.concatenate([corners, corners + 20 + rng.normal(0, 2, seen.shape)], 1)
        scores = np.sort(rng.uniform(0.1, 1, len(boxes)))[::-1]
        found.append(faces(boxes.tolist(), scores.tolist()))
    return found


@given(found=detectors(), threshold=st.sampled_from([0.4, 0.55, 0.7]))
def test_it_is_the_paper_s(found: list[Faces], threshold: float) -> None:
    fused = fuse(found, threshold)
    models = [[(tuple(map(float, b)), float(s)) for b, s in zip(f.boxes, f.scores, strict=True)] for f in found]
    wanted = weighted_boxes_fusion(models, threshold)
    assert len(fused) == len(wanted)
    np.testing.assert_allclose(fused.scores, [score for _, score in wanted], rtol=1e-5)
    np.testing.assert_allclose(fused.boxes, np.array([box for box, _ in wanted]).reshape(-1, 4), atol=1e-3)


@given(found=detectors())
def test_one_detector_is_taken_as_it_is(found: list[Faces]) -> None:
    """Unless its own boxes overlap so much that suppression would have taken one."""
    [first, *_] = found
    fused = fuse([first], 1.0)
    np.testing.assert_allclose(fused.boxes, first.boxes, rtol=1e-6)
    np.testing.assert_allclose(fused.scores, first.scores, rtol=1e-6)


def test_the_paper_s_scores() -> None:
    """Two of three agree: their mean score, times two thirds; the third's own face a third of its score."""
    found = [
        faces([[0, 0, 10, 10]], [0.9]),
        faces([[0, 0, 10, 12]], [0.6]),
        faces([[50, 50, 60, 60]], [0.9]),
    ]
    fused = fuse(found)
    np.testing.assert_allclose(fused.scores, [0.5, 0.3], rtol=1e-6)
    np.testing.assert_allclose(fused.boxes, [[0, 0, 10, 10.8], [50, 50, 60, 60]], rtol=1e-6)


def test_landmarks_are_those_of_the_best_that_has_any() -> None:
    nothing, some, other = [[np.nan, np.nan]] * 2, [[1, 2], [3, 4]], [[5, 6], [7, 8]]
    found = [
        faces([[0, 0, 10, 10], [50, 50, 60, 60]], [0.9, 0.5], [nothing, nothing]),
        faces([[0, 0, 10, 10]], [0.6], [other]),
        faces([[0, 0, 10, 10]], [0.8], [some]),
    ]
    fused = fuse(found)
    assert fused.landmarks[0].tolist() == some
    assert np.isnan(fused.landmarks[1]).all()


@pytest.mark.parametrize("count", [1, 3])
def test_nothing_found(count: int) -> None:
    fused = fuse([Faces.none(5)] * count)
    assert (fused.boxes.shape, fused.scores.shape, fused.landmarks.shape) == ((0, 4), (0,), (0, 5, 2))
