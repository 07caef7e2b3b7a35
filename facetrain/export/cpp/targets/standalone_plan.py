"""In which order the standalone detector works, and which of its maps share memory."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from facetrain.core.errors import UsageError
from facetrain.export.network.folded import FoldedNet, Weights, joined
from facetrain.model.network import units
from facetrain.model.operations import IMAGE, Add, Conv, Operation, Pool, Split, Unit, Upsample

BAND_PIXELS = 128  # of a row or more that go through a layer at a time
MOST_CANDIDATES = 5000  # the best boxes that suppression looks at, as FaceDetector's
NO_MAP = -1  # in the place of a map

_BLOCK = 16  # channels that lie side by side
Source = Literal["image", "map", "pooled_map", "sum", "sum_same", "sum_pooled"]
USUAL_SOURCES = ("image", "map", "pooled_map", "sum")  # those of the published networks


@dataclass(frozen=True)
class Layer:
    """The weights of a unit, and whether a ReLU is behind it."""

    pointwise: Weights
    depthwise: Weights
    relu: bool

    @property
    def outputs(self) -> int:
        """Channels that it gives."""
        return len(self.depthwise.bias)


@dataclass(frozen=True)
class Map:
    """What outlives the step that makes it. Maps of one slot share memory."""

    name: str
    channels: int
    stride: int  # pixels of the image
    slot: int = -1


@dataclass(frozen=True)
class Step:
    """A chain of units that rows flow through, perhaps a 2x2 max pool behind it.

    source:        what `start` is: the image, which the stem reads; a map; a map to be pooled first; or a map to
                   which the map `other` is added: every value of it repeated 2x2, as it is, or pooled
    first, count:  which of the plan's units; without any the step only fills its map
    target:        the map that it fills
    """

    source: Source
    start: int
    other: int
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
    """The whole network, in order of execution. stem: its full 3x3; relu: whether that has one."""

    stem: Weights
    stem_relu: bool
    units: dict[str, Layer]
    maps: list[Map]
    steps: list[Step]
    levels: list[Level]


def plan(net: FoldedNet) -> Plan:
    """Cut the network into steps: at pools, between its parts, and wherever a map is needed more than once.

    Raises UsageError for what is not made of a stem, units, pools, 2x2 repetitions and sums.
    """
    builder = _Builder(joined(net))
    stem = builder.add_all()
    levels = [builder.level(stride) for stride in net.config.strides]
    slots = _share_slots(builder.maps, builder.steps, levels)
    return Plan(builder.net.weights[stem.y], stem.relu, builder.units, slots, builder.steps, levels)


@dataclass
class _Chain:
    """A step that more units may join. end: the map behind the last one."""

    source: Source
    start: int
    other: int
    part: str
    end: str
    units: dict[str, Layer] = field(default_factory=dict)


class _Builder:
    """Units, maps and steps as they are added, operation by operation."""

    def __init__(self, net: FoldedNet) -> None:
        self.net = net
        self.readers = net.network.readers()
        self.units: dict[str, Layer] = {}
        self.maps: list[Map] = []
        self.steps: list[Step] = []
        self.chains: dict[str, _Chain] = {}  # by their end
        self.numbers: dict[str, int] = {}  # of the maps that are kept
        self.moves: dict[str, Pool | Upsample | Add] = {}  # by what they give: done where that is read
        self.places: dict[str, tuple[str, int]] = {}  # of outputs: the map, and which of its channels

    def add_all(self) -> Conv:
        """Go through the list; returns the stem's convolution."""
        stem, *rest = units(self.net.network.operations, self.readers)
        if not (isinstance(stem, Conv) and stem.x == IMAGE and (stem.kernel, stem.stride) == (3, 2)):
            raise _refusal("it begins with something else than a 3x3 convolution of stride 2")
        self.stem = stem.y
        for operation in rest:
            self._add(operation)
        return stem

    def level(self, stride: int) -> Level:
        """Where the outputs of a stride lie."""
        outputs = self.net.network.outputs
        names = [outputs[kind, stride] for kind in ("cls", "obj", "box", "landmarks") if (kind, stride) in outputs]
        (cls, at), (rest, first), *others = (self.places.get(name, (name, 0)) for name in names)
        if at != 0 or any(other != (rest, first + 1 + 4 * index) for index, other in enumerate(others)):
            raise _refusal(f"its outputs of stride {stride} do not stand behind each other")
        return Level(stride, self._kept(cls), self._kept(rest), first)

    def _add(self, operation: Operation | Unit) -> None:
        match operation:
            case Unit():
                self._add_unit(operation)
            case Split():
                self._kept(operation.x)
                starts = np.cumsum((0, *operation.sizes)).tolist()
                self.places |= {
                    name: (operation.x, start) for name, start in zip(operation.gives, starts, strict=False)
                }
            case Pool() if operation.reads[0] in self.chains and self._only_reader(operation.reads[0]):
                self._close(self.chains[operation.reads[0]], pooled=operation.y)
            case Pool() | Upsample() | Add():
                self.moves[operation.y] = operation
                behind = self.readers[operation.y]
                if not (len(behind) == 1 and isinstance(behind[0], Conv if isinstance(operation, Add) else Conv | Add)):
                    self._kept(operation.y)
            case Conv():
                raise _refusal(f"{operation.names[0]} is a {operation.kernel}x{operation.kernel} convolution by itself")

    def _add_unit(self, unit: Unit) -> None:
        x, y = unit.pointwise.x, unit.depthwise.y
        chain = self.chains.get(x)
        if chain is None or chain.part != unit.depthwise.part or not self._only_reader(x):
            chain = _Chain(*self._source(x), unit.depthwise.part, y)
        else:
            del self.chains[x]
        weights = self.net.weights
        layer = Layer(weights[unit.pointwise.y], weights[y], unit.depthwise.relu)
        chain.units[_title(unit.depthwise, self.net.network.maps[y].stride)] = layer
        chain.end = y
        self.chains[y] = chain
        if y in self.net.network.outputs.values():
            self._kept(y)

    def _source(self, x: str) -> tuple[Source, int, int]:
        """Where a step begins that reads `x`."""
        if x == self.stem:
            return "image", NO_MAP, NO_MAP
        match None if x in self.numbers else self.moves.get(x):  # what is kept is not made again
            case Pool(reads):
                return "pooled_map", self._kept(reads[0]), NO_MAP
            case Add(reads):
                return self._sum(reads)
            case Upsample():
                raise _refusal(f"{x} is enlarged and not added to anything")
        return "map", self._kept(x), NO_MAP

    def _sum(self, reads: tuple[str, ...]) -> tuple[Source, int, int]:
        kinds: Mapping[type, Source] = {Upsample: "sum", Pool: "sum_pooled"}
        for one, other in (reads, reads[::-1]):
            move = self.moves.get(other)
            if (
                isinstance(move, Pool | Upsample)
                and other not in self.numbers
                and one not in self.moves.keys() - self.numbers
            ):
                return kinds[type(move)], self._kept(one), self._kept(move.reads[0])
        return "sum_same", self._kept(reads[0]), self._kept(reads[1])

    def _kept(self, name: str) -> int:
        """The number of a map, which is made now if it has not been."""
        if name not in self.numbers and name in self.chains:
            self._close(self.chains[name])
        if name not in self.numbers:
            self._close(_Chain(*self._source(name), "", name))
        return self.numbers[name]

    def _only_reader(self, name: str) -> bool:
        return len(self.readers[name]) == 1

    def _close(self, chain: _Chain, pooled: str | None = None) -> None:
        """Make a step of a chain."""
        self.chains.pop(chain.end, None)
        name = pooled or chain.end
        size = self.net.network.maps[name]
        first = len(self.units)
        self.units |= chain.units
        self.numbers[name] = len(self.maps)
        self.maps.append(Map(list(chain.units)[-1] if chain.units else name, size.channels, size.stride))
        target = self.numbers[name]
        self.steps.append(
            Step(chain.source, chain.start, chain.other, first, len(chain.units), pooled is not None, target)
        )


def _title(conv: Conv, stride: int) -> str:
    """What a unit is called in the sources."""
    names = [name.removesuffix(".depthwise") for name in conv.names]
    if len(names) > 1:
        return f"outputs {stride}" if names[0].endswith(".cls") else f"boxes {stride}"
    for pattern, words in _TITLES:
        if found := re.fullmatch(pattern, names[0]):
            numbers = [int(number) + 1 for number in found.groups()]
            return words.format(*numbers, stride=stride)
    return names[0].replace(".", " ")


_TITLES = (
    (r"backbone\.stem\.unit", "stem"),
    (r"backbone\.stages\.(\d+)\.(\d+)", "stage {} unit {}"),
    (r"neck\.units\.\d+", "neck {stride}"),
    (r"levels\.\d+\.shared\.(\d+)", "shared {stride} unit {}"),
    (r"levels\.\d+\.cls_tower\.(\d+)", "cls tower {stride} unit {}"),
    (r"levels\.\d+\.box_tower\.(\d+)", "box tower {stride} unit {}"),
    (r"levels\.\d+\.cls", "cls {stride}"),
)


def _refusal(reason: str) -> UsageError:
    return UsageError(
        f"the standalone detector cannot express this model: {reason}", "export it as ONNX, which expresses any"
    )


def _share_slots(maps: list[Map], steps: list[Step], levels: list[Level]) -> list[Map]:
    """Give every map a slot that no map holds which is still needed; of those that are free, one of its own size."""
    last_use = {level.map: len(steps) for level in levels} | {level.cls_map: len(steps) for level in levels}
    for number, step in enumerate(steps):
        for used in (step.start, step.other):
            last_use[used] = max(number, last_use.get(used, number))
    sizes: list[float] = []  # of the slots, floats per pixel of the image
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
    """Bytes that a detector with one thread holds for an image of this size, counted as the C++ does it."""
    multiple = layout.levels[-1].stride
    width, height = (-(-side // multiple) * multiple for side in (width, height))
    floats = sum(
        _aligned(max(_map_size(m, width, height) for m in layout.maps if m.slot == slot))
        for slot in {m.slot for m in layout.maps}
    )
    floats += max(_scratch(layout, step, width, height)[1] for step in layout.steps) + _BLOCK
    # a narrower image takes more rows at a time
    widths = range(multiple, width + 1, multiple)
    floats += max(_scratch(layout, step, narrow, height)[0] for step in layout.steps for narrow in widths)
    priors = sum((width // level.stride) * (height // level.stride) for level in layout.levels)
    face = 5 + max(2 * landmarks, 1)  # an empty std::array has a size too
    return 4 * floats + 8 * priors + 4 * face * min(priors, MOST_CANDIDATES)


def _scratch(layout: Plan, step: Step, width: int, height: int) -> tuple[int, int]:
    """Floats that a step needs while rows flow through it, and those of its widest row."""
    halved = 2 if step.source in ("image", "pooled_map") else 1
    stride = halved * (1 if step.start == NO_MAP else layout.maps[step.start].stride)
    columns, rows = width // stride, height // stride
    band = min((BAND_PIXELS // columns + 2) // 2 * 2, rows)
    floats = 3 * (_BLOCK + _aligned(3 * width)) if step.source == "image" else 0
    units = list(layout.units.values())[step.first : step.first + step.count]
    if step.source != "map" and units:
        floats += band * columns * padded(units[0].pointwise.weight.shape[1])
    arriving, widest = band, 0
    for number, unit in enumerate(units, 1):
        row = columns * padded(unit.outputs)
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
