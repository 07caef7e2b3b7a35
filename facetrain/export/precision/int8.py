"""int8: 8-bit weights with a step per channel, 8-bit maps with a step each, written as QuantizeLinear and
DequantizeLinear pairs (QDQ) that every runtime turns into its own integer operators.

Static: the ranges come from calibration images. What was tried and what each part brings is measured by
tests/benchmarks/int8_recipes.py, which says what was left out.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from facetrain.core.errors import InputError, UsageError
from facetrain.core.faces import Floats
from facetrain.export.network.folded import FoldedNet, Weights, joined
from facetrain.export.onnx.model import onnx_model
from facetrain.export.onnx.request import OnnxOptions
from facetrain.export.precision.calibration import calibration_images, judged_images, refuse_overlap
from facetrain.export.precision.equalise import equalise, exits
from facetrain.export.precision.qdq import Int8, RoundedWeight, Step
from facetrain.export.precision.statistics import Statistics, collect, image_input
from facetrain.model.operations import Conv, Network, Pool, Upsample

__all__ = ["calibration_images", "judged_images", "quantize", "refuse_overlap"]

OLDEST_OPSET = 13  # the first with a step per channel
# The stem, its unit and the two of stage 1 stay in float: they see the finest maps, where rounding harms most, and with
# their few channels integers are no faster.
_FLOAT_FRONT = 7
TOP = 127  # int8 without -128: symmetric, as every runtime wants weights
_LEVELS = 255  # of uint8, above zero
_SMALLEST_STEP = 1e-30  # a map of nothing but zeros, or of numbers that some processors take for zero


def quantize(
    net: FoldedNet,
    images: Sequence[Path],
    extra: Mapping[str, str] | None = None,
    options: OnnxOptions | None = None,
    progress: Callable[..., None] = lambda done=1: None,
) -> onnx.ModelProto:
    """The network as a file in int8, otherwise as `onnx_model` makes it. Inputs and outputs are float32.

    The first layers stay in float, and the heads, which are joined, with all that follows. progress is called with 1
    for each image. The same network and images give the same bytes. Raises UsageError for an opset that has
    no int8 per channel, InputError without images, DataError for one that cannot be read.
    """
    options = options or OnnxOptions()
    if options.opset < OLDEST_OPSET:
        text = f"`opset` {options.opset}: has no int8 with a step per channel"
        raise UsageError(text, f"take {OLDEST_OPSET} or higher")
    if not images:
        raise InputError("no images to calibrate with", "give a folder of training images")
    net = joined(net)
    convs = integer_convs(net.network)
    multiple = max(net.config.strides)
    found = collect(net, images, lambda path: image_input(path, multiple, options.size), progress)
    net, found, _ = equalise(net, found, convs)
    steps = map_steps(net.network, found, convs)
    rounded = {conv.y: round_weight(net.weights[conv.y], steps[conv.x]) for conv in convs}
    metadata = {**(extra or {}), "precision": "int8", "calibration": f"{len(images)} images"}
    return onnx_model(net, metadata, options, Int8(steps, rounded))


def integer_convs(network: Network) -> list[Conv]:
    """The convolutions that are done in integers: all but the first ones and the last two of each output."""
    convs, first = network.convs, _FLOAT_FRONT
    pooled = {operation.y for operation in network.operations if isinstance(operation, Pool)}
    if convs[first].x in pooled:
        first -= 2  # onnxruntime pools integers fast behind an integer convolution only, else 10 times slower
    leaving = exits(network)
    heads = {conv.x for conv in convs if conv.y in leaving} | leaving
    return [conv for conv in convs[first:] if conv.y not in heads]


def map_steps(network: Network, found: Statistics, convs: Sequence[Conv]) -> dict[str, Step]:
    """The step of every map that is stored in 8 bits, in order of execution.

    These are what integer convolutions read and give, and what is pooled or enlarged between them, which keeps its
    step. The whole range that was seen is covered: the rare large values are the faces. Cutting off the outermost
    0.01 % for smaller steps costs about 0.01 AP over a thousand images, where this costs 0.002 at most.
    """
    wanted = {name for conv in convs for name in (conv.x, conv.y)}
    steps: dict[str, Step] = {}
    for operation in network.operations:
        if isinstance(operation, Pool | Upsample) and operation.reads[0] in steps:
            steps[operation.y] = steps[operation.reads[0]]
            continue
        for name in operation.gives:
            if name in wanted:
                steps[name] = step_of(float(np.min(found.low[name])), float(np.max(found.high[name])))
    return steps


def step_of(low: float, high: float) -> Step:
    """Store [low, high], and zero exactly: the border of a convolution is zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = float(np.float32((high - low) / _LEVELS))
    if step < _SMALLEST_STEP:
        step = 1.0
    return Step(step, int(np.clip(np.rint(-low / step), 0, _LEVELS)))


def round_weight(values: Weights, seen: Step) -> RoundedWeight:
    """The weight in whole steps, the nearest ones. seen: the step of what the convolution reads.

    Rounding that keeps the outputs of the calibration images close (GPTQ) gives up to .0043 AP away on others.
    """
    sizes = steps_of(values, seen)
    whole = np.rint(values.weight / sizes.astype(np.float64)[:, None, None, None])
    return RoundedWeight(np.clip(whole, -TOP, TOP).astype(np.int8), sizes)


def steps_of(values: Weights, seen: Step) -> Floats:
    """The step of each output channel (out,) float32: its largest weight is 127 steps.

    The bias is stored as int32 in steps of weight step times input step, so a channel whose bias would not fit gets
    larger ones; that happens only where its weights do not matter.
    """
    steps = np.abs(values.weight.astype(np.float64)).reshape(len(values.weight), -1).max(1) / TOP
    steps = np.maximum(steps, np.abs(values.bias.astype(np.float64)) / seen.step / 2**30)
    rounded: Floats = np.where(steps > _SMALLEST_STEP, steps, 1.0).astype(np.float32)
    return rounded
