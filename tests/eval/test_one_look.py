"""Measurements look at an image once, at exactly one scale; several looks have to be asked for."""

from pathlib import Path

import numpy as np
import pytest

from facetrain.compare.compare import CompareSettings, compare_models
from facetrain.core.faces import Faces, Image
from facetrain.core.images import write_image
from facetrain.detect.detector import FaceDetector
from facetrain.detect.onnx_detector import OnnxDetector
from facetrain.eval.evaluate import evaluate_model
from facetrain.eval.protocol import EvalProtocol

WIDTH, HEIGHT = 2400, 1800
SEVERAL = [(1633, 1225), (816, 612), (408, 306), (204, 153)]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The sizes of the images that the network was shown."""
    sizes: list[tuple[int, int]] = []

    def look(self: OnnxDetector, image: Image) -> Faces:
        sizes.append((image.shape[1], image.shape[0]))
        return Faces(np.array([[5, 5, 25, 25]], np.float32), np.ones(1, np.float32), np.zeros((1, 5, 2), np.float32))

    monkeypatch.setattr(OnnxDetector, "_look", look)
    return sizes


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A set with one large image."""
    (tmp_path / "val/images").mkdir(parents=True)
    write_image(tmp_path / "val/images/large.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    (tmp_path / "val/labelv2.txt").write_text(f"# large.png {WIDTH} {HEIGHT}\n100 100 200 200\n")
    return tmp_path


def test_evaluation(shown: list[tuple[int, int]], data: Path) -> None:
    evaluate_model("yunet_n", data)
    assert shown == [(WIDTH, HEIGHT)]
    shown.clear()
    found = evaluate_model("yunet_n", data, EvalProtocol(size="auto"))
    assert shown == SEVERAL
    assert found.protocol["size"] == "auto"


def test_python(shown: list[tuple[int, int]], data: Path) -> None:
    path = data / "val/images/large.png"
    FaceDetector().detect(path)
    assert shown == [(WIDTH, HEIGHT)]
    shown.clear()
    FaceDetector(size="640").detect(path)
    assert shown == [(640, 640)]
    shown.clear()
    faces = FaceDetector(size="auto").detect(path)
    assert shown == SEVERAL
    # each look gave a face of 20 pixels: the coarser ones do not answer for such small ones
    np.testing.assert_allclose(faces.boxes, [[5 * 1.4697, 5 * 1.4697, 25 * 1.4697, 25 * 1.4697]], rtol=1e-3)


def test_comparison(shown: list[tuple[int, int]], data: Path) -> None:
    settings = CompareSettings(rounds=1, repeats=1, threads=1)
    image = data / "val/images/large.png"
    for size, expected in (("original", [(WIDTH, HEIGHT)]), ("auto", SEVERAL)):
        shown.clear()
        changed = CompareSettings(**{**vars(settings), "protocol": EvalProtocol(size=size)})
        compare_models(["yunet_n"], image=image, settings=changed)
        assert [each for each in shown if each != (320, 320)] == expected  # the square ones are timed
