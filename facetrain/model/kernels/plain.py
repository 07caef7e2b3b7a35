"""What the network does to a map, as a set of functions that can be exchanged: here the plain one, of torch alone."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Kernels:
    """One way to compute the network. All ways give the same numbers up to rounding, gradients included.

    separable: x, 1x1 convolution, depthwise convolution, batch norm: (B, C, H, W) -> (B, outputs, H, W) after ReLU
    norm_relu: x, batch norm: (B, C, H, W) -> the same shape
    pool:      2x2 maximum: (B, C, H, W) -> (B, C, H/2, W/2)
    """

    separable: Callable[[Tensor, nn.Conv2d, nn.Conv2d, nn.BatchNorm2d], Tensor]
    norm_relu: Callable[[Tensor, nn.BatchNorm2d], Tensor]
    pool: Callable[[Tensor], Tensor]


def separable(x: Tensor, pointwise: nn.Conv2d, depthwise: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """1x1 convolution, depthwise convolution, batch norm, ReLU."""
    return norm_relu(depthwise(pointwise(x)), norm)


def norm_relu(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Batch norm, ReLU."""
    return F.relu(norm(x), inplace=True)


def pool(x: Tensor) -> Tensor:
    """The largest of 2x2 values, without overlap."""
    return F.max_pool2d(x, 2)


PLAIN = Kernels(separable, norm_relu, pool)


def folded_separable(x: Tensor, pointwise: nn.Conv2d, depthwise: nn.Conv2d, _: nn.BatchNorm2d) -> Tensor:
    """1x1 convolution, depthwise convolution that contains the batch norm, ReLU."""
    return F.relu(depthwise(pointwise(x)), inplace=True)


def folded_norm_relu(x: Tensor, _: nn.BatchNorm2d) -> Tensor:
    """ReLU alone: the convolution before it contains the batch norm."""
    return F.relu(x, inplace=True)


# for a network whose batch norms were folded into its convolutions (model/frozen.py)
FOLDED = Kernels(folded_separable, folded_norm_relu, pool)
