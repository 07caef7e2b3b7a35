"""Small ONNX files for tests: a network whose outputs are given, and one in CenterFace's form that takes any size."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    outputs: Sequence[str],
    constants: Sequence[onnx.TensorProto] = (),
    *,
    size: tuple[int | str, int | str] = ("width", "height"),
    metadata: Mapping[str, str] | None = None,
    output_type: int = TensorProto.FLOAT,
    inputs: Sequence[onnx.ValueInfoProto] = (),
) -> Path:
    """Write a graph that takes one image `input`, (1, 3, height, width), and perhaps more; nothing is checked."""
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, size[1], size[0]])
    results = [helper.make_tensor_value_info(name, output_type, None) for name in outputs]
    graph = helper.make_graph(nodes, "test", [image, *inputs], results, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, dict(metadata or {}))
    path.write_bytes(model.SerializeToString())
    return path


def constant_graph(
    path: Path,
    outputs: Mapping[str, np.ndarray],
    size: tuple[int | str, int | str],
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a graph that gives these outputs for every image. size: width, height; texts where they are free."""
    nodes = [helper.make_node("Identity", [f"in_{name}"], [name]) for name in outputs]
    constants = [numpy_helper.from_array(value, f"in_{name}") for name, value in outputs.items()]
    kinds = {helper.np_dtype_to_tensor_dtype(value.dtype) for value in outputs.values()}
    return save(path, nodes, list(outputs), constants, size=size, metadata=metadata, output_type=kinds.pop())


def centre_graph(path: Path) -> Path:
    """Write a CenterFace for any size: its heat is the mean of red over 4 x 4 pixels, over 255; its boxes are 8 x 8.

    A box is centred on its cell's middle, moved by half a cell to the right; its landmarks are its top left corner.
    """
    red = numpy_helper.from_array(np.float32([1 / 255, 0, 0]).reshape(1, 3, 1, 1), "red")
    values = {"scale": [np.log(2), np.log(2)], "offset": [0, 0.5], "points": [0] * 10}
    nodes = [
        helper.make_node("Conv", ["input", "red"], ["bright"]),
        helper.make_node("AveragePool", ["bright"], ["heat"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Sub", ["heat", "heat"], ["zero"]),
    ]
    constants = [red]
    for name, numbers in values.items():
        constants.append(numpy_helper.from_array(np.float32(numbers).reshape(1, -1, 1, 1), f"all_{name}"))
        nodes.append(helper.make_node("Add", ["zero", f"all_{name}"], [name]))
    return save(path, nodes, ["heat", *values], constants)
