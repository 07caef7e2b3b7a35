"""Write rounded weights and maps into an ONNX file as QuantizeLinear and DequantizeLinear pairs (QDQ)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from facetrain.core.faces import Floats
from facetrain.export.map_layers import ConvLayer, MapLayers


@dataclass(frozen=True)
class Step:
    """How the numbers of a map are stored: (uint8 - zero) * step."""

    step: float
    zero: int


@dataclass(frozen=True)
class RoundedWeight:
    """A weight as int8 (out, in / groups, k, k) in steps (out,)."""

    values: NDArray[np.int8]
    steps: Floats


def write_qdq(
    model: onnx.ModelProto,
    layers: MapLayers,
    steps: Mapping[str, Step],
    weights: Mapping[str, RoundedWeight],
    metadata: Mapping[str, str],
) -> onnx.ModelProto:
    """The file with `weights` rounded, by their convolution's raw output, and the maps in `steps` stored in 8 bits.

    All other weights are those of `layers`. A convolution in float reads a map that another one in float gave as it
    is, and the 8-bit map where there is no other. Biases become int32 behind 8-bit maps.
    """
    writer = _Writer()
    convs = {conv.raw: conv for conv in layers.convs}
    integer = {convs[raw].y for raw in weights}
    stored: dict[str, str] = {}  # map -> the same, in 8 bits and back
    for node in model.graph.node:
        new = onnx.NodeProto()
        new.CopyFrom(node)
        conv = convs.get(node.output[0])
        in_float = conv is not None and conv.raw not in weights
        for place, name in enumerate(node.input):
            if name in stored and not (in_float and name not in integer):
                new.input[place] = stored[name]
        if conv is not None and not in_float:
            weight = weights[conv.raw]
            new.input[1] = writer.dequantized(weight.values, weight.steps, f"{conv.weight}_d")
            if conv.x in steps:
                new.input[2] = writer.dequantized(*_rounded_bias(layers, conv, weight, steps), f"{conv.bias}_d")
        writer.nodes.append(new)
        if node.output[0] in steps:
            stored[node.output[0]] = writer.stored(node.output[0], steps[node.output[0]])
    result = onnx.ModelProto()
    result.CopyFrom(model)
    read = {name for node in writer.nodes for name in node.input}
    kept = [
        numpy_helper.from_array(layers.weights[tensor.name], tensor.name)
        for tensor in model.graph.initializer
        if tensor.name in read
    ]
    del result.graph.node[:], result.graph.initializer[:]
    result.graph.node.extend(writer.nodes)
    result.graph.initializer.extend([*kept, *writer.constants])
    helper.set_model_props(result, {entry.key: entry.value for entry in model.metadata_props} | dict(metadata))
    onnx.checker.check_model(result, full_check=True)
    return result


def _rounded_bias(
    layers: MapLayers, conv: ConvLayer, weight: RoundedWeight, steps: Mapping[str, Step]
) -> tuple[NDArray[np.int32], Floats]:
    """The bias (out,) in steps of weight times input, so that it adds to the integer sums as it is."""
    sizes = (weight.steps.astype(np.float64) * np.float32(steps[conv.x].step)).astype(np.float32)
    return np.rint(layers.weights[conv.bias] / sizes.astype(np.float64)).astype(np.int32), sizes


class _Writer:
    """Nodes and constants of the new file; constants that are equal are stored once."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._names: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def constant(self, values: Any) -> str:
        array = np.ascontiguousarray(values)
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._names:
            self._names[key] = f"q{len(self._names)}"
            self.constants.append(numpy_helper.from_array(np.asarray(values), self._names[key]))
        return self._names[key]

    def stored(self, name: str, step: Step) -> str:
        """Round a map to its step; returns the rounded map."""
        number = [self.constant(np.float32(step.step)), self.constant(np.uint8(step.zero))]
        self.nodes.append(helper.make_node("QuantizeLinear", [name, *number], [f"{name}_q"]))
        self.nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", *number], [f"{name}_d"]))
        return f"{name}_d"

    def dequantized(self, values: np.ndarray, steps: np.ndarray, name: str) -> str:
        """A constant of integers, with a step per first axis; returns the tensor of its numbers."""
        zeros = self.constant(np.zeros(len(steps), values.dtype))
        self.nodes.append(
            helper.make_node("DequantizeLinear", [self.constant(values), self.constant(steps), zeros], [name], axis=0)
        )
        return name
