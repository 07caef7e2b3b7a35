"""The network on a CUDA GPU by Triton kernels (triton_kernels.py): fewer trips of the maps through memory.

A separable block with as many channels in as out moves, counted in maps read or written, forward and backward:

    torch  1x1: 2, depthwise: 2, statistics: 1, batch norm: 2, ReLU: 2 | ReLU 3, batch norm 5, depthwise 4, 1x1: 4 -> 25
    here   1x1: 2, depthwise, statistics: 2, batch norm, ReLU: 2       | statistics 2, all the rest 4              -> 12

The backward pass computes the 1x1 convolution again instead of keeping its result, and hands the gradient from block
to block without writing what is between. Everything is a custom operator: torch.compile takes it whole, and CUDA graphs
record it.
"""

import os
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facetrain.core.errors import DeviceError
from facetrain.model.kernels.plain import PLAIN, Kernels

try:
    import triton

    from facetrain.model.kernels import triton_kernels as kernels
except ImportError:
    triton = None


@dataclass(frozen=True)
class Launch:
    """How a kernel is cut for the card: values of a map (pixels × channels) in a tile, and warps that share it."""

    values: int
    warps: int

    def tile(self, channels: int) -> int:
        """Pixels of a tile: at least the 16 that a matrix product needs."""
        return min(256, max(16, self.values // channels))


FORWARD = Launch(4096, 8)
BACKWARD = Launch(2048, 8)  # of the whole block at once: with more, its sums leave the registers (seen for sm_90)
# Programs of a kernel that sums, for each of the card's processors, whose registers hold two of the forward kernels
# (seen for sm_90). What each has found is added afterwards: of a small map, 1,024 programs wrote more than the map has.
_PROGRAMS = 2
_CHANNELS = (16, 32, 64, 128)
_DTYPES = (torch.float32, torch.bfloat16)


def gpu_kernels() -> Kernels:
    """The kernels by Triton. Raises DeviceError where it is not installed.

    What they do not cover is left to the plain kernels: evaluation, channels that are no power of two from 16 to
    128, other number formats than bfloat16 and float32.
    """
    if triton is None:
        raise DeviceError("the fused GPU kernels need Triton, which is not installed", "pip install triton")
    return Kernels(separable, norm_relu, pool)


def separable(x: Tensor, pointwise: nn.Conv2d, depthwise: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """1x1 convolution, depthwise convolution, batch norm, ReLU."""
    if not (_covered(x, norm) and x.shape[1] in _CHANNELS):
        return PLAIN.separable(x, pointwise, depthwise, norm)
    parameters = (pointwise.weight, pointwise.bias, depthwise.weight, depthwise.bias, norm.weight, norm.bias)
    out, _, statistics = _separable(x.to(_working_dtype(x)), *parameters, norm.eps)
    _move(norm, statistics)
    return cast(Tensor, out)


def norm_relu(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Batch norm, ReLU."""
    if not _covered(x, norm):
        return PLAIN.norm_relu(x, norm)
    out, statistics = _norm_relu(x.to(_working_dtype(x)), norm.weight, norm.bias, norm.eps)
    _move(norm, statistics)
    return cast(Tensor, out)


def pool(x: Tensor) -> Tensor:
    """The largest of 2x2 values, without overlap."""
    even = x.shape[2] % 2 == 0 and x.shape[3] % 2 == 0
    if not (even and x.shape[1] in _CHANNELS and x.dtype in _DTYPES and x.requires_grad and _reachable(x)):
        return PLAIN.pool(x)
    return cast(Tensor, _pool(x)[0])


def _covered(x: Tensor, norm: nn.BatchNorm2d) -> bool:
    ordinary = type(norm) is nn.BatchNorm2d and norm.affine and norm.track_running_stats and norm.momentum is not None
    known = _working_dtype(x) in _DTYPES and norm.num_features in _CHANNELS and norm.weight.dtype == torch.float32
    # one value a channel: torch refuses that, and says so
    return ordinary and known and _reachable(x) and norm.training and torch.is_grad_enabled() and _rows(x) > 1


def _reachable(x: Tensor) -> bool:
    """Whether Triton reaches a map: on a GPU, or anywhere under its interpreter."""
    return x.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"


def _working_dtype(x: Tensor) -> torch.dtype:
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def _move(norm: nn.BatchNorm2d, statistics: Tensor) -> None:
    """Let the running statistics follow a batch: (5, C), of which row 2 is the mean, row 4 the variance."""
    assert norm.num_batches_tracked is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.momentum is not None
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(statistics[2], norm.momentum)
        norm.running_var.lerp_(statistics[4], norm.momentum)


# Launching


def _nhwc(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _rows(x: Tensor) -> int:
    return x.shape[0] * x.shape[2] * x.shape[3]


def _tiles(x: Tensor, launch: Launch) -> int:
    return -(-_rows(x) // launch.tile(x.shape[1]))


def _shares(x: Tensor, launch: Launch) -> tuple[int, int]:
    """Programs of a kernel that sums over a map, and tiles of each."""
    tiles = _tiles(x, launch)
    steps = -(-tiles // (_PROGRAMS * _processors(x.device)))
    return -(-tiles // steps), steps


@cache
def _processors(device: torch.device) -> int:
    """Of a card; the interpreter has one."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def _late(inputs: int, channels: int) -> bool:
    """Whether `separable_backward` keeps all its sums in registers: where these suffice (seen for sm_90)."""
    return inputs == channels <= 64


def _cut(channels: int, launch: Launch) -> dict[str, int]:
    return {"channels": channels, "tile": launch.tile(channels), "num_warps": launch.warps}


def _batch_norm(x: Tensor, partial: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """ReLU of the normalised map, and the (5, C) numbers of the batch norm, from the sums of the programs."""
    channels = x.shape[1]
    programs, steps = _shares(x, FORWARD)
    norm = x.new_empty(5, channels, dtype=torch.float32)
    share = steps * FORWARD.tile(channels)
    kernels.finish_moments[(channels // 16,)](
        partial, weight, bias, norm, eps, programs, share, _rows(x), channels=channels, chunk=64
    )
    out = torch.empty_like(x)
    kernels.normalise[(_tiles(x, FORWARD),)](x, norm, out, _rows(x), **_cut(channels, FORWARD))
    return out, norm


def _batch_norm_backward(gradient: Tensor, middle: Tensor, norm: Tensor) -> tuple[Tensor, Tensor]:
    """What the gradient of the batch norm's input is made of (5, C), and the gradients of weight and bias (2, C)."""
    channels = middle.shape[1]
    programs, steps = _shares(middle, FORWARD)
    partial = middle.new_empty(programs, 2, channels, dtype=torch.float32)
    kernels.reduce[(programs,)](gradient, middle, norm, partial, _rows(middle), steps, **_cut(channels, FORWARD))
    back, affine = torch.empty_like(norm), norm.new_empty(2, channels)
    kernels.finish_reduce[(channels // 16,)](
        partial, norm, back, affine, programs, _rows(middle), channels=channels, chunk=64
    )
    return back, affine


@torch.library.custom_op("facetrain::separable", mutates_args=())
def _separable(
    x: Tensor,
    point: Tensor,
    point_bias: Tensor,
    depth: Tensor,
    depth_bias: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The block's output, the map before its batch norm, and the numbers of the batch norm (5, C)."""
    x = _nhwc(x)
    wide = F.linear(x.permute(0, 2, 3, 1), point.flatten(1).to(x.dtype), point_bias.to(x.dtype)).permute(0, 3, 1, 2)
    channels, height, width = wide.shape[1:]
    programs, steps = _shares(wide, FORWARD)
    middle = torch.empty_like(wide)
    partial = x.new_empty(programs, 3, channels, dtype=torch.float32)
    taps = depth.flatten(1).t().contiguous()
    kernels.depthwise[(programs,)](
        wide, taps, depth_bias, middle, partial, height, width, _rows(wide), steps, **_cut(channels, FORWARD)
    )
    out, norm = _batch_norm(middle, partial, weight, bias, eps)
    return out, middle, norm


@_separable.register_fake
def _(
    x: Tensor,
    point: Tensor,
    point_bias: Tensor,
    depth: Tensor,
    depth_bias: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    shape = x.shape[0], point.shape[0], x.shape[2], x.shape[3]
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    return out, torch.empty_like(out), weight.new_empty(5, point.shape[0])


@torch.library.custom_op("facetrain::separable_backward", mutates_args=())
def _separable_backward(
    gradient: Tensor,
    x: Tensor,
    middle: Tensor,
    norm: Tensor,
    point: Tensor,
    point_bias: Tensor,
    depth: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients: of x, of the 1x1 weights (C, inputs), of the nine taps and the 1x1 bias (rows of (16, C), of which the
    rest is zero), and of the batch norm's weight and bias (2, C).
    """
    gradient, x = _nhwc(gradient), _nhwc(x)
    inputs, (channels, height, width) = x.shape[1], middle.shape[1:]
    back, affine = _batch_norm_backward(gradient, middle, norm)
    programs, steps = _shares(middle, BACKWARD)
    out = torch.empty_like(x)
    small = norm.new_empty(programs, 16, channels)
    large = norm.new_empty(programs, channels, inputs)
    kernels.separable_backward[(programs,)](
        gradient, middle, x, point.flatten(1).to(x.dtype).contiguous(), point_bias, depth.flatten(1).t().contiguous(),
        back, out, small, large, height, width, _rows(x), steps,
        inputs=inputs, precision="ieee" if x.dtype == torch.float32 or x.is_cpu else "tf32", num_stages=1,
        late=_late(inputs, channels),
        **_cut(channels, BACKWARD),
    )  # fmt: skip
    return out, large.sum(0), small.sum(0), affine


@_separable_backward.register_fake
def _(
    gradient: Tensor,
    x: Tensor,
    middle: Tensor,
    norm: Tensor,
    point: Tensor,
    point_bias: Tensor,
    depth: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    channels = norm.shape[1]
    out = torch.empty_like(x, memory_format=torch.channels_last)
    return out, norm.new_empty(channels, x.shape[1]), norm.new_empty(16, channels), norm.new_empty(2, channels)


def _keep_separable(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, point, point_bias, depth, *_ = inputs
    _, middle, norm = output
    ctx.mark_non_differentiable(middle, norm)
    ctx.save_for_backward(x, middle, norm, point, point_bias, depth)


def _backward_of_separable(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    x, middle, norm, point, point_bias, depth = ctx.saved_tensors
    out, weights, sums, affine = _separable_backward(gradient, x, middle, norm, point, point_bias, depth)
    taps = sums[:9].t().reshape(depth.shape)
    # batch norm takes the mean away: the bias before it changes nothing
    nothing = torch.zeros_like(affine[1])
    return out, weights.reshape(point.shape), sums[9], taps, nothing, affine[0], affine[1], None


_separable.register_autograd(_backward_of_separable, setup_context=_keep_separable)


@torch.library.custom_op("facetrain::norm_relu", mutates_args=())
def _norm_relu(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """ReLU of the normalised map, and the numbers of the batch norm (5, C)."""
    x = _nhwc(x)
    programs, steps = _shares(x, FORWARD)
    partial = x.new_empty(programs, 3, x.shape[1], dtype=torch.float32)
    kernels.moments[(programs,)](x, partial, _rows(x), steps, **_cut(x.shape[1], FORWARD))
    return _batch_norm(x, partial, weight, bias, eps)


@_norm_relu.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x, memory_format=torch.channels_last), weight.new_empty(5, x.shape[1])


@torch.library.custom_op("facetrain::norm_relu_backward", mutates_args=())
def _norm_relu_backward(gradient: Tensor, x: Tensor, norm: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the map, and of the batch norm's weight and bias (2, C)."""
    gradient, x = _nhwc(gradient), _nhwc(x)
    back, affine = _batch_norm_backward(gradient, x, norm)
    out = torch.empty_like(x)
    kernels.normalise_backward[(_tiles(x, FORWARD),)](gradient, x, back, out, _rows(x), **_cut(x.shape[1], FORWARD))
    return out, affine


@_norm_relu_backward.register_fake
def _(gradient: Tensor, x: Tensor, norm: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x, memory_format=torch.channels_last), norm.new_empty(2, norm.shape[1])


def _keep_norm_relu(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(inputs[0], output[1])


def _backward_of_norm_relu(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    out, affine = _norm_relu_backward(gradient, *ctx.saved_tensors)
    return out, affine[0], affine[1], None


_norm_relu.register_autograd(_backward_of_norm_relu, setup_context=_keep_norm_relu)


@torch.library.custom_op("facetrain::pool", mutates_args=())
def _pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """The pooled map, and the place of each maximum in its window, a byte each."""
    x = _nhwc(x)
    out, which = _pooled(x)
    kernels.pool[(_tiles(out, FORWARD),)](
        x, out, which, out.shape[2], out.shape[3], _rows(out), **_cut(x.shape[1], FORWARD)
    )
    return out, which


def _pooled(x: Tensor) -> tuple[Tensor, Tensor]:
    shape = x.shape[0], x.shape[1], x.shape[2] // 2, x.shape[3] // 2
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    return out, torch.empty_like(out, dtype=torch.uint8)


_pool.register_fake(_pooled)


@torch.library.custom_op("facetrain::pool_backward", mutates_args=())
def _pool_backward(gradient: Tensor, which: Tensor) -> Tensor:
    """The gradient of the large map."""
    gradient = _nhwc(gradient)
    out = _unpooled(gradient, which)
    height, width = which.shape[2:]
    grid = (_tiles(which, FORWARD),)
    kernels.pool_backward[grid](gradient, which, out, height, width, _rows(which), **_cut(which.shape[1], FORWARD))
    return out


def _unpooled(gradient: Tensor, which: Tensor) -> Tensor:
    shape = which.shape[0], which.shape[1], 2 * which.shape[2], 2 * which.shape[3]
    return torch.empty(shape, dtype=gradient.dtype, device=gradient.device, memory_format=torch.channels_last)


_pool_backward.register_fake(_unpooled)


def _keep_pool(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1])


def _backward_of_pool(ctx: Any, gradient: Tensor, _: Tensor) -> Tensor:
    return cast(Tensor, _pool_backward(gradient, *ctx.saved_tensors))


_pool.register_autograd(_backward_of_pool, setup_context=_keep_pool)
