"""The weights of a YuNet in an ONNX file: each convolution by our name, and how stages, pools and levels are wired.

The graph is walked from its outputs back to the image: head, neck, backbone. So it does not matter who wrote the file,
nor how its tensors are called; only the outputs must have YuNet's names, or be a form of facetrain's own with decoding
inside, whose convolutions stand in a known order. Whatever is not exactly such a network is refused.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from facetrain.config.landmark_names import stored_names
from facetrain.core.errors import DataError, InputError
from facetrain.core.faces import Floats

_LARGEST = 64 << 20  # bytes; the published files have a third of a million
_OUTPUT = re.compile(r"(cls|obj|bbox|kps)_(\d{1,4})")
_KINDS = {"cls": "cls", "obj": "obj", "bbox": "box", "kps": "landmarks"}  # the names in the file -> ours
_PASS = ("Cast", "Identity")  # nodes that leave numbers as they are
_BEHIND = ("Sigmoid", "Reshape", "Transpose", *_PASS)  # between an output unit and an output
_CHECKPOINT = "a network with residual blocks or another neck starts from its checkpoint"
_INT8 = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "ConvInteger", "DynamicQuantizeLinear")

Layer = tuple[Floats, Floats]  # weight (out, in / groups, k, k) and bias (out,)


class Wiring(TypedDict):
    """The fields of ModelConfig by these names."""

    pool_after: tuple[int, ...]
    maps: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class FoldedWeights:
    """Convolutions into which batch norms are folded.

    layers:    by our names, such as `backbone.stem.conv`
    wiring:    what no shape of a weight tells; None: as published
    landmarks: names of the points, where the file has them
    """

    layers: Mapping[str, Layer]
    wiring: Wiring | None
    landmarks: tuple[str, ...] = ()


class _UnfitError(Exception):
    """The graph is another one; the message says where it leaves the way."""


def read_onnx_weights(path: Path) -> FoldedWeights:
    """Read a file. Raises InputError where there is none, DataError where it is no YuNet with weights in float."""
    import onnx  # half a second

    try:
        size = path.stat().st_size
        if size > _LARGEST:
            raise DataError(f"{path}: {size >> 20} MiB, too large for a YuNet", "the published ones have 0.3 MB")
        model = onnx.load_model(path, load_external_data=False)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except DataError:
        raise
    except Exception as error:  # protobuf's errors share no public class
        raise DataError(f"{path}: not a usable ONNX model: it is damaged, or no ONNX file") from error
    graph = _Graph(model, path)
    try:
        layers, wiring = _walk(graph)
    except (_UnfitError, ValueError, TypeError, IndexError, KeyError) as error:  # the others: nodes that make no sense
        why = error if isinstance(error, _UnfitError) else "it is damaged"
        raise DataError(
            f"{path}: not a YuNet of the published form: {why}",
            "known: facetrain's own files, the authors', OpenCV zoo's face_detection_yunet of 2023 and later, and "
            "libfacedetection's facedetectcnn-data.cpp",
        ) from error
    return FoldedWeights(layers, wiring, stored_names(graph.metadata.get("landmarks", "")))


class _Graph:
    """The nodes of a file, and the convolutions that have been met."""

    def __init__(self, model: Any, path: Path) -> None:
        from onnx import TensorProto, helper, numpy_helper

        self._value: Callable[[Any], Any] = helper.get_attribute_value
        self.metadata = {entry.key: entry.value for entry in model.metadata_props}
        self.outputs = [output.name for output in model.graph.output]
        kinds = {node.op_type for node in model.graph.node}
        if kinds.intersection(_INT8):
            raise DataError(
                f"{path}: an int8 file: its weights are rounded to 255 steps, from which no training should start",
                "take the float file that it was made from, or its checkpoint",
            )
        tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        for node in model.graph.node:
            value = self.attributes(node).get("value") if node.op_type == "Constant" else None
            if value is not None:
                tensors[node.output[0]] = value
        if any(tensor.data_location == TensorProto.EXTERNAL for tensor in tensors.values()):
            raise DataError(f"{path}: keeps weights in another file", "save it with its weights inside")
        self._tensors, self._array = tensors, numpy_helper.to_array
        inputs = [value.name for value in model.graph.input if value.name not in tensors]
        if len(inputs) != 1:
            raise DataError(f"{path}: not a YuNet: it has {len(inputs)} inputs, not one image")
        self.image = inputs[0]
        self.nodes = list(model.graph.node)
        self._makers = {name: node for node in self.nodes for name in node.output if name}
        self.met: set[int] = set()

    def attributes(self, node: Any) -> Mapping[str, Any]:
        """What a node says, by name."""
        return {attribute.name: self._value(attribute) for attribute in node.attribute}

    def maker(self, tensor: str, *through: str) -> Any:
        """The node that makes a tensor, behind those of the kinds in `through`; None for the image."""
        for _ in range(len(self.nodes) + 1):
            node = self._makers.get(tensor)
            if node is None or node.op_type not in (*_PASS, *through) or not node.input:
                return node
            tensor = node.input[0]
        raise _UnfitError("its nodes form a circle")

    def same(self, tensor: str) -> str:
        """The tensor as it was before nodes that leave numbers as they are."""
        node = self.maker(tensor)
        return str(node.output[0]) if node is not None else self.image

    def numbers(self, name: str) -> Floats:
        """A constant as float32."""
        if name not in self._tensors:
            raise _UnfitError(f"the weights '{name[:40]}' are computed, not stored")
        try:
            return np.asarray(self._array(self._tensors[name]), np.float32)
        except (ValueError, TypeError, KeyError) as error:
            raise _UnfitError(f"the weights '{name[:40]}' cannot be read") from error


@dataclass(frozen=True)
class _Conv:
    """A convolution and the tensor that it reads."""

    x: str
    layer: Layer
    stride: int
    depthwise: bool
    relu: bool


@dataclass(frozen=True)
class _Unit:
    """A 1x1 convolution and a depthwise one behind it: what it reads, and both."""

    x: str
    pointwise: Layer
    depthwise: Layer
    relu: bool


def _conv(graph: _Graph, tensor: str) -> _Conv:
    """The convolution that makes a tensor, perhaps with a ReLU."""
    node = graph.maker(tensor)
    relu = node is not None and node.op_type == "Relu"
    if relu:
        node = graph.maker(node.input[0])
    if node is None or node.op_type != "Conv":
        raise _UnfitError(f"{'the image' if node is None else node.op_type} stands where a convolution should")
    weight = graph.numbers(node.input[1])
    if weight.ndim != 4 or weight.shape[2] != weight.shape[3] or weight.shape[2] not in (1, 3):
        raise _UnfitError(f"a convolution has weights of the shape {weight.shape}")
    outputs, inputs, side, _ = weight.shape
    bias = graph.numbers(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(outputs, np.float32)
    said = graph.attributes(node)
    group, strides = said.get("group", 1), said.get("strides", [1, 1])
    border = said.get("pads", [0, 0, 0, 0]) == [side // 2] * 4 and said.get("dilations", [1, 1]) == [1, 1]
    if not border or len(set(strides)) != 1 or bias.shape != (outputs,) or group not in (1, outputs):
        raise _UnfitError(f"a convolution of {outputs} channels has an unusual border, stride or grouping")
    graph.met.add(id(node))
    depthwise = group == outputs and inputs == 1 and side == 3
    return _Conv(graph.same(node.input[0]), (weight, bias), int(strides[0]), depthwise, relu)


def _unit(graph: _Graph, tensor: str) -> _Unit:
    """The unit that makes a tensor."""
    behind = _conv(graph, tensor)
    if not behind.depthwise or behind.stride != 1:
        raise _UnfitError("a full convolution stands where a depthwise one should")
    before = _conv(graph, behind.x)
    if before.layer[0].shape[2] != 1 or before.stride != 1 or before.relu:
        raise _UnfitError("no plain 1x1 convolution stands before a depthwise one")
    return _Unit(before.x, before.layer, behind.layer, behind.relu)


def _walk(graph: _Graph) -> tuple[dict[str, Layer], Wiring]:
    """All layers by our names, and the wiring. Raises _UnfitError."""
    levels = _levels(graph)
    if len(levels) < 2:
        raise _UnfitError("it has one level only, which does not tell where its neck begins")
    layers: dict[str, Layer] = {}
    sources: list[str] = []  # of each level: the tensor of the backbone that it takes
    coarser: str | None = None  # the neck's result of this level, once the finer one has told it
    for number, outputs in enumerate(levels.values()):
        result = _head(graph, number, outputs, coarser, layers)
        unit = _unit(graph, result)
        _put(layers, f"neck.units.{number}", unit)
        if number + 1 < len(levels):
            source, coarser = _sum(graph, unit.x)
            sources.append(source)
        else:
            sources.append(unit.x)
    wiring = _backbone(graph, sources, list(levels), layers)
    left = [node for node in graph.nodes if node.op_type == "Conv" and id(node) not in graph.met]
    if left:
        raise _UnfitError(f"{len(left)} of its convolutions have no place in one")
    return layers, wiring


def _levels(graph: _Graph) -> dict[int, dict[str, str]]:
    """By stride, finest first: the tensor of each kind of output, as it leaves its unit."""
    found: dict[int, dict[str, str]] = {}
    matches = [_OUTPUT.fullmatch(name) for name in graph.outputs]
    if matches and all(matches):
        for match in matches:
            assert match is not None
            node = graph.maker(match[0], *_BEHIND)
            found.setdefault(int(match[2]), {})[_KINDS[match[1]]] = node.output[0] if node is not None else ""
    elif "facetrain" in graph.metadata:
        found = _levels_of_ours(graph)
    kinds = {frozenset(outputs) for outputs in found.values()}
    if len(kinds) != 1 or not kinds < {frozenset(list(_KINDS.values())[:count]) for count in (3, 4)}:
        seen = ", ".join(graph.outputs[:4])
        raise _UnfitError(
            f"its outputs are {seen[:120]}{', …' if len(graph.outputs) > 4 else ''}, not cls_8, obj_8, bbox_8 …"
        )
    return dict(sorted(found.items()))


def _levels_of_ours(graph: _Graph) -> dict[int, dict[str, str]]:
    """Of a form with decoding inside: what ends a unit and has no ReLU, in the order that facetrain writes."""
    strides = [int(number) for number in re.findall(r"\d{1,4}", graph.metadata.get("strides", ""))]
    read = {graph.same(name) for node in graph.nodes if node.op_type in ("Conv", "Relu") for name in node.input[:1]}
    ends = [node.output[0] for node in graph.nodes if node.op_type == "Conv" and node.output[0] not in read]
    each = len(ends) // max(len(strides), 1)
    if not strides or len(set(strides)) != len(strides) or each * len(strides) != len(ends) or each not in (3, 4):
        return {}
    kinds = list(_KINDS.values())[:each]
    return {
        stride: dict(zip(kinds, ends[number * each : (number + 1) * each], strict=True))
        for number, stride in enumerate(strides)
    }


def _head(graph: _Graph, level: int, outputs: Mapping[str, str], result: str | None, layers: dict[str, Layer]) -> str:
    """The units of a level's head. result: what the neck gives it, where that is known. Returns that."""
    ends = {}
    for kind, tensor in outputs.items():
        unit = _unit(graph, tensor)
        if unit.relu:
            raise _UnfitError(f"a ReLU stands before the output {kind}")
        _put(layers, f"levels.{level}.{kind}", unit)
        ends[kind] = unit.x
    if len({x for kind, x in ends.items() if kind != "cls"}) != 1:
        raise _UnfitError("objectness and boxes come from different maps")
    for_cls, for_box = (_chain(graph, ends[kind], result) for kind in ("cls", "box"))
    shared = next((n for n, (a, b) in enumerate(zip(for_cls, for_box, strict=False)) if a[0] != b[0]), len(for_cls))
    if len(for_cls) != len(for_box):
        raise _UnfitError("the towers of cls and boxes are not equally long")
    for name, chain in (("shared", for_cls[:shared]), ("cls_tower", for_cls[shared:]), ("box_tower", for_box[shared:])):
        for number, (_, unit) in enumerate(chain):
            _put(layers, f"levels.{level}.{name}.{number}", unit)
    return for_cls[0][1].x if for_cls else ends["cls"]


def _chain(graph: _Graph, tensor: str, start: str | None) -> list[tuple[str, _Unit]]:
    """Units between the neck's result and a tensor, each with what it gives. start: that result.

    Where it is not known, of the finest level, it is what the unit behind a sum gives.
    """
    chain: list[tuple[str, _Unit]] = []
    while tensor != start:
        unit = _unit(graph, tensor)
        node = graph.maker(unit.x)
        if start is None and (node is None or node.op_type == "Add"):
            break
        if not unit.relu or node is None or node.op_type == "Add":
            raise _UnfitError("a level of the head does not begin where its neck ends")
        if len(chain) > len(graph.nodes):
            raise _UnfitError("its nodes form a circle")
        chain.insert(0, (tensor, unit))
        tensor = unit.x
    return chain


def _sum(graph: _Graph, tensor: str) -> tuple[str, str]:
    """The two tensors behind a level's neck: of the backbone, and of the coarser level before it is enlarged."""
    node = graph.maker(tensor)
    if node is None or node.op_type != "Add":
        raise _UnfitError("a level of the neck takes no sum of two")
    makers = [graph.maker(name) for name in node.input]
    enlarged = [n for n, maker in enumerate(makers) if maker is not None and maker.op_type in ("Resize", "Upsample")]
    if len(makers) != 2 or len(enlarged) != 1:
        raise _UnfitError(f"no enlarged map is added in its neck, or more than that; {_CHECKPOINT}")
    said = graph.attributes(makers[enlarged[0]])
    if said.get("mode", b"nearest") != b"nearest":
        raise _UnfitError("its neck does not enlarge by repeating")
    return graph.same(node.input[1 - enlarged[0]]), graph.same(makers[enlarged[0]].input[0])


def _backbone(graph: _Graph, sources: Sequence[str], strides: Sequence[int], layers: dict[str, Layer]) -> Wiring:
    """Stem and stages. sources: the maps that the levels take, finest first. Returns the wiring."""
    units, pools, maps = 0, [], {}
    for given, step in _way(graph, sources[-1], layers):
        if step is None:
            pools.append(units)
            continue
        stage, block = divmod(units - 1, 2)
        _put(layers, f"backbone.stages.{stage}.{block}" if units else "backbone.stem.unit", step)
        maps[given] = units
        units += 1
    taken = [maps.get(source) for source in sources]
    if units % 2 == 0 or any(after % 2 == 0 for after in pools) or any(at is None or at % 2 for at in taken):
        raise _UnfitError("its stages are not of two blocks each")
    pool_after = tuple((after - 1) // 2 for after in pools)
    at = tuple((number or 0) // 2 for number in taken)
    made = [2 << sum(after < index for after in pool_after) for index in at]
    if made != list(strides):
        raise _UnfitError(f"its outputs are called after the strides {list(strides)}, and its pools make {made}")
    return {"pool_after": pool_after, "maps": at, "strides": tuple(strides)}


def _way(graph: _Graph, tensor: str, layers: dict[str, Layer]) -> list[tuple[str, _Unit | None]]:
    """The steps from the stem to the coarsest map, each with what it gives; None for a pool. Adds the stem's layer."""
    way: list[tuple[str, _Unit | None]] = []
    while len(way) <= len(graph.nodes):
        node = graph.maker(tensor)
        if node is not None and node.op_type == "Add":
            raise _UnfitError(f"its backbone adds maps; {_CHECKPOINT}")
        if node is not None and node.op_type == "MaxPool":
            said = graph.attributes(node)
            if [*said.get("kernel_shape", []), *said.get("strides", [])] != [2, 2, 2, 2] or any(said.get("pads", [])):
                raise _UnfitError("a pool is not 2x2 without overlap")
            way.insert(0, (tensor, None))
            tensor = graph.same(node.input[0])
            continue
        first = _conv(graph, tensor)
        if first.x == graph.image:
            if first.layer[0].shape[1:] != (3, 3, 3) or first.stride != 2 or not first.relu:
                raise _UnfitError("it does not begin with a 3x3 convolution of stride 2 on three colours")
            layers["backbone.stem.conv"] = first.layer
            return way
        unit = _unit(graph, tensor)
        way.insert(0, (tensor, unit))
        tensor = unit.x
    raise _UnfitError("its nodes form a circle")


def _put(layers: dict[str, Layer], name: str, unit: _Unit) -> None:
    layers[f"{name}.pointwise"], layers[f"{name}.depthwise"] = unit.pointwise, unit.depthwise
