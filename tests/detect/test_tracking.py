import sys
from fractions import Fraction

import numpy as np
import pytest

from facetrain.core.errors import FacetrainError
from facetrain.core.faces import Faces
from facetrain.detect.tracking import Tracker

RATE = 25


def faces_at(*places, scores=None):
    """Faces of 40 x 50 pixels with their corner at (x, y)."""
    boxes = np.array([(x, y, x + 40, y + 50) for x, y in places], np.float32).reshape(-1, 4)
    scores = np.full(len(places), 0.9, np.float32) if scores is None else np.array(scores, np.float32)
    return Faces(boxes, scores, np.repeat(boxes[:, None, :2], 5, 1))


@pytest.fixture
def tracker():
    pytest.importorskip("trackers", reason="the package trackers is not installed: pip install 'facetrain[track]'")
    return Tracker(0.5)


def follow(tracker, frames):
    tracker.begin()
    return [tracker.follow(faces, Fraction(index, RATE)) for index, faces in enumerate(frames)]


def test_two_faces_that_walk_keep_their_numbers(tracker):
    frames = [faces_at((10 + 3 * t, 20), (300 - 3 * t, 200)) for t in range(30)]
    found = follow(tracker, frames)
    assert found[0].ids.tolist() == [-1, -1]  # nobody is known yet
    assert all(faces.ids.tolist() == found[1].ids.tolist() for faces in found[1:])
    assert sorted(found[1].ids) == [1, 2]


def test_boxes_and_landmarks_stay_as_they_were_found(tracker):
    frames = [faces_at((10 + 3 * t, 20 + t % 2)) for t in range(10)]
    for before, after in zip(frames, follow(tracker, frames), strict=True):
        assert (before.boxes == after.boxes).all()
        assert (before.landmarks == after.landmarks).all()


def test_a_face_that_is_gone_for_a_moment_comes_back_as_itself(tracker):
    frames = [faces_at((10 + 2 * t, 20)) if not 10 <= t < 16 else faces_at() for t in range(30)]
    found = follow(tracker, frames)
    assert found[9].ids.tolist() == found[20].ids.tolist() == [1]
    assert [len(faces.ids) for faces in found[10:16]] == [0] * 6


def test_a_weak_face_goes_on_and_does_not_begin(tracker):
    strong = [faces_at((10, 20)), faces_at((12, 20)), faces_at((14, 20), (400, 300), scores=(0.2, 0.2))]
    found = follow(tracker, [*strong, faces_at((16, 20), (401, 300), scores=(0.9, 0.2))])
    assert [faces.ids.tolist() for faces in found[2:]] == [[1, -1], [1, -1]]


def test_each_video_begins_at_one(tracker):
    frames = [faces_at((10, 20)), faces_at((12, 20))]
    assert follow(tracker, frames)[-1].ids.tolist() == follow(tracker, frames)[-1].ids.tolist() == [1]


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "trackers", None)
    with pytest.raises(FacetrainError, match="following faces needs the package trackers") as raised:
        Tracker(0.5)
    assert raised.value.hint == "pip install 'facetrain[track]'"
