"""Weights out of ONNX files and libfacedetection's data: the network that they are, or a clear no."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from facetrain.config.schema import LandmarksConfig, ModelConfig
from facetrain.core.errors import DataError, InputError
from facetrain.detect.bundled import bundled_weights
from facetrain.export.cpp.targets.libfacedetection_data import data_text
from facetrain.export.network.fold import fold
from facetrain.export.network.folded import FoldedNet, with_digits
from facetrain.export.onnx.model import onnx_bytes, onnx_model
from facetrain.export.onnx.request import OnnxOptions
from facetrain.export.precision.fp16 import Float16
from facetrain.model.library_names import library_name, our_name
from facetrain.model.weights import load_checkpoint, load_model
from facetrain.model.yunet import YuNet, build

SMALL = ModelConfig(stem=(3, 4, 8), stages=((8, 12), (12, 12), (12, 12), (12, 12), (12, 12)), head_channels=10)
POINTS = tuple(f"p{i}" for i in range(7))
MODELS = {
    "published": SMALL,
    "no shared unit, no landmarks": replace(SMALL, shared_convs=0, landmarks=LandmarksConfig((), ())),
    "towers": replace(SMALL, shared_convs=0, tower_convs=2, landmarks=LandmarksConfig(POINTS, ())),
    "shared and towers": replace(SMALL, shared_convs=2, tower_convs=1),
    "two levels": replace(SMALL, stages=SMALL.stages[:3], pool_after=(0, 1, 2), maps=(2, 3), strides=(8, 16)),
    "maps after two stages without a pool": replace(SMALL, pool_after=(1, 3, 4), maps=(3, 4, 5), strides=(4, 8, 16)),
    "four levels": replace(
        SMALL, stages=(*SMALL.stages, (12, 12)), pool_after=(0, 2, 3, 4, 5), maps=(3, 4, 5, 6), strides=(8, 16, 32, 64)
    ),
}


def net(config: ModelConfig) -> FoldedNet:
    """A network whose batch norms have seen something."""
    model = build(config, seed=1).train()
    with torch.no_grad():
        for index in range(3):
            model(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(index)) * 255)
    return fold(model.eval())


def assert_holds(path: Path, expected: FoldedNet) -> YuNet:
    """The file's network has these weights to the last bit, and norms that change nothing."""
    checkpoint = load_checkpoint(path)
    assert checkpoint.folded
    unlike: dict[str, Any] = {"landmarks": expected.config.landmarks}
    unlike["objectness_bias"] = expected.config.objectness_bias
    if not expected.config.shared_convs + expected.config.tower_convs:
        unlike["head_channels"] = expected.config.head_channels
    assert replace(checkpoint.model, **unlike) == expected.config
    for conv in expected.network.convs:
        torch.testing.assert_close(
            checkpoint.state[f"{conv.names[0]}.weight"],
            torch.from_numpy(expected.weights[conv.y].weight),
            rtol=0,
            atol=0,
        )
        torch.testing.assert_close(
            checkpoint.state[f"{conv.names[0]}.bias"], torch.from_numpy(expected.weights[conv.y].bias), rtol=0, atol=0
        )
    return load_model(path)


def assert_same_outputs(path: Path, model: YuNet, limit: float = 1e-5) -> None:
    """The raw outputs of file and network on a random image."""
    session = onnxruntime.InferenceSession(path)
    size = [side if isinstance(side, int) else 128 for side in session.get_inputs()[0].shape[2:]]
    image = np.random.default_rng(0).integers(0, 256, (1, 3, *size)).astype(np.float32)
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(None, {session.get_inputs()[0].name: image}), strict=True))
    with torch.no_grad():
        levels = model.raw_levels(torch.from_numpy(image))
    for stride, level in zip(model.config.strides, levels, strict=True):
        for kind, raw in zip(("cls", "obj", "bbox", "kps"), level, strict=True):
            if f"{kind}_{stride}" in outputs or kind != "kps":
                value = raw.sigmoid() if kind in ("cls", "obj") else raw
                np.testing.assert_allclose(value.numpy(), outputs[f"{kind}_{stride}"], rtol=limit, atol=limit)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("opset", [11, 17])
def test_our_files_come_back(tmp_path: Path, name: str, opset: int) -> None:
    folded = net(MODELS[name])
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx_bytes(onnx_model(folded, {}, OnnxOptions(opset=opset))))
    assert_same_outputs(path, assert_holds(path, folded))
    assert load_checkpoint(path).model.landmarks.names == folded.config.landmarks.names


@pytest.mark.parametrize("form", ["decoded", "rows"])
def test_forms_with_decoding_inside_come_back(tmp_path: Path, form: str) -> None:
    folded = net(MODELS["towers"])
    path = tmp_path / "net.onnx"
    options = OnnxOptions(form=form, size=(96, 64) if form == "rows" else None)  # type: ignore[arg-type]
    path.write_bytes(onnx_bytes(onnx_model(folded, {}, options)))
    assert_holds(path, folded)


def test_float16_comes_back_as_it_was_rounded(tmp_path: Path) -> None:
    folded = net(SMALL)
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx_bytes(onnx_model(folded, {}, None, Float16(folded))))
    rounded = {
        name: type(layer)(*(part.astype(np.float16).astype(np.float32) for part in (layer.weight, layer.bias)))
        for name, layer in folded.weights.items()
    }
    assert_holds(path, replace(folded, weights=rounded))


@pytest.mark.parametrize("name", ["yunet_n", "yunet_s"])
def test_bundled_files_equal_their_checkpoints(name: str) -> None:
    checkpoint = fold(load_model(bundled_weights(name, ".pt")))
    path = bundled_weights(name, ".onnx")
    assert_same_outputs(path, assert_holds(path, checkpoint))


FILES = [f"yunet/yunet_{size}_{shape}" for size in "ns" for shape in ("320_320", "640_640", "dynamic")]


@pytest.mark.parametrize("file", [*FILES, "compare/yunet_2026may"])  # s at 640 is the zoo's 2023mar, byte for byte
def test_files_that_people_have(shared: Path, file: str) -> None:
    path = shared / "reference" / f"{file}.onnx"
    model = load_model(path)
    assert_same_outputs(path, model)
    assert model.config.landmarks == LandmarksConfig()
    released = load_model(shared / "reference" / "yunet" / ("yunet_n.pth" if "yunet_n" in file else "yunet_s.pth"))
    assert replace(model.config, head_channels=64) == replace(released.config, head_channels=64)


# Other files


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"block": "residual"}, "residual"),
        ({"neck": "both_ways"}, "neck"),
        ({"stages": ((8, 12),), "pool_after": (), "maps": (1,), "strides": (2,), "shared_convs": 0}, "one level"),
    ],
)
def test_networks_that_a_file_does_not_tell(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx_bytes(onnx_model(net(replace(SMALL, **change)), {})))
    with pytest.raises(DataError, match=said):
        load_checkpoint(path)


def test_other_detectors_are_refused_with_what_they_give(shared: Path) -> None:
    files = [path for path in (shared / "reference" / "compare").glob("*.onnx") if "yunet" not in path.name]
    assert len(files) > 8
    for path in files:
        with pytest.raises(DataError, match="not a YuNet of the published form: its outputs are") as error:
            load_checkpoint(path)
        assert "facedetectcnn-data.cpp" in str(error.value.hint)


def small_file(path: Path, change: Callable[[onnx.ModelProto], object] = lambda model: None) -> Path:
    model = onnx_model(net(SMALL), {})
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def test_int8_is_refused_with_words(tmp_path: Path) -> None:
    def quantise(model: onnx.ModelProto) -> None:
        model.graph.node[0].op_type = "DequantizeLinear"

    with pytest.raises(DataError, match="an int8 file: its weights are rounded"):
        load_checkpoint(small_file(tmp_path / "net.onnx", quantise))


def test_weights_elsewhere_are_refused(tmp_path: Path) -> None:
    def outside(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL

    with pytest.raises(DataError, match="keeps weights in another file"):
        load_checkpoint(small_file(tmp_path / "net.onnx", outside))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x08\x07", b"text", bytes(1000)])
def test_what_is_no_onnx_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(DataError):
        load_checkpoint(path)
    with pytest.raises(InputError):
        load_checkpoint(tmp_path / "none.onnx")


def test_every_node_counts(tmp_path: Path) -> None:
    """A file in which any one node is of another kind, reads another tensor or is gone, is refused or is the same."""
    whole = onnx_model(
        net(replace(SMALL, stages=SMALL.stages[:3], pool_after=(0, 1, 2), maps=(2, 3), strides=(8, 16))), {}
    )
    same = load_checkpoint(_written(tmp_path, whole)).state
    nodes = len(whole.graph.node)
    kept = 0
    for index in range(nodes):
        for change in ("kind", "input", "gone", "attributes"):
            model = onnx.ModelProto.FromString(whole.SerializeToString())
            node = model.graph.node[index]
            if change == "kind":
                node.op_type = "Tanh"
            elif change == "input":
                node.input[0] = "input" if index else node.output[0]  # a circle
            elif change == "gone":
                del model.graph.node[index]
            else:
                del node.attribute[:]
            try:
                state = load_checkpoint(_written(tmp_path, model)).state
            except DataError:
                continue
            kept += 1
            assert all(torch.equal(state[key], same[key]) for key in same), (index, node.op_type, change)
    assert kept < nodes  # attributes of nodes behind the units, and what they read beside the map


def _written(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "changed.onnx"
    path.write_bytes(model.SerializeToString())
    return path


# libfacedetection's data


@pytest.mark.parametrize("digits", [3, 9])
@pytest.mark.parametrize("name", ["published", "no shared unit, no landmarks", "towers"])
def test_library_data_comes_back(tmp_path: Path, name: str, digits: int) -> None:
    folded = net(MODELS[name])
    path = tmp_path / "facedetectcnn-data.cpp"
    path.write_text(data_text(folded, digits, "// Auto generated data file\n", "// columns\n"))
    assert_holds(path, with_digits(folded, digits))


def test_library_names_go_both_ways() -> None:
    for config in MODELS.values():
        for conv in net(config).network.convs:
            assert our_name(library_name(conv.names[0])) == conv.names[0]
    for name in ("backbone__model0_dw", "conv_weird", "bbox_head__multi_level_nonsense__0_pw", "x", ""):
        assert our_name(name) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: "", "no array `backbone__model0_pw_weight`"),
        (
            lambda text: text.replace("neck__lateral_convs__1_pw_bias[12]", "neck__lateral_convs__1_pw_bias[11]"),
            "declared",
        ),
        (lambda text: text.replace("neck__lateral_convs__1_dw", "neck__other__1_dw"), "YuNet does not have"),
        (lambda text: text.replace("bias[4] = {", "bias[4] = {x,"), "no number"),
        (lambda text: text.replace("float neck__lateral_convs__1_pw_bias", "int no_bias"), "nothing else"),
        (lambda text: text.replace("bias[4] = {", "bias[4] = {1e39f,").replace("bias[4]", "bias[5]"), "backbone.stem"),
        (lambda text: "// facetrain. For the facedetectcnn-model.cpp written with it.\n" + text, "is not read"),
    ],
)
def test_damaged_library_data(tmp_path: Path, change: Callable[[str], str], said: str) -> None:
    path = tmp_path / "data.cpp"
    path.write_text(change(data_text(net(SMALL), 9, "", "// columns\n")))
    with pytest.raises(DataError, match=said):
        load_model(path)
