"""The ONNX file gives what the network gives, for the presets and for models of other shapes."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from facetrain.config.load import load_config
from facetrain.config.schema import LandmarksConfig, ModelConfig
from facetrain.core.faces import Image
from facetrain.detect.detector import FaceDetector
from facetrain.export.bundle import write_bundle
from facetrain.export.network.fold import fold
from facetrain.export.onnx.model import write_onnx
from facetrain.model.weights import load_checkpoint, load_model, save_checkpoint
from facetrain.model.yunet import YuNet, build

MODELS = {
    "yunet_n": load_config("yunet_n").model,
    "yunet_s": load_config("yunet_s").model,
    "towers, no landmarks": ModelConfig(
        stem=(3, 4, 8),
        stages=((8, 12), (12, 12), (12, 12)),
        pool_after=(0, 1, 2),
        maps=(2, 3),
        strides=(8, 16),
        shared_convs=2,
        tower_convs=1,
        head_channels=10,
        landmarks=LandmarksConfig((), ()),
    ),
    "three landmarks, one level": ModelConfig(
        stem=(3, 4, 8),
        stages=((8, 12),),
        pool_after=(),
        maps=(1,),
        strides=(2,),
        shared_convs=0,
        landmarks=LandmarksConfig(("a", "b", "c"), ()),
    ),
}


def trained(config: ModelConfig) -> YuNet:
    """A network whose batch norms have seen something, so that folding them matters."""
    model = build(config, seed=1).train()
    with torch.no_grad():
        for seed in range(3):
            model(torch.rand((2, 3, 64, 64), generator=torch.Generator().manual_seed(seed)) * 255)
    return model.eval()


@pytest.mark.parametrize("name", MODELS)
def test_outputs_equal_the_networks(name: str, tmp_path: Path) -> None:
    model = trained(MODELS[name])
    path = tmp_path / "model.onnx"
    write_onnx(fold(model), path)
    session = onnxruntime.InferenceSession(path)
    for batch, height, width in ((1, 64, 64), (2, 96, 160), (1, 32, 256)):
        images = np.random.default_rng(height).integers(0, 256, (batch, 3, height, width)).astype(np.float32)
        found = session.run(None, {"input": images})
        with torch.inference_mode():
            levels = model.raw_levels(torch.from_numpy(images))
        kinds = 4 if MODELS[name].landmarks.names else 3
        expected = [level[kind] for kind in range(kinds) for level in levels]
        assert len(found) == len(expected)
        for index, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
            wanted = theirs.sigmoid() if index < 2 * len(levels) else theirs
            np.testing.assert_allclose(ours, wanted.numpy(), atol=1e-4)


def test_names_metadata_and_nodes_are_what_runtimes_need(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_onnx(fold(trained(MODELS["yunet_n"])), path, {"note": "kept"})
    model = onnx.load(path)
    kinds = ("cls", "obj", "bbox", "kps")
    assert [o.name for o in model.graph.output] == [f"{kind}_{stride}" for kind in kinds for stride in (8, 16, 32)]
    assert {n.op_type for n in model.graph.node} == {
        "Add", "Conv", "MaxPool", "Relu", "Reshape", "Resize", "Sigmoid", "Transpose",
    }  # fmt: skip
    metadata = {item.key: item.value for item in model.metadata_props}
    assert metadata["note"] == "kept"
    assert metadata["strides"] == "[8, 16, 32]"
    assert model.ir_version <= 8
    again = tmp_path / "again.onnx"
    write_onnx(fold(trained(MODELS["yunet_n"])), again, {"note": "kept"})
    assert path.read_bytes() == again.read_bytes()


def test_released_weights_give_the_released_file(shared: Path, tmp_path: Path) -> None:
    for variant in "ns":
        path = tmp_path / f"{variant}.onnx"
        write_onnx(fold(load_model(shared / f"reference/yunet/yunet_{variant}.pth")), path)
        ours = onnxruntime.InferenceSession(path)
        theirs = onnxruntime.InferenceSession(shared / f"reference/yunet/yunet_{variant}_dynamic.onnx")
        image = np.random.default_rng(5).integers(0, 256, (1, 3, 352, 480)).astype(np.float32)
        for a, b in zip(ours.run(None, {"input": image}), theirs.run(None, {"input": image}), strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5)


def test_a_bundle_detects_alike_with_and_without_torch_and_forgets_its_makers_folders(tmp_path: Path) -> None:
    config = load_config("yunet_n", ["data.root=/home/someone/secret", "model.objectness_bias=1"])
    checkpoint = tmp_path / "best.pt"
    save_checkpoint(checkpoint, trained(config.model).state_dict(), config, {"ap": 0.5})
    weights, graph = write_bundle(checkpoint, "mine", tmp_path / "weights")
    loaded = load_checkpoint(weights)
    assert loaded.config is not None
    assert loaded.config.data.root == "data/widerface"
    assert loaded.info == {"ap": 0.5}
    image: Image = np.random.default_rng(3).integers(0, 256, (100, 130, 3), dtype=np.uint8)
    one, two = (FaceDetector(path, score=0.05, nms=0.3).detect(image) for path in (weights, graph))
    assert len(one) == len(two) > 0
    np.testing.assert_allclose(one.scores, two.scores, atol=1e-4)
    # scores this close may trade places, so every face is looked for in the other list
    distance = np.abs(one.boxes[:, None] - two.boxes[None]).max(-1)
    assert distance.min(0).max() < 0.01
    assert distance.min(1).max() < 0.01
