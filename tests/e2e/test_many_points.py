"""24, 68 and 98 points a face: two steps of training, the error of each, and what an exported file decodes, by name."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facetrain.cli.app import run_cli
from facetrain.config.load import config_to_yaml, load_config
from facetrain.config.schema import EvalConfig, LandmarksConfig
from facetrain.core.faces import LabelledImage
from facetrain.data.formats import labelv2
from facetrain.data.landmark_names import FIVE
from facetrain.data.layout import load_split
from facetrain.data.sample_set.make import write_sample
from facetrain.detect.detector import FaceDetector

pytestmark = pytest.mark.slow


def on_an_ellipse(image: LabelledImage, count: int) -> LabelledImage:
    """The image with as many points on the outline of each face, from its right side on."""
    angles = 2 * np.pi * np.arange(count) / count
    low, high = image.boxes[:, None, :2], image.boxes[:, None, 2:]
    xy = (low + high) / 2 + (high - low) / 2 * np.stack([np.cos(angles), np.sin(angles)], 1)  # (F, L, 2)
    points = np.concatenate([xy, np.ones((*xy.shape[:2], 1))], 2).astype(np.float32)
    points[image.ignore] = (-1, -1, 0)
    return replace(image, landmarks=points)


@pytest.mark.parametrize("count", [24, 68, 98])
def test_from_labels_to_what_a_file_finds(count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = tuple(f"outline {number}" for number in range(count))
    data, runs = tmp_path / "data", tmp_path / "runs"
    write_sample(data, train=8, val=8)
    for part in ("train", "val"):
        labels = load_split(data, part, FIVE)  # type: ignore[arg-type]
        assert labels.place is not None
        labelv2.write(labels.place.labels, [on_an_ellipse(image, count) for image in labels.images])
    preset = load_config("yunet_s")
    config = replace(
        preset,
        model=replace(preset.model, landmarks=LandmarksConfig(names, ())),
        data=replace(preset.data, root=str(data), size=128, flip=0.0, store="ram"),
        train=replace(preset.train, epochs=1, batch=4, precision="fp32", fused="off", lr=1e-5),
        eval=EvalConfig(every=1),
    )
    (tmp_path / "own.yaml").write_text(config_to_yaml(config))
    arguments = [str(tmp_path / "own.yaml"), "--weights", "yunet_s", "--name", "r", "--runs", str(runs)]
    assert run_cli(["train", *arguments]) == 0
    weights, file = str(runs / "r/last.pt"), str(tmp_path / "many.onnx")

    capsys.readouterr()
    assert run_cli(["eval", "--data", str(data), "--weights", weights, "--draws", "0", "--json"]) == 0
    error = json.loads(capsys.readouterr().out)["details"]["landmark_error"]
    assert error["faces"] > 5
    assert len(error["names"]) == len(error["per_point"]) == count
    # nothing is learnt yet: every point lies at some cell's centre, and those of the outline are half a side away
    assert min(error["per_point"]) > 0.1 and max(error["per_point"]) < 1.5

    assert run_cli(["export-onnx", "--weights", weights, "-o", file]) == 0
    detectors = FaceDetector(weights), FaceDetector(file)
    assert [detector.landmark_names for detector in detectors] == [names, names]
    found = 0
    for image in load_split(data, "val", None).images:
        wanted, faces = (detector.detect(image.path) for detector in detectors)
        assert faces.landmarks.shape == (len(wanted), count, 2)
        np.testing.assert_allclose(faces.landmarks, wanted.landmarks, atol=0.05)
        assert np.ptp(faces.landmarks, axis=1).min(initial=1) > 0  # points of their own, and not one many times
        found += len(faces)
    assert found > 5
