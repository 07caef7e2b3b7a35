"""How the maps of different strides learn of each other. A new way is a function and its row in NECKS."""

from collections.abc import Callable, Sequence

from facetrain.config.schema import ModelConfig
from facetrain.model.blocks import BLOCKS
from facetrain.model.operations import Builder

# builder, maps of equal channels finest first, configuration -> as many maps of the same sizes
Neck = Callable[[Builder, Sequence[str], ModelConfig], list[str]]


def top_down(net: Builder, maps: Sequence[str], config: ModelConfig) -> list[str]:
    """Coarse maps are enlarged and added to finer ones, a block after each sum: f8 = U8(f8 + up(f16))."""
    block = BLOCKS[config.block]
    results: list[str] = []
    for level in reversed(range(len(maps))):
        x = net.add(maps[level], net.upsample(results[0])) if results else maps[level]
        results.insert(0, block(net, x, f"neck.units.{level}", net.channels(x)))
    return results


def both_ways(net: Builder, maps: Sequence[str], config: ModelConfig) -> list[str]:
    """Top down, and back: fine maps are pooled and added to coarser ones, as in PANet (Liu et al. 2018)."""
    block = BLOCKS[config.block]
    down = top_down(net, maps, config)
    results = down[:1]
    for level in range(1, len(down)):
        x = net.add(down[level], net.pool(results[-1]))
        results.append(block(net, x, f"neck.back.{level - 1}", net.channels(x)))
    return results


NECKS: dict[str, Neck] = {
    "top_down": top_down,
    "both_ways": both_ways,
}
