"""Parameters and convolutions of any ONNX graph, counted on the graph itself."""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from facetrain.core.documents.info import ModelDocument, Part
from facetrain.core.errors import DataError
from facetrain.core.onnx_probe import probed
from facetrain.core.onnx_session import cpu_session

# The inputs of a layer that were learnt. What else a file stores as numbers (the running statistics of a batch norm,
# grids and anchors of a built-in decoding, settings of a Resize, scales of a quantisation) is no parameter.
_LEARNT = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "ConvInteger": (1,),
    "QLinearConv": (3, 8),
    "Gemm": (1, 2),
    "MatMul": (1,),
    "BatchNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "PRelu": (1,),
}
_CONVOLUTIONS = ("Conv", "ConvTranspose", "ConvInteger", "QLinearConv")
# A weight may reach its layer through these, as it does in quantised files.
_PASSED_ON = ("DequantizeLinear", "Identity", "Cast", "Transpose")
_BUNDLED = Path(__file__).parents[1] / "detect" / "weights"
_MOST_PIXELS = 1 << 27  # a file that fixes a larger image is not run


def describe_graph(path: Path, size: tuple[int, int]) -> ModelDocument:
    """The document of model/cost.py's `describe` for an ONNX file.

    size: (width, height) in pixels, used where the file leaves them open. Batch norm is folded in most files, so the
    published count cannot be had from a graph: `mflops` is None.
    """
    import onnx

    probed(path, _BUNDLED)
    try:
        model = onnx.load(path, load_external_data=False)
        image = _image(model)
        _fix_size(image, size)
        shapes = _shapes(model)
    except Exception as error:  # protobuf, onnx, onnxruntime and the shape checker each raise their own kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path}: not a usable ONNX file: {reason}") from error
    weights = _weights(model)
    multiply_adds = 0
    for node in model.graph.node:
        kernel = weights.get(_weight_input(node)) if node.op_type in _CONVOLUTIONS else None
        if kernel is not None:
            # out x in/groups x k x k at each place: of the output, or of the input for a transposed one
            places = shapes[node.input[0] if node.op_type == "ConvTranspose" else node.output[0]]
            multiply_adds += prod(kernel[1]) * prod(places[2:])
    learnt = {
        weights[node.input[i]]
        for node in model.graph.node
        for i in _LEARNT.get(node.op_type, ())
        if i < len(node.input) and node.input[i] in weights
    }
    row: Part = {
        "name": "graph",
        "parameters": sum(prod(dims) for _, dims in learnt),
        "multiply_adds": multiply_adds,
        "mflops": None,
    }
    metadata = {item.key: item.value for item in model.metadata_props}
    dims = [d.dim_value for d in image.type.tensor_type.shape.dim]
    return {
        "source": str(path),
        "kind": "onnx",
        "size": [dims[3], dims[2]],
        "parts": [row],
        "total": {**row, "name": "total"},
        "strides": _list(metadata.get("strides")),
        "landmarks": _list(metadata.get("landmarks")),
    }


def _image(model: Any) -> Any:
    """The input that is an image: old files list their weights among the inputs too."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return next(value for value in model.graph.input if value.name not in stored)


def _fix_size(image: Any, size: tuple[int, int]) -> None:
    """Write batch 1 and the size into dimensions that the file leaves open."""
    dims = image.type.tensor_type.shape.dim
    for dim, value in zip(dims, (1, 3, size[1], size[0]), strict=True):
        if dim.dim_value <= 0:
            dim.dim_value = value


def _weight_input(node: Any) -> str:
    return str(node.input[_LEARNT[node.op_type][0]])


def _weights(model: Any) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Every name under which stored numbers are used: (the name of the stored tensor, its shape)."""
    weights = {tensor.name: (tensor.name, tuple(tensor.dims)) for tensor in model.graph.initializer}
    for node in model.graph.node:  # in the order of execution
        if node.op_type == "Constant":
            tensor = next((attribute.t for attribute in node.attribute if attribute.name == "value"), None)
            if tensor is not None:
                weights[node.output[0]] = (node.output[0], tuple(tensor.dims))
        elif node.op_type in _PASSED_ON and node.input[0] in weights:
            weights[node.output[0]] = weights[node.input[0]]
    return weights


def _shapes(model: Any) -> Mapping[str, list[int]]:
    """Shapes of all tensors that convolutions read or write: inferred, or where that does not get through, run."""
    import onnx

    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    for output in bare.graph.output:
        output.type.tensor_type.ClearField("shape")  # what a file declares may be true of another size
    inferred = onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True).graph
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    needed = {
        name
        for node in model.graph.node
        if node.op_type in _CONVOLUTIONS
        for name in (node.input[0], node.output[0])
        if len(shapes.get(name, ())) < 3 or 0 in shapes[name]  # of unknown rank, or with a side that is not known
    }
    return {**shapes, **_run_shapes(bare, sorted(needed))} if needed else shapes


def _run_shapes(model: Any, names: list[str]) -> dict[str, list[int]]:
    """Shapes of these tensors as a run on a blank image has them."""
    import numpy as np
    import onnx

    image = _image(model)
    dims = [d.dim_value for d in image.type.tensor_type.shape.dim]
    if prod(dims[2:]) > _MOST_PIXELS:
        raise ValueError(f"an image of {dims[3]}x{dims[2]}, which no memory holds")
    del model.graph.output[:]
    for index, name in enumerate(names):
        shape = f"facetrain_shape_{index}"
        model.graph.node.append(onnx.helper.make_node("Shape", [name], [shape]))
        model.graph.output.append(onnx.helper.make_tensor_value_info(shape, onnx.TensorProto.INT64, None))
    session = cpu_session(model.SerializeToString(), threads=1)
    kind = onnx.helper.tensor_dtype_to_np_dtype(image.type.tensor_type.elem_type)
    found = session.run(None, {image.name: np.zeros(dims, kind)})
    return {name: [int(side) for side in shape] for name, shape in zip(names, found, strict=True)}


def _list(text: str | None) -> list[Any]:
    import json

    try:
        values = json.loads(text or "[]")
    except json.JSONDecodeError:
        return []
    return values if isinstance(values, list) else []
