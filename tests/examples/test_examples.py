"""Every example runs as it stands."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from facetrain import FaceDetector
from facetrain.cli.app import run_cli
from facetrain.config.load import load_config
from facetrain.core.images import write_image
from facetrain.data.sample_set.make import draw_image
from facetrain.export.images import check_images
from facetrain.model.yunet import build

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_model_files_load_and_build(path: Path) -> None:
    assert build(load_config(path).model, seed=0) is not None


def test_tiny_has_the_size_it_claims() -> None:
    model = build(load_config(EXAMPLES / "tiny.yaml").model)
    assert round(sum(p.numel() for p in model.parameters()), -3) == 31_000


def run_example(name: str, *arguments: Path) -> list[str]:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_detect_faces_prints_faces(tmp_path: Path) -> None:
    image = tmp_path / "drawn.png"
    write_image(image, draw_image(0, 0, 2)[0])
    assert "right eye at (" in run_example("detect_faces.py", image)[0]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both forms of the bundled model and two images: a photograph, and drawn faces."""
    folder = tmp_path_factory.mktemp("exported")
    assert run_cli(["export-onnx", "-o", str(folder / "plain.onnx")]) == 0
    assert run_cli(["export-onnx", "--decoded", "-o", str(folder / "decoded.onnx")]) == 0
    for name, image in zip(("photograph.png", "drawn.png"), check_images(), strict=False):
        write_image(folder / name, image)
    return folder


def numbers(line: str) -> list[float]:
    return [float(word) for word in line.split()]


@pytest.mark.parametrize("name, image", [("onnx_numpy.py", "drawn.png"), ("onnx_opencv.py", "photograph.png")])
def test_decoding_elsewhere_finds_the_same_faces(exported: Path, name: str, image: str) -> None:
    rows = [numbers(line) for line in run_example(name, exported / "plain.onnx", exported / image)]
    faces = FaceDetector("yunet_n", score=0.5).detect(exported / image)
    assert len(rows) == len(faces) > 0
    for row, box, score, points in zip(rows, faces.boxes, faces.scores, faces.landmarks, strict=True):
        np.testing.assert_allclose(row, [score, *box, *points.ravel()], atol=0.06)


def test_a_decoded_file_needs_no_code_behind_it(exported: Path) -> None:
    images = [exported / "photograph.png", exported / "drawn.png"]
    lines = run_example("onnx_decoded.py", exported / "decoded.onnx", *images)
    found = {
        image: [numbers(line.split(maxsplit=1)[1]) for line in lines if line.startswith(str(image))] for image in images
    }
    assert all(found.values())
    assert found[images[0]][0][0] == pytest.approx(FaceDetector("yunet_n").detect(images[0]).scores[0], abs=0.02)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("onnx_*.py")), ids=lambda path: path.name)
def test_decoding_examples_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 60
