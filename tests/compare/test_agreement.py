"""How far detectors agree, against a plain computation over all pairs of faces."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facetrain.compare.agreement import agreement_dict, agreements
from facetrain.core.faces import Faces


def faces(*boxes: tuple[float, float, float, float]) -> Faces:
    array = np.array(boxes, np.float32).reshape(-1, 4)
    return Faces(array, np.linspace(0.9, 0.5, len(array), dtype=np.float32), np.zeros((len(array), 0, 2), np.float32))


def plain_iou(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return float(width * height / union)


def plain_pairs(first: Faces, second: Faces) -> list[float]:
    """Every pair of faces by falling IoU; a pair counts if neither face is in one that counted."""
    pairs = [(plain_iou(a, b), i, j) for i, a in enumerate(first.boxes) for j, b in enumerate(second.boxes)]
    taken: list[tuple[float, int, int]] = []
    for iou, i, j in sorted(pairs, key=lambda pair: -pair[0]):
        if iou >= 0.5 and all(i != k and j != m for _, k, m in taken):
            taken.append((iou, i, j))
    return [iou for iou, _, _ in taken]


sides = st.integers(1, 12)
boxes = st.tuples(st.integers(0, 15), st.integers(0, 15), sides, sides).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
some = st.lists(boxes, max_size=7).map(lambda chosen: faces(*chosen))


@given(some, some)
def test_pairs_are_those_of_the_plain_computation(first: Faces, second: Faces) -> None:
    (found,) = agreements({3: first, 8: second})
    ious = plain_pairs(first, second)
    assert (found.first, found.second, found.both) == (3, 8, len(ious))
    assert (found.only_first, found.only_second) == (len(first) - len(ious), len(second) - len(ious))
    assert found.mean_iou == (pytest.approx(np.mean(ious)) if ious else None)


def test_a_known_case() -> None:
    first = faces((0, 0, 10, 10), (50, 50, 60, 60), (0, 0, 10, 9))
    second = faces((0, 0, 10, 8), (51, 50, 61, 60), (80, 80, 90, 90))
    (found,) = agreements({0: first, 1: second})
    # the smaller of the two boxes in the corner overlaps more: 80/90; the other one is left alone
    assert (found.both, found.only_first, found.only_second) == (2, 1, 1)
    assert found.mean_iou == pytest.approx((80 / 90 + 90 / 110) / 2)
    assert agreement_dict(found, {0: "a", 1: "b"}) == {
        "models": ["a", "b"],
        "both": 2,
        "only_first": 1,
        "only_second": 1,
        "mean_iou": 0.8535,
    }


def test_every_pair_once_and_nothing_found() -> None:
    found = agreements({0: faces(), 2: faces((0, 0, 4, 4)), 5: faces()})
    assert [(a.first, a.second) for a in found] == [(0, 2), (0, 5), (2, 5)]
    assert [(a.both, a.only_first, a.only_second, a.mean_iou) for a in found] == [
        (0, 0, 1, None),
        (0, 0, 0, None),
        (0, 1, 0, None),
    ]
    assert agreements({1: faces()}) == []
