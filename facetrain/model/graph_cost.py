"""Parameters and convolutions of any ONNX graph, counted on the graph itself."""

from math import prod
from pathlib import Path
from typing import Any

from facetrain.core.errors import DataError


def describe_graph(path: Path, size: tuple[int, int]) -> dict[str, Any]:
    """The document of model/cost.py's `describe` for an ONNX file.

    size: (width, height) in pixels, used where the file leaves them open. Batch norm is folded in most files, so the
    published count cannot be had from a graph: `mflops` is None.
    """
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
        image = model.graph.input[0]
        _fix_size(image, size)
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except Exception as error:  # protobuf, onnx and the shape checker each raise their own kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path}: not a usable ONNX file: {reason}") from error
    shapes = {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in model.graph.value_info}
    shapes |= {value.name: [d.dim_value for d in value.type.tensor_type.shape.dim] for value in model.graph.output}
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    multiply_adds = 0
    for node in model.graph.node:
        if node.op_type == "Conv" and node.input[1] in weights:
            kernel = weights[node.input[1]].dims  # (out, in / groups, k, k)
            multiply_adds += prod(kernel) * prod(shapes[node.output[0]][2:])
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    # the scales of a Resize are settings, not parameters
    settings = {name for node in model.graph.node if node.op_type == "Resize" for name in node.input}
    parameters = sum(
        prod(tensor.dims)
        for name, tensor in weights.items()
        if tensor.data_type in floats and tensor.dims and name not in settings
    )
    row = {"name": "graph", "parameters": parameters, "multiply_adds": multiply_adds, "mflops": None}
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


def _fix_size(image: Any, size: tuple[int, int]) -> None:
    """Write batch 1 and the size into dimensions that the file leaves open."""
    dims = image.type.tensor_type.shape.dim
    for dim, value in zip(dims, (1, 3, size[1], size[0]), strict=True):
        if not dim.dim_value:
            dim.dim_value = value


def _list(text: str | None) -> list[Any]:
    import json

    try:
        values = json.loads(text or "[]")
    except json.JSONDecodeError:
        return []
    return values if isinstance(values, list) else []
