"""The text of libfacedetection's `facedetectcnn-data.cpp`: a float array per weight and bias, and the table of layers.

The form is the library's, byte for byte: only comments are our own, or those of the file that is replaced.
"""

import re
from pathlib import Path

import numpy as np

from facetrain.core.faces import Floats
from facetrain.export.network.folded import FoldedNet, Weights
from facetrain.model.library_names import HEAD, library_name
from facetrain.model.operations import IMAGE, Conv

STEM_INPUTS = 32  # 3x3 patches of three colours are 27 numbers; the library reads them padded to its vector width


def library_layers(net: FoldedNet) -> dict[str, Conv]:
    """Every convolution by the library's name, in the order of its table: stem, stages, neck, then the heads.

    Finest level first. The two of a unit stand one behind the other.
    """

    def place(conv: Conv) -> tuple[int, str, list[int]]:
        first, *rest = conv.names[0].split(".")
        if first == "backbone":
            return 0, "", []
        words = [word for word in rest if not word.isdigit()][:1]
        rank = 1 if first == "neck" else 2 + list(HEAD).index(words[0])
        return rank, "" if words == ["units"] else words[0], [int(word) for word in rest if word.isdigit()]

    return {library_name(conv.names[0]): conv for conv in sorted(net.network.convs, key=place)}


def data_text(net: FoldedNet, digits: int, head: str, columns: str) -> str:
    """The file's content, which has no newline at its end.

    head:    the comment lines above the include
    columns: the comment line above the table
    """
    arrays, rows = [], []
    for name, conv in library_layers(net).items():
        depthwise, layer = conv.depthwise, net.weights[conv.y]
        weight = _stem_weight(layer) if conv.x == IMAGE else layer.weight
        outputs, inputs, side = weight.shape[0], weight.shape[1], weight.shape[2]
        # The library multiplies all channels of a pixel at a time: a depthwise kernel's position comes first there.
        numbers = weight.transpose(2, 3, 0, 1) if depthwise else weight
        arrays.append(f"float {name}_weight[{outputs}*{inputs}*{side}*{side}] = {{{_numbers(numbers, digits)}}};\n")
        arrays.append(f"float {name}_bias[{outputs}] = {{{_numbers(layer.bias, digits)}}};\n")
        # the fifth field says whether the layer had a batch norm; the library does not read it
        flags = ", ".join("true" if flag else "false" for flag in (depthwise, not depthwise, conv.relu))
        rows.append(f"\t{{{outputs if depthwise else inputs}, {outputs}, {flags}, {name}_weight, {name}_bias}}")
    table = f"ConvInfoStruct param_pConvInfo[{len(rows)}] = {{\n" + ",\n".join(rows) + "\n};"
    return f'{head}#include "facedetectcnn.h"\n\n{"".join(arrays)}\n{columns}{table}'


def comments_of(path: Path) -> tuple[str, str] | None:
    """The lines above the include and above the table of a file that is there, or None where it has no such lines."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    head, include, rest = text.partition('#include "facedetectcnn.h"')
    columns = re.search(r"^(//[^\n]*\n)ConvInfoStruct param_pConvInfo\[", rest, re.MULTILINE)
    if not include or columns is None or not all(line.startswith("//") for line in head.splitlines()):
        return None
    return head, columns[1]


def _stem_weight(stem: Weights) -> Floats:
    """The stem's (out, 3, 3, 3) as a pointwise (out, 32, 1, 1): row, column, colour, and five zeros."""
    patches = stem.weight.transpose(0, 2, 3, 1).reshape(len(stem.weight), -1)
    padded: Floats = np.zeros((len(patches), STEM_INPUTS, 1, 1), np.float32)
    padded[:, : patches.shape[1], 0, 0] = patches
    return padded


def _numbers(values: Floats, digits: int) -> str:
    return ",".join(_number(value, digits) for value in values.ravel().tolist())


def _number(value: float, digits: int) -> str:
    """A C++ float literal: C's %g with a point where it has neither point nor exponent, `-0.f` being a number too."""
    text = format(value, f".{digits}g")
    return f"{text}f" if "." in text or "e" in text else f"{text}.f"
