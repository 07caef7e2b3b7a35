"""An ONNX graph under construction: nodes and constants in the order of their making, named by it."""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from facetrain.model.operations import Conv


class Graph:
    """Nodes and weights of one file.

    opset decides between the forms that an operator had over time; 11 to 17 are written.
    """

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._made = 0  # nodes that were named by their number
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def add(self, kind: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        name = output or f"{kind.lower()}_{self._made}"
        self._made += 1
        self.append(helper.make_node(kind, inputs, [name], name=f"node_{name}", **attributes))
        return name

    def append(self, node: onnx.NodeProto) -> None:
        """Add a node that has its names already."""
        self.nodes.append(node)

    def weight(self, values: np.ndarray, kind: str = "constant_", scalar: bool = False) -> str:
        """Add a constant of its own; returns its name, which is `kind` and a number.

        scalar: a single number keeps its shape, (), which QuantizeLinear asks for; otherwise it is stored as (1,)
        """
        name = f"{kind}{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values if scalar else np.ascontiguousarray(values), name))
        return name

    def constant(self, values: np.ndarray, kind: str = "constant_", scalar: bool = False) -> str:
        """A constant that equal requests share; returns its name."""
        key = (str(values.dtype), values.shape, values.tobytes())
        if key not in self._constants:
            self._constants[key] = self.weight(values, kind, scalar)
        return self._constants[key]

    def integers(self, *numbers: int) -> str:
        """A shared one-dimensional int64 constant."""
        return self.constant(np.array(numbers, np.int64))

    def number(self, value: float) -> str:
        """A shared float32 scalar."""
        return self.constant(np.array(value, np.float32))

    def conv(self, x: str, conv: Conv, weights: list[str]) -> str:
        """A convolution, with ReLU where it has one. weights: tensors of weight and bias."""
        y = self.add(
            "Conv",
            [x, *weights],
            kernel_shape=[conv.kernel, conv.kernel],
            strides=[conv.stride, conv.stride],
            pads=[conv.kernel // 2] * 4,
            group=conv.groups,
        )
        return self.add("Relu", [y]) if conv.relu else y

    def split(self, x: str, sizes: tuple[int, ...]) -> list[str]:
        """Channels of a map as several maps, from opset 13 on."""
        outputs = [f"split_{self._made}_{number}" for number in range(len(sizes))]
        self.append(helper.make_node("Split", [x, self.integers(*sizes)], outputs, name=f"node_{outputs[0]}", axis=1))
        return outputs

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
