"""The weights that come along: what they say of themselves, and what they find beside the released ones."""

from pathlib import Path

import numpy as np
import pytest

from facetrain import FaceDetector
from facetrain.core.boxes import box_iou
from facetrain.detect.bundled import FOLDER, bundled_names
from facetrain.detect.operating_points import PRECISIONS
from facetrain.model.weights import load_checkpoint

# The scores at which nineteen of twenty faces of the released networks are faces, on the same 400 images.
RELEASED = {"yunet_n": 0.571, "yunet_s": 0.551}


def score_of(name: str, precision: float = 0.95) -> float:
    points = FaceDetector(name).operating_points
    assert points is not None
    [score] = [point.score for point in points.points if point.precision == precision]
    return score


@pytest.mark.parametrize("name", RELEASED)
def test_they_say_where_they_can_be_relied_on(name: str) -> None:
    assert name in bundled_names(".onnx")
    points = FaceDetector(name).operating_points
    assert points is not None
    assert (points.images, points.of) == (400, "widerface")
    assert tuple(point.precision for point in points.points) == PRECISIONS
    scores, recalls = zip(*((point.score, point.recall) for point in points.points), strict=True)
    assert list(scores) == sorted(scores, reverse=True)  # the surer, the higher the score, and the fewer are found
    assert list(recalls) == sorted(recalls)
    for point in points.points:
        assert point.low is not None and point.high is not None
        assert point.low <= point.score <= point.high
    both = [FaceDetector(FOLDER / f"{name}{ending}") for ending in (".onnx", ".pt")]
    assert both[0].operating_points == both[1].operating_points == points
    assert both[0].face_range == both[1].face_range


@pytest.mark.parametrize("name", RELEASED)
def test_they_find_what_the_released_ones_find(name: str, shared: Path) -> None:
    released = FaceDetector(str(shared / f"reference/yunet/{name}_dynamic.onnx"), score=RELEASED[name])
    bundled = FaceDetector(name, score=score_of(name))
    wanted = found = 0
    for path in sorted((shared / "reference/images").glob("*.jpg")):
        theirs, own = released.detect(path), bundled.detect(path)
        if path.stem == "noface":
            assert len(own) == 0
        if len(theirs):
            best = box_iou(theirs.boxes, own.boxes).max(1) if len(own) else np.zeros(len(theirs))
            wanted, found = wanted + len(theirs), found + int((best > 0.5).sum())
    assert wanted > 50
    assert found >= 0.95 * wanted, f"{found} of {wanted}"


def test_together_they_stay_small_and_name_no_place() -> None:
    files = [FOLDER / f"{name}{ending}" for name in RELEASED for ending in (".onnx", ".pt")]
    assert sum(path.stat().st_size for path in files) < 2_000_000
    for path in files:
        content = path.read_bytes()
        assert not any(place in content for place in (b"/home/", b"/root/", b"/tmp/", b"/Users/"))
    for name in RELEASED:
        info = load_checkpoint(FOLDER / f"{name}.pt").info
        assert {"ap", "seed", "crops", "processor_s", "commit", "stage", "taught_by", "teacher_sha256"} <= set(info)
