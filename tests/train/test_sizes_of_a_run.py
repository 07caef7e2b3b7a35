"""The sizes of faces that a run's weights find: measured at its end, and kept with the best and the last weights."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from train_runs import STEPS, Crash, Recorder, assert_same_file, crash_at, draw_set, tiny_config

from facetrain import FaceDetector
from facetrain.config.load import load_config
from facetrain.config.schema import Config
from facetrain.core.run_dir import RunDir
from facetrain.data.layout import load_split
from facetrain.data.sample_set.make import draw_image
from facetrain.detect.face_range import FaceRange, parse_range
from facetrain.model.safe_file import read_tensors
from facetrain.train import face_sizes
from facetrain.train.face_sizes import validation_faces
from facetrain.train.loop import train_model

PORTRAITS = [index for index in range(60) if index % 20 in (1, 6, 13)]  # of drawn images: one or two large faces


def draw_portraits(root: Path, val: int = 9) -> Path:
    """Ten images to train on, as small as ever, and portraits to validate on."""
    draw_set(root, val=0)
    lines: list[str] = []
    (root / "val" / "images" / "drawn").mkdir(parents=True)
    for index in PORTRAITS[:val]:
        image, faces = draw_image(0, 1, index)
        cv2.imwrite(str(root / "val" / "images" / "drawn" / f"{index}.png"), image)
        lines.append(f"# drawn/{index}.png {image.shape[1]} {image.shape[0]}")
        for face in faces:
            points = " ".join(f"{x:.2f} {y:.2f} 1" for x, y in np.nan_to_num(face.landmarks, nan=1))
            lines.append(f"{' '.join(f'{value:.2f}' for value in face.box)} {points}")
    (root / "val" / "labelv2.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def portraits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_portraits(tmp_path_factory.mktemp("portraits"))


@pytest.fixture
def few_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face_sizes, "_SIZES", (8, 32, 128))


def going_on(root: Path, **train: Any) -> Config:
    """Fine-tuning of the bundled yunet_n, so gentle that it finds what it found before."""
    config = tiny_config(root, lr=1e-7, **train)
    return replace(config, model=load_config("yunet_n").model)


def said(path: Path) -> FaceRange | None:
    return parse_range(read_tensors(path)["info"].get("face_range"))


@pytest.mark.usefixtures("few_sizes")
def test_a_run_keeps_the_sizes_that_it_finds(portraits: Path, tmp_path: Path) -> None:
    events = Recorder()
    result = train_model(going_on(portraits, epochs=1), weights="yunet_n", runs=tmp_path, events=events)
    assert result.run is not None
    found = said(result.run.best)
    assert found is not None
    assert said(result.run.last) == found
    assert 8 < found.least < 32
    assert found.most == 128
    assert FaceDetector(result.run.best).face_range == FaceDetector(result.run.last).face_range == found
    [line] = [note for note in events.notes if "finds faces of" in note]
    assert line == f"best.pt finds faces of {found.least:g} to 128 pixels, as they are shown to it"


@pytest.mark.slow
@pytest.mark.usefixtures("few_sizes")
def test_a_resumed_run_keeps_the_same(portraits: Path, tmp_path: Path) -> None:
    config = going_on(portraits, epochs=2)
    whole = train_model(config, weights="yunet_n", runs=tmp_path / "whole").run
    with pytest.raises(Crash):
        train_model(config, weights="yunet_n", runs=tmp_path, events=crash_at(STEPS + 1))
    run = RunDir(tmp_path / "run-1")
    assert said(run.best) is said(run.last) is None  # only at the end
    train_model(resume=run)
    assert whole is not None
    for name in ("best.pt", "last.pt"):
        assert said(run.path / name) is not None
        assert_same_file(run.path / name, whole.path / name)


@pytest.mark.usefixtures("few_sizes")
def test_best_weights_of_another_epoch_have_their_own(
    portraits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    answers = iter([FaceRange(20, 30), FaceRange(10, 40)])

    def find(setup: Any, weights: dict[str, torch.Tensor], *rest: Any) -> FaceRange:
        seen.append(weights["backbone.stem.conv.weight"].clone())
        return next(answers)

    monkeypatch.setattr("facetrain.train.training.find_range", find)
    result = train_model(tiny_config(portraits, epochs=2), runs=tmp_path)  # finds nothing: epoch 1 stays the best
    assert result.best_epoch == 1
    assert result.run is not None
    assert (said(result.run.last), said(result.run.best)) == (FaceRange(20, 30), FaceRange(10, 40))
    assert torch.equal(seen[1], read_tensors(result.run.best)["model"]["backbone.stem.conv.weight"])
    assert not torch.equal(seen[0], seen[1])


@pytest.mark.usefixtures("few_sizes")
def test_a_run_that_finds_nothing_keeps_nothing(portraits: Path, tmp_path: Path) -> None:
    events = Recorder()
    run = train_model(tiny_config(portraits, epochs=1), runs=tmp_path, events=events).run
    assert run is not None
    assert said(run.best) is said(run.last) is None
    assert not any("finds faces of" in note for note in events.notes)


def test_faces_too_small_to_be_enlarged_are_not_looked_at(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(face_sizes, "recall_by_size", fail)
    run = train_model(tiny_config(data, epochs=1), runs=tmp_path).run
    assert run is not None
    assert said(run.best) is None


@pytest.mark.slow
def test_an_old_state_without_it_goes_on(data: Path, tmp_path: Path, unbroken: Callable[..., RunDir]) -> None:
    with pytest.raises(Crash):
        train_model(tiny_config(data), runs=tmp_path, events=crash_at(5))
    run = RunDir(tmp_path / "run-1")
    document = read_tensors(run.last)
    del document["info"]
    torch.save(document, run.last)
    train_model(resume=run)
    assert_same_file(run.last, unbroken().last)


def test_the_faces_that_are_looked_for(portraits: Path, tmp_path: Path) -> None:
    """The largest of each image, none twice; images of all alike, so each face goes into that of the next."""
    images = load_split(portraits, "val", None).images
    faces, backgrounds = validation_faces(images)
    sides = sorted((min(face.box[2:] - face.box[:2]) for face in faces), reverse=True)
    largest = sorted((max((image.boxes[:, 2:] - image.boxes[:, :2]).min(1)) for image in images), reverse=True)
    assert sides == pytest.approx(largest)
    assert len(backgrounds) == len(faces) == 9
    again, _ = validation_faces(images)
    assert all(np.array_equal(one.pixels, other.pixels) for one, other in zip(faces, again, strict=True))

    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    faces, _ = validation_faces([replace(images[0], path=broken), *images[1:]])
    assert len(faces) == 8
    assert validation_faces([replace(image, path=broken) for image in images[:2]] + list(images[2:])) == ([], [])


def test_photographs_are_made_smaller(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "large.png"), np.zeros((3000, 4000, 3), np.uint8))
    box = np.array([[500, 500, 1524, 1800]], np.float32)
    image = replace(
        load_split(draw_portraits(tmp_path / "set", val=1), "val", None).images[0],
        path=tmp_path / "large.png",
        size=(4000, 3000),
        boxes=box,
        ignore=np.zeros(1, bool),
    )
    faces, backgrounds = validation_faces([image] * 8)
    assert faces[0].box[2:] - faces[0].box[:2] == pytest.approx([512, 650])
    assert {background.shape for background in backgrounds} == {(1280, 1707, 3)}
