"""The emulation of FaceDetectorYN against OpenCV itself and against the rows that OpenCV 5 gave for real images."""

import json
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest

from facetrain.core.boxes import pad_image, padded_size
from facetrain.core.images import read_image
from facetrain.detect.bundled import bundled_weights
from facetrain.export.images import check_images
from facetrain.export.network.fold import fold
from facetrain.export.onnx.model import write_onnx
from facetrain.export.onnx.opencv_yn import Thresholds, _select, candidates, possible_and_certain
from facetrain.model.weights import load_model


def select(rows, thresholds):
    """Which candidates are returned, best first, if no last digit differs."""
    return _select(rows, thresholds, (0.0,))[0]


def rows_of(path: Path, image: np.ndarray) -> np.ndarray:
    """All decoded candidates of an image."""
    padded = pad_image(image, *padded_size(image.shape[1], image.shape[0], 32))
    session = onnxruntime.InferenceSession(path)
    values = session.run(None, {"input": padded.transpose(2, 0, 1)[None].astype(np.float32)})
    names = [output.name for output in session.get_outputs()]
    return candidates(dict(zip(names, values, strict=True)), padded.shape[1], padded.shape[0])


def opencv_rows(path: Path, image: np.ndarray, thresholds: Thresholds) -> np.ndarray:
    """What OpenCV finds, (F, 15)."""
    detector = cv2.FaceDetectorYN.create(
        str(path), "", image.shape[1::-1], thresholds.score, thresholds.nms, thresholds.top_k
    )
    found = detector.detect(image)[1]
    return np.zeros((0, 15), np.float32) if found is None else found


def in_order(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(rows.round(1).T[:2])]


@pytest.mark.parametrize("score, nms, top_k", [(0.6, 0.3, 5000), (0.9, 0.3, 5000), (0.2, 0.5, 5000), (0.3, 0.3, 3)])
def test_it_selects_what_opencv_selects(score: float, nms: float, top_k: int) -> None:
    path = bundled_weights("yunet_n")
    thresholds = Thresholds(score, nms, top_k)
    for image in check_images():
        rows = rows_of(path, image)
        wanted = opencv_rows(path, image, thresholds)
        found = rows[select(rows, thresholds)]
        assert len(found) == len(wanted)
        np.testing.assert_allclose(in_order(found), in_order(wanted), atol=1e-3)


@pytest.mark.parametrize("name", ["yunet_n", "yunet_s"])
def test_exports_of_the_released_weights_find_the_known_faces(shared: Path, tmp_path: Path, name: str) -> None:
    expected = json.loads((shared / "reference/expected-export.json").read_text())["pictures"]
    path = tmp_path / "model.onnx"
    write_onnx(fold(load_model(shared / f"reference/yunet/{name}.pth")), path)
    faces = 0
    for file, known in expected.items():
        image = read_image(shared / "reference/images" / file)
        wanted = np.array(known["FaceDetectorYN"][name], np.float32).reshape(-1, 15)
        found = opencv_rows(path, image, Thresholds())
        assert len(found) == len(wanted), file
        np.testing.assert_allclose(in_order(found), in_order(wanted), atol=2e-3)
        rows = rows_of(path, image)
        np.testing.assert_allclose(in_order(rows[select(rows, Thresholds())]), in_order(wanted), atol=2e-3)
        faces += len(found)
    assert faces > 60


def face(x: float, y: float, w: float, h: float, score: float) -> np.ndarray:
    row = np.zeros(15, np.float32)
    row[:4], row[14] = (x, y, w, h), score
    return row


def test_a_single_candidate_may_equal_the_threshold_and_several_may_not() -> None:
    half = np.float32(0.5)
    one = np.stack([face(0, 0, 10, 10, half)])
    assert select(one, Thresholds(0.5)).tolist() == [0]
    two = np.stack([face(0, 0, 10, 10, half), face(50, 50, 10, 10, 0.7)])
    assert select(two, Thresholds(0.5)).tolist() == [1]


def test_overlap_is_taken_of_whole_numbers() -> None:
    # 10.9 pixels wide boxes count as 10 wide, so that an overlap of 5 of 15 becomes 1/3
    rows = np.stack([face(0, 0, 10.9, 10, 0.9), face(5.9, 0, 10.9, 10, 0.8)])
    assert select(rows, Thresholds(0.5, 0.34)).tolist() == [0, 1]
    assert select(rows, Thresholds(0.5, 0.33)).tolist() == [0]
    # two boxes that vanish in whole numbers overlap completely
    rows = np.stack([face(0, 0, 0.9, 0.9, 0.9), face(70, 70, 0.9, 0.9, 0.8)])
    assert select(rows, Thresholds(0.5, 0.3)).tolist() == [0]


def test_top_k_counts_before_suppression() -> None:
    rows = np.stack([face(0, 0, 10, 10, 0.9), face(0, 0, 10, 10, 0.8), face(50, 0, 10, 10, 0.7)])
    assert select(rows, Thresholds(0.5, 0.3, 2)).tolist() == [0]
    assert select(rows, Thresholds(0.5, 0.3, 0)).tolist() == [0, 2]


def test_what_hangs_on_the_last_digit_is_possible_and_not_certain() -> None:
    rows = np.stack([face(0, 0, 10, 10, 0.9), face(5.0001, 0, 10, 10, 0.8), face(50, 0, 10, 10, 0.50001)])
    possible, certain = possible_and_certain(rows, Thresholds(0.5, 0.34))
    assert certain == {0}
    assert possible == {0, 1, 2}


def by_pairs(rows: np.ndarray, thresholds: Thresholds) -> list[int]:
    """The same rule as a loop over pairs."""
    kept = np.flatnonzero(rows[:, 14] >= thresholds.score)
    if len(kept) <= 1:
        return kept.tolist()
    kept = kept[rows[kept, 14] > thresholds.score]
    kept = kept[np.argsort(-rows[kept, 14], kind="stable")]
    kept = kept[: thresholds.top_k] if thresholds.top_k > 0 else kept
    whole = np.trunc(rows[:, :4]).astype(np.int64)
    chosen: list[int] = []
    for index in kept:
        if all(overlap(whole[index], whole[other]) <= np.float32(thresholds.nms) for other in chosen):
            chosen.append(int(index))
    return chosen


def overlap(a: np.ndarray, b: np.ndarray) -> np.float32:
    area = float(a[2] * a[3] + b[2] * b[3])
    if area <= np.finfo(np.float64).eps:
        return np.float32(1)
    sides = np.minimum(a[:2] + a[2:], b[:2] + b[2:]) - np.maximum(a[:2], b[:2])
    common = float(sides[0] * sides[1]) if (sides > 0).all() else 0.0
    return np.float32(common / (area - common))


@pytest.mark.parametrize("seed", range(8))
def test_it_keeps_what_a_loop_over_pairs_keeps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.choice([0, 1, 2, 30, 150]))
    rows = np.zeros((count, 15), np.float32)
    rows[:, :2] = rng.uniform(-20, 80, (count, 2))
    rows[:, 2:4] = rng.uniform(0, rng.choice([1.5, 12, 60]), (count, 2))
    rows[:, 14] = rng.choice([0.3, 0.5, 0.5001, 0.6, 0.7, 0.9], count)
    for nms in (0.0, 0.3, 1 / 3, 0.5, 1.0):
        for top_k in (0, 5, 5000):
            thresholds = Thresholds(0.5, nms, top_k)
            assert select(rows, thresholds).tolist() == by_pairs(rows, thresholds)
            found = []
            for shift in (0.0, -1e-3, 1e-3):
                moved = rows.copy()
                moved[:, :4] += shift
                found += [set(by_pairs(moved, Thresholds(0.5 + by, nms, top_k))) for by in (0.0, -1e-4, 1e-4)]
            assert possible_and_certain(rows, thresholds) == (set.union(*found), set.intersection(*found))


def test_a_network_that_sees_faces_everywhere_ends() -> None:
    """All of 8,400 candidates pass and none suppresses another: the comparisons go by rows, not by pairs."""
    side = 92
    rows = np.zeros((side * side, 15), np.float32)
    rows[:, 0], rows[:, 1] = np.divmod(np.arange(side * side), side)
    rows[:, :2] *= 20
    rows[:, 2:4], rows[:, 14] = 19, np.linspace(0.7, 0.9, side * side)
    possible, certain = possible_and_certain(rows, Thresholds())
    assert len(certain) == len(possible) == 5000
