"""The network as one ordered list of operations on named maps: plain data, made of a configuration by the blocks' word.

The torch module, `info`, ONNX, int8 and every C++ target read this list: nothing else knows how the network is wired.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

IMAGE = "image"  # the map that everything begins with
KINDS = ("cls", "obj", "box", "landmarks")  # of outputs
_PARTS = {"backbone": "backbone", "neck": "neck", "levels": "head"}


@dataclass(frozen=True)
class Conv:
    """A convolution with bias and a border of kernel // 2 zeros.

    x, y:  the maps that it reads and gives; y is behind the batch norm and the ReLU
    names: of its weights in the state dict, without `.weight` and `.bias`; of several their outputs stand in that order
    norm:  name of the batch norm behind it, if there is one
    """

    x: str
    y: str
    names: tuple[str, ...]
    inputs: int
    outputs: int
    kernel: int
    stride: int = 1
    groups: int = 1
    norm: str | None = None
    relu: bool = False

    @property
    def part(self) -> str:
        """backbone, neck or head."""
        return _PARTS[self.names[0].partition(".")[0]]

    @property
    def depthwise(self) -> bool:
        """Whether it keeps channels apart and looks around."""
        return self.kernel > 1 and self.groups == self.inputs == self.outputs

    @property
    def reads(self) -> tuple[str, ...]:
        """The maps that it reads. All operations have this, and `gives`."""
        return (self.x,)

    @property
    def gives(self) -> tuple[str, ...]:
        """The maps that it makes."""
        return (self.y,)


@dataclass(frozen=True)
class Unit:
    """A 1x1 convolution and the depthwise 3x3 one that alone reads what it gives: what kernels compute as one."""

    pointwise: Conv
    depthwise: Conv

    @property
    def reads(self) -> tuple[str, ...]:
        """The map before both."""
        return self.pointwise.reads

    @property
    def gives(self) -> tuple[str, ...]:
        """The map behind both."""
        return self.depthwise.gives


@dataclass(frozen=True)
class _Move:
    """What has no weights and gives one map."""

    reads: tuple[str, ...]
    y: str

    @property
    def gives(self) -> tuple[str, ...]:
        """The map that it makes."""
        return (self.y,)


class Pool(_Move):
    """The largest of 2x2 values, without overlap."""


class Upsample(_Move):
    """Every value repeated 2x2."""


class Add(_Move):
    """The sum of two maps of equal size."""


@dataclass(frozen=True)
class Split:
    """The channels of one map as several, which stand behind each other in it."""

    x: str
    gives: tuple[str, ...]
    sizes: tuple[int, ...]

    @property
    def reads(self) -> tuple[str, ...]:
        """The map that is split."""
        return (self.x,)


Operation = Conv | Pool | Upsample | Add | Split


@dataclass(frozen=True)
class Map:
    """The size of a map, (B, channels, height / stride, width / stride) for images (B, 3, height, width)."""

    channels: int
    stride: int


@dataclass(frozen=True)
class Network:
    """All operations in the order of execution.

    maps:    the size of every map by its name
    outputs: the map of each (kind, stride), before any sigmoid: cls 1 channel, obj 1, box 4, landmarks 2 L
    """

    operations: tuple[Operation, ...]
    maps: Mapping[str, Map]
    outputs: Mapping[tuple[str, int], str]

    @property
    def convs(self) -> list[Conv]:
        """The convolutions in order."""
        return [operation for operation in self.operations if isinstance(operation, Conv)]

    @property
    def strides(self) -> list[int]:
        """Strides of the outputs, finest first."""
        return sorted({stride for _, stride in self.outputs})

    def readers(self) -> dict[str, list[Operation]]:
        """Who reads each map; nobody reads outputs."""
        found: dict[str, list[Operation]] = {name: [] for name in self.maps}
        for operation in self.operations:
            for name in operation.reads:
                found[name].append(operation)
        return found


class Builder:
    """The list while it is written. Each method adds one operation and returns the name of the map that it gives."""

    def __init__(self, channels: int = 3) -> None:
        self.operations: list[Operation] = []
        self.maps = {IMAGE: Map(channels, 1)}

    def channels(self, x: str) -> int:
        """How many a map has."""
        return self.maps[x].channels

    def conv(
        self,
        x: str,
        name: str,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        depthwise: bool = False,
        norm: str | None = None,
        relu: bool = False,
    ) -> str:
        """A convolution, its batch norm and its ReLU. name: of its weights, and of the map."""
        inputs = self.channels(x)
        groups = inputs if depthwise else 1
        conv = Conv(x, name, (name,), inputs, outputs, kernel, stride, groups, norm, relu)
        return self._append(conv, Map(outputs, self.maps[x].stride * stride))

    def pool(self, x: str) -> str:
        """Half as high and wide."""
        size = self.maps[x]
        return self._append(Pool((x,), self._free(f"{x}.pool")), replace(size, stride=2 * size.stride))

    def upsample(self, x: str) -> str:
        """Twice as high and wide."""
        size = self.maps[x]
        return self._append(Upsample((x,), self._free(f"{x}.upsample")), replace(size, stride=size.stride // 2))

    def add(self, x: str, other: str) -> str:
        """The sum of two maps of one size."""
        if self.maps[x] != self.maps[other]:
            raise ValueError(f"{x} and {other} cannot be added: {self.maps[x]} and {self.maps[other]}")
        return self._append(Add((x, other), self._free(f"{x}.add")), self.maps[x])

    def network(self, outputs: Mapping[tuple[str, int], str]) -> Network:
        """What has been written."""
        return Network(tuple(self.operations), self.maps, outputs)

    def _append(self, operation: Conv | Pool | Upsample | Add, size: Map) -> str:
        if operation.y in self.maps:
            raise ValueError(f"{operation.y} is given twice")
        self.operations.append(operation)
        self.maps[operation.y] = size
        return operation.y

    def _free(self, name: str) -> str:
        numbers = (f"{name}{number or ''}" for number in range(len(self.maps) + 1))
        return next(number for number in numbers if number not in self.maps)
