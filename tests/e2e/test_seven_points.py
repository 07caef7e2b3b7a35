"""Seven points a face, from labels of which some have none to training, ONNX, C++ and what they find."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cpp.standalone_builds import HERE, Builds, Order, assert_equal, run

from facetrain.cli.app import run_cli
from facetrain.config.landmark_names import mirror_pairs
from facetrain.config.load import config_to_yaml, load_config
from facetrain.config.schema import EvalConfig, LandmarksConfig
from facetrain.core.faces import LabelledImage
from facetrain.core.images import read_image
from facetrain.data.formats import labelv2
from facetrain.data.landmark_names import FIVE
from facetrain.data.layout import load_split
from facetrain.data.sample_set.make import write_sample
from facetrain.detect.detector import FaceDetector

pytestmark = pytest.mark.slow

SEVEN = (*FIVE, "chin", "crown")


def with_two_more(image: LabelledImage, every: int) -> LabelledImage:
    """The middle of the box's lower and upper side as points; each `every`-th face has none at all."""
    left, top, right, bottom = image.boxes.T
    ends = np.stack([np.stack([(left + right) / 2, y, np.ones(len(y))], 1) for y in (bottom, top)], 1)
    points = np.concatenate([image.landmarks, ends], 1).astype(np.float32)
    points[image.ignore] = (-1, -1, 0)
    points[every - 1 :: every] = (-1, -1, 0)
    return replace(image, landmarks=points)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a set `data`, and a run on it."""
    home = tmp_path_factory.mktemp("seven")
    write_sample(home / "data", train=80, val=16)
    for split in ("train", "val"):
        labels = load_split(home / "data", split, FIVE)  # type: ignore[arg-type]
        assert labels.place is not None
        images = [with_two_more(image, 3 if split == "train" else 100) for image in labels.images]
        labelv2.write(labels.place.labels, images)
    preset = load_config("yunet_s")
    config = replace(
        preset,
        model=replace(preset.model, landmarks=LandmarksConfig(SEVEN, mirror_pairs(SEVEN))),
        data=replace(preset.data, root=str(home / "data"), size=256, store="ram"),
        train=replace(
            preset.train,
            **{
                "epochs": 32,
                "batch": 8,
                "precision": "fp32",
                "fused": "off",
                "optimizer": "adamw",
                "lr": 0.005,
                "lr_batch": 8,
                "schedule": "cosine",
            },
            loss=replace(preset.train.loss, landmark_weight=3.0),
        ),
        eval=EvalConfig(every=32),
    )
    (home / "own.yaml").write_text(config_to_yaml(config))
    arguments = ["--weights", "yunet_s", "--name", "r", "--runs", str(home / "runs")]
    assert run_cli(["train", str(home / "own.yaml"), *arguments]) == 0
    return home


def test_init_names_seven(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run_cli(["init", "--data", str(trained / "data"), "-o", str(trained / "other.yaml"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["landmarks"]) == 7


def test_every_point_is_learnt(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    weights = str(trained / "runs/r/best.pt")
    assert run_cli(["eval", "--data", str(trained / "data"), "--weights", weights, "--draws", "0", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    error = document["details"]["landmark_error"]
    assert document["all"] > 0.8
    assert error["faces"] > 20
    assert len(error["per_point"]) == 7
    assert max(error["per_point"]) < 0.15  # of the face's side; the middle of the box is .25 and more away


def test_onnx_and_cpp_give_the_points(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, file = trained / "runs/r/best.pt", tmp_path / "seven.onnx"
    assert run_cli(["export-onnx", "--weights", str(weights), "-o", str(file)]) == 0
    detector = FaceDetector(file)
    assert detector.landmark_names == SEVEN
    images = load_split(trained / "data", "val", None).images
    shares: list[float] = []  # of the face's side that each point is off
    for image in images[:6]:
        faces = detector.detect(image.path)
        for box, points, ignore in zip(image.boxes, image.landmarks, image.ignore, strict=True):
            side = float(np.sqrt(np.prod(box[2:] - box[:2])))
            if ignore or not len(faces) or side < 24:
                continue
            nearest = np.abs(faces.boxes - box).max(1).argmin()
            if np.abs(faces.boxes[nearest] - box).max() < side / 4:
                there = points[:, 2] > 0
                off = np.linalg.norm(faces.landmarks[nearest] - points[:, :2], axis=1)[there]
                shares += (off / side).tolist()
    assert len(shares) > 40
    assert np.mean(shares) < 0.12
    assert np.quantile(shares, 0.95) < 0.3
    builds = Builds(tmp_path)
    program = builds.program(weights, HERE / "faces.cpp")
    orders = [Order(read_image(image.path), 0.5) for image in images[:3]]
    rows = run(program, orders, tmp_path).rows
    for order, row in zip(orders, rows, strict=True):
        assert_equal(row, FaceDetector(file, score=0.5).detect(order.image))
    header = (builds.export(weights) / "facetrain.hpp").read_text()
    assert "chin, crown" in header
