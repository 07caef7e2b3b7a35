"""What calibration pictures make of a network: ranges of all channels, and what convolutions see."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from facetrain.core.errors import ExportError
from facetrain.core.faces import Floats
from facetrain.core.geometry import pad_image, padded_size
from facetrain.core.hardware import available_cores
from facetrain.core.images import fit_image, read_image
from facetrain.eval.pipeline import ordered
from facetrain.export.map_layers import ConvLayer, Doubles, MapLayers

_LONGEST = 1024  # larger pictures are shrunk: all maps of a picture are in memory at once
_MOST_AT_ONCE = 4
_THIN = 3  # second moments are taken at every third row and column


@dataclass
class Statistics:
    """Sums over all pictures.

    low, high: per map (C,)
    moments:   per convolution, by its raw output: sums of products of the numbers that one output is made of,
               (in·k², in·k²), or (C, k², k²) where channels stay apart
    """

    low: dict[str, Doubles] = field(default_factory=dict)
    high: dict[str, Doubles] = field(default_factory=dict)
    moments: dict[str, Doubles] = field(default_factory=dict)

    def add(self, other: "Statistics") -> None:
        """Take in another picture's."""
        for name in other.low:
            self.low[name] = np.minimum(self.low.get(name, np.inf), other.low[name])
            self.high[name] = np.maximum(self.high.get(name, -np.inf), other.high[name])
        for name, sums in other.moments.items():
            self.moments[name] = self.moments.get(name, 0) + sums


def collect(
    model: onnx.ModelProto,
    layers: MapLayers,
    convs: Sequence[ConvLayer],
    pictures: Iterable[Path],
    shown: Callable[[Path], Floats],
    progress: Callable[..., None],
) -> Statistics:
    """Ranges of all maps, moments of `convs`. `shown` makes (1, 3, H, W) of a picture.

    One thread a picture and sums in the pictures' order: the same numbers whatever the number of processors. Raises
    ExportError where a map is not finite.
    """
    names = layers.maps()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        map_model(model, layers, names).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    entry = model.graph.input[0].name

    def look(path: Path) -> Statistics:
        image = shown(path)
        maps = dict(zip(names, session.run(names, {entry: image}), strict=True))
        maps[entry] = image
        found = Statistics()
        for name in names:
            found.low[name] = maps[name].min((0, 2, 3)).astype(np.float64)
            found.high[name] = maps[name].max((0, 2, 3)).astype(np.float64)
            if not np.isfinite(found.low[name] + found.high[name]).all():
                raise ExportError(f"{path}: the network gives numbers that are not finite", "did the training diverge?")
        for conv in convs:
            kernel = layers.weights[conv.weight].shape[-1]
            found.moments[conv.raw] = second_moments(maps[conv.x][0], kernel, conv.stride, conv.groups)
        return found

    total = Statistics()
    for found in ordered(look, pictures, min(available_cores(), _MOST_AT_ONCE)):
        total.add(found)
        progress(1)
    return total


def second_moments(x: Floats, kernel: int, stride: int, groups: int) -> Doubles:
    """Sums over positions of the products of the inputs of one output, see `Statistics`. x: (C, h, w)."""
    border = kernel // 2
    padded = np.pad(x, ((0, 0), (border, border), (border, border)))
    step = stride * _THIN
    height, width = x.shape[1:]
    views = [
        padded[:, row : row + height : step, column : column + width : step].reshape(len(x), -1)
        for row in range(kernel)
        for column in range(kernel)
    ]
    patches = np.stack(views, 1)  # (C, k², positions)
    if groups == 1:
        patches = patches.reshape(1, -1, patches.shape[2])
    sums = (patches @ patches.transpose(0, 2, 1)).astype(np.float64)
    return sums[0] if groups == 1 else sums


def picture_input(path: Path, multiple: int, size: tuple[int, int] | None) -> Floats:
    """A picture as the network gets it, (1, 3, H, W) float32: at its own size up to a limit, or fitted into `size`."""
    image = read_image(path)
    height, width = image.shape[:2]
    if size is not None or max(height, width) > _LONGEST:
        image, _ = fit_image(image, *(size or (_LONGEST, _LONGEST)))
        height, width = image.shape[:2]
    image = pad_image(image, *(size or padded_size(width, height, multiple)))
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)


def map_model(model: onnx.ModelProto, layers: MapLayers, names: Sequence[str]) -> onnx.ModelProto:
    """The map part alone, with every map as an output; picture size and batch are free whatever the file fixes."""
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    entry = helper.make_tensor_value_info(
        model.graph.input[0].name, TensorProto.FLOAT, ["batch", "channels", "height", "width"]
    )
    used = {name for node in layers.nodes for name in node.input}
    weights = [tensor for tensor in model.graph.initializer if tensor.name in used]
    return helper.make_model(
        helper.make_graph(layers.nodes, "maps", [entry], outputs, weights),
        opset_imports=list(model.opset_import),
        ir_version=model.ir_version,
    )
