"""The part of an ONNX file that works on maps (batch, C, h, w): the convolutions and what lies between them.

What follows it, such as sigmoid and decoding, is left in float32 by every lower precision.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from facetrain.core.faces import Floats

CARRIERS = ("Relu", "MaxPool", "Resize", "Add")  # keep channels apart, and a positive scale of each channel
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class ConvLayer:
    """A convolution in a file, with the names of its tensors.

    x, y: what it reads and gives; y is behind its ReLU where nothing else reads what is before
    """

    node: onnx.NodeProto
    x: str
    y: str
    groups: int
    stride: int

    @property
    def raw(self) -> str:
        """The tensor before a ReLU; it names the layer."""
        name: str = self.node.output[0]
        return name

    @property
    def weight(self) -> str:
        """Name of the weight, (out, in / groups, k, k)."""
        name: str = self.node.input[1]
        return name

    @property
    def bias(self) -> str:
        """Name of the bias, (out,)."""
        name: str = self.node.input[2]
        return name


@dataclass(frozen=True)
class MapLayers:
    """The map part of a file.

    nodes:   its nodes, in order; rest: the nodes behind it
    readers: per tensor of the file the nodes that read it
    exits:   its tensors that the rest reads or the file gives
    """

    nodes: list[onnx.NodeProto]
    rest: list[onnx.NodeProto]
    convs: list[ConvLayer]
    weights: Mapping[str, Floats]
    readers: Mapping[str, list[onnx.NodeProto]]
    exits: frozenset[str]

    def maps(self) -> list[str]:
        """Its tensors in order, without those between a convolution and its ReLU, which no runtime stores."""
        hidden = {conv.raw for conv in self.convs if conv.raw != conv.y}
        return [node.output[0] for node in self.nodes if node.output[0] not in hidden]


def map_layers(model: onnx.ModelProto) -> MapLayers:
    """Find the map part: everything that convolutions and carriers make of the picture."""
    graph = model.graph
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    constants = {tensor.name for tensor in graph.initializer} | {""}
    maps = {graph.input[0].name}
    nodes, rest, convs = [], [], []
    for node in graph.node:
        if node.op_type in ("Conv", *CARRIERS) and all(name in maps for name in node.input if name not in constants):
            nodes.append(node)
            maps.update(node.output)
        else:
            rest.append(node)
    given = {output.name for output in graph.output}
    exits = {name for name in maps if name in given or any(node in rest for node in readers.get(name, []))}
    for node in nodes:
        if node.op_type == "Conv":
            behind = readers[node.output[0]]
            fused = len(behind) == 1 and behind[0].op_type == "Relu"
            y = behind[0].output[0] if fused else node.output[0]
            convs.append(ConvLayer(node, node.input[0], y, _number(node, "group", 1), _number(node, "strides", 1)))
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return MapLayers(nodes, rest, convs, weights, readers, frozenset(exits))


def inputs_of(node: onnx.NodeProto, layers: MapLayers) -> list[str]:
    """The maps that a node reads, without its constants."""
    return [name for name in node.input if name and name not in layers.weights]


def _number(node: onnx.NodeProto, name: str, default: int) -> int:
    """An integer attribute, or the first of several."""
    for attribute in node.attribute:
        if attribute.name == name:
            return int(attribute.ints[0] if attribute.ints else attribute.i)
    return default
