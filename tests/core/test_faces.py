import numpy as np
import pytest

from facetrain.core.faces import Faces

FACES = Faces(
    np.array([(10, 10, 30, 40), (50, 5, 60, 15), (-8, 0, 4, 8)], np.float32),
    np.array([0.9, 0.6, 0.3], np.float32),
    np.arange(12, dtype=np.float32).reshape(3, 2, 2),
    np.array([7, -1, 2]),
)
IMAGE = np.arange(60 * 80 * 3, dtype=np.uint32).astype(np.uint8).reshape(60, 80, 3)


def test_each_by_itself():
    ones = list(FACES)
    assert [len(one) for one in ones] == [1, 1, 1]
    assert np.concatenate([one.boxes for one in ones]).tolist() == FACES.boxes.tolist()
    assert [one.ids.tolist() for one in ones] == [[7], [-1], [2]]


def test_some_of_them():
    assert FACES.at_least(0.6).scores.tolist() == FACES.scores[:2].tolist()
    assert FACES.at_least(0.95).landmarks.shape == (0, 2, 2)
    assert FACES.chosen(np.array([2, 0])).ids.tolist() == [2, 7]
    assert FACES.at_least(0) is FACES


def test_numbers_of_faces_stand_where_they_are_known():
    assert [face.get("id") for face in FACES.as_dicts()] == [7, None, 2]
    assert all("id" not in face for face in Faces(FACES.boxes, FACES.scores, FACES.landmarks).as_dicts())


def test_crops():
    assert [crop.shape for crop in FACES.crops(IMAGE, 0.1)] == [(36, 24, 3), (12, 12, 3), (9, 6, 3)]
    assert (FACES.crops(IMAGE, 0)[0] == IMAGE[10:40, 10:30]).all()
    assert [crop.shape for crop in FACES.crops(IMAGE, 0.2, 32)] == [(32, 32, 3)] * 3


def test_drawn_is_a_copy():
    before = IMAGE.copy()
    assert (FACES.draw(IMAGE) != before).any()
    assert (before == IMAGE).all()


def test_supervision_takes_them():
    supervision = pytest.importorskip("supervision", reason="supervision is not installed")
    found = supervision.Detections(**FACES.as_supervision())
    assert found.xyxy.tolist() == FACES.boxes.tolist()
    assert found.tracker_id.tolist() == [7, -1, 2]
    assert found[found.confidence > 0.5].data["landmarks"].shape == (2, 2, 2)
