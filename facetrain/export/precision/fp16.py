"""float16: half the bytes. Inputs, outputs and everything behind the maps stay float32, so scores and coordinates
are computed as exactly as before.

For GPUs and accelerators: a CPU without float16 arithmetic converts back to float32 and gains nothing.
"""

import numpy as np
from onnx import TensorProto, helper

from facetrain.core.errors import ExportError
from facetrain.export.network.folded import FoldedNet, Weights
from facetrain.export.onnx.graph import Graph
from facetrain.export.onnx.wiring import Storage
from facetrain.model.operations import Conv

_LARGEST = float(np.finfo(np.float16).max)


class Float16(Storage):
    """Convolutions and maps of a network in float16."""

    def __init__(self, net: FoldedNet) -> None:
        self.outputs = set(net.network.outputs.values())

    def begin(self, graph: Graph, image: str) -> str:
        """The input as float16."""
        return _cast(graph, image, f"{image}_h", TensorProto.FLOAT16)

    def weights(self, graph: Graph, conv: Conv, values: Weights) -> list[str]:
        """Raises ExportError where a number is too large."""
        parts = (values.weight, values.bias)
        for part in parts:
            largest = float(np.abs(part).max(initial=0))
            if not largest <= _LARGEST:
                raise ExportError(
                    f"a weight of {largest:g} does not fit into float16, whose largest number is {_LARGEST:g}",
                    "take fp32; did the training diverge?",
                )
        return [graph.weight(part.astype(np.float16)) for part in parts]

    def keep(self, graph: Graph, name: str, tensor: str) -> str:
        """Outputs go on as float32."""
        return _cast(graph, tensor, f"{tensor}_f", TensorProto.FLOAT) if name in self.outputs else tensor


def _cast(graph: Graph, x: str, output: str, kind: int) -> str:
    graph.append(helper.make_node("Cast", [x], [output], name=f"node_{output}", to=kind))
    return output
