"""Bilinear crops from pixels that lie in a device's memory."""

import os

import torch
from torch import Tensor

from facetrain.data.view import FILL

try:
    from facetrain.data.store import triton_gather
except ImportError:
    triton_gather = None  # type: ignore[assignment]


def gather_crops(flat: Tensor, plan: Tensor, size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Crops by the way that suits the device: one kernel on a CUDA card with Triton, else `plain_crops`; equal bits.

    flat: (pixels, 4) uint8, B G R and one unused byte, images one after the other, row by row
    plan: (B, 6) int64: first pixel, width, height, left, top, side
    Returns (B, 3, size, size), channels_last; another dtype than float32 is what float32 is rounded to.
    """
    if triton_gather is not None and (flat.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"):
        return triton_gather.gather(flat, plan, size, FILL, dtype)
    return plain_crops(flat, plan, size).to(dtype)


def plain_crops(flat: Tensor, plan: Tensor, size: int) -> Tensor:
    """See `gather_crops`; on any device, by torch's operations."""
    start, width, height, left, top, side = (plan[:, i, None] for i in range(6))
    # In whole numbers, of 1 / (2 size) of a pixel: at 32 bits the weights of a 1,500 pixel window would be off by 1e-4,
    # a few hundredths of a grey level.
    doubled = 2 * torch.arange(size, device=plan.device) + 1
    place = (doubled * side - size).clamp(min=0)  # (B, size), of the window
    low = place // (2 * size)
    weight = (place - 2 * size * low).float() / float(2 * size)
    high = torch.minimum(low + 1, side - 1)
    pixels = flat.view(torch.int32)[:, 0]

    def rows(index: Tensor) -> tuple[Tensor, Tensor]:
        y = index + top
        return y, (y >= 0) & (y < height)

    def columns(index: Tensor) -> tuple[Tensor, Tensor]:
        x = index + left
        return x, (x >= 0) & (x < width)

    def tap(row: Tensor, column: Tensor) -> Tensor:
        (y, row_there), (x, column_there) = rows(row), columns(column)
        there = row_there[:, :, None] & column_there[:, None, :]  # (B, size, size)
        index = start[:, :, None] + y[:, :, None] * width[:, :, None] + x[:, None, :]
        values = pixels[torch.where(there, index, 0)].view(torch.uint8).view(-1, size, size, 4)[..., :3]
        return torch.where(there[..., None], values.float(), FILL)

    wx, wy = weight[:, None, :, None], weight[:, :, None, None]
    upper = tap(low, low) * (1 - wx) + tap(low, high) * wx
    lower = tap(high, low) * (1 - wx) + tap(high, high) * wx
    crops = upper * (1 - wy) + lower * wy  # (B, size, size, 3)
    return crops.permute(0, 3, 1, 2)
