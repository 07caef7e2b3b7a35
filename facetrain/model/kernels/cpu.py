"""The network on a CPU by kernels of its own (cpu.cpp): the plain kernels in less than half of their passes.

Between two 1x1 convolutions torch goes over a map nine times, forward and backward; here it is four: the depthwise
convolution with the sums of its batch norm; batch norm with ReLU; backward the sums of both; then the gradient of all
three, weights included. The 1x1 convolutions stay torch's, which runs them at the speed of the processor.
"""

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from facetrain.core.errors import DeviceError
from facetrain.model.kernels.plain import FOLDED, PLAIN, Kernels

KERNELS = (
    "depthwise",
    "depthwise_relu",
    "moments",
    "normalise",
    "reduce",
    "normalise_backward",
    "depthwise_backward",
    "pool",
    "pool_backward",
)
LANES = 16  # channels that a kernel takes at a time
_BAND = 32  # rows of a task: as many tasks as processors can share, and little done twice at the seams
_DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


class _Shape(ctypes.Structure):
    """As in cpu.cpp."""

    _fields_ = [(name, ctypes.c_int64) for name in ("images", "height", "width", "channels", "band", "threads")]


class Library:
    """The compiled kernels, called with tensors. Raises DeviceError where the file cannot be loaded."""

    def __init__(self, path: Path) -> None:
        try:
            library = ctypes.CDLL(str(path))
            self._kernels: dict[tuple[str, torch.dtype], Any] = {
                (name, dtype): getattr(library, f"{name}_{suffix}")
                for name in KERNELS
                for dtype, suffix in _DTYPES.items()
            }
        except (OSError, AttributeError) as error:  # another system's, or without a kernel
            raise DeviceError(f"{path}: cannot be loaded: {error}", "remove it: it is compiled anew") from error
        for kernel in self._kernels.values():
            kernel.restype = None

    def run(self, name: str, like: Tensor, *tensors: Tensor) -> None:
        """Run a kernel on maps shaped like `like` (B, C, H, W)."""
        batch, channels, height, width = like.shape
        shape = _Shape(batch, height, width, channels, _BAND, torch.get_num_threads())
        pointers = (ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors)
        self._kernels[name, like.dtype](ctypes.byref(shape), *pointers)

    def sums(self, name: str, rows: int, like: Tensor, *tensors: Tensor) -> Tensor:
        """Run a kernel that also sums, and add the sums of its tasks: (rows, C) float64."""
        tasks = like.shape[0] * -(-like.shape[2] // _BAND)
        sums = torch.empty(tasks, rows, like.shape[1])
        self.run(name, like, *tensors, sums)
        return sums.sum(0, dtype=torch.float64)


def cpu_kernels(path: Path) -> Kernels:
    """The kernels by the kernels of a compiled library.

    What it does not cover is left to the plain kernels: evaluation, other number formats than float32 and bfloat16,
    channels that are no multiple of 16, maps of an odd size under the pooling.
    """
    library = Library(path)

    def separable(x: Tensor, pointwise: nn.Conv2d, depthwise: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
        if not _covered(x, depthwise.out_channels, norm):
            return PLAIN.separable(x, pointwise, depthwise, norm)
        statistics = _running(norm)
        parameters = (pointwise.weight, pointwise.bias, depthwise.weight, depthwise.bias, norm.weight, norm.bias)
        return _apply(_Separable, library, norm.eps, *statistics, x, *parameters)

    def norm_relu(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        if not _covered(x, norm.num_features, norm):
            return PLAIN.norm_relu(x, norm)
        return _apply(_NormRelu, library, norm.eps, *_running(norm), x, norm.weight, norm.bias)

    def pool(x: Tensor) -> Tensor:
        if x.dtype not in _DTYPES or x.shape[1] % LANES or x.shape[2] % 2 or x.shape[3] % 2 or not x.requires_grad:
            return PLAIN.pool(x)
        return _apply(_Pool, library, x)

    return Kernels(separable, norm_relu, pool)


def frozen_cpu_kernels(path: Path) -> Kernels:
    """The kernels of a folded network (model/frozen.py) that is only looked through, by the kernels of a library."""
    library = Library(path)

    def separable(x: Tensor, pointwise: nn.Conv2d, depthwise: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
        dtype = _working_dtype(x)
        if x.device.type != "cpu" or depthwise.out_channels % LANES or dtype not in _DTYPES or torch.is_grad_enabled():
            return FOLDED.separable(x, pointwise, depthwise, norm)
        wide = _nhwc(pointwise(x))
        assert depthwise.bias is not None
        out = torch.empty_like(wide)
        taps = depthwise.weight.float().flatten(1).t().contiguous()  # (9, outputs)
        library.run("depthwise_relu", wide, wide, taps, depthwise.bias.float(), out)
        return out

    def pool(x: Tensor) -> Tensor:
        odd = x.shape[1] % LANES or x.shape[2] % 2 or x.shape[3] % 2
        if x.device.type != "cpu" or odd or x.dtype not in _DTYPES or torch.is_grad_enabled():
            return FOLDED.pool(x)
        x = _nhwc(x)
        out = _empty(x, x.shape[2] // 2, x.shape[3] // 2)
        library.run("pool", out, x, out, torch.empty_like(out, dtype=torch.uint8))
        return out

    return Kernels(separable, FOLDED.norm_relu, pool)


def _apply(function: type[torch.autograd.Function], *arguments: Any) -> Tensor:
    result: Tensor = function.apply(*arguments)
    return result


def _covered(x: Tensor, channels: int, norm: nn.BatchNorm2d) -> bool:
    fits = x.device.type == "cpu" and channels % LANES == 0 and _working_dtype(x) in _DTYPES
    ordinary = type(norm) is nn.BatchNorm2d and norm.affine and norm.track_running_stats and norm.momentum is not None
    fits = fits and norm.weight.dtype == torch.float32
    # one value a channel: torch refuses that, and says so
    return fits and ordinary and norm.training and torch.is_grad_enabled() and x.shape[0] * x.shape[2] * x.shape[3] > 1


def _working_dtype(x: Tensor) -> torch.dtype:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def _running(norm: nn.BatchNorm2d) -> tuple[float, Tensor, Tensor]:
    """Momentum and running statistics of a batch norm that is about to see a batch."""
    assert norm.momentum is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    return norm.momentum, norm.running_mean, norm.running_var


def _nhwc(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _empty(like: Tensor, height: int, width: int) -> Tensor:
    shape = like.shape[0], like.shape[1], height, width
    return torch.empty(shape, dtype=like.dtype, memory_format=torch.channels_last)


def _normalisation(
    sums: Tensor, pivot: Tensor, count: int, eps: float, momentum: float, mean: Tensor, var: Tensor, *affine: Tensor
) -> tuple[Tensor, Tensor]:
    """What the kernels need of a batch norm: (5, C) scale, shift, mean and two empty rows; and 1 / deviation (C).

    sums: (2, C) of value - pivot and its square, over `count` values. Moves the running statistics `mean` and `var`.
    """
    weight, bias = affine
    first, second = sums / count
    batch_var = (second - first * first).clamp(min=0)
    batch_mean = pivot + first
    mean.lerp_(batch_mean.to(mean.dtype), momentum)
    var.lerp_((batch_var * (count / (count - 1))).to(var.dtype), momentum)
    inverse = (batch_var + eps).rsqrt()
    scale = weight * inverse
    norm = torch.zeros(5, len(pivot))
    norm[0], norm[1], norm[2] = scale, bias - batch_mean * scale, batch_mean
    return norm, inverse


def _reduce(
    library: Library, gradient: Tensor, x: Tensor, norm: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The batch norm's rows completed for its backward pass, and the gradients of its weight and bias (C)."""
    sums = library.sums("reduce", 2, x, gradient, x, norm)
    count = x.numel() // x.shape[1]
    norm = norm.clone()
    norm[3] = -norm[0] * inverse * inverse * sums[1] / count
    norm[4] = -norm[0] * sums[0] / count
    return norm, (sums[1] * inverse).float(), sums[0].float()


class _NormRelu(torch.autograd.Function):
    """Batch norm of a batch, and ReLU."""

    @staticmethod
    def forward(
        ctx: Any,
        library: Library,
        eps: float,
        momentum: float,
        mean: Tensor,
        var: Tensor,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
    ) -> Tensor:
        x = _nhwc(x.to(_working_dtype(x)))
        pivot = x[0, :, x.shape[2] // 2, x.shape[3] // 2].float()
        sums = library.sums("moments", 2, x, x, pivot)
        norm, inverse = _normalisation(sums, pivot, x.numel() // x.shape[1], eps, momentum, mean, var, weight, bias)
        out = torch.empty_like(x)
        library.run("normalise", x, x, norm[0], norm[1], out)
        ctx.library = library
        ctx.save_for_backward(x, norm, inverse)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, norm, inverse = ctx.saved_tensors
        gradient = _nhwc(gradient)
        norm, weight, bias = _reduce(ctx.library, gradient, x, norm, inverse)
        out = torch.empty_like(x)
        ctx.library.run("normalise_backward", x, gradient, x, norm, out)
        return None, None, None, None, None, out, weight, bias


class _Separable(torch.autograd.Function):
    """1x1 convolution, depthwise convolution, batch norm of a batch, ReLU."""

    @staticmethod
    def forward(
        ctx: Any,
        library: Library,
        eps: float,
        momentum: float,
        mean: Tensor,
        var: Tensor,
        x: Tensor,
        point: Tensor,
        point_bias: Tensor,
        depth: Tensor,
        depth_bias: Tensor,
        weight: Tensor,
        bias: Tensor,
    ) -> Tensor:
        dtype = _working_dtype(x)
        x, point = x.to(dtype), point.to(dtype)
        wide = _nhwc(F.conv2d(x, point, point_bias.to(dtype)))  # (B, outputs, H, W)
        taps = depth.flatten(1).t().contiguous()  # (9, outputs)
        pivot = _value_within(wide, depth, depth_bias)
        middle = torch.empty_like(wide)
        sums = library.sums("depthwise", 2, wide, wide, taps, depth_bias, pivot, middle)
        count = middle.numel() // middle.shape[1]
        norm, inverse = _normalisation(sums, pivot, count, eps, momentum, mean, var, weight, bias)
        out = torch.empty_like(middle)
        library.run("normalise", middle, middle, norm[0], norm[1], out)
        ctx.library = library
        ctx.save_for_backward(x, point, wide, taps, middle, norm, inverse)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, point, wide, taps, middle, norm, inverse = ctx.saved_tensors
        gradient = _nhwc(gradient)
        norm, weight, bias = _reduce(ctx.library, gradient, middle, norm, inverse)
        inner = torch.empty_like(wide)  # gradient of `wide`
        sums = ctx.library.sums("depthwise_backward", 10, wide, gradient, middle, wide, taps, norm, inner)
        depth = sums[:9].t().float().reshape(-1, 1, 3, 3)
        outer, point, _ = torch.ops.aten.convolution_backward(
            inner, x, point, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [ctx.needs_input_grad[5], True, False]
        )
        # batch norm takes the mean away: the bias before it changes nothing, and its gradient is exactly 0
        depth_bias = torch.zeros_like(bias)
        return None, None, None, None, None, outer, point.float(), sums[9].float(), depth, depth_bias, weight, bias


def _value_within(x: Tensor, depth: Tensor, bias: Tensor) -> Tensor:
    """About what the depthwise convolution gives in the middle of the first image (C): near the mean, roughly.

    Sums of squares are taken around it: around zero they lose all digits where the deviation is small.
    """
    top, left = max(0, x.shape[2] // 2 - 1), max(0, x.shape[3] // 2 - 1)
    patch = x[0, :, top : top + 3, left : left + 3].float()
    return (patch * depth[:, 0, : patch.shape[1], : patch.shape[2]]).sum((1, 2)) + bias


class _Pool(torch.autograd.Function):
    """2x2 maximum; the places of the maxima are kept in a byte each."""

    @staticmethod
    def forward(ctx: Any, library: Library, x: Tensor) -> Tensor:
        x = _nhwc(x)
        height, width = x.shape[2:]
        out = _empty(x, height // 2, width // 2)
        which = torch.empty_like(out, dtype=torch.uint8)
        library.run("pool", out, x, out, which)
        ctx.library = library
        ctx.save_for_backward(which)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        (which,) = ctx.saved_tensors
        gradient = _nhwc(gradient)
        height, width = gradient.shape[2:]
        out = _empty(gradient, 2 * height, 2 * width)
        ctx.library.run("pool_backward", gradient, gradient, which, out)
        return None, out
