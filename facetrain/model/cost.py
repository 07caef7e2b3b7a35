"""Parameters and operations of a model, per part, without running it.

Two counts: plain multiply-adds of the convolutions, and the published rule that gives YuNet-n its "149 MFLOPs":
multiply-adds + 1 per bias addition + 2 per batch-norm value + 1 per ReLU value; everything else is free.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from facetrain.config.load import load_config
from facetrain.config.schema import ModelConfig
from facetrain.core.boxes import padded_size
from facetrain.core.documents.info import ModelDocument, Part
from facetrain.core.errors import InputError
from facetrain.model.network import network_of
from facetrain.model.operations import Conv


@dataclass(frozen=True)
class Convolution:
    """One convolution while it runs on an image. pixels: the size of its output."""

    conv: Conv
    pixels: int

    @property
    def multiply_adds(self) -> int:
        """One each; border positions count in full, as in the published figure."""
        return self._weights * self.pixels

    @property
    def published(self) -> int:
        """Operations by the published rule."""
        each = 1 + 2 * (self.conv.norm is not None) + self.conv.relu
        return self.multiply_adds + self.conv.outputs * self.pixels * each

    @property
    def parameters(self) -> int:
        """Weights, biases, and scale and shift of the batch norm."""
        return self._weights + self.conv.outputs * (1 + 2 * (self.conv.norm is not None))

    @property
    def _weights(self) -> int:
        return self.conv.inputs // self.conv.groups * self.conv.kernel**2 * self.conv.outputs


def convolutions(config: ModelConfig, width: int, height: int) -> list[Convolution]:
    """Every convolution of the network in the order of execution, for an image of that size."""
    network = network_of(config)
    strides = [network.maps[conv.y].stride for conv in network.convs]
    return [
        Convolution(conv, (width // stride) * (height // stride))
        for conv, stride in zip(network.convs, strides, strict=True)
    ]


def describe(source: str, size: tuple[int, int]) -> ModelDocument:
    """Parameters and operations of a configuration, checkpoint or ONNX file as a JSON-ready document.

    size: (width, height) in pixels, rounded up to the multiple of the largest stride that the network needs.
    """
    suffix = Path(source).suffix.lower()
    if suffix == ".onnx":
        from facetrain.model.graph_cost import describe_graph

        return describe_graph(existing(Path(source)), size)
    if suffix in (".pt", ".pth"):
        from facetrain.model.weights import load_checkpoint

        config, kind = load_checkpoint(Path(source)).model, "checkpoint"
    else:
        config, kind = load_config(source).model, "config"
    size = padded_size(*size, max(config.strides))
    layers = convolutions(config, *size)
    parts = [
        _row(name, [layer for layer in layers if layer.conv.part == name]) for name in ("backbone", "neck", "head")
    ]
    return {
        "source": source,
        "kind": kind,
        "size": list(size),
        "parts": parts,
        "total": _row("total", layers),
        "strides": list(config.strides),
        "landmarks": list(config.landmarks.names),
    }


def _row(name: str, layers: list[Convolution]) -> Part:
    return {
        "name": name,
        "parameters": sum(layer.parameters for layer in layers),
        "multiply_adds": sum(layer.multiply_adds for layer in layers),
        "mflops": sum(layer.published for layer in layers) / 1e6,
    }


def existing(path: Path) -> Path:
    """The path, if there is a file. Raises InputError."""
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises for a file behind a closed folder
        raise InputError(f"{path}: no such file", "give a model file, a checkpoint or an ONNX file")
    return path
