"""The switch between the plain network and faster ways to compute it.

Weights, their names and the numbers stay the same, up to rounding; evaluation is always plain.
"""

from pathlib import Path

import torch

from facetrain.core.errors import DeviceError, OutputError
from facetrain.model.kernels.plain import FOLDED, PLAIN, Kernels
from facetrain.model.module import NetworkModule

MODES = ("auto", "on", "off")


def use_fused(model: NetworkModule, mode: str, device: torch.device, folder: Path) -> str:
    """Choose how the network is computed while it trains. Returns a line that says what was chosen and why.

    mode:   auto: on a CPU the kernels of cpu.py where they can be compiled, else the plain kernels; on: the same,
            or on a GPU those of triton.py, and an error where they cannot be had; off: plain
    folder: where the compiled kernels are kept
    Raises DeviceError or OutputError, and with "on" only.
    """
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}, not one of {MODES}")
    model.kernels = PLAIN
    if mode == "off":
        return "network: torch's own operations"
    if device.type == "cuda" and mode == "auto":
        return "network: torch's own operations"
    try:
        kernels = fused_kernels(device, folder)
    except (DeviceError, OutputError) as error:
        if mode == "on":
            raise
        return f"network: torch's own operations ({error.message})"
    model.kernels = kernels
    return f"network: fused kernels ({device.type})"


def fused_kernels(device: torch.device, folder: Path) -> Kernels:
    """The fast kernels of a device. Raises DeviceError where it has none, OutputError if `folder` is read-only."""
    if device.type == "cpu":
        from facetrain.model.kernels.build import build_library
        from facetrain.model.kernels.cpu import cpu_kernels

        return cpu_kernels(build_library(folder))
    if device.type == "cuda":
        from facetrain.model.kernels.triton import gpu_kernels

        return gpu_kernels()
    raise DeviceError(f"no fused kernels for {device.type}", "they are for cpu and cuda")


def look_kernels(device: torch.device, folder: Path) -> Kernels:
    """The fastest way to look through a folded network (model/frozen.py) on a device where fused kernels are used."""
    if device.type == "cpu":
        from facetrain.model.kernels.build import build_library
        from facetrain.model.kernels.cpu import frozen_cpu_kernels

        return frozen_cpu_kernels(build_library(folder))
    return FOLDED
