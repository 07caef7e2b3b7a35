"""The top-down path: coarse maps are enlarged and added to finer ones."""

from torch import Tensor, nn
from torch.nn import functional as F

from facetrain.model.blocks import Unit


class Neck(nn.Module):
    """One unit per level, after the sum: f8 = U8(f8 + up(f16)). Maps (B, C, H/s, W/s), finest first."""

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.units = nn.ModuleList(Unit(channels, channels) for _ in range(levels))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        results = [self.units[-1](maps[-1])]
        for unit, fine in zip(reversed(self.units[:-1]), reversed(maps[:-1]), strict=True):
            results.append(unit(fine + F.interpolate(results[-1], scale_factor=2.0, mode="nearest")))
        return results[::-1]
