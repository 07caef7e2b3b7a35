"""The network as one ONNX file that every runtime loads, written layer by layer.

Input `input` (batch, 3, height, width) float32 BGR 0 … 255, all three sizes free, sides multiples of the largest
stride. Outputs `cls_s obj_s bbox_s kps_s` for each stride s, grouped by kind, as OpenCV's FaceDetectorYN asks for
them: cls and obj after the sigmoid, (batch, priors, channels) row by row. No Shape or Gather node: OpenCV 4 does not
load them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from facetrain import __version__
from facetrain.core.files import write_bytes
from facetrain.export.folded import FoldedConv, FoldedNet, FoldedUnit

OPSET = 13
IR_VERSION = 7
_KINDS = {"cls": "cls", "obj": "obj", "box": "bbox", "landmarks": "kps"}  # ours -> the names in the file


def export_onnx(net: FoldedNet, path: Path, extra: Mapping[str, str] | None = None) -> None:
    """Write the network to `path`. The same weights give the same bytes. extra: further metadata."""
    write_bytes(path, onnx_model(net, extra or {}).SerializeToString(deterministic=True))


def onnx_model(net: FoldedNet, extra: Mapping[str, str]) -> onnx.ModelProto:
    """The graph with its metadata, checked."""
    graph = _Graph()
    results = _wire(graph, net)
    names = [f"{_KINDS[kind]}_{stride}" for kind in net.levels[0].outputs for stride in net.config.strides]
    channels = {"cls": 1, "obj": 1, "bbox": 4, "kps": 2 * len(net.config.landmarks.names)}
    outputs = []
    for name in names:
        kind, stride = name.split("_")
        shape: list[str | int | None] = ["batch", f"priors_{stride}", channels[kind]]
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        graph.finish(results[name], name, channels[kind], sigmoid=kind in ("cls", "obj"))
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", net.config.stem[0], "height", "width"])
    model = helper.make_model(
        helper.make_graph(graph.nodes, "yunet", [image], outputs, graph.weights),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="facetrain",
        producer_version=__version__,
    )
    helper.set_model_props(model, {**_metadata(net), **extra})
    onnx.checker.check_model(model, full_check=True)
    return model


def _metadata(net: FoldedNet) -> dict[str, str]:
    return {
        "facetrain": __version__,
        "family": "yunet",
        "strides": json.dumps(list(net.config.strides)),
        "landmarks": json.dumps(list(net.config.landmarks.names)),
        "input": "BGR, 0 to 255, picture at the top left, zeros right and below up to a multiple of the last stride",
        "decode": "cell (row r, column c) of stride s: centre ((c + b0) s, (r + b1) s), sides (s exp b2, s exp b3), "
        "landmark k ((c + p[2k]) s, (r + p[2k+1]) s)",
        "score": "cls * obj (OpenCV's FaceDetectorYN: its square root)",
    }


def _wire(graph: "_Graph", net: FoldedNet) -> dict[str, str]:
    """Add all layers up to the raw outputs; returns the tensor of each, (batch, channels, h, w)."""
    config = net.config
    x = graph.unit(graph.conv("input", net.stem), net.stem_unit)
    maps = []
    for index, stage in enumerate([[], *net.stages]):
        x = graph.units(x, stage)
        if index in config.maps:
            maps.append(x)
        if index in config.pool_after:
            x = graph.add("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    results: dict[str, str] = {}
    above: str | None = None
    for position in reversed(range(len(maps))):
        x = maps[position]
        if above is not None:
            x = graph.add("Add", [x, graph.enlarge(above)])
        above = maps[position] = graph.unit(x, net.neck[position])
    for map_, level, stride in zip(maps, net.levels, config.strides, strict=True):
        shared = graph.units(map_, level.shared)
        for_cls, for_box = graph.units(shared, level.cls_tower), graph.units(shared, level.box_tower)
        for kind, unit in level.outputs.items():
            results[f"{_KINDS[kind]}_{stride}"] = graph.unit(for_cls if kind == "cls" else for_box, unit)
    return results


class _Graph:
    """Nodes and weights as they are added, numbered by the order of their making."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.scales: str | None = None

    def add(self, kind: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        name = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=f"node_{name}", **attributes))
        return name

    def weight(self, values: np.ndarray) -> str:
        """Add a constant; returns its name."""
        name = f"constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

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
        self.scales = self.scales or self.weight(np.array([1, 1, 2, 2], np.float32))
        return self.add(
            "Resize",
            [x, "", self.scales],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    def finish(self, x: str, name: str, channels: int, *, sigmoid: bool) -> None:
        """From (batch, C, h, w) to the output (batch, h·w, C): the 0 keeps the batch without a Shape node."""
        rows = self.add("Transpose", [x], perm=[0, 2, 3, 1])
        shape = self.weight(np.array([0, -1, channels], np.int64))
        if sigmoid:
            self.add("Sigmoid", [self.add("Reshape", [rows, shape])], name)
        else:
            self.add("Reshape", [rows, shape], name)
