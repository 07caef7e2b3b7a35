"""From a configuration to the list of operations: backbone, neck and head put together. No torch."""

from facetrain.config.schema import ModelConfig
from facetrain.model.backbone import backbone
from facetrain.model.head import head
from facetrain.model.neck import NECKS
from facetrain.model.operations import Builder, Network


def network_of(config: ModelConfig) -> Network:
    """The network that a configuration describes."""
    builder = Builder(config.stem[0])
    maps = NECKS[config.neck](builder, backbone(builder, config), config)
    return builder.network(head(builder, maps, config))
