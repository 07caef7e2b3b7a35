"""float16 files are half as large and compute nearly the same, with float32 outside the maps."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from small_models import NAMES, drawn_image, file_of, network, run

from facetrain.core.errors import ExportError
from facetrain.core.images import opencv
from facetrain.data.sample_set.make import draw_image
from facetrain.export.network.folded import Weights
from facetrain.export.onnx.model import onnx_bytes, onnx_model
from facetrain.export.onnx.request import Form, OnnxOptions
from facetrain.export.precision.fp16 import Float16


def half(name: str, options: OnnxOptions | None = None) -> onnx.ModelProto:
    net = network(name)
    return onnx_model(net, {"note": "kept", "precision": "fp16"}, options, Float16(net))


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_near_float32(name: str) -> None:
    before, after = file_of(name), half(name)
    exact, found = run(before, drawn_image(0)), run(after, drawn_image(0))
    assert list(found) == list(exact)
    for output, numbers in exact.items():
        assert found[output].dtype == np.float32
        assert np.abs(found[output] - numbers).max() < 0.02 * max(1.0, np.abs(numbers).max()), output
    assert any(np.abs(found[output] - exact[output]).max() > 0 for output in exact)


@pytest.mark.parametrize("name", NAMES)
def test_file_keeps_its_form(name: str) -> None:
    before, after = file_of(name), half(name)
    assert after.graph.input == before.graph.input
    assert after.graph.output == before.graph.output
    texts = {entry.key: entry.value for entry in after.metadata_props}
    assert texts == {entry.key: entry.value for entry in before.metadata_props} | {"precision": "fp16"}
    assert {n.op_type for n in after.graph.node} == {n.op_type for n in before.graph.node} | {"Cast"}
    kinds = {tensor.name: tensor.data_type for tensor in after.graph.initializer}
    for node in after.graph.node:
        if node.op_type == "Conv":
            assert {kinds[constant] for constant in node.input[1:]} == {TensorProto.FLOAT16}
        if node.op_type == "Resize":
            assert kinds[node.input[2]] == TensorProto.FLOAT
    assert onnx_bytes(after) == onnx_bytes(half(name))


def test_half_the_bytes() -> None:
    before, after = (onnx_bytes(file) for file in (file_of("yunet_n"), half("yunet_n")))
    assert len(after) < 0.55 * len(before)


@pytest.mark.parametrize("form", ["decoded", "rows"])
@pytest.mark.parametrize("opset", [11, 17])
def test_decoding_stays_exact(form: Form, opset: int) -> None:
    """Coordinates beyond 2,048 have no pixels of their own in float16."""
    options = OnnxOptions(form=form, opset=opset, size=(2560, 64), score=0.0001)
    model = onnx_model(network("yunet_n"), {}, options)
    image = np.zeros((1, 3, 64, 2560), np.float32)
    image[..., 2240:] = drawn_image(0)[:, :, 60:124]
    (exact,), (found,) = (run(file, image).values() for file in (model, half("yunet_n", options)))
    if form == "decoded":
        count = min(len(exact), len(found), 3)
        assert count
        exact, found = exact[:count, 1:5], found[:count, 1:5]
    else:
        exact, found = exact[0, :, :4], found[0, :, :4]
    side = (exact[:, 2:] - exact[:, :2]).max(1, keepdims=True)
    assert (np.abs(exact - found) < 0.25 + side / 256).all()  # a side is the exponential of a rounded number


def test_opencv_finds_the_same_faces(tmp_path: object) -> None:
    image = np.ascontiguousarray(draw_image(0, 1, 3)[0])
    found = []
    for place, model in enumerate((file_of("yunet_n"), half("yunet_n"))):
        path = f"{tmp_path}/{place}.onnx"
        onnx.save(model, path)
        detector = opencv().FaceDetectorYN.create(path, "", image.shape[1::-1], 0.6, 0.3, 5000)
        found.append(detector.detect(image)[1])
    assert found[0] is not None
    np.testing.assert_allclose(found[1][:, -1], found[0][:, -1], atol=0.01)
    np.testing.assert_allclose(found[1][:, :4], found[0][:, :4], atol=1)


def test_weights_that_do_not_fit_are_an_error() -> None:
    net = network(NAMES[0])
    first, values = next(iter(net.weights.items()))
    for value in (7e4, np.nan):
        weight = values.weight.copy()
        weight[0, 0, 0, 0] = value
        wrong = replace(net, weights={**net.weights, first: Weights(weight, values.bias)})
        with pytest.raises(ExportError, match="float16"):
            onnx_model(wrong, {}, storage=Float16(wrong))
