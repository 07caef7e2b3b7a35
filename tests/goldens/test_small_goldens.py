"""A small seeded network against committed numbers: what a clone alone can check. make.py says where they come from."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from goldens import make

from facetrain.config.schema import AssignConfig, LossConfig
from facetrain.data.batch import FACE
from facetrain.eval.average_precision import curve, match, tally
from facetrain.export.network.fold import fold
from facetrain.export.onnx.model import onnx_bytes, onnx_model
from facetrain.model.detector import ModelDetector
from facetrain.model.yunet import build
from facetrain.train.assign import assign
from facetrain.train.losses import compute_losses

FOLDER = Path(__file__).parent


@pytest.fixture(scope="module")
def arrays():
    with np.load(FOLDER / "small.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def document():
    return json.loads((FOLDER / "small.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def model(arrays):
    model = build(make.MODEL, 0).eval()
    stored = {name.removeprefix("weights/"): value for name, value in arrays.items() if name.startswith("weights/")}
    model.load_state_dict({name: torch.from_numpy(value) for name, value in stored.items()})
    return model


@pytest.fixture(scope="module")
def predictions(model):
    with torch.inference_mode():
        return model(make.batch().images)


def test_forward(predictions, arrays):
    for name in ("cls", "obj", "boxes", "landmarks"):
        np.testing.assert_allclose(getattr(predictions, name), arrays[f"out/{name}"], atol=2e-5, rtol=2e-5)


def test_forward_of_the_folded_network(model, arrays):
    out = make.forward(fold(model), make.batch().images[1].numpy())
    for name, value in out.items():
        np.testing.assert_allclose(value, arrays[f"out/{name}"][1], atol=1e-5, rtol=1e-5)


def test_detections(model, arrays, document):
    faces = ModelDetector(model, score=document["score"], nms=document["nms"]).detect_batch([make.image()])[0]
    assert len(faces) == len(arrays["faces"]) > 3
    np.testing.assert_allclose(faces.scores, arrays["faces"][:, 4], atol=1e-5)
    np.testing.assert_allclose(faces.boxes, arrays["faces"][:, :4], atol=2e-3)


def test_onnx_gives_the_same_numbers(model, arrays, tmp_path):
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx_bytes(onnx_model(fold(model), {})), providers=["CPUExecutionProvider"])
    found = dict(
        zip(
            [o.name for o in session.get_outputs()],
            session.run(None, {"input": make.batch().images.numpy()}),
            strict=True,
        )
    )
    boxes = np.concatenate([found[f"bbox_{stride}"] for stride in make.MODEL.strides], 1)
    scores = np.concatenate([found[f"obj_{stride}"] for stride in make.MODEL.strides], 1)[..., 0]
    np.testing.assert_allclose(boxes, arrays["out/boxes"], atol=2e-5, rtol=2e-5)
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-arrays["out/obj"])), atol=1e-5)


def test_assignment_and_losses(predictions, arrays, document):
    targets = assign(predictions, make.batch(), AssignConfig(), mask_ignored=False)
    np.testing.assert_array_equal(targets.matched, arrays["matched"])
    np.testing.assert_allclose(targets.quality, arrays["quality"], atol=2e-5)
    assert (targets.matched >= 0).sum() >= 4
    losses = compute_losses(predictions, targets, targets.positive.sum().clamp(min=1), LossConfig())
    assert {name: float(value) for name, value in losses.items()} == pytest.approx(document["losses"], rel=2e-5)
    assert (make.batch().kind == FACE).all()


def test_what_the_exports_write(model, document):
    assert make.hashes(fold(model)) == document["hashes"]


def test_average_precision(document):
    images = make.images()

    def corners(rows):
        table = np.array([row[:4] for row in rows], np.float64).reshape(-1, 4)
        return np.concatenate([table[:, :2], table[:, :2] + table[:, 2:]], 1)

    found = match([(corners(p.detections), np.array([d[4] for d in p.detections]), corners(p.boxes)) for p in images])
    counted = np.array([flag for p in images for flag in p.counted])
    assert curve(tally(found, counted)).ap == pytest.approx(document["ap"], abs=1e-9)
    assert 0.2 < document["ap"] < 0.95
