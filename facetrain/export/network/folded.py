"""A trained network as plain numbers: its list of operations, and each convolution's weights with batch norm folded in.

Every export reads this and none reads torch modules; `fold` makes it of one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from facetrain.config.schema import ModelConfig
from facetrain.core.errors import ExportError
from facetrain.core.faces import Floats
from facetrain.model.network import join_outputs
from facetrain.model.operations import Network


@dataclass(frozen=True)
class Weights:
    """Of a convolution: weight (out, in / groups, k, k), bias (out,)."""

    weight: Floats
    bias: Floats


@dataclass(frozen=True)
class FoldedNet:
    """The whole network. weights: by the map that the convolution gives; the list's batch norms are in them."""

    config: ModelConfig
    network: Network
    weights: Mapping[str, Weights]


def joined(net: FoldedNet) -> FoldedNet:
    """The same with output units that read one map as one (`join_outputs`)."""
    network = join_outputs(net.network)
    weights = {}
    for conv in network.convs:
        parts = [net.weights[name] for name in conv.names]
        weight, bias = (np.concatenate(arrays) for arrays in zip(*((p.weight, p.bias) for p in parts), strict=True))
        weights[conv.y] = Weights(weight, bias)
    return replace(net, network=network, weights=weights)


def check_finite(net: FoldedNet) -> None:
    """Raise ExportError where a folded weight is NaN or infinite: no file format has a use for it."""
    for name, layer in net.weights.items():
        for part, values in (("weight", layer.weight), ("bias", layer.bias)):
            bad = np.count_nonzero(~np.isfinite(values))
            if bad:
                raise ExportError(
                    f"{name}: {bad} of {values.size} numbers of its {part} are NaN or infinite",
                    "the training that made these weights went wrong: take an earlier checkpoint",
                )


def with_digits(net: FoldedNet, digits: int) -> FoldedNet:
    """The network whose weights are what `digits` significant digits leave of them; 9 leave them as they are."""
    weights = {
        name: Weights(_rounded(layer.weight, digits), _rounded(layer.bias, digits))
        for name, layer in net.weights.items()
    }
    return replace(net, weights=weights)


def _rounded(values: Floats, digits: int) -> Floats:
    texts = [float(format(value, f".{digits}g")) for value in values.ravel().tolist()]
    return np.array(texts, np.float32).reshape(values.shape)
