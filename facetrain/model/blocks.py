"""The two building blocks of YuNet: a separable unit and the stem."""

from torch import Tensor, nn

from facetrain.model.kernels.plain import PLAIN, Operations


class Unit(nn.Module):
    """1x1 convolution, then 3x3 depthwise convolution, nothing between; batch norm and ReLU unless it is an output.

    (B, inputs, H, W) -> (B, outputs, H, W)
    """

    def __init__(self, inputs: int, outputs: int, activated: bool = True) -> None:
        super().__init__()
        self.pointwise = nn.Conv2d(inputs, outputs, 1)
        self.depthwise = nn.Conv2d(outputs, outputs, 3, padding=1, groups=outputs)
        self.norm = nn.BatchNorm2d(outputs) if activated else None
        self.operations: Operations = PLAIN

    def forward(self, x: Tensor) -> Tensor:
        if self.norm is None:
            outputs: Tensor = self.depthwise(self.pointwise(x))
            return outputs
        return self.operations.separable(x, self.pointwise, self.depthwise, self.norm)


class Stem(nn.Module):
    """Full 3x3 convolution with stride 2, batch norm, ReLU, then a unit: (B, 3, H, W) -> (B, outputs, H/2, W/2)."""

    def __init__(self, inputs: int, middle: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, middle, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(middle)
        self.unit = Unit(middle, outputs)
        self.operations: Operations = PLAIN

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.unit(self.operations.norm_relu(self.conv(x), self.norm))
        return activated


def stage(inputs: int, outputs: int) -> nn.Sequential:
    """Two units; the second one widens. (B, inputs, H, W) -> (B, outputs, H, W)."""
    return nn.Sequential(Unit(inputs, inputs), Unit(inputs, outputs))
