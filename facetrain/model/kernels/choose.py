"""The switch between the plain network and faster ways to compute it.

Weights, their names and the numbers stay the same, up to rounding; evaluation is always plain.
"""

from pathlib import Path

import torch
from torch import nn

from facetrain.core.errors import DeviceError, OutputError
from facetrain.model.backbone import Backbone
from facetrain.model.blocks import Stem, Unit
from facetrain.model.kernels.plain import FOLDED, PLAIN, Operations

MODES = ("auto", "on", "off")


def use_fused(model: nn.Module, mode: str, device: torch.device, folder: Path) -> str:
    """Choose how the network is computed while it trains. Returns a line that says what was chosen and why.

    mode:   auto: on a CPU the kernels of cpu.py where they can be compiled, else the plain operations; on: the same,
            or on a GPU those of triton.py, and an error where they cannot be had; off: plain
    folder: where the compiled kernels are kept
    Raises DeviceError or OutputError, and with "on" only.
    """
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}, not one of {MODES}")
    set_operations(model, PLAIN)
    if mode == "off":
        return "network: torch's own operations"
    if device.type == "cuda" and mode == "auto":
        return "network: torch's own operations"
    try:
        operations = fused_operations(device, folder)
    except (DeviceError, OutputError) as error:
        if mode == "on":
            raise
        return f"network: torch's own operations ({error.message})"
    set_operations(model, operations)
    return f"network: fused kernels ({device.type})"


def fused_operations(device: torch.device, folder: Path) -> Operations:
    """The fast operations of a device. Raises DeviceError where it has none, OutputError if `folder` is read-only."""
    if device.type == "cpu":
        from facetrain.model.kernels.build import build_library
        from facetrain.model.kernels.cpu import cpu_operations

        return cpu_operations(build_library(folder))
    if device.type == "cuda":
        from facetrain.model.kernels.triton import triton_operations

        return triton_operations()
    raise DeviceError(f"no fused kernels for {device.type}", "they are for cpu and cuda")


def look_operations(device: torch.device, folder: Path) -> Operations:
    """The fastest way to look through a folded network (model/frozen.py) on a device where fused kernels are used."""
    if device.type == "cpu":
        from facetrain.model.kernels.build import build_library
        from facetrain.model.kernels.cpu import frozen_cpu_operations

        return frozen_cpu_operations(build_library(folder))
    return FOLDED


def set_operations(model: nn.Module, operations: Operations) -> None:
    """Let every part of a network compute in one way."""
    for module in model.modules():
        if isinstance(module, (Backbone, Stem, Unit)):
            module.operations = operations
