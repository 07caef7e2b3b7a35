"""What calibration images make of a network: the ranges of all channels."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from facetrain.core.boxes import pad_image, padded_size
from facetrain.core.errors import ExportError
from facetrain.core.faces import Floats
from facetrain.core.images import fit_image, read_image
from facetrain.core.machine import available_cores
from facetrain.core.onnx_session import cpu_session
from facetrain.core.ordered import ordered
from facetrain.export.network.folded import FoldedNet
from facetrain.export.onnx.graph import Graph
from facetrain.export.onnx.wiring import Storage, wire
from facetrain.model.operations import IMAGE

Doubles = NDArray[np.float64]

_LONGEST = 1024  # larger images are shrunk: all maps of an image are in memory at once
_MOST_AT_ONCE = 4
_OPSET = 13  # of the file that is looked through


@dataclass
class Statistics:
    """Over all images, per map: the smallest and the largest number of each channel (C,)."""

    low: dict[str, Doubles] = field(default_factory=dict)
    high: dict[str, Doubles] = field(default_factory=dict)

    def add(self, other: "Statistics") -> None:
        """Take in another image's."""
        for name in other.low:
            self.low[name] = np.minimum(self.low.get(name, np.inf), other.low[name])
            self.high[name] = np.maximum(self.high.get(name, -np.inf), other.high[name])


def collect(
    net: FoldedNet,
    images: Iterable[Path],
    shown: Callable[[Path], Floats],
    progress: Callable[..., None],
) -> Statistics:
    """Ranges of all maps. `shown` makes (1, 3, H, W) of an image.

    One thread an image: the same numbers whatever the number of processors. Raises ExportError where a map is not
    finite.
    """
    file, tensors = map_model(net)
    session = cpu_session(file.SerializeToString(), threads=1)

    def look(path: Path) -> Statistics:
        image = shown(path)
        maps = dict(zip(tensors, session.run(list(tensors.values()), {"input": image}), strict=True))
        maps[IMAGE] = image
        found = Statistics()
        for name in tensors:
            found.low[name] = maps[name].min((0, 2, 3)).astype(np.float64)
            found.high[name] = maps[name].max((0, 2, 3)).astype(np.float64)
            if not np.isfinite(found.low[name] + found.high[name]).all():
                raise ExportError(f"{path}: the network gives numbers that are not finite", "did the training diverge?")
        return found

    total = Statistics()
    for found in ordered(look, images, min(available_cores(), _MOST_AT_ONCE)):
        total.add(found)
        progress(1)
    return total


def image_input(path: Path, multiple: int, size: tuple[int, int] | None) -> Floats:
    """An image as the network gets it, (1, 3, H, W) float32: at its own size up to a limit, or fitted into `size`."""
    image = read_image(path)
    height, width = image.shape[:2]
    if size is not None or max(height, width) > _LONGEST:
        image, _ = fit_image(image, *(size or (_LONGEST, _LONGEST)))
        height, width = image.shape[:2]
    image = pad_image(image, *(size or padded_size(width, height, multiple)))
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)


def map_model(net: FoldedNet) -> tuple[onnx.ModelProto, dict[str, str]]:
    """The maps alone as a float file of any size, every map an output; and the tensor of each map."""
    graph = Graph(_OPSET)
    tensors = wire(graph, net, Storage())
    tensors = {name: tensor for name, tensor in tensors.items() if name != IMAGE}
    outputs = [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None) for tensor in tensors.values()]
    sides: list[str | int] = ["batch", "channels", "height", "width"]
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, sides)
    made = helper.make_graph(graph.nodes, "maps", [image], outputs, graph.weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=7), tensors
