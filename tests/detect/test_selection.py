import numpy as np
import pytest

from facetrain.core.errors import UsageError
from facetrain.core.faces import Faces
from facetrain.detect.selection import parse_selection

CENTRES = np.array([(10, 10), (50, 10), (90, 90)], np.float32)
FACES = Faces(np.concatenate([CENTRES - 5, CENTRES + 5], 1), np.ones(3, np.float32), np.zeros((3, 0, 2), np.float32))


def kept(regions=(), excepts=(), faces=FACES, tracked=False):
    return parse_selection(regions, excepts, tracked=tracked).of(faces, 100, 200).boxes[:, 0].tolist()


def test_all_count_by_default():
    assert kept() == [5, 45, 85]


@pytest.mark.parametrize(
    ("regions", "left"),
    [
        (["0,0,50,50"], [5]),  # a region ends before its second corner
        (["0,0,50.5,50"], [5, 45]),
        (["0,0,50%,20%"], [5]),
        (["50%,0,100%,100%"], [45, 85]),
        (["0,0,20,20", "80,80,100,100"], [5, 85]),
        (["0, 0, 100%, 20"], [5, 45]),
    ],
)
def test_regions(regions, left):
    assert kept(regions) == left
    assert kept((), regions) == [low for low in (5, 45, 85) if low not in left]


def test_exceptions_are_taken_from_regions():
    assert kept(["0,0,100,50"], ["40,0,60,20"]) == [5]


def test_a_face_by_its_number():
    faces = Faces(FACES.boxes, FACES.scores, FACES.landmarks, np.array([3, -1, 4]))
    assert kept((), ["3"], faces, tracked=True) == [45, 85]
    assert kept((), ["4", "0,0,20,20"], faces, tracked=True) == [45]


@pytest.mark.parametrize(
    ("regions", "excepts", "wrong"),
    [
        (["1,2,3"], [], "`region` 1,2,3: not a part"),
        (["a,0,1,1"], [], "`region` a,0,1,1: not a part"),
        (["-1,0,1,1"], [], "not a part"),
        (["5,0,5,1"], [], "x1 is not below x2"),
        (["0,9%,5,1%"], [], "y1 is not below y2"),
        ([], ["1e3,0,1,1"], "`excepted` 1e3,0,1,1: not a part"),
        ([], ["7"], "`excepted` 7: faces have numbers with `track` alone"),
    ],
)
def test_parts_that_mean_nothing(regions, excepts, wrong):
    with pytest.raises(UsageError, match=wrong):
        parse_selection(regions, excepts, tracked=False)
