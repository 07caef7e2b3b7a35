"""The list of operations of a configuration, and other ways to see it: convolutions in pairs, outputs joined."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from facetrain.config.schema import ModelConfig
from facetrain.model.backbone import backbone
from facetrain.model.head import head
from facetrain.model.neck import NECKS
from facetrain.model.operations import Builder, Conv, Map, Network, Operation, Split, Unit


def network_of(config: ModelConfig) -> Network:
    """The network that a configuration describes."""
    builder = Builder(config.stem[0])
    maps = NECKS[config.neck](builder, backbone(builder, config), config)
    return builder.network(head(builder, maps, config))


def units(operations: Iterable[Operation], readers: Mapping[str, Sequence[Operation]]) -> list[Operation | Unit]:
    """The list with every pair of convolutions that is a unit as one entry."""
    found: list[Operation | Unit] = []
    waiting: dict[str, Conv] = {}  # what a pointwise gives
    for operation in operations:
        if isinstance(operation, Conv) and operation.x in waiting:
            found.append(Unit(waiting.pop(operation.x), operation))
        elif isinstance(operation, Conv) and _begins_unit(operation, readers):
            waiting[operation.y] = operation
        else:
            found.append(operation)
    return found


def _begins_unit(conv: Conv, readers: Mapping[str, Sequence[Operation]]) -> bool:
    bare = (conv.kernel, conv.stride, conv.groups) == (1, 1, 1) and conv.norm is None and not conv.relu
    behind = readers[conv.y]
    return bare and len(behind) == 1 and _ends_unit(behind[0])


def _ends_unit(operation: Operation) -> bool:
    return isinstance(operation, Conv) and operation.depthwise and (operation.kernel, operation.stride) == (3, 1)


def join_outputs(network: Network) -> Network:
    """The same network, in which output units that read one map are one wider unit, and a Split behind it.

    Heads are narrow, 1 to 10 channels, and the map that they read is the large operand: so it is read once, and a
    processor computes 16 channels in the time of one.
    """
    given = set(network.outputs.values())
    groups: dict[str, list[Unit]] = {}
    for unit in units(network.operations, network.readers()):
        if isinstance(unit, Unit) and unit.depthwise.y in given and unit.depthwise.norm is None:
            groups.setdefault(unit.pointwise.x, []).append(unit)
    joined = {group[0].pointwise.y: group for group in groups.values() if len(group) > 1}
    gone = {conv.y for group in joined.values() for unit in group for conv in (unit.pointwise, unit.depthwise)}
    operations: list[Operation] = []
    maps = dict(network.maps)
    for operation in network.operations:
        if operation.gives[0] in joined:
            operations += _joined(joined[operation.gives[0]], maps)
        elif operation.gives[0] not in gone:
            operations.append(operation)
    return Network(tuple(operations), maps, network.outputs)


def _joined(group: Sequence[Unit], maps: dict[str, Map]) -> list[Operation]:
    """One unit for several. Adds its two maps to `maps`."""
    pointwise, depthwise = [unit.pointwise for unit in group], [unit.depthwise for unit in group]
    total = sum(conv.outputs for conv in depthwise)
    middle, end = ("+".join(conv.y for conv in convs) for convs in (pointwise, depthwise))
    for name in (middle, end):
        maps[name] = Map(total, maps[depthwise[0].y].stride)
    first = replace(pointwise[0], y=middle, names=_names(pointwise), outputs=total)
    second = replace(depthwise[0], x=middle, y=end, names=_names(depthwise), inputs=total, outputs=total, groups=total)
    sizes = tuple(conv.outputs for conv in depthwise)
    return [first, second, Split(end, tuple(conv.y for conv in depthwise), sizes)]


def _names(convs: Sequence[Conv]) -> tuple[str, ...]:
    return tuple(name for conv in convs for name in conv.names)
