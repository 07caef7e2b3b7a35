"""Give the channels of a map equal ranges, without changing what the network computes.

int8 has one step per map, so a channel of small numbers would get few of them. A channel can be divided by any
positive number if whatever reads it multiplies: ReLU, max pooling, enlarging and adding let that through. Between a
pointwise and a depthwise convolution it is free, since both have a step per channel. Before a pointwise one it
makes the weights of a row uneven instead, so the ranges are brought together half the way (Nagel et al. 2019,
arXiv:1906.04721; the half way of Xiao et al. 2023, arXiv:2211.10438).

It gains up to .0034 AP [.0010, .0059], and no loss can be told: tests/benchmarks/int8_recipes.py, over four networks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from facetrain.core.faces import Floats
from facetrain.export.network.folded import FoldedNet, Weights
from facetrain.export.precision.statistics import Doubles, Statistics
from facetrain.model.operations import Add, Conv, Network, Pool, Split, Upsample

_LEAST = 1e-3  # a channel is not lifted by more than this: one that is dead would only be noise
_HALF_WAY = 0.5


def equalise(
    net: FoldedNet, found: Statistics, quantised: Sequence[Conv]
) -> tuple[FoldedNet, Statistics, dict[str, Doubles]]:
    """Divide the channels of all maps that `quantised` convolutions read or give, but those that leave the network.

    Returns the network with its new weights, what the images make of them, and per map the divisors (C,).
    """
    wanted = {name for conv in quantised for name in (conv.x, conv.y)}
    leaving = exits(net.network)
    divisors: dict[str, Doubles] = {}
    for names in _groups(net.network):
        if wanted & set(names) and not leaving & set(names) and set(names) <= found.low.keys():
            divisors |= dict.fromkeys(names, _divisors(net, found, names))
    weights = {conv.y: _scaled(net.weights[conv.y], conv, divisors) for conv in net.network.convs}
    seen = Statistics(
        {name: low / divisors.get(name, 1) for name, low in found.low.items()},
        {name: high / divisors.get(name, 1) for name, high in found.high.items()},
    )
    return replace(net, weights=weights), seen, divisors


def exits(network: Network) -> set[str]:
    """The maps with which the convolutions end: outputs, and what is split into outputs."""
    splits = [operation for operation in network.operations if isinstance(operation, Split)]
    return set(network.outputs.values()) | {split.x for split in splits}


def even_divisors(low: Doubles, high: Doubles) -> Doubles:
    """Divisors (C,) that make all channels fill one common range. low, high: (C,) with low <= 0 <= high.

    The share of the range that lies below zero is free; the one with the smallest steps over all channels is taken.
    """
    best, least = np.maximum(-low, high), float("inf")
    for share in np.linspace(0, 1, 41):
        with np.errstate(divide="ignore", invalid="ignore"):
            below = np.where(low < 0, -low / share, 0)
            above = np.where(high > 0, high / (1 - share), 0)
        steps = np.maximum(below, above)
        cost = float(np.log(np.maximum(steps, 1e-12)).sum())
        if cost < least:
            best, least = steps, cost
    return best


def _divisors(net: FoldedNet, found: Statistics, names: Sequence[str]) -> Doubles:
    low = np.minimum(np.min([found.low[name] for name in names], 0), 0)
    high = np.maximum(np.max([found.high[name] for name in names], 0), 0)
    mixing = [conv for conv in net.network.convs if conv.x in names and not conv.depthwise]
    if mixing:
        ranges = _floored(np.maximum(-low, high))
        columns = _columns([net.weights[conv.y].weight for conv in mixing])
        divisors = ranges**_HALF_WAY / _floored(columns) ** (1 - _HALF_WAY)
    else:
        divisors = _floored(even_divisors(low, high))
    normalised: Doubles = divisors / np.exp(np.log(divisors).mean())
    return normalised


def _columns(weights: Sequence[Floats]) -> Doubles:
    """Per input channel its largest weight, of those that have a step for each row: relative to the row's largest."""
    largest = []
    for values in weights:
        weight = np.abs(values.astype(np.float64))
        rows = weight.max((1, 2, 3), keepdims=True)
        largest.append(np.divide(weight, rows, out=np.zeros_like(weight), where=rows > 0).max((0, 2, 3)))
    columns: Doubles = np.max(largest, 0)
    return columns


def _floored(values: Doubles) -> Doubles:
    """Positive numbers, none below a small share of the largest."""
    return np.maximum(values, np.max(values) * _LEAST if np.max(values) > 0 else 1.0)


def _scaled(values: Weights, conv: Conv, divisors: Mapping[str, Doubles]) -> Weights:
    """Weight and bias that undo the divisors before the convolution and make those behind it."""
    weight, bias = values.weight.astype(np.float64), values.bias.astype(np.float64)
    before, behind = divisors.get(conv.x), divisors.get(conv.y)
    if before is not None:
        weight = weight * (before[:, None, None, None] if conv.depthwise else before[None, :, None, None])
    if behind is not None:
        weight, bias = weight / behind[:, None, None, None], bias / behind
    return Weights(weight.astype(np.float32), bias.astype(np.float32))


def _groups(network: Network) -> list[list[str]]:
    """Maps that must have the same divisors, since pools, repetitions and sums connect them."""
    group: dict[str, list[str]] = {}
    for operation in network.operations:
        joining = isinstance(operation, Pool | Upsample | Add)
        names = [*operation.reads, *operation.gives] if joining else list(operation.gives)
        together: list[str] = []
        for name in names:
            together.extend(other for other in group.get(name, [name]) if other not in together)
        group |= dict.fromkeys(together, together)
    unique = {id(names): names for names in group.values()}
    return list(unique.values())
