"""Parameters and operations of a model, per part, without running it.

Two counts: plain multiply-adds of the convolutions, and the published rule that gives YuNet-n its "149 MFLOPs":
multiply-adds + 1 per bias addition + 2 per batch-norm value + 1 per ReLU value; everything else is free.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facetrain.config.load import load_config
from facetrain.config.schema import ModelConfig
from facetrain.core.errors import InputError
from facetrain.core.geometry import padded_size


@dataclass(frozen=True)
class Convolution:
    """One convolution while it runs on a picture: groups divide the inputs, `pixels` is the size of its output."""

    part: str
    inputs: int
    outputs: int
    kernel: int
    groups: int
    activated: bool  # batch norm and ReLU follow
    pixels: int

    @property
    def multiply_adds(self) -> int:
        """One each; border positions count in full, as in the published figure."""
        return self.inputs // self.groups * self.kernel**2 * self.outputs * self.pixels

    @property
    def published(self) -> int:
        """Operations by the published rule."""
        return self.multiply_adds + self.outputs * self.pixels * (1 + 3 * self.activated)

    @property
    def parameters(self) -> int:
        """Weights, biases, and scale and shift of the batch norm."""
        return self.outputs * (self.inputs // self.groups * self.kernel**2 + 1 + 2 * self.activated)


def convolutions(config: ModelConfig, width: int, height: int) -> Iterator[Convolution]:
    """Every convolution of the network in the order of execution, for a picture of that size."""
    first, middle, last = config.stem
    pixels = (width // 2) * (height // 2)
    yield Convolution("backbone", first, middle, 3, 1, True, pixels)
    yield from _unit("backbone", middle, last, pixels)
    shrink = 2
    maps = []
    for index, (inputs, outputs) in enumerate([(last, last), *config.stages]):
        pixels = (width // shrink) * (height // shrink)
        if index > 0:
            yield from _unit("backbone", inputs, inputs, pixels)
            yield from _unit("backbone", inputs, outputs, pixels)
        if index in config.maps:
            maps.append((outputs, pixels))
        if index in config.pool_after:
            shrink *= 2
    for channels, pixels in reversed(maps):
        yield from _unit("neck", channels, channels, pixels)
    for channels, pixels in maps:
        yield from _head(config, channels, pixels)


def _unit(part: str, inputs: int, outputs: int, pixels: int, activated: bool = True) -> Iterator[Convolution]:
    yield Convolution(part, inputs, outputs, 1, 1, False, pixels)
    yield Convolution(part, outputs, outputs, 3, outputs, activated, pixels)


def _head(config: ModelConfig, inputs: int, pixels: int) -> Iterator[Convolution]:
    width = config.head_channels
    for _ in range(config.shared_convs):
        yield from _unit("head", inputs, width, pixels)
        inputs = width
    tower_inputs = inputs
    for _ in range(2):
        inputs = tower_inputs
        for _ in range(config.tower_convs):
            yield from _unit("head", inputs, width, pixels)
            inputs = width
    for outputs in (1, 1, 4, 2 * len(config.landmarks.names)):
        if outputs:
            yield from _unit("head", inputs, outputs, pixels, activated=False)


def describe(source: str, size: tuple[int, int]) -> dict[str, Any]:
    """Parameters and operations of a configuration, checkpoint or ONNX file as a JSON-ready document.

    size: (width, height) in pixels, rounded up to the multiple of the largest stride that the network needs.
    """
    if source.endswith(".onnx"):
        from facetrain.model.graph_cost import describe_graph

        return describe_graph(existing(Path(source)), size)
    if source.endswith((".pt", ".pth")):
        from facetrain.model.weights import load_checkpoint

        config, kind = load_checkpoint(Path(source)).model, "checkpoint"
    else:
        config, kind = load_config(source).model, "config"
    size = padded_size(*size, max(config.strides))
    layers = list(convolutions(config, *size))
    parts = [_row(name, [layer for layer in layers if layer.part == name]) for name in ("backbone", "neck", "head")]
    return {
        "source": source,
        "kind": kind,
        "size": list(size),
        "parts": parts,
        "total": _row("total", layers),
        "strides": list(config.strides),
        "landmarks": list(config.landmarks.names),
    }


def _row(name: str, layers: list[Convolution]) -> dict[str, Any]:
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
