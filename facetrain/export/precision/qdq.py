"""Write rounded weights and maps into an ONNX file as QuantizeLinear and DequantizeLinear pairs (QDQ)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from facetrain.core.faces import Floats
from facetrain.export.network.folded import Weights
from facetrain.export.onnx.graph import Graph
from facetrain.export.onnx.wiring import Storage
from facetrain.model.operations import IMAGE, Conv, Operation


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


class Int8(Storage):
    """The weights of some convolutions rounded, by the map that they give, and the maps in `steps` stored in 8 bits.

    A convolution in float reads a map that another one in float gave as it is, and the 8-bit map where there is no
    other. Biases become int32 behind 8-bit maps.
    """

    def __init__(self, steps: Mapping[str, Step], weights: Mapping[str, RoundedWeight]) -> None:
        self.steps, self.rounded = steps, weights
        self.stored: dict[str, str] = {}  # map -> the same, in 8 bits and back

    def begin(self, graph: Graph, image: str) -> str:
        """The input, rounded where its step is given."""
        return self.keep(graph, IMAGE, image)

    def weights(self, graph: Graph, conv: Conv, values: Weights) -> list[str]:
        """Integers and their steps where the convolution is done in integers."""
        if conv.y not in self.rounded:
            return super().weights(graph, conv, values)
        weight = self.rounded[conv.y]
        integers = _dequantized(graph, weight.values, weight.steps)
        if conv.x not in self.steps:
            return [integers, graph.weight(values.bias)]
        return [integers, _dequantized(graph, *self._rounded_bias(conv, values.bias))]

    def read(self, operation: Operation, name: str, tensor: str) -> str:
        """The map in 8 bits where there is one that counts."""
        in_float = isinstance(operation, Conv) and operation.y not in self.rounded
        return tensor if in_float and name not in self.rounded else self.stored.get(name, tensor)

    def keep(self, graph: Graph, name: str, tensor: str) -> str:
        """Round the map to its step."""
        if name in self.steps:
            step = self.steps[name]
            number = [
                _constant(graph, np.array(step.step, np.float32)),
                _constant(graph, np.array(step.zero, np.uint8)),
            ]
            self.stored[name] = _pair(graph, tensor, number)
        return tensor

    def _rounded_bias(self, conv: Conv, bias: Floats) -> tuple[NDArray[np.int32], Floats]:
        """The bias (out,) in steps of weight times input, so that it adds to the integer sums as it is."""
        steps = self.rounded[conv.y].steps.astype(np.float64)
        sizes = (steps * np.float32(self.steps[conv.x].step)).astype(np.float32)
        return np.rint(bias / sizes.astype(np.float64)).astype(np.int32), sizes


def _pair(graph: Graph, x: str, number: list[str]) -> str:
    """Round a map and take the rounded one; returns that."""
    graph.append(helper.make_node("QuantizeLinear", [x, *number], [f"{x}_q"]))
    graph.append(helper.make_node("DequantizeLinear", [f"{x}_q", *number], [f"{x}_d"]))
    return f"{x}_d"


def _dequantized(graph: Graph, values: NDArray[Any], steps: Floats) -> str:
    """A constant of integers, with a step per first axis; returns the tensor of its numbers."""
    integers, sizes, zeros = (_constant(graph, part) for part in (values, steps, np.zeros(len(steps), values.dtype)))
    output = f"{integers}_{len(graph.nodes)}"
    graph.append(helper.make_node("DequantizeLinear", [integers, sizes, zeros], [output], axis=0))
    return output


def _constant(graph: Graph, values: NDArray[Any]) -> str:
    """A shared constant with a short name: a file of integers has few bytes."""
    return graph.constant(values, "q", scalar=True)
