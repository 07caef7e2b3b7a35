"""int8: 8-bit weights with a step per channel, 8-bit maps with a step each, written as QuantizeLinear and
DequantizeLinear pairs (QDQ) that every runtime turns into its own integer operators.

Static: the ranges come from calibration pictures. What was tried and what each part brings is measured by
tests/benchmarks/int8_recipes.py.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from facetrain.core.errors import InputError, UsageError
from facetrain.export.folded import FoldedNet
from facetrain.export.int8_equalise import equalise
from facetrain.export.int8_pictures import calibration_pictures, judged_pictures, refuse_overlap
from facetrain.export.int8_qdq import RoundedWeight, Step, write_qdq
from facetrain.export.int8_rounding import round_weight, steps_of
from facetrain.export.int8_statistics import Statistics, collect, picture_input
from facetrain.export.joined_heads import join_heads
from facetrain.export.map_layers import ConvLayer, MapLayers, inputs_of, map_layers

__all__ = ["calibration_pictures", "judged_pictures", "quantize", "refuse_overlap"]

OLDEST_OPSET = 13  # the first with a step per channel
# The stem, its unit and the two of stage 1 stay in float: they see the finest maps, where rounding harms most, and with
# their few channels integers are no faster.
_FLOAT_FRONT = 7
_LEVELS = 255  # of uint8, above zero
_SMALLEST_STEP = 1e-30  # a map of nothing but zeros, or of numbers that some processors take for zero


def quantize(
    net: FoldedNet,
    model: onnx.ModelProto,
    pictures: Sequence[Path],
    progress: Callable[..., None] = lambda done=1: None,
) -> onnx.ModelProto:
    """The file `model` of the network in int8. Inputs and outputs stay as they are, float32.

    The first layers stay in float, and the heads, which are joined, with all that follows. progress is called with 1
    for each picture. The same network and pictures give the same bytes. Raises UsageError for an opset that has
    no int8 per channel, InputError without pictures, DataError for one that cannot be read.
    """
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset < OLDEST_OPSET:
        raise UsageError(f"`opset` {opset}: has no int8 with a step per channel", f"take {OLDEST_OPSET} or higher")
    if not pictures:
        raise InputError("no pictures to calibrate with", "give a folder of training pictures")
    model = join_heads(model)
    layers = map_layers(model)
    convs = integer_convs(layers)
    multiple = max(net.config.strides)
    size = _fixed_size(model)
    found = collect(model, layers, convs, pictures, lambda path: picture_input(path, multiple, size), progress)
    layers, found, _ = equalise(layers, found, convs)
    steps = map_steps(layers, found, convs)
    weights = {conv.raw: _rounded(layers, conv, steps, found) for conv in convs}
    return write_qdq(model, layers, steps, weights, {"precision": "int8", "calibration": f"{len(pictures)} pictures"})


def integer_convs(layers: MapLayers) -> list[ConvLayer]:
    """The convolutions that are done in integers: all but the first ones and the last two of each output."""
    first = _FLOAT_FRONT
    pooled = {node.output[0] for node in layers.nodes if node.op_type == "MaxPool"}
    if layers.convs[first].x in pooled:
        first -= 2  # onnxruntime pools integers fast behind an integer convolution only, else 10 times slower
    heads = {conv.x for conv in layers.convs if conv.y in layers.exits} | layers.exits
    return [conv for conv in layers.convs[first:] if conv.y not in heads]


def map_steps(layers: MapLayers, found: Statistics, convs: Sequence[ConvLayer]) -> dict[str, Step]:
    """The step of every map that is stored in 8 bits, in order of execution.

    These are what integer convolutions read and give, and what is pooled or enlarged between them, which keeps its
    step. The whole range that was seen is covered: the rare large values are the faces. Cutting off the outermost
    0.01 % for smaller steps costs about 0.01 AP over a thousand pictures, where this costs 0.002 at most.
    """
    wanted = {name for conv in convs for name in (conv.x, conv.y)}
    steps: dict[str, Step] = {}
    for node in layers.nodes:
        name = node.output[0]
        name = next((conv.y for conv in layers.convs if conv.raw == name), name) if node.op_type == "Conv" else name
        moved = node.op_type in ("MaxPool", "Resize") and inputs_of(node, layers)[0] in steps
        if moved:
            steps[name] = steps[inputs_of(node, layers)[0]]
        elif name in wanted and name not in steps:
            steps[name] = step_of(float(np.min(found.low[name])), float(np.max(found.high[name])))
    return steps


def step_of(low: float, high: float) -> Step:
    """Store [low, high], and zero exactly: the border of a convolution is zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = float(np.float32((high - low) / _LEVELS))
    if step < _SMALLEST_STEP:
        step = 1.0
    return Step(step, int(np.clip(np.rint(-low / step), 0, _LEVELS)))


def _rounded(layers: MapLayers, conv: ConvLayer, steps: Mapping[str, Step], found: Statistics) -> RoundedWeight:
    weight = layers.weights[conv.weight]
    sizes = steps_of(weight, layers.weights[conv.bias], steps[conv.x].step)
    return RoundedWeight(round_weight(weight, sizes, found.moments[conv.raw]), sizes)


def _fixed_size(model: onnx.ModelProto) -> tuple[int, int] | None:
    """(width, height) where the file fixes it."""
    height, width = model.graph.input[0].type.tensor_type.shape.dim[2:]
    return (width.dim_value, height.dim_value) if width.dim_value and height.dim_value else None
