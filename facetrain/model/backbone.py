"""From the picture to one map per stride."""

from torch import Tensor, nn

from facetrain.config.schema import ModelConfig
from facetrain.model.blocks import Stem, stage
from facetrain.model.kernels.plain import PLAIN, Operations


class Backbone(nn.Module):
    """Stem and stages with 2x2 max pools between them: (B, 3, H, W) -> maps (B, C, H/s, W/s), finest first."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.stem = Stem(*config.stem)
        self.stages = nn.ModuleList(stage(*channels) for channels in config.stages)
        self.pool_after = config.pool_after
        self.maps = config.maps
        self.operations: Operations = PLAIN

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for index, block in enumerate([self.stem, *self.stages]):
            x = block(x)
            if index in self.maps:
                maps.append(x)
            if index in self.pool_after:
                x = self.operations.pool(x)
        return maps
