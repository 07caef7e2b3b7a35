"""The weights of a YuNet in libfacedetection's `facedetectcnn-data.cpp`, the library's own or one of facetrain's."""

import re
from pathlib import Path

import numpy as np

from facetrain.core.errors import DataError, InputError
from facetrain.core.faces import Floats
from facetrain.model.library_names import our_name
from facetrain.model.onnx_weights import FoldedWeights, Layer

_LARGEST = 16 << 20  # bytes; the library's own has half a million
_ARRAY = re.compile(r"\bfloat\s+(\w{1,99})_(weight|bias)\s*\[([\d* ]{1,40})\]\s*=\s*\{([^{}]*)\}")
_STEM = (3, 3, 3)  # rows, columns and colours of a patch, which the library fills up to its vector's width
_OTHER_FORWARD = "written with it"  # what facetrain says of a network that the library's own forward pass does not fit


def read_cpp_weights(path: Path) -> FoldedWeights:
    """Read a file. Raises InputError where there is none, DataError where it holds no YuNet."""
    try:
        if path.stat().st_size > _LARGEST:
            raise DataError(f"{path}: {path.stat().st_size >> 20} MiB, too large for libfacedetection's data")
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    head = text.partition("#include")[0]
    if "facetrain" in head and _OTHER_FORWARD in head:
        raise DataError(
            f"{path}: how its layers are wired stands in the facedetectcnn-model.cpp beside it, which is not read",
            "start from the checkpoint that it was made from",
        )
    arrays: dict[str, dict[str, Floats]] = {}
    for name, part, size, numbers in _ARRAY.findall(text):
        ours = our_name(name)
        if ours is None:
            raise DataError(f"{path}: a layer '{name[:60]}', which YuNet does not have")
        arrays.setdefault(ours, {})[part] = _array(path, name, part, size, numbers)
    layers = {name: _layer(path, name, parts) for name, parts in arrays.items()}
    if "backbone.stem.conv" not in layers:
        raise DataError(
            f"{path}: not libfacedetection's data: no array `backbone__model0_pw_weight`",
            "the file is called facedetectcnn-data.cpp there",
        )
    return FoldedWeights(layers, None)


def _array(path: Path, name: str, part: str, size: str, numbers: str) -> Floats:
    """The numbers in the shape that is declared: (out, in, k, k) of weights, (out,) of a bias."""
    where = f"{path}: {name}_{part}"
    try:
        shape = [int(number[:9]) for number in size.split("*")]
        values = np.array([float(number.strip().rstrip("fF")) for number in numbers.split(",")], np.float32)
    except ValueError as error:
        raise DataError(f"{where}: holds something that is no number") from error
    if len(shape) != (4 if part == "weight" else 1) or int(np.prod(shape, dtype=object)) != len(values):
        raise DataError(f"{where}: is declared as [{size.strip()}] and has {len(values):,} numbers")
    return values.reshape(shape)


def _layer(path: Path, name: str, parts: dict[str, Floats]) -> Layer:
    """Weight and bias as a network of ours has them."""
    if parts.keys() != {"weight", "bias"}:
        raise DataError(f"{path}: {name} has a {next(iter(parts))} and nothing else")
    weight, bias = parts["weight"], parts["bias"]
    outputs = len(weight)
    if name.endswith(".depthwise"):  # there a kernel's position comes first
        side = weight.shape[2]
        weight = weight.reshape(side, weight.shape[3], outputs, weight.shape[1]).transpose(2, 3, 0, 1)
    elif name == "backbone.stem.conv":
        patches = weight.reshape(outputs, -1)
        length = int(np.prod(_STEM))
        if patches.shape[1] < length or patches[:, length:].any():
            raise DataError(f"{path}: the first layer does not look at patches of 3x3 pixels")
        weight = patches[:, :length].reshape(outputs, *_STEM).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(weight), bias
