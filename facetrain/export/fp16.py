"""float16: half the bytes. Inputs, outputs and everything behind the maps stay float32, so scores and coordinates
are computed as exactly as before.

For GPUs and accelerators: a CPU without float16 arithmetic converts back to float32 and gains nothing.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from facetrain.core.errors import ExportError
from facetrain.export.map_layers import map_layers

_LARGEST = float(np.finfo(np.float16).max)


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same file with convolutions in float16. Raises ExportError where a weight is too large for it."""
    layers = map_layers(model)
    half = [name for conv in layers.convs for name in (conv.weight, conv.bias)]
    for name in half:
        largest = float(np.abs(layers.weights[name]).max(initial=0))
        if not largest <= _LARGEST:
            raise ExportError(
                f"a weight of {largest:g} does not fit into float16, whose largest number is {_LARGEST:g}",
                "take fp32; did the training diverge?",
            )
    entry = model.graph.input[0].name
    nodes = [_cast(entry, f"{entry}_h", TensorProto.FLOAT16)]
    inside = {entry: f"{entry}_h"}  # names that float16 nodes read instead
    outside = {name: f"{name}_f" for name in layers.exits if name != entry}  # and float32 nodes
    for node in model.graph.node:
        new = onnx.NodeProto()
        new.CopyFrom(node)
        names = inside if node in layers.nodes else outside
        for place, name in enumerate(node.input):
            new.input[place] = names.get(name, name)
        nodes.append(new)
        if node.output[0] in outside:
            nodes.append(_cast(node.output[0], outside[node.output[0]], TensorProto.FLOAT))
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    for tensor in result.graph.initializer:
        if tensor.name in half:
            tensor.CopyFrom(numpy_helper.from_array(layers.weights[tensor.name].astype(np.float16), tensor.name))
    helper.set_model_props(result, {item.key: item.value for item in model.metadata_props} | {"precision": "fp16"})
    onnx.checker.check_model(result, full_check=True)
    return result


def _cast(name: str, output: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [name], [output], name=f"node_{output}", to=kind)
