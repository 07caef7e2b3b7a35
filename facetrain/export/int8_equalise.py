"""Give the channels of a map equal ranges, without changing what the network computes.

int8 has one step per map, so a channel of small numbers would get few of them. A channel can be divided by any
positive number if whatever reads it multiplies: ReLU, max pooling, enlarging and adding let that through. Between a
pointwise and a depthwise convolution it is free, since both have a step per channel. Before a pointwise one it
makes the weights of a row uneven instead, so the ranges are brought together half the way (Nagel et al. 2019,
arXiv:1906.04721; the half way of Xiao et al. 2023, arXiv:2211.10438).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from facetrain.core.faces import Floats
from facetrain.export.int8_statistics import Statistics
from facetrain.export.map_layers import CARRIERS, ConvLayer, Doubles, MapLayers, inputs_of

_LEAST = 1e-3  # a channel is not lifted by more than this: one that is dead would only be noise
_HALF_WAY = 0.5


def equalise(
    layers: MapLayers, found: Statistics, quantised: Sequence[ConvLayer]
) -> tuple[MapLayers, Statistics, dict[str, Doubles]]:
    """Divide the channels of all maps that `quantised` convolutions read or give, but those that leave the network.

    Returns the layers with their new weights, what the pictures make of them, and per map the divisors (C,).
    """
    groups = _groups(layers)
    wanted = {name for conv in quantised for name in (conv.x, conv.y)}
    divisors: dict[str, Doubles] = {}
    for names in groups:
        if wanted & set(names) and not layers.exits & set(names) and set(names) <= found.low.keys() | _raw(layers):
            divisors |= dict.fromkeys(names, _divisors(layers, found, names))
    weights = dict(layers.weights)
    moments = {}
    for conv in layers.convs:
        weights[conv.weight], weights[conv.bias] = _scaled(layers, conv, divisors)
        if conv.raw in found.moments:
            moments[conv.raw] = _scaled_moments(found.moments[conv.raw], conv, divisors)
    seen = Statistics(
        {name: low / divisors.get(name, 1) for name, low in found.low.items()},
        {name: high / divisors.get(name, 1) for name, high in found.high.items()},
        moments,
    )
    return replace(layers, weights=weights), seen, divisors


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


def _divisors(layers: MapLayers, found: Statistics, names: Sequence[str]) -> Doubles:
    stored = [name for name in names if name in found.low]
    low = np.minimum(np.min([found.low[name] for name in stored], 0), 0)
    high = np.maximum(np.max([found.high[name] for name in stored], 0), 0)
    mixing = [conv for conv in layers.convs if conv.x in names and conv.groups == 1]
    if mixing:
        ranges = _floored(np.maximum(-low, high))
        divisors = ranges**_HALF_WAY / _floored(_columns(layers, mixing)) ** (1 - _HALF_WAY)
    else:
        divisors = _floored(even_divisors(low, high))
    normalised: Doubles = divisors / np.exp(np.log(divisors).mean())
    return normalised


def _columns(layers: MapLayers, mixing: Sequence[ConvLayer]) -> Doubles:
    """Per input channel its largest weight, of those that have a step for each row: relative to the row's largest."""
    largest = []
    for conv in mixing:
        weight = np.abs(layers.weights[conv.weight].astype(np.float64))
        rows = weight.max((1, 2, 3), keepdims=True)
        largest.append(np.divide(weight, rows, out=np.zeros_like(weight), where=rows > 0).max((0, 2, 3)))
    columns: Doubles = np.max(largest, 0)
    return columns


def _floored(values: Doubles) -> Doubles:
    """Positive numbers, none below a small share of the largest."""
    return np.maximum(values, np.max(values) * _LEAST if np.max(values) > 0 else 1.0)


def _scaled(layers: MapLayers, conv: ConvLayer, divisors: Mapping[str, Doubles]) -> tuple[Floats, Floats]:
    """Weight and bias that undo the divisors before the convolution and make those behind it."""
    weight, bias = (layers.weights[name].astype(np.float64) for name in (conv.weight, conv.bias))
    before, behind = divisors.get(conv.x), divisors.get(conv.raw)
    if before is not None:
        weight = weight * (before[None, :, None, None] if conv.groups == 1 else before[:, None, None, None])
    if behind is not None:
        weight, bias = weight / behind[:, None, None, None], bias / behind
    return weight.astype(np.float32), bias.astype(np.float32)


def _scaled_moments(moments: Doubles, conv: ConvLayer, divisors: Mapping[str, Doubles]) -> Doubles:
    before = divisors.get(conv.x)
    if before is None:
        return moments
    if conv.groups > 1:
        return moments / (before**2)[:, None, None]
    repeated = np.repeat(before, len(moments) // len(before))
    return moments / np.outer(repeated, repeated)


def _raw(layers: MapLayers) -> set[str]:
    return {conv.raw for conv in layers.convs}


def _groups(layers: MapLayers) -> list[list[str]]:
    """Maps that must have the same divisors, since carriers connect them."""
    group: dict[str, list[str]] = {}
    for node in layers.nodes:
        names = [*inputs_of(node, layers), node.output[0]] if node.op_type in CARRIERS else [node.output[0]]
        joined: list[str] = []
        for name in names:
            joined.extend(other for other in group.get(name, [name]) if other not in joined)
        group |= dict.fromkeys(joined, joined)
    unique = {id(names): names for names in group.values()}
    return list(unique.values())
