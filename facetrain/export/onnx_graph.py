"""An ONNX graph under construction: nodes and constants in the order of their making, named by it."""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from facetrain.export.folded import FoldedConv, FoldedUnit


class Graph:
    """Nodes and weights of one file.

    opset decides between the forms that an operator had over time; 11 to 17 are written.
    """

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def add(self, kind: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        name = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=f"node_{name}", **attributes))
        return name

    def weight(self, values: np.ndarray) -> str:
        """Add a constant of its own; returns its name."""
        name = f"constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def constant(self, values: np.ndarray) -> str:
        """A constant that equal requests share; returns its name."""
        key = (str(values.dtype), values.shape, values.tobytes())
        if key not in self._constants:
            self._constants[key] = self.weight(values)
        return self._constants[key]

    def integers(self, *numbers: int) -> str:
        """A shared one-dimensional int64 constant."""
        return self.constant(np.array(numbers, np.int64))

    def number(self, value: float) -> str:
        """A shared float32 scalar."""
        return self.constant(np.array(value, np.float32))

    def conv(self, x: str, conv: FoldedConv) -> str:
        """A convolution, with ReLU where it has one."""
        kernel = conv.weight.shape[-1]
        y = self.add(
            "Conv",
            [x, self.weight(conv.weight), self.weight(conv.bias)],
            kernel_shape=[kernel, kernel],
            strides=[conv.stride, conv.stride],
            pads=[kernel // 2] * 4,
            group=conv.groups,
        )
        return self.add("Relu", [y]) if conv.relu else y

    def unit(self, x: str, unit: FoldedUnit) -> str:
        """Pointwise, then depthwise."""
        return self.conv(self.conv(x, unit[0]), unit[1])

    def units(self, x: str, units: list[FoldedUnit]) -> str:
        """A chain of units."""
        for unit in units:
            x = self.unit(x, unit)
        return x

    def enlarge(self, x: str) -> str:
        """Every value repeated 2x2."""
        # Before opset 13 the region of interest could not be left out, though nothing reads it in this mode.
        region = "" if self.opset >= 13 else self.constant(np.zeros(0, np.float32))
        scales = self.constant(np.array([1, 1, 2, 2], np.float32))
        return self.add(
            "Resize",
            [x, region, scales],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    def rows(self, x: str, channels: int, output: str | None = None) -> str:
        """From (batch, C, h, w) to (batch, h·w, C): the 0 keeps the batch without a Shape node."""
        turned = self.add("Transpose", [x], perm=[0, 2, 3, 1])
        return self.add("Reshape", [turned, self.integers(0, -1, channels)], output)

    def columns(self, x: str, start: int, end: int) -> str:
        """The columns start … end - 1 of (batch, P, C)."""
        return self.add("Slice", [x, self.integers(start), self.integers(end), self.integers(2)])
