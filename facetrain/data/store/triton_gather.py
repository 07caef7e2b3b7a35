# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, disallow-untyped-decorators=False
# mypy: disallow-untyped-calls=False
"""`plain_crops` as one Triton kernel: each pixel of a crop is read and written once.

Sums are not contracted to fused multiply-adds (`enable_fp_fusion`), so that the bits are those of torch's operations.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE = 256  # pixels of a crop's row that a program makes at once


def gather(flat: Tensor, plan: Tensor, size: int, fill: float, dtype: torch.dtype) -> Tensor:
    """See `gather_crops`. fill: the value of pixels outside of the image."""
    out = torch.empty((len(plan), size, size, 3), dtype=dtype, device=flat.device)
    grid = (size, triton.cdiv(size, _TILE), len(plan))
    _gather[grid](flat.view(torch.int32), plan.contiguous(), out, size, fill, _TILE, enable_fp_fusion=False)
    return out.permute(0, 3, 1, 2)


@triton.jit
def _gather(pixels, plan, out, size, fill, tile: tl.constexpr):
    v = tl.program_id(0)
    u = tl.program_id(1) * tile + tl.arange(0, tile)
    crop = tl.program_id(2).to(tl.int64)
    start = tl.load(plan + crop * 6)
    width = tl.load(plan + crop * 6 + 1)
    height = tl.load(plan + crop * 6 + 2)
    left = tl.load(plan + crop * 6 + 3)
    top = tl.load(plan + crop * 6 + 4)
    side = tl.load(plan + crop * 6 + 5)
    whole = 2 * size
    across = tl.maximum((2 * u + 1).to(tl.int64) * side - size, 0)
    down = tl.maximum((2 * v + 1) * side - size, 0)
    x1 = across // whole
    y1 = down // whole
    divisor = (tl.zeros_like(u) + whole).to(tl.float32)
    wx = tl.div_rn((across - whole * x1).to(tl.float32), divisor)
    wy = tl.div_rn((down - whole * y1 + tl.zeros_like(across)).to(tl.float32), divisor)
    x2 = tl.minimum(x1 + 1, side - 1) + left
    y2 = tl.minimum(y1 + 1, side - 1) + top
    x1 += left
    y1 += top
    inside = u < size
    first = (x1 >= 0) & (x1 < width) & inside
    second = (x2 >= 0) & (x2 < width) & inside
    upper = (y1 >= 0) & (y1 < height)
    lower = (y2 >= 0) & (y2 < height)
    a = tl.load(pixels + start + y1 * width + x1, mask=first & upper, other=0)
    b = tl.load(pixels + start + y1 * width + x2, mask=second & upper, other=0)
    c = tl.load(pixels + start + y2 * width + x1, mask=first & lower, other=0)
    d = tl.load(pixels + start + y2 * width + x2, mask=second & lower, other=0)
    place = out + ((crop * size + v) * size + u) * 3
    for channel in tl.static_range(3):
        near = _channel(a, channel, first & upper, fill) * (1 - wx) + _channel(b, channel, second & upper, fill) * wx
        far = _channel(c, channel, first & lower, fill) * (1 - wx) + _channel(d, channel, second & lower, fill) * wx
        tl.store(place + channel, (near * (1 - wy) + far * wy).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _channel(value, channel: tl.constexpr, there, fill):
    """A byte of 32-bit pixels as a number; what lies outside of the image has the fill."""
    return tl.where(there, ((value >> (8 * channel)) & 255).to(tl.float32), fill)
