"""From the image to one map per stride."""

from facetrain.config.schema import ModelConfig
from facetrain.model.blocks import BLOCKS, stem
from facetrain.model.operations import IMAGE, Builder


def backbone(net: Builder, config: ModelConfig) -> list[str]:
    """Stem and stages of two blocks, of which the second widens, 2x2 max pools between them. The maps, finest first."""
    block = BLOCKS[config.block]
    _, middle, outputs = config.stem
    x = stem(net, IMAGE, "backbone.stem", middle, outputs)
    maps = []
    for index in range(max(config.maps) + 1):
        if index > 0:
            inputs, outputs = config.stages[index - 1]
            x = block(net, x, f"backbone.stages.{index - 1}.0", inputs)
            x = block(net, x, f"backbone.stages.{index - 1}.1", outputs)
        if index in config.maps:
            maps.append(x)
        if index in config.pool_after and index < max(config.maps):
            x = net.pool(x)
    return maps
