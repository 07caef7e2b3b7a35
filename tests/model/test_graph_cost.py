"""Parameters and multiply-adds of ONNX graphs, against counts by hand."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from facetrain.core.errors import DataError
from facetrain.model.graph_cost import describe_graph


def save(path: Path, nodes: list, weights: dict[str, np.ndarray], shape: list = [1, 3, "h", "w"]) -> Path:  # noqa: B006
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "net", [image], [output], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def node(kind: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def count(path: Path, size: tuple[int, int] = (32, 24)) -> tuple[int, int]:
    total = describe_graph(path, size)["total"]
    return total["parameters"], total["multiply_adds"]


def test_borders_count_and_running_statistics_do_not(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "input w b", "x", strides=[2, 2], pads=[1, 1, 1, 1]),
        node("BatchNormalization", "x scale shift mean var", "y"),
        node("PRelu", "y slope", "z"),
        node("Conv", "z depthwise", "v", group=4, pads=[1, 1, 1, 1]),
        node("Mul", "v grid", "out"),
    ]
    weights = {"w": ones(4, 3, 3, 3), "b": ones(4), "depthwise": ones(4, 1, 3, 3), "slope": ones(4, 1, 1)}
    weights |= {name: ones(4) for name in ("scale", "shift", "mean", "var")}
    path = save(tmp_path / "net.onnx", nodes, {**weights, "grid": ones(1, 4, 1, 1)})
    # 16 x 12 places, at the border too: 27 for each of 4 channels, then 9
    assert count(path) == (4 * 27 + 4 + 4 * 9 + 4 + 4 + 4, 16 * 12 * 4 * (27 + 9))
    assert count(path, (64, 24))[1] == 32 * 12 * 4 * (27 + 9)


def test_weights_that_come_by_other_ways(tmp_path: Path) -> None:
    constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(ones(5, 3, 1, 1)))
    nodes = [
        constant,
        node("Conv", "input c", "x"),
        node("DequantizeLinear", "q scale zero", "w", axis=0),
        node("Conv", "x w", "y"),
        node("Conv", "y w2", "z"),
        node("Conv", "z w2", "out"),  # the same weights once more: no more parameters, but more work
    ]
    q = np.ones((7, 5, 1, 1), np.int8)
    weights = {"q": q, "scale": ones(7), "zero": np.zeros(7, np.int8), "w2": ones(7, 7, 1, 1)}
    assert count(save(tmp_path / "net.onnx", nodes, weights)) == (15 + 35 + 49, 32 * 24 * (15 + 35 + 49 + 49))


def test_a_transposed_convolution_works_at_the_places_of_its_input(tmp_path: Path) -> None:
    nodes = [node("ConvTranspose", "input w", "out", strides=[2, 2])]
    assert count(save(tmp_path / "net.onnx", nodes, {"w": ones(3, 6, 2, 2)})) == (72, 32 * 24 * 72)


def test_shapes_that_only_a_run_shows(tmp_path: Path) -> None:
    # a shuffle as exporters write it: the shape is computed from a shape, through a division
    nodes = [
        node("Shape", "input", "shape"),
        node("Gather", "shape two", "height"),
        node("Div", "height one", "same"),
        node("Cast", "same", "float", to=TensorProto.FLOAT),
        node("Cast", "float", "int", to=TensorProto.INT64),
        node("Concat", "lead int rest", "target", axis=0),
        node("Reshape", "input target", "x"),
        node("Conv", "x w", "out"),
    ]
    numbers = {"two": [2], "one": [1], "lead": [1, 3], "rest": [-1]}
    weights: dict[str, np.ndarray] = {name: np.array(value, np.int64) for name, value in numbers.items()}
    path = save(tmp_path / "net.onnx", nodes, {**weights, "w": ones(8, 3, 1, 1)})
    inferred = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    assert all(not d.dim_value for v in inferred.value_info if v.name == "x" for d in v.type.tensor_type.shape.dim[2:])
    assert count(path) == (24, 24 * 32 * 24)


def test_declared_shapes_are_not_believed(tmp_path: Path) -> None:
    path = save(
        tmp_path / "net.onnx", [node("Conv", "input w", "x"), node("Relu", "x", "out")], {"w": ones(2, 3, 1, 1)}
    )
    model = onnx.load(path)
    model.graph.value_info.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 640, 640]))
    onnx.save(model, path)
    assert count(path) == (6, 32 * 24 * 6)


def test_old_files_list_their_weights_among_the_inputs(tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", [node("Conv", "input w", "out")], {"w": ones(2, 3, 1, 1)})
    model = onnx.load(path)
    model.graph.input.insert(0, helper.make_tensor_value_info("w", TensorProto.FLOAT, [2, 3, 1, 1]))
    onnx.save(model, path)
    assert count(path) == (6, 32 * 24 * 6)


@pytest.mark.parametrize("content", [b"", b"no onnx", b"\x08\x08\x12\x02"])
def test_what_is_no_graph(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a usable ONNX file"):
        describe_graph(path, (32, 32))


def test_the_reference_models(shared: Path) -> None:
    models = json.loads((shared / "reference/expected.json").read_text())["widerface_val_part"]["models"]
    files = {path.stem: path for path in (shared / "reference/compare").glob("*.onnx")}
    files |= {name: shared / f"reference/yunet/{name}_dynamic.onnx" for name in ("yunet_n", "yunet_s")}
    assert set(files) == set(models)
    for name, expected in models.items():
        assert count(files[name], (320, 320)) == (
            expected["params"],
            expected["macs_320"] or expected["macs_fixed"],
        ), name
