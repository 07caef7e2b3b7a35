"""A list of operations as a torch module: its weights by their names, and a forward pass that goes through the list."""

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facetrain.model.kernels.plain import PLAIN, Kernels
from facetrain.model.network import join_outputs, units
from facetrain.model.operations import IMAGE, Add, Conv, Network, Operation, Pool, Split, Unit, Upsample

NORM_EPS = 1e-5  # of batch norms


class NetworkModule(nn.Module):
    """The operations of a network. Submodules have the names that the list gives: `backbone.stem.conv` and so on.

    kernels: how units, norms and pools are computed (model/kernels)
    watched: maps inside that are kept beside the outputs, see `watch`
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.kernels: Kernels = PLAIN
        for name, child in _tree(_layers(network)).items():
            self.add_module(name, child)
        # A norm may be exchanged for another one in its place (train/parallel): what is kept is where it lies.
        self._places = {name: _place(self, name) for conv in network.convs for name in (*conv.names, conv.norm) if name}
        self.watched: tuple[str, ...] = ()
        self._schedule = self._with_last_uses()

    def watch(self, names: Iterable[str]) -> None:
        """Keep these maps inside the network, by their names in its list, when it is computed."""
        self.watched = tuple(names)
        self._schedule = self._with_last_uses()

    def convolution(self, name: str) -> nn.Conv2d:
        """A convolution by the name of its weights."""
        return cast(nn.Conv2d, self._layer(name))

    def batch_norm(self, name: str) -> nn.BatchNorm2d:
        """A batch norm by its name, or what stands in its place."""
        return cast(nn.BatchNorm2d, self._layer(name))

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """(B, C, H, W) images -> outputs and watched maps by their names, (B, channels, h, w) each."""
        maps = {IMAGE: images}
        for operation, finished in self._schedule:
            if isinstance(operation, Split):
                parts = torch.split(maps[operation.x], list(operation.sizes), 1)
                maps |= zip(operation.gives, parts, strict=True)
            else:
                maps[operation.gives[0]] = self._compute(operation, [maps[name] for name in operation.reads])
            for name in finished:
                del maps[name]
        return maps

    def _compute(self, operation: Operation | Unit, x: Sequence[Tensor]) -> Tensor:
        match operation:
            case Unit(pointwise, depthwise) if depthwise.norm is not None and depthwise.relu:
                convs = self.convolution(pointwise.names[0]), self.convolution(depthwise.names[0])
                return self.kernels.separable(x[0], *convs, self.batch_norm(depthwise.norm))
            case Unit(pointwise, depthwise):
                return self._convolve(depthwise, self._convolve(pointwise, x[0]))
            case Conv():
                return self._convolve(operation, x[0])
            case Pool():
                return self.kernels.pool(x[0])
            case Upsample():
                return F.interpolate(x[0], scale_factor=2.0, mode="nearest")
            case Add():
                return x[0] + x[1]
        raise TypeError(f"{type(operation).__name__} is not computed")

    def _convolve(self, conv: Conv, x: Tensor) -> Tensor:
        """A convolution with what follows it; one that was joined of several computes all of them at once."""
        layers = [self.convolution(name) for name in conv.names]
        if len(layers) == 1:
            x = layers[0](x)
        else:
            weight, bias = torch.cat([layer.weight for layer in layers]), torch.cat([_bias(layer) for layer in layers])
            x = F.conv2d(x, weight, bias, conv.stride, conv.kernel // 2, groups=conv.groups)
        if conv.norm is not None and conv.relu:
            return self.kernels.norm_relu(x, self.batch_norm(conv.norm))
        if conv.norm is not None:
            x = self.batch_norm(conv.norm)(x)
        return F.relu(x) if conv.relu else x

    def _with_last_uses(self) -> "list[tuple[Operation | Unit, list[str]]]":
        """Each operation with the maps that nobody needs after it: they go, so that memory stays small."""
        joined = join_outputs(self.network)
        needed = {*self.network.outputs.values(), *self.watched}
        found: list[tuple[Operation | Unit, list[str]]] = []
        for operation in reversed(units(joined.operations, joined.readers())):
            finished = [name for name in (*operation.reads, *operation.gives) if name not in needed]
            needed.update(operation.reads, operation.gives)
            found.append((operation, list(dict.fromkeys(finished))))
        return found[::-1]

    def _layer(self, name: str) -> nn.Module:
        parent, attribute = self._places[name]
        layer: nn.Module = getattr(parent, attribute)
        return layer


def _layers(network: Network) -> Iterator[tuple[str, nn.Module]]:
    """Every layer with weights, in the order of the list."""
    for conv in network.convs:
        (name,) = conv.names
        yield name, nn.Conv2d(conv.inputs, conv.outputs, conv.kernel, conv.stride, conv.kernel // 2, groups=conv.groups)
        if conv.norm is not None:
            yield conv.norm, nn.BatchNorm2d(conv.outputs, eps=NORM_EPS)


def _tree(layers: Iterator[tuple[str, nn.Module]]) -> dict[str, nn.Module]:
    """Layers by dotted names as nested modules. Children that are numbers stand in their order: a list."""
    inner: dict[str, list[tuple[str, nn.Module]]] = {}
    for name, layer in layers:
        first, _, rest = name.partition(".")
        inner.setdefault(first, []).append((rest, layer))
    return {name: _node(found) for name, found in inner.items()}


def _node(found: list[tuple[str, nn.Module]]) -> nn.Module:
    if found[0][0] == "":
        return found[0][1]
    children = _tree(iter(found))
    if all(name.isdigit() for name in children):
        return nn.ModuleList(children[name] for name in sorted(children, key=int))
    node = nn.Module()
    for name, child in children.items():
        node.add_module(name, child)
    return node


def _place(root: nn.Module, name: str) -> tuple[nn.Module, str]:
    parent, _, attribute = name.rpartition(".")
    return root.get_submodule(parent), attribute


def _bias(convolution: nn.Conv2d) -> Tensor:
    assert convolution.bias is not None
    return convolution.bias
