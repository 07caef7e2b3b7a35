"""What each level says about its priors."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facetrain.config.schema import ModelConfig
from facetrain.model.blocks import Unit


class HeadLevel(nn.Module):
    """Shared units, two optional towers, then one output unit each for cls, obj, box and landmarks.

    (B, C, h, w) -> cls (B, P, 1), obj (B, P, 1), box (B, P, 4), landmarks (B, P, 2L), P = h·w row by row.
    """

    def __init__(self, config: ModelConfig, inputs: int) -> None:
        super().__init__()
        width = config.head_channels
        self.shared = nn.Sequential(*_chain(inputs, width, config.shared_convs))
        inputs = width if config.shared_convs else inputs
        self.cls_tower = nn.Sequential(*_chain(inputs, width, config.tower_convs))
        self.box_tower = nn.Sequential(*_chain(inputs, width, config.tower_convs))
        inputs = width if config.tower_convs else inputs
        self.cls = Unit(inputs, 1, activated=False)
        self.obj = Unit(inputs, 1, activated=False)
        self.box = Unit(inputs, 4, activated=False)
        points = len(config.landmarks.names)
        self.landmarks = Unit(inputs, 2 * points, activated=False) if points else None

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.shared(x)
        box_units = [self.obj, self.box] + ([self.landmarks] if self.landmarks is not None else [])
        if len(self.cls_tower):
            outputs = run_together(self.cls_tower(x), [self.cls]) + run_together(self.box_tower(x), box_units)
        else:
            outputs = run_together(x, [self.cls, *box_units])
        return outputs if self.landmarks is not None else [*outputs, outputs[0][..., :0]]


def run_together(x: Tensor, units: Sequence[Unit]) -> list[Tensor]:
    """Run output units that read the same map as one: the map is the large operand and is then read once, not per unit.

    x: (B, C, h, w). Returns one (B, h·w, outputs) tensor a unit, equal to running each alone.
    """
    pointwise = [unit.pointwise for unit in units]
    depthwise = [unit.depthwise for unit in units]
    x = F.conv2d(x, torch.cat([c.weight for c in pointwise]), _biases(pointwise))
    x = F.conv2d(x, torch.cat([c.weight for c in depthwise]), _biases(depthwise), padding=1, groups=x.shape[1])
    rows = x.permute(0, 2, 3, 1).flatten(1, 2)  # (B, h·w, all outputs)
    return list(torch.split(rows, [c.out_channels for c in pointwise], dim=-1))


def _biases(convolutions: Sequence[nn.Conv2d]) -> Tensor:
    return torch.cat([c.bias for c in convolutions if c.bias is not None])


def _chain(inputs: int, width: int, count: int) -> list[Unit]:
    return [Unit(inputs if i == 0 else width, width) for i in range(count)]
