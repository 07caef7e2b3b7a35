"""In which order the standalone detector works, and which of its maps share memory."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from facetrain.export.folded import FoldedConv, FoldedNet, FoldedUnit

BAND_PIXELS = 128  # of a row or more that go through a layer at a time
MOST_CANDIDATES = 5000  # the best boxes that suppression looks at, as FaceDetector's
PICTURE = -1  # in the place of a map

_BLOCK = 16  # channels that lie side by side
Source = Literal["picture", "map", "pooled_map", "sum"]


@dataclass(frozen=True)
class Map:
    """What outlives the step that makes it. Maps of one slot share memory."""

    name: str
    channels: int
    stride: int  # pixels of the picture
    slot: int = -1


@dataclass(frozen=True)
class Step:
    """A chain of units that rows flow through, perhaps a 2x2 max pool behind it.

    source:        what `start` is: the picture, which the stem reads; a map; a map to be pooled first; or a map to
                   which the map `enlarged` is added, every value of it repeated 2x2
    first, count:  which of the plan's units
    target:        the map that it fills
    """

    source: Source
    start: int
    enlarged: int
    first: int
    count: int
    pool: bool
    target: int


@dataclass(frozen=True)
class Level:
    """Where a level's outputs lie: cls is channel 0 of its map; obj, box, landmarks follow each other in theirs."""

    stride: int
    cls_map: int
    map: int
    obj_channel: int


@dataclass(frozen=True)
class Plan:
    """The whole network, in order of execution."""

    units: dict[str, FoldedUnit]
    maps: list[Map]
    steps: list[Step]
    levels: list[Level]


def plan(net: FoldedNet) -> Plan:
    """Cut the network into steps: at pools, and wherever a map is needed more than once."""
    builder = _Builder()
    features = _backbone(builder, net)
    neck: list[int] = []
    for index in reversed(range(len(features))):
        source: Source = "sum" if neck else "map"
        unit = {f"neck {_stride(net, index)}": net.neck[index]}
        neck.insert(0, builder.step(source, features[index], unit, enlarged=neck[0] if neck else PICTURE))
    levels = [_level(builder, net, index, start) for index, start in enumerate(neck)]
    return Plan(builder.units, _share_slots(builder.maps, builder.steps, levels), builder.steps, levels)


def _backbone(builder: "_Builder", net: FoldedNet) -> list[int]:
    """Steps from the picture to the maps of the neck, whose numbers are returned."""
    config = net.config
    features: list[int] = []
    source: Source = "picture"
    start = PICTURE
    waiting = {"stem": net.stem_unit}
    for index in range(max(config.maps) + 1):
        if index:
            waiting |= _named(f"stage {index}", net.stages[index - 1])
        mapped = index in config.maps
        pooled = index in config.pool_after and index < max(config.maps)
        if mapped or pooled:
            start = builder.step(source, start, waiting, pool=pooled and not mapped)
            source = "pooled_map" if pooled and mapped else "map"
            waiting = {}
        if mapped:
            features.append(start)
    return features


def _level(builder: "_Builder", net: FoldedNet, index: int, start: int) -> Level:
    """Steps from a map of the neck to the outputs of its stride, those that read the same map joined into one unit."""
    level, stride = net.levels[index], _stride(net, index)
    shared = _named(f"shared {stride}", level.shared)
    rest = _joined([unit for kind, unit in level.outputs.items() if kind != "cls"])
    if not level.cls_tower and not level.box_tower:
        joined = _joined([level.outputs["cls"], rest])
        outputs = builder.step("map", start, {**shared, f"outputs {stride}": joined})
        return Level(stride, outputs, outputs, 1)
    if shared:
        start = builder.step("map", start, shared)
    cls_units = {**_named(f"cls tower {stride}", level.cls_tower), f"cls {stride}": level.outputs["cls"]}
    box_units = {**_named(f"box tower {stride}", level.box_tower), f"boxes {stride}": rest}
    return Level(stride, builder.step("map", start, cls_units), builder.step("map", start, box_units), 0)


def _stride(net: FoldedNet, index: int) -> int:
    return net.config.strides[index]


def _named(prefix: str, units: list[FoldedUnit]) -> dict[str, FoldedUnit]:
    return {f"{prefix} unit {number}": unit for number, unit in enumerate(units, 1)}


def _joined(units: list[FoldedUnit]) -> FoldedUnit:
    """Units that read the same map, as one: their outputs behind each other."""

    def join(layers: list[FoldedConv]) -> FoldedConv:
        weight = np.concatenate([layer.weight for layer in layers])
        bias = np.concatenate([layer.bias for layer in layers])
        return replace(layers[0], weight=weight, bias=bias)

    return join([unit[0] for unit in units]), join([unit[1] for unit in units])


class _Builder:
    """Units, maps and steps as they are added."""

    def __init__(self) -> None:
        self.units: dict[str, FoldedUnit] = {}
        self.maps: list[Map] = []
        self.steps: list[Step] = []

    def step(
        self,
        source: Source,
        start: int,
        units: dict[str, FoldedUnit],
        *,
        pool: bool = False,
        enlarged: int = PICTURE,
    ) -> int:
        """Add a step; returns the number of the map that it fills."""
        first = len(self.units)
        self.units |= units
        stride = 1 if start == PICTURE else self.maps[start].stride
        stride *= (2 if source in ("picture", "pooled_map") else 1) * (2 if pool else 1)
        name, last = list(units.items())[-1]
        self.maps.append(Map(name, len(last[1].bias), stride))
        self.steps.append(Step(source, start, enlarged, first, len(units), pool, len(self.maps) - 1))
        return len(self.maps) - 1


def _share_slots(maps: list[Map], steps: list[Step], levels: list[Level]) -> list[Map]:
    """Give every map a slot that no map holds which is still needed; of those that are free, one of its own size."""
    last_use = {level.map: len(steps) for level in levels} | {level.cls_map: len(steps) for level in levels}
    for number, step in enumerate(steps):
        for used in (step.start, step.enlarged):
            last_use[used] = max(number, last_use.get(used, number))
    sizes: list[float] = []  # of the slots, floats per pixel of the picture
    held: dict[int, int] = {}  # slot -> the map in it
    placed = list(maps)
    for number, step in enumerate(steps):
        size = padded(maps[step.target].channels) / maps[step.target].stride ** 2
        free = [slot for slot in range(len(sizes)) if slot not in held or last_use[held[slot]] < number]
        slot = min(free, key=lambda slot: abs(sizes[slot] - size), default=len(sizes))
        if slot < len(sizes) and sizes[slot] < size:
            slot = len(sizes)
        if slot == len(sizes):
            sizes.append(size)
        held[slot] = step.target
        placed[step.target] = replace(maps[step.target], slot=slot)
    return placed


def working_memory(layout: Plan, width: int, height: int, landmarks: int) -> int:
    """Bytes that a detector with one thread holds for a picture of this size, counted as the C++ does it."""
    multiple = layout.levels[-1].stride
    width, height = (-(-side // multiple) * multiple for side in (width, height))
    floats = sum(
        _aligned(max(_map_size(m, width, height) for m in layout.maps if m.slot == slot))
        for slot in {m.slot for m in layout.maps}
    )
    floats += max(_scratch(layout, step, width, height)[1] for step in layout.steps) + _BLOCK
    # a narrower picture takes more rows at a time
    widths = range(multiple, width + 1, multiple)
    floats += max(_scratch(layout, step, narrow, height)[0] for step in layout.steps for narrow in widths)
    priors = sum((width // level.stride) * (height // level.stride) for level in layout.levels)
    face = 5 + max(2 * landmarks, 1)  # an empty std::array has a size too
    return 4 * floats + 8 * priors + 4 * face * min(priors, MOST_CANDIDATES)


def _scratch(layout: Plan, step: Step, width: int, height: int) -> tuple[int, int]:
    """Floats that a step needs while rows flow through it, and those of its widest row."""
    halved = 2 if step.source in ("picture", "pooled_map") else 1
    stride = halved * (1 if step.start == PICTURE else layout.maps[step.start].stride)
    columns, rows = width // stride, height // stride
    band = min((BAND_PIXELS // columns + 2) // 2 * 2, rows)
    floats = 3 * (_BLOCK + _aligned(3 * width)) if step.source == "picture" else 0
    units = list(layout.units.values())[step.first : step.first + step.count]
    if step.source != "map":
        floats += band * columns * padded(units[0][0].weight.shape[1])
    arriving, widest = band, 0
    for number, unit in enumerate(units, 1):
        row = columns * padded(len(unit[1].bias))
        widest = max(widest, row)
        floats += min(arriving + 3, rows) * row
        arriving += 2
        floats += min(arriving, rows) * row if number < step.count else 0
    return floats + widest, widest


def _map_size(item: Map, width: int, height: int) -> int:
    return (width // item.stride) * (height // item.stride) * padded(item.channels)


def _aligned(floats: int) -> int:
    return -(-floats // _BLOCK) * _BLOCK


def padded(channels: int) -> int:
    """Channels as they lie in memory: in blocks of 16."""
    return _aligned(channels)
