"""What each level says about its priors."""

from collections.abc import Sequence

from facetrain.config.schema import ModelConfig
from facetrain.model.blocks import BLOCKS, output_unit
from facetrain.model.operations import Builder


def head(net: Builder, maps: Sequence[str], config: ModelConfig) -> dict[tuple[str, int], str]:
    """Shared blocks, two optional towers, then one output unit each for cls, obj, box and landmarks, on every map.

    Returns the map of each (kind, stride); without landmark names there are no landmarks.
    """
    outputs = {}
    points = len(config.landmarks.names)
    for level, (x, stride) in enumerate(zip(maps, config.strides, strict=True)):
        name = f"levels.{level}"
        shared = _chain(net, x, f"{name}.shared", config.shared_convs, config)
        for_cls = _chain(net, shared, f"{name}.cls_tower", config.tower_convs, config)
        for_box = _chain(net, shared, f"{name}.box_tower", config.tower_convs, config)
        outputs["cls", stride] = output_unit(net, for_cls, f"{name}.cls", 1)
        outputs["obj", stride] = output_unit(net, for_box, f"{name}.obj", 1)
        outputs["box", stride] = output_unit(net, for_box, f"{name}.box", 4)
        if points:
            outputs["landmarks", stride] = output_unit(net, for_box, f"{name}.landmarks", 2 * points)
    return outputs


def _chain(net: Builder, x: str, name: str, count: int, config: ModelConfig) -> str:
    for index in range(count):
        x = BLOCKS[config.block](net, x, f"{name}.{index}", config.head_channels)
    return x
