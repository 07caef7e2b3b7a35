"""What networks are built of. A block adds operations to the list: a new one is a function and its row in BLOCKS."""

from collections.abc import Callable

from facetrain.model.operations import Builder

# builder, map, name of its weights, channels that it gives -> the map that it gives, of the same height and width.
# It meets any numbers of channels from 1 on, equal or not; in the presets 16 to 16, 16 to 64 and 64 to 64.
Block = Callable[[Builder, str, str, int], str]


def separable(net: Builder, x: str, name: str, outputs: int) -> str:
    """YuNet's unit: 1x1 convolution, 3x3 depthwise convolution, nothing between; batch norm and ReLU behind."""
    x = net.conv(x, f"{name}.pointwise", outputs, 1)
    return net.conv(x, f"{name}.depthwise", outputs, 3, depthwise=True, norm=f"{name}.norm", relu=True)


def residual(net: Builder, x: str, name: str, outputs: int) -> str:
    """The unit whose input is added to its result, where it keeps the number of channels (He et al. 2016)."""
    y = separable(net, x, name, outputs)
    return net.add(y, x) if net.channels(x) == outputs else y


def output_unit(net: Builder, x: str, name: str, outputs: int) -> str:
    """A unit without batch norm and ReLU, whose numbers leave the network."""
    x = net.conv(x, f"{name}.pointwise", outputs, 1)
    return net.conv(x, f"{name}.depthwise", outputs, 3, depthwise=True)


def stem(net: Builder, x: str, name: str, middle: int, outputs: int) -> str:
    """Full 3x3 convolution with stride 2, batch norm, ReLU, then a unit."""
    x = net.conv(x, f"{name}.conv", middle, 3, stride=2, norm=f"{name}.norm", relu=True)
    return separable(net, x, f"{name}.unit", outputs)


BLOCKS: dict[str, Block] = {
    "separable": separable,
    "residual": residual,
}
