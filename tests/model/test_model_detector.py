"""A checkpoint as a detector: golden detections, padding, and the devices it runs on."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from facetrain.config.schema import LandmarksConfig, ModelConfig
from facetrain.core.errors import DeviceError
from facetrain.core.faces import Detector, Faces
from facetrain.core.images import read_image
from facetrain.model.detector import ModelDetector, load_detector, torch_device
from facetrain.model.yunet import build

IMAGES = ("crowd", "family", "group", "kids", "noface", "portrait")
TINY = ModelConfig(stem=(3, 8, 8), stages=((8, 8), (8, 16), (16, 16), (16, 16), (16, 16)), head_channels=16)


@pytest.mark.parametrize("photo", IMAGES)
@pytest.mark.parametrize("name", ["n", "s"])
def test_golden_detections(golden: dict, shared: Path, name: str, photo: str) -> None:
    """At score 0.5 and NMS 0.45, best first; to 1e-4 in score and 0.01 pixels."""
    detector = load_detector(shared / f"reference/yunet/yunet_{name}.pth", "cpu", 0.5, 0.45, 5000)
    image = read_image(shared / f"reference/images/{photo}.jpg")
    facts = golden["images"][f"{photo}.jpg"]
    assert image.shape[:2] == (facts["height"], facts["width"])
    if hashlib.sha256(image.tobytes()).hexdigest() != facts["bgr_sha256"]:
        pytest.skip("this JPEG decoder gives other pixels than the reference's")
    [faces] = detector.detect_batch([image])
    wanted = golden["detections"][name][f"{photo}.jpg"]
    assert len(faces) == len(wanted)
    for box, score, points, face in zip(faces.boxes, faces.scores, faces.landmarks, wanted, strict=True):
        assert abs(score - face["score"]) < 1e-4
        np.testing.assert_allclose(box, face["box"], atol=0.01)
        np.testing.assert_allclose(points.flatten(), face["landmarks"], atol=0.01)


@pytest.fixture(scope="module")
def detector() -> ModelDetector:
    """Untrained, with scores around 0.25 and boxes about a stride wide."""
    return ModelDetector(build(TINY, seed=0), score=0.2, nms=0.45)


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def assert_same(one: Faces, other: Faces, tolerance: float = 0.0) -> None:
    for name in ("boxes", "scores", "landmarks"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=tolerance, rtol=0)


def test_results_have_their_types_and_order(detector: ModelDetector) -> None:
    assert isinstance(detector, Detector)
    [faces] = detector.detect_batch([noise(90, 70)])
    assert len(faces) > 5
    assert faces.boxes.dtype == faces.scores.dtype == faces.landmarks.dtype == np.float32
    assert faces.landmarks.shape == (len(faces), 5, 2)
    assert (np.diff(faces.scores) <= 0).all()
    assert (faces.scores >= 0.2).all()


@pytest.mark.parametrize(("width", "height"), [(90, 70), (64, 33), (33, 64), (95, 95)])
def test_black_rows_within_the_padding_change_nothing(detector: ModelDetector, width: int, height: int) -> None:
    image = noise(width, height)
    [plain] = detector.detect_batch([image])
    assert len(plain) > 3
    room = -width % 32, -height % 32
    for right, below in ((room[0], 0), (0, room[1]), (1 if room[0] else 0, 1 if room[1] else 0), room):
        padded = np.zeros((height + below, width + right, 3), np.uint8)
        padded[:height, :width] = image
        assert_same(detector.detect_batch([padded])[0], plain)


def test_black_rows_beyond_the_padding_only_touch_what_is_near(shared: Path) -> None:
    """A whole stride of black more at the right and below: the faces of a portrait stay where they are."""
    detector = load_detector(shared / "reference/yunet/yunet_n.pth", "cpu", 0.5, 0.45, 5000)
    image = read_image(shared / "reference/images/group.jpg")
    padded = np.zeros((image.shape[0] + 64, image.shape[1] + 32, 3), np.uint8)
    padded[: image.shape[0], : image.shape[1]] = image
    plain, more = detector.detect_batch([image, padded])
    assert_same(plain, more, 0.2)


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 1), (32, 32), (31, 33)])
def test_images_of_any_size(detector: ModelDetector, size: tuple[int, int]) -> None:
    [faces] = detector.detect_batch([noise(*size)])
    assert np.isfinite(faces.boxes).all()
    assert faces.landmarks.shape[1:] == (5, 2)


def test_batch_equals_each_image_alone(detector: ModelDetector) -> None:
    """Also images of several sizes, some of which share a padded size."""
    images = [noise(90, 70, 1), noise(40, 40, 2), noise(96, 96, 3), noise(33, 64, 4), noise(1, 1, 5)]
    together = detector.detect_batch(images)
    assert len(together) == len(images)
    for faces, image in zip(together, images, strict=True):
        alone = detector.detect_batch([image])[0]
        assert len(alone) == len(faces)
        assert_same(faces, alone, 1e-4)
    assert detector.detect_batch([]) == []


def test_image_may_be_a_view(detector: ModelDetector) -> None:
    big = noise(140, 100)
    view = big[10:74, 20:116][:, ::-1]
    assert_same(detector.detect_batch([view])[0], detector.detect_batch([view.copy()])[0])
    read_only = noise(64, 64)
    read_only.flags.writeable = False
    detector.detect_batch([read_only])


@pytest.mark.parametrize("training", [True, False])
def test_model_is_left_as_it_was(training: bool) -> None:
    model = build(TINY, seed=0).train(training)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    detector = ModelDetector(model, score=0.2)
    detector.detect_batch([noise(64, 64)])
    assert model.training == training
    assert all(module.training == training for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with pytest.raises(AttributeError):
        detector.detect_batch([None])  # type: ignore[list-item]
    assert model.training == training


def test_mode_of_the_model_does_not_matter() -> None:
    model = build(TINY, seed=0)
    found = [ModelDetector(model.train(mode), score=0.2).detect_batch([noise(64, 64)])[0] for mode in (True, False)]
    assert_same(*found)


def test_threshold_takes_scores_that_reach_it(detector: ModelDetector) -> None:
    [all_faces] = detector.detect_batch([noise(64, 64)])
    score = float(all_faces.scores[3])
    [some] = ModelDetector(detector.model, score=score, nms=0.45).detect_batch([noise(64, 64)])
    assert len(some) == 4
    [none] = ModelDetector(detector.model, score=1.0).detect_batch([noise(64, 64)])
    assert len(none) == 0
    assert none.boxes.shape == (0, 4)
    assert none.landmarks.shape == (0, 5, 2)


def test_candidates_are_limited_before_suppression(detector: ModelDetector) -> None:
    few = ModelDetector(detector.model, score=0.0, nms=1.0, max_candidates=7)
    every = ModelDetector(detector.model, score=0.0, nms=1.0)
    [limited], [whole] = few.detect_batch([noise(64, 64)]), every.detect_batch([noise(64, 64)])
    assert len(limited) == 7
    assert len(whole) == 84
    np.testing.assert_array_equal(limited.scores, whole.scores[:7])


def test_models_without_five_landmarks() -> None:
    for points in (0, 3):
        names = LandmarksConfig().names[:points]
        model = build(replace(TINY, landmarks=LandmarksConfig(names, ())), seed=0)
        [faces] = ModelDetector(model, score=0.2).detect_batch([noise(64, 64)])
        assert len(faces) > 0
        assert faces.landmarks.shape == (len(faces), points, 2)


@pytest.mark.parametrize(
    ("name", "text"),
    [("gpu", "unknown device"), ("", "unknown device"), ("xpu", "not supported"), ("meta", "not supported")],
)
def test_unknown_devices_are_errors(name: str, text: str) -> None:
    with pytest.raises(DeviceError, match=text) as caught:
        torch_device(name)
    assert "cpu" in str(caught.value.hint)


def test_absent_devices_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for name in ("cuda", "0", "cuda:1"):
        with pytest.raises(DeviceError, match="no CUDA GPU"):
            torch_device(name)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert torch_device("1") == torch.device("cuda", 1)
    with pytest.raises(DeviceError, match="GPUs 0 to 1"):
        torch_device("2")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="'mps' is not there"):
        torch_device("mps")
    assert torch_device("cpu") == torch.device("cpu")
