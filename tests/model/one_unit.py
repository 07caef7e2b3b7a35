"""A single unit as a network of its own, to hold kernels against each other."""

from torch import Tensor

from facetrain.model.blocks import separable
from facetrain.model.module import NetworkModule
from facetrain.model.operations import IMAGE, Builder


class OneUnit(NetworkModule):
    """(B, inputs, H, W) -> (B, outputs, H, W); its layers are `unit.pointwise`, `unit.depthwise` and `unit.norm`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        builder = Builder(inputs)
        self.end = separable(builder, IMAGE, "unit", outputs)
        super().__init__(builder.network({("cls", 1): self.end}))

    def forward(self, x: Tensor) -> Tensor:
        return self.maps(x)[self.end]
