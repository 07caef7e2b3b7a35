"""Compute the outputs that read the same map together: one wider pair of convolutions, then a Split.

The heads are narrow, 1 to 10 channels, and a runtime computes 16 in the time of one. With the joined pair float heads
cost less than separate ones in int8 (tests/benchmarks/int8_recipes.py). The numbers stay the same.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from facetrain.export.map_layers import ConvLayer, MapLayers, map_layers

Head = tuple[ConvLayer, ConvLayer]  # pointwise, then depthwise


def join_heads(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same file with joined heads, if it has opset 13 or higher."""
    layers = map_layers(model)
    groups = {heads[0][0].raw: heads for heads in _groups(layers)}
    gone = {conv.raw for heads in groups.values() for head in heads for conv in head}
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    for node in model.graph.node:
        if node.output[0] in groups:
            _add_joined(nodes, constants, groups[node.output[0]], layers, f"heads_{len(constants)}")
        if node.output[0] not in gone:
            nodes.append(node)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:], result.graph.initializer[:]
    result.graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    result.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in read)
    result.graph.initializer.extend(constants)
    return result


def _groups(layers: MapLayers) -> list[list[Head]]:
    """Heads that read the same map, two or more each."""
    behind = {conv.x: conv for conv in layers.convs if conv.raw in layers.exits}
    groups: dict[str, list[Head]] = {}
    for conv in layers.convs:
        if conv.raw in behind and len(layers.readers[conv.raw]) == 1:
            groups.setdefault(conv.x, []).append((conv, behind[conv.raw]))
    return [heads for heads in groups.values() if len(heads) > 1]


def _add_joined(
    nodes: list[onnx.NodeProto],
    constants: list[onnx.TensorProto],
    heads: Sequence[Head],
    layers: MapLayers,
    name: str,
) -> None:
    x = heads[0][0].x
    for place in (0, 1):
        convs = [head[place] for head in heads]
        parts = []
        for kind, names in (("weight", [c.weight for c in convs]), ("bias", [c.bias for c in convs])):
            parts.append(f"{name}_{place}_{kind}")
            constants.append(numpy_helper.from_array(np.concatenate([layers.weights[n] for n in names]), parts[-1]))
        count = sum(len(layers.weights[conv.bias]) for conv in convs)
        kernel = 3 if place else 1
        y = f"{name}_{place}"
        nodes.append(
            helper.make_node(
                "Conv",
                [x, *parts],
                [y],
                name=f"node_{y}",
                kernel_shape=[kernel, kernel],
                strides=[1, 1],
                pads=[kernel // 2] * 4,
                group=count if place else 1,
            )
        )
        x = y
    sizes = np.array([len(layers.weights[conv.bias]) for _, conv in heads], np.int64)
    constants.append(numpy_helper.from_array(sizes, f"{name}_sizes"))
    outputs = [conv.raw for _, conv in heads]
    nodes.append(helper.make_node("Split", [x, f"{name}_sizes"], outputs, name=f"node_{name}", axis=1))
