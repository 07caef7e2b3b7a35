"""The long trainings on another machine: what travels is small and whole, and what comes back are weights."""

import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from facetrain.config.load import load_config
from facetrain.core.faces import LabelledImage
from facetrain.data.formats import labelv2
from facetrain.data.landmark_names import FIVE
from facetrain.data.layout import load_split
from facetrain.model.weights import load_checkpoint

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import long_run_gpu

    module: ModuleType = long_run_gpu
    return module


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """Twenty images of noise in the layout of WIDER FACE, and a file in a teacher's place."""
    root, rng = tmp_path / "reference data", np.random.default_rng(0)
    teacher = root / "reference/yunet/yunet_n.pth"
    teacher.parent.mkdir(parents=True)
    teacher.write_bytes(bytes(5000))
    images = []
    for k in range(20):
        path = root / f"widerface/WIDER_train/images/{k // 5}--event/{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (20 + k, 30, 3)).astype(np.uint8))
        boxes = np.array([[1, 2, 9 + k, 12]], np.float32)
        points = np.array([[[3, 5, 1], [8, 5, 1], [5, 7, 1], [4, 9, 1], [7, 9, 1]]], np.float32)
        name = str(path.relative_to(root / "widerface/WIDER_train/images"))
        images.append(LabelledImage(path, name, (30, 20 + k), boxes, points, np.array([False])))
    labels = root / "widerface/labelv2/train/labelv2.txt"
    labels.parent.mkdir(parents=True)
    labelv2.write(labels, images, FIVE)
    return root


@pytest.mark.parametrize("room", [20_000, 30_000, 10**6])
def test_what_travels_has_room_and_keeps_its_labels(
    gpu: ModuleType, reference: Path, tmp_path: Path, room: int
) -> None:
    folder = tmp_path / "packed"
    (folder / "old").mkdir(parents=True)
    said = gpu.pack(reference, folder, room)
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= room
    assert not (folder / "old").exists()
    whole = {image.name: image for image in load_split(reference / "widerface", "train", FIVE).images}
    packed = load_split(folder / "widerface", "train", FIVE).images
    assert f"{len(packed)} of 20 images" in said
    assert (len(packed) == 20) == (room == 10**6)
    assert len(packed) >= 5
    for image in packed:
        assert image.path.read_bytes() == whole[image.name].path.read_bytes()
        np.testing.assert_array_equal(image.boxes, whole[image.name].boxes)
        np.testing.assert_array_equal(image.landmarks, whole[image.name].landmarks)
    assert (folder / gpu.TEACHER).read_bytes() == bytes(5000)


@pytest.mark.parametrize("network", ["yunet_n", "yunet_s"])
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_stage_is_an_ordinary_training_without_what_no_card_has_run(
    gpu: ModuleType, tmp_path: Path, network: str, dry_run: bool
) -> None:
    line = gpu.command(network, tmp_path, 300.0, dry_run)
    settings = [line[k + 1] for k, word in enumerate(line) if word == "--set"]
    config = load_config(network, [*settings, "train.teacher=t"], "distil")
    assert (config.train.compile, config.train.fused) == ("off", "off")
    assert (config.data.size, config.train.batch) == ((64, 4) if dry_run else (640, 64))
    assert line[line.index("--gpus") + 1] == ("cpu" if dry_run else "0")
    assert line[line.index("--for") + 1] == "300s"


@pytest.mark.slow
def test_weights_come_back(gpu: ModuleType, shared: Path, tmp_path: Path) -> None:
    packed, output = tmp_path / "packed", tmp_path / "output"
    gpu.pack(shared, packed, 2 << 20)
    assert gpu.train(["yunet_n", "yunet_s"], 20.0, output, dry_run=True, folder=packed) == 0
    assert sorted(path.name for path in output.iterdir()) == [
        f"{name}.{kind}" for name in ("yunet_n", "yunet_s") for kind in ("jsonl", "log", "pt")
    ]
    for name in ("yunet_n", "yunet_s"):
        assert load_checkpoint(output / f"{name}.pt").config is not None
    assert "long_run_gpu" in sys.modules
