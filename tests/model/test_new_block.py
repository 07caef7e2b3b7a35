"""A new block, or another way to wire the neck, is one function: all that reads the list of operations takes it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from facetrain.config.schema import Config, ModelConfig
from facetrain.core.compiler import find_compiler
from facetrain.core.errors import UsageError
from facetrain.core.images import write_image
from facetrain.data.sample_set.make import draw_image
from facetrain.export.cpp.targets import libfacedetection
from facetrain.export.cpp.targets.options import CppOptions
from facetrain.export.cpp.targets.standalone_plan import plan
from facetrain.export.export_cpp import CppRequest, export_cpp
from facetrain.export.network.fold import fold
from facetrain.export.onnx.model import onnx_model
from facetrain.export.precision.int8 import quantize
from facetrain.model import blocks, neck
from facetrain.model.blocks import separable
from facetrain.model.cost import convolutions
from facetrain.model.operations import Builder
from facetrain.model.weights import save_checkpoint
from facetrain.model.yunet import YuNet, build

TINY = ModelConfig(stem=(3, 8, 8), stages=((8, 8), (8, 16), (16, 16), (16, 16), (16, 16)), head_channels=16)
PIXELS = 255 * torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def twice(net: Builder, x: str, name: str, outputs: int) -> str:
    """Two units and two ways around the second: sums of sums, which nothing but a sum reads."""
    y = separable(net, x, f"{name}.first", outputs)
    z = separable(net, y, f"{name}.second", outputs)
    return net.add(net.add(z, y), y)


def plain(net: Builder, x: str, name: str, outputs: int) -> str:
    """A full 3x3 convolution, which no C++ target has."""
    return net.conv(x, f"{name}.conv", outputs, 3, norm=f"{name}.norm", relu=True)


@pytest.fixture(autouse=True)
def further_blocks() -> Iterator[None]:
    blocks.BLOCKS |= {"twice": twice, "plain": plain}
    yield
    for name in ("twice", "plain"):
        del blocks.BLOCKS[name]


WIRINGS = [(block, way) for block in (*blocks.BLOCKS, "twice") for way in neck.NECKS]


def network(block: str, way: str) -> YuNet:
    """Weights as they are after some batches."""
    model = build(replace(TINY, block=block, neck=way), seed=1).train()
    with torch.no_grad():
        for _ in range(3):
            model(PIXELS)
    return model.eval()


def outputs_of(model: YuNet) -> dict[str, np.ndarray]:
    names = {"cls": "cls", "obj": "obj", "bbox": "boxes", "kps": "landmarks"}
    with torch.no_grad():
        levels = model.raw_levels(PIXELS)
    found = {}
    for stride, parts in zip(model.config.strides, levels, strict=True):
        for name, part in zip(names, parts, strict=True):
            found[f"{name}_{stride}"] = (part.sigmoid() if name in ("cls", "obj") else part).numpy()
    return found


@pytest.mark.parametrize(("block", "way"), WIRINGS)
def test_it_learns_is_counted_and_reaches_onnx(block: str, way: str) -> None:
    model = network(block, way)
    counted = sum(layer.parameters for layer in convolutions(model.config, 96, 64))
    assert counted == sum(p.numel() for p in model.parameters())
    model.train()(PIXELS).boxes.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for n, p in model.named_parameters() if ".box." in n)
    model.eval()
    file = onnx_model(fold(model), {})
    session = onnxruntime.InferenceSession(file.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    for name, values in zip(names, session.run(names, {"input": PIXELS.numpy()}), strict=True):
        np.testing.assert_allclose(values, outputs_of(model)[name], atol=2e-3, rtol=1e-3, err_msg=name)


@pytest.mark.parametrize(("block", "way"), WIRINGS)
def test_it_reaches_int8(block: str, way: str, tmp_path: Path) -> None:
    model = network(block, way)
    paths = [tmp_path / f"{index}.png" for index in range(2)]
    for index, path in enumerate(paths):
        write_image(path, np.ascontiguousarray(PIXELS[index].permute(1, 2, 0).numpy().astype(np.uint8)))
    file = quantize(fold(model), paths)
    session = onnxruntime.InferenceSession(file.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    wanted = outputs_of(model)
    for name, values in zip(names, session.run(names, {"input": PIXELS.numpy()}), strict=True):
        error = np.sqrt(np.mean((values - wanted[name]) ** 2))
        assert 0 < error < 0.3 * max(float(wanted[name].std()), 0.02), name
    assert any(node.op_type == "QuantizeLinear" for node in file.graph.node)


@pytest.mark.slow
@pytest.mark.parametrize(("block", "way"), WIRINGS)
def test_it_reaches_the_standalone_detector(block: str, way: str, tmp_path: Path) -> None:
    """Compiled, run, and its faces compared by the export's own check, on images of odd sizes too."""
    if find_compiler() is None:
        pytest.skip("needs a C++ compiler")
    model = network(block, way)
    with torch.no_grad():  # scores of an untrained network that differ
        for stride in model.config.strides:
            for kind in ("cls", "obj"):
                layer = model.convolution(model.network.outputs[kind, stride])
                layer.weight *= 40 if kind == "cls" else 10
    checkpoint = tmp_path / "net.pt"
    save_checkpoint(checkpoint, model.state_dict(), Config(model=model.config), {})
    images = tmp_path / "images"
    images.mkdir()
    write_image(images / "a.png", draw_image(0, 1, 9)[0])
    write_image(images / "b.png", draw_image(0, 1, 1)[0][3:250, :333])
    result = export_cpp(CppRequest(str(checkpoint), output=tmp_path / "cpp", check=True, images=images))
    assert result.check is not None
    assert result.check.found.faces > 0


def test_a_target_that_cannot_express_it_refuses_and_says_why(tmp_path: Path) -> None:
    net = fold(network("plain", "top_down"))
    checkpoint = tmp_path / "net.pt"
    save_checkpoint(checkpoint, build(net.config, seed=0).state_dict(), Config(model=net.config), {})
    with pytest.raises(UsageError, match=r"the standalone detector cannot express.*stages\.0\.0\.conv is a 3x3"):
        export_cpp(CppRequest(str(checkpoint), output=tmp_path / "cpp", check=False))
    with pytest.raises(UsageError, match=r"libfacedetection cannot express.*no 3x3 convolution such as backbone"):
        libfacedetection.files(net, CppOptions())
    assert not (tmp_path / "cpp").exists()


@pytest.mark.parametrize(("block", "way"), WIRINGS)
def test_the_library_gets_a_forward_pass_of_its_functions(block: str, way: str) -> None:
    files = libfacedetection.files(fold(network(block, way)), CppOptions())
    forward = files[libfacedetection.FORWARD]
    assert ("elementAdd(maxpooling2x2S2(map8), map16)" in forward) == (way == "both_ways")
    assert ("neck__back__0" in files[libfacedetection.DATA]) == (way == "both_ways")
    convolutions = len(network(block, way).network.convs)
    assert f"kLayers == {convolutions}" in forward
    assert f"param_pConvInfo[{convolutions}]" in files[libfacedetection.DATA]


def test_a_sum_that_is_kept_is_not_made_again() -> None:
    """In a chain of residual units every sum is read twice: by the next unit, and by the next sum."""
    layout = plan(fold(network("residual", "top_down")))
    sums = [(step.start, step.other) for step in layout.steps if step.source == "sum_same"]
    assert sums
    assert len(sums) == len(set(sums))
