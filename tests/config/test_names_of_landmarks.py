"""Names of points that a file does not say, and their pairs."""

import json

import pytest

from facetrain.config.landmark_names import landmarks_of, mirror_pairs, stored_names
from facetrain.config.schema import LandmarksConfig


def test_as_many_points_as_usual_are_the_usual_ones() -> None:
    assert landmarks_of(len(LandmarksConfig().names)) == LandmarksConfig()


@pytest.mark.parametrize("count", [0, 1, 7, 24, 68, 98])
def test_others_are_numbered_unless_they_are_known(count: int) -> None:
    found = landmarks_of(count)
    assert (len(found.names), len(set(found.names)), found.mirror) == (count, count, ())
    known = tuple(f"p{i}" for i in range(count))
    assert landmarks_of(count, (), known, ("x",) * count).names == known or count == 0


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (("right_eye", "nose", "left_eye"), (("right_eye", "left_eye"),)),
        (("eye_l", "eye_r", "tip"), (("eye_r", "eye_l"),)),
        (("RightEar", "LeftEar"), (("RightEar", "LeftEar"),)),
        (("R 1", "L 1", "brow", "crown"), (("R 1", "L 1"),)),
        (("right_eye", "lefteye", "upright"), ()),
    ],
)
def test_pairs_differ_by_the_side(names: tuple[str, ...], pairs: tuple[tuple[str, str], ...]) -> None:
    assert mirror_pairs(names) == pairs


@pytest.mark.parametrize(
    "text", ["", "no json", "{}", '["a", "a"]', '["a", 1]', '["a", "*/ system();"]', "null", "[" * 10**5]
)
def test_what_is_no_list_of_names_is_none(text: str) -> None:
    assert stored_names(text) == ()


def test_stored_names_come_back() -> None:
    assert stored_names(json.dumps(["nez", "œil droit"])) == ("nez", "œil droit")
