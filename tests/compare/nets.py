"""Small ONNX files whose parameters and multiply-adds are known by hand, and files that are no detectors."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# (out, in, k, stride, groups) of the convolutions of `write_net`, in order
LAYERS = ((4, 3, 3, 2, 1), (4, 1, 3, 2, 4), (8, 4, 1, 2, 1), (16, 8, 1, 1, 1))
PARAMETERS = (4 * 3 * 9 + 4) + (4 * 9 + 4) + (8 * 4 + 8) + (16 * 8 + 16)
HEAD = {"cls_8": 1, "obj_8": 1, "bbox_8": 4, "kps_8": 10}


def multiply_adds(width: int, height: int) -> int:
    """Of the network below on an image whose sides are multiples of 8."""
    return (
        (width // 2) * (height // 2) * 4 * 27
        + (width // 4) * (height // 4) * 4 * 9
        + (width // 8) * (height // 8) * (8 * 4 + 16 * 8)
    )


def write_net(path: Path, *, seed: int = 0, size: tuple[int, int] | None = None, bias: float = 0.0) -> Path:
    """A network of the YuNet family with random weights and one stride. bias: added to the logits of both scores."""
    rng = np.random.default_rng(seed)
    nodes, weights = [], []
    x = "input"
    for i, (outputs, inputs, kernel, stride, groups) in enumerate(LAYERS):
        values = rng.normal(0, 0.3, (outputs, inputs, kernel, kernel)).astype(np.float32)
        values = values / 255 if i == 0 else values
        shift = np.zeros(outputs, np.float32)
        if i == len(LAYERS) - 1:
            shift[:2] = bias
        weights += [numpy_helper.from_array(values, f"w{i}"), numpy_helper.from_array(shift, f"b{i}")]
        nodes.append(
            helper.make_node(
                "Conv",
                [x, f"w{i}", f"b{i}"],
                [f"x{i}"],
                kernel_shape=[kernel] * 2,
                strides=[stride] * 2,
                pads=[kernel // 2] * 4,
                group=groups,
            )
        )
        x = f"x{i}"
    nodes.append(helper.make_node("Transpose", [x], ["last"], perm=[0, 2, 3, 1]))
    weights.append(numpy_helper.from_array(np.array([0, -1, 16], np.int64), "rows"))
    weights.append(numpy_helper.from_array(np.array(list(HEAD.values()), np.int64), "parts"))
    nodes.append(helper.make_node("Reshape", ["last", "rows"], ["flat"]))
    nodes.append(helper.make_node("Split", ["flat", "parts"], ["cls", "obj", "bbox_8", "kps_8"], axis=2))
    nodes.append(helper.make_node("Sigmoid", ["cls"], ["cls_8"]))
    nodes.append(helper.make_node("Sigmoid", ["obj"], ["obj_8"]))
    width, height = size or ("width", "height")
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None, n]) for name, n in HEAD.items()]
    return save(path, nodes, [1, 3, height, width], outputs, weights)


def write_classifier(path: Path) -> Path:
    """A graph that takes an image and gives ten numbers."""
    rng = np.random.default_rng(0)
    weight = numpy_helper.from_array(rng.normal(size=(10, 3, 3, 3)).astype(np.float32), "w")
    nodes = [helper.make_node("Conv", ["input", "w"], ["x"]), helper.make_node("GlobalAveragePool", ["x"], ["y"])]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10, 1, 1])
    return save(path, nodes, [1, 3, 64, 64], [output], [weight])


def write_custom_operator(path: Path) -> Path:
    """A graph with an operator that no runtime has."""
    nodes = [helper.make_node("Unheard", ["input"], ["y"], domain="elsewhere")]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    return save(path, nodes, [1, 3, 64, 64], [output], [], domains=("elsewhere",))


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int | str],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Sequence[onnx.TensorProto],
    domains: Sequence[str] = (),
) -> Path:
    """Write a graph with one image as its input."""
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "net", [image], outputs, weights)
    opsets = [helper.make_opsetid("", 13), *(helper.make_opsetid(domain, 1) for domain in domains)]
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path
