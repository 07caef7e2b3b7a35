"""The network as one ONNX file that every runtime loads.

Input `input` (batch, 3, height, width) float32 BGR 0 … 255, sides multiples of the largest stride. The `raw` form has
the outputs `cls_s obj_s bbox_s kps_s` for each stride s, grouped by kind, as OpenCV's FaceDetectorYN asks for them:
cls and obj after the sigmoid, (batch, priors, channels) row by row. No Shape or Gather node: OpenCV 4 does not load
them. The other forms are in onnx_decoded.py.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from facetrain import __version__
from facetrain.config.schema import ModelConfig
from facetrain.config.variant import preset_of
from facetrain.core.files import write_bytes
from facetrain.export.network.folded import FoldedNet
from facetrain.export.onnx.decoded import add_faces, add_rows
from facetrain.export.onnx.graph import Graph
from facetrain.export.onnx.request import OnnxOptions
from facetrain.export.onnx.wiring import Storage, wire

# The first version of the file format that has the opset: older runtimes refuse what is newer than they are.
_IR_VERSIONS = {11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8}
_KINDS = {"cls": "cls", "obj": "obj", "box": "bbox", "landmarks": "kps"}  # ours -> the names in the file
_LICENCE = (
    "The owner of the training data decides what the weights may be used for; facetrain's code is BSD-3-Clause and "
    "asks for nothing here."
)


def write_onnx(
    net: FoldedNet, path: Path, extra: Mapping[str, str] | None = None, options: OnnxOptions | None = None
) -> None:
    """Write the network to `path`, unchecked. The same weights give the same bytes. extra: further metadata."""
    write_bytes(path, onnx_bytes(onnx_model(net, extra or {}, options)))


def onnx_bytes(model: onnx.ModelProto) -> bytes:
    """The file's content; equal models give equal bytes."""
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def onnx_model(
    net: FoldedNet,
    extra: Mapping[str, str],
    options: OnnxOptions | None = None,
    storage: Storage | None = None,
) -> onnx.ModelProto:
    """The graph with its metadata, checked against ONNX's own rules. Raises UsageError for impossible options.

    storage: how weights and maps are kept, by default as float32
    """
    options = options or OnnxOptions()
    config = net.config
    options.check(config.strides)
    graph = Graph(options.opset)
    tensors = wire(graph, net, storage or Storage())
    maps = {f"{_KINDS[kind]}_{stride}": tensors[name] for (kind, stride), name in net.network.outputs.items()}
    width, height = options.size or ("width", "height")
    batch = options.batch or "batch"
    if options.form == "raw":
        outputs = _raw_outputs(graph, config, maps, options)
    else:
        numbers = 2 * len(config.landmarks.names)
        rows = add_rows(graph, config, maps, options.size)
        if options.form == "rows":
            graph.add("Identity", [rows], "rows")
            shape: list[str | int | None] = [batch, _priors(options.size, config.strides), 5 + numbers]
            outputs = [helper.make_tensor_value_info("rows", TensorProto.FLOAT, shape)]
        else:
            add_faces(graph, rows, 5 + numbers, options.score, options.nms, "faces")
            outputs = [helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["found", 6 + numbers])]
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, config.stem[0], height, width])
    model = helper.make_model(
        helper.make_graph(graph.nodes, "yunet", [image], outputs, graph.weights),
        opset_imports=[helper.make_opsetid("", options.opset)],
        ir_version=_IR_VERSIONS[options.opset],
        producer_name="facetrain",
        producer_version=__version__,
    )
    helper.set_model_props(model, {**_metadata(net, options), **extra})
    onnx.checker.check_model(model, full_check=True)
    return model


def output_names(config: ModelConfig) -> list[str]:
    """Names of the raw form's outputs, in order."""
    kinds = [kind for kind in _KINDS.values() if kind != "kps" or config.landmarks.names]
    return [f"{kind}_{stride}" for kind in kinds for stride in config.strides]


def variant(config: ModelConfig) -> str:
    """The preset with this network, or `custom`."""
    return preset_of(config) or "custom"


def _raw_outputs(
    graph: Graph, config: ModelConfig, maps: Mapping[str, str], options: OnnxOptions
) -> list[onnx.ValueInfoProto]:
    channels = {"cls": 1, "obj": 1, "bbox": 4, "kps": 2 * len(config.landmarks.names)}
    outputs = []
    for name in output_names(config):
        kind, stride = name.split("_")
        priors: int | str = f"priors_{stride}" if options.size is None else _priors(options.size, (int(stride),))
        shape = [options.batch or "batch", priors, channels[kind]]
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        if kind in ("cls", "obj"):
            graph.add("Sigmoid", [graph.rows(maps[name], 1)], name)
        else:
            graph.rows(maps[name], channels[kind], name)
    return outputs


def _priors(size: tuple[int, int] | None, strides: tuple[int, ...]) -> int:
    assert size is not None
    return sum((size[0] // stride) * (size[1] // stride) for stride in strides)


def _metadata(net: FoldedNet, options: OnnxOptions) -> dict[str, str]:
    config = net.config
    texts = {
        "facetrain": __version__,
        "family": "yunet",
        "variant": variant(config),
        "form": options.form,
        "strides": json.dumps(list(config.strides)),
        "landmarks": json.dumps(list(config.landmarks.names)),
        "colours": "BGR",
        "range": "0 to 255, no mean, no scale",
        "padding": f"image at the top left, zeros right and below up to a multiple of {max(config.strides)}",
        "score": "cls * obj (OpenCV's FaceDetectorYN: its square root)",
        "licence": _LICENCE,
    }
    if options.form == "raw":
        texts["decode"] = (
            "cell (row r, column c) of stride s: centre ((c + b0) s, (r + b1) s), sides (s exp b2, s exp b3), "
            "landmark k ((c + p[2k]) s, (r + p[2k+1]) s)"
        )
    else:
        texts["decode"] = "done: x1 y1 x2 y2 score, then x y of each landmark, in pixels of the input"
    if options.form == "decoded":
        texts["decode"] += "; before them the image's number in the batch; best first within an image"
        texts |= {"score_threshold": f"{options.score:g}", "nms_threshold": f"{options.nms:g}"}
    return texts
