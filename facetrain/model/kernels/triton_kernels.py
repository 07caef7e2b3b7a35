# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, disallow-untyped-decorators=False
"""Triton kernels of the fused separable block: maps as rows, (pixels of all images, channels), sums in float32.

A program takes `steps` tiles of `tile` pixels one after the other and keeps its sums in registers; what the programs
found is added afterwards, always in the same order. `channels` (out) and `inputs` (channels in) are powers of two.
"""

import triton
import triton.language as tl


@triton.jit
def _pixels(index, tile: tl.constexpr, pixels):
    """The first pixel of a tile, all of them (tile), and which are there."""
    start = index * tile
    p = start + tl.arange(0, tile)
    return start, p, p < pixels


@triton.jit
def _at(base, start, near, c, channels: tl.constexpr):
    """Addresses (tile, channels) of pixels start + near. The start alone needs 64 bits, which saves registers."""
    return base + start.to(tl.int64) * channels + (near[:, None] * channels + c[None, :])


@triton.jit
def _tally(value, here, first, pivot, total, squares):
    """Add a tile (tile, channels) to the sums of value - pivot and of its square; the pivot is the first one's mean."""
    count = tl.maximum(tl.sum(here.to(tl.float32)), 1.0)
    mean = tl.sum(tl.where(here[:, None], value, 0.0), 0) / count
    pivot = tl.where(first, mean, pivot)
    apart = tl.where(here[:, None], value - pivot[None, :], 0.0)
    return pivot, total + tl.sum(apart, 0), squares + tl.sum(apart * apart, 0)


@triton.jit
def _store_tally(partial, program, c, channels: tl.constexpr, pivot, total, squares):
    tl.store(partial + (program * 3 + 0) * channels + c, pivot)
    tl.store(partial + (program * 3 + 1) * channels + c, total)
    tl.store(partial + (program * 3 + 2) * channels + c, squares)


@triton.jit
def depthwise(
    source, taps, bias, out, partial, height, width, pixels, steps, channels: tl.constexpr, tile: tl.constexpr
):
    """3x3 depthwise convolution; partial (programs, 3, channels): pivot, sum and sum of squares of what was stored.

    taps: (9, channels) row by row
    """
    program = tl.program_id(0)
    c = tl.arange(0, channels)
    local = tl.arange(0, tile)
    pivot = tl.zeros([channels], tl.float32)
    total = tl.zeros([channels], tl.float32)
    squares = tl.zeros([channels], tl.float32)
    for step in range(0, steps):
        start, p, here = _pixels(program * steps + step, tile, pixels)
        y = p // width % height
        x = p % width
        value = tl.zeros([tile, channels], tl.float32) + tl.load(bias + c)[None, :]
        for k in tl.static_range(9):
            dy = k // 3 - 1
            dx = k % 3 - 1
            there = here & (y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width)
            at = _at(source, start, local + dy * width + dx, c, channels)
            near = tl.load(at, mask=there[:, None], other=0.0).to(tl.float32)
            value += near * tl.load(taps + k * channels + c)[None, :]
        kept = value.to(out.dtype.element_ty)
        tl.store(_at(out, start, local, c, channels), kept, mask=here[:, None])
        pivot, total, squares = _tally(kept.to(tl.float32), here, step == 0, pivot, total, squares)
    _store_tally(partial, program, c, channels, pivot, total, squares)


@triton.jit
def moments(source, partial, pixels, steps, channels: tl.constexpr, tile: tl.constexpr):
    """The sums of `depthwise` for a map that is there already."""
    program = tl.program_id(0)
    c = tl.arange(0, channels)
    local = tl.arange(0, tile)
    pivot = tl.zeros([channels], tl.float32)
    total = tl.zeros([channels], tl.float32)
    squares = tl.zeros([channels], tl.float32)
    for step in range(0, steps):
        start, _, here = _pixels(program * steps + step, tile, pixels)
        value = tl.load(_at(source, start, local, c, channels), mask=here[:, None], other=0.0).to(tl.float32)
        pivot, total, squares = _tally(value, here, step == 0, pivot, total, squares)
    _store_tally(partial, program, c, channels, pivot, total, squares)


@triton.jit
def finish_moments(
    partial, weight, bias, norm, eps, programs, share, pixels, channels: tl.constexpr, chunk: tl.constexpr
):
    """Batch norm's numbers from the sums of all programs.

    norm:  (5, channels) scale, shift, mean, 1 / deviation, and the unbiased variance, for the running statistics
    share: pixels of a program; the last one may have fewer
    """
    c = tl.program_id(0) * 16 + tl.arange(0, 16)
    mean = tl.zeros([16], tl.float32)
    for start in range(0, programs, chunk):
        b = start + tl.arange(0, chunk)
        count = tl.maximum(tl.minimum(pixels - b * share, share), 0).to(tl.float32)
        at = (b * 3)[:, None] * channels + c[None, :]
        used = (b < programs)[:, None]
        pivot = tl.load(partial + at, mask=used, other=0.0)
        total = tl.load(partial + at + channels, mask=used, other=0.0)
        mean += tl.sum(pivot * count[:, None] + total, 0)
    mean = mean / pixels
    squares = tl.zeros([16], tl.float32)
    for start in range(0, programs, chunk):
        b = start + tl.arange(0, chunk)
        count = tl.maximum(tl.minimum(pixels - b * share, share), 0).to(tl.float32)
        at = (b * 3)[:, None] * channels + c[None, :]
        used = (b < programs)[:, None]
        apart = tl.load(partial + at, mask=used, other=0.0) - mean[None, :]
        total = tl.load(partial + at + channels, mask=used, other=0.0)
        square = tl.load(partial + at + 2 * channels, mask=used, other=0.0)
        squares += tl.sum(square + apart * (2.0 * total + apart * count[:, None]), 0)
    squares = tl.maximum(squares, 0.0)
    inverse = 1.0 / tl.sqrt(squares / pixels + eps)
    scale = tl.load(weight + c) * inverse
    tl.store(norm + c, scale)
    tl.store(norm + channels + c, tl.load(bias + c) - mean * scale)
    tl.store(norm + 2 * channels + c, mean)
    tl.store(norm + 3 * channels + c, inverse)
    tl.store(norm + 4 * channels + c, squares / (pixels - 1))


@triton.jit
def normalise(source, norm, out, pixels, channels: tl.constexpr, tile: tl.constexpr):
    """Batch norm and ReLU: out = relu(source * scale + shift)."""
    start, _, here = _pixels(tl.program_id(0), tile, pixels)
    c = tl.arange(0, channels)
    local = tl.arange(0, tile)
    value = tl.load(_at(source, start, local, c, channels), mask=here[:, None], other=0.0).to(tl.float32)
    value = value * tl.load(norm + c)[None, :] + tl.load(norm + channels + c)[None, :]
    # NaN stays NaN, so that a broken network is seen in its losses
    value = tl.where(value < 0, 0.0, value)
    tl.store(_at(out, start, local, c, channels), value.to(out.dtype.element_ty), mask=here[:, None])


@triton.jit
def _passed(gradient, middle, start, near, c, channels: tl.constexpr, there, scale, shift):
    """The map before the ReLU's batch norm, and the gradient where the ReLU let pass: both float32."""
    mask = there[:, None]
    value = tl.load(_at(middle, start, near, c, channels), mask=mask, other=0.0).to(tl.float32)
    g = tl.load(_at(gradient, start, near, c, channels), mask=mask, other=0.0).to(tl.float32)
    return value, tl.where(value * scale + shift <= 0, 0.0, g)


@triton.jit
def reduce(gradient, middle, norm, partial, pixels, steps, channels: tl.constexpr, tile: tl.constexpr):
    """Sums of g and of g * (middle - mean), g the gradient that passes the ReLU: partial (programs, 2, channels)."""
    program = tl.program_id(0)
    c = tl.arange(0, channels)
    local = tl.arange(0, tile)
    scale = tl.load(norm + c)[None, :]
    shift = tl.load(norm + channels + c)[None, :]
    mean = tl.load(norm + 2 * channels + c)[None, :]
    first = tl.zeros([channels], tl.float32)
    second = tl.zeros([channels], tl.float32)
    for step in range(0, steps):
        start, _, here = _pixels(program * steps + step, tile, pixels)
        value, g = _passed(gradient, middle, start, local, c, channels, here, scale, shift)
        first += tl.sum(g, 0)
        second += tl.sum(tl.where(here[:, None], g * (value - mean), 0.0), 0)
    tl.store(partial + program * 2 * channels + c, first)
    tl.store(partial + (program * 2 + 1) * channels + c, second)


@triton.jit
def finish_reduce(partial, norm, back, affine, programs, pixels, channels: tl.constexpr, chunk: tl.constexpr):
    """What finishes the batch norm's gradient, from the sums of all programs.

    back:   (5, channels) scale, shift, mean, slope, level: the gradient is scale * g + slope * (middle - mean) + level
    affine: (2, channels) gradients of weight and bias
    """
    c = tl.program_id(0) * 16 + tl.arange(0, 16)
    first = tl.zeros([16], tl.float32)
    second = tl.zeros([16], tl.float32)
    for start in range(0, programs, chunk):
        b = start + tl.arange(0, chunk)
        at = (b * 2)[:, None] * channels + c[None, :]
        first += tl.sum(tl.load(partial + at, mask=(b < programs)[:, None], other=0.0), 0)
        second += tl.sum(tl.load(partial + at + channels, mask=(b < programs)[:, None], other=0.0), 0)
    scale = tl.load(norm + c)
    inverse = tl.load(norm + 3 * channels + c)
    tl.store(back + c, scale)
    tl.store(back + channels + c, tl.load(norm + channels + c))
    tl.store(back + 2 * channels + c, tl.load(norm + 2 * channels + c))
    tl.store(back + 3 * channels + c, -scale * inverse * inverse * second / pixels)
    tl.store(back + 4 * channels + c, -scale * first / pixels)
    tl.store(affine + c, second * inverse)
    tl.store(affine + channels + c, first)


@triton.jit
def normalise_backward(gradient, middle, back, out, pixels, channels: tl.constexpr, tile: tl.constexpr):
    """The gradient through ReLU and batch norm."""
    start, _, here = _pixels(tl.program_id(0), tile, pixels)
    c = tl.arange(0, channels)
    local = tl.arange(0, tile)
    scale = tl.load(back + c)[None, :]
    shift = tl.load(back + channels + c)[None, :]
    value, g = _passed(gradient, middle, start, local, c, channels, here, scale, shift)
    value -= tl.load(back + 2 * channels + c)[None, :]
    value = scale * g + tl.load(back + 3 * channels + c)[None, :] * value + tl.load(back + 4 * channels + c)[None, :]
    tl.store(_at(out, start, local, c, channels), value.to(out.dtype.element_ty), mask=here[:, None])


@triton.jit
def _dot(a, b, precision: tl.constexpr):
    """Matrix product in float32; with "ieee" of float32 operands too: the interpreter does not multiply bfloat16."""
    if precision == "ieee":
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, input_precision=precision)


@triton.jit
def _tap(
    k,
    gradient,
    middle,
    start,
    local,
    c,
    channels: tl.constexpr,
    here,
    y,
    x,
    height,
    width,
    scale,
    shift,
    mean,
    slope,
    level,
):
    """The gradient (tile, channels) of the map before the batch norm, where tap k of a pixel's neighbours reads it."""
    dy = k // 3 - 1
    dx = k % 3 - 1
    there = here & (y - dy >= 0) & (y - dy < height) & (x - dx >= 0) & (x - dx < width)
    value, g = _passed(gradient, middle, start, local - dy * width - dx, c, channels, there, scale, shift)
    return tl.where(there[:, None], scale * g + slope * (value - mean) + level, 0.0)


@triton.jit
def separable_backward(
    gradient, middle, source, point, point_bias, taps, back, out, small, large,
    height, width, pixels, steps,
    inputs: tl.constexpr, channels: tl.constexpr, tile: tl.constexpr, precision: tl.constexpr, late: tl.constexpr,
):  # fmt: skip
    """Gradient through ReLU, batch norm, depthwise and 1x1 convolution at once; nothing between them is written.

    source: (pixels, inputs) the block's input; the depthwise convolution's input is computed from it again
    point:  (channels, inputs) weights of the 1x1 convolution; out: (pixels, inputs) gradient of `source`
    small:  (programs, 16, channels) gradients of the nine taps, then of the 1x1 convolution's bias; the rest is zero
    large:  (programs, channels, inputs) gradients of the 1x1 convolution's weights
    late:   the taps' sums over pixels are taken at the end, not nine times a tile: no warp waits for another, but nine
            times the registers are in use
    """
    program = tl.program_id(0)
    c = tl.arange(0, channels)
    local = tl.arange(0, tile)
    i = tl.arange(0, inputs)
    row = tl.arange(0, 16)
    scale = tl.load(back + c)[None, :]
    shift = tl.load(back + channels + c)[None, :]
    mean = tl.load(back + 2 * channels + c)[None, :]
    slope = tl.load(back + 3 * channels + c)[None, :]
    level = tl.load(back + 4 * channels + c)[None, :]
    weight = tl.load(point + c[:, None] * inputs + i[None, :])
    found = tl.zeros([16, channels], tl.float32)
    zero = tl.zeros([tile, channels], tl.float32)
    below = zero
    sums = (zero, zero, zero, zero, zero, zero, zero, zero, zero)
    grown = tl.zeros([channels, inputs], tl.float32)
    for step in range(0, steps):
        start, p, here = _pixels(program * steps + step, tile, pixels)
        y = p // width % height
        x = p % width
        given = tl.load(_at(source, start, local, i, inputs), mask=here[:, None], other=0.0)
        wide = _dot(given, tl.trans(weight), precision) + tl.load(point_bias + c)[None, :]
        wide = tl.where(here[:, None], wide.to(source.dtype.element_ty).to(tl.float32), 0.0)
        inner = tl.zeros([tile, channels], tl.float32)
        if late:
            for k in tl.static_range(9):
                g = _tap(k, gradient, middle, start, local, c, channels, here, y, x, height, width, scale, shift, mean,
                         slope, level)  # fmt: skip
                inner += g * tl.load(taps + k * channels + c)[None, :]
                sums = sums[:k] + (sums[k] + g * wide,) + sums[k + 1 :]  # noqa: RUF005 (Triton knows no stars)
        else:
            for k in range(0, 9):
                g = _tap(k, gradient, middle, start, local, c, channels, here, y, x, height, width, scale, shift, mean,
                         slope, level)  # fmt: skip
                inner += g * tl.load(taps + k * channels + c)[None, :]
                found += tl.where((row == k)[:, None], tl.sum(g * wide, 0)[None, :], 0.0)
        below += inner
        rounded = inner.to(source.dtype.element_ty)
        outer = _dot(rounded, weight, precision)
        tl.store(_at(out, start, local, i, inputs), outer.to(out.dtype.element_ty), mask=here[:, None])
        grown += _dot(tl.trans(rounded), given, precision)
    found += tl.where((row == 9)[:, None], tl.sum(below, 0)[None, :], 0.0)
    if late:
        for k in tl.static_range(9):
            found += tl.where((row == k)[:, None], tl.sum(sums[k], 0)[None, :], 0.0)
    tl.store(small + (program * 16 + row)[:, None] * channels + c[None, :], found)
    tl.store(large + (program * channels + c)[:, None] * inputs + i[None, :], grown)


@triton.jit
def pool(source, out, which, height, width, pixels, channels: tl.constexpr, tile: tl.constexpr):
    """2x2 maximum; height, width, pixels: of the small map. which: place in the window, the first of equals."""
    start, p, here = _pixels(tl.program_id(0), tile, pixels)
    c = tl.arange(0, channels)
    local = tl.arange(0, tile)
    corner = (p // width).to(
        tl.int64
    ) * 4 * width + p % width * 2  # the row above it twice over, each of twice the width
    best = tl.load(source + corner[:, None] * channels + c[None, :], mask=here[:, None], other=0.0)
    place = tl.zeros([tile, channels], tl.int32)
    for k in tl.static_range(1, 4):
        at = (corner + k // 2 * 2 * width + k % 2)[:, None] * channels + c[None, :]
        value = tl.load(source + at, mask=here[:, None], other=0.0)
        larger = ((value > best) | (value != value)) & (best == best)  # noqa: PLR0124 (a NaN is the largest, and stays)
        best = tl.where(larger, value, best)
        place = tl.where(larger, k, place)
    tl.store(_at(out, start, local, c, channels), best, mask=here[:, None])
    tl.store(_at(which, start, local, c, channels), place.to(tl.uint8), mask=here[:, None])


@triton.jit
def pool_backward(gradient, which, out, height, width, pixels, channels: tl.constexpr, tile: tl.constexpr):
    """The gradient goes to the place of each maximum."""
    start, p, here = _pixels(tl.program_id(0), tile, pixels)
    c = tl.arange(0, channels)
    local = tl.arange(0, tile)
    g = tl.load(_at(gradient, start, local, c, channels), mask=here[:, None], other=0.0)
    place = tl.load(_at(which, start, local, c, channels), mask=here[:, None], other=0).to(tl.int32)
    corner = (p // width).to(tl.int64) * 4 * width + p % width * 2
    for k in tl.static_range(4):
        to = (corner + k // 2 * 2 * width + k % 2)[:, None] * channels + c[None, :]
        tl.store(out + to, tl.where(place == k, g, 0.0).to(out.dtype.element_ty), mask=here[:, None])
