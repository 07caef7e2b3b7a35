"""The network on a CPU by kernels of its own (cpu.cpp): the plain kernels in less than half of their passes.

Between two 1x1 convolutions torch goes over a map nine times, forward and backward; here it is four: the depthwise
convolution with the sums of its batch norm; batch norm with ReLU; backward the sums of both; then the gradient of all
three, weights included. The 1x1 convolutions stay torch's, which runs them at the speed of the processor.
"""

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from facetrain.core.errors import DeviceError
from facetrain.model.kernels.plain import FOLDED, PLAIN, Kernels

KERNELS = (
    "separable",
    "separable_backward",
    "norm_relu",
    "norm_relu_backward",
    "depthwise_relu",
    "pool",
    "pool_backward",
)
LANES = 16  # channels that a kernel takes at a time
_BAND = 32  # rows of a task: as many tasks as processors can share, and little done twice at the seams
_SMALL_MAP = 40_000  # pixels of a batch up to which a product of matrices takes less than torch's convolution
_DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


class _Shape(ctypes.Structure):
    """As in cpu.cpp."""

    _fields_ = [(name, ctypes.c_int64) for name in ("images", "height", "width", "channels", "band", "threads")]


class _BatchNorm(ctypes.Structure):
    """As in cpu.cpp."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "mean", "var", "norm", "inverse")),
        *((name, ctypes.c_double) for name in ("eps", "momentum")),
    ]


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

    def run(self, name: str, like: Tensor, *arguments: "Tensor | _BatchNorm") -> None:
        """Run a kernel on maps shaped like `like` (B, C, H, W)."""
        batch, channels, height, width = like.shape
        shape = _Shape(batch, height, width, channels, _BAND, torch.get_num_threads())
        pointers = (
            ctypes.c_void_p(argument.data_ptr()) if isinstance(argument, Tensor) else ctypes.byref(argument)
            for argument in arguments
        )
        self._kernels[name, like.dtype](ctypes.byref(shape), *pointers)


@dataclass(frozen=True)
class _Running:
    """What a batch norm brings along that gradients do not flow through."""

    eps: float
    momentum: float
    mean: Tensor
    var: Tensor

    def settled(self, weight: Tensor, bias: Tensor) -> tuple[_BatchNorm, Tensor, Tensor]:
        """The norm as a kernel takes it, which fills in the tensors (5, C) and, float64, 1 / deviation (C)."""
        norm = torch.empty(5, len(weight))
        inverse = torch.empty(len(weight), dtype=torch.float64)
        pointers = (tensor.data_ptr() for tensor in (weight, bias, self.mean, self.var, norm, inverse))
        return _BatchNorm(*pointers, self.eps, self.momentum), norm, inverse


def cpu_kernels(path: Path) -> Kernels:
    """The kernels by the kernels of a compiled library.

    What it does not cover is left to the plain kernels: evaluation, other number formats than float32 and bfloat16,
    channels that are no multiple of 16, maps of an odd size under the pooling.
    """
    library = Library(path)

    def separable(x: Tensor, pointwise: nn.Conv2d, depthwise: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
        if not _covered(x, depthwise.out_channels, norm):
            return PLAIN.separable(x, pointwise, depthwise, norm)
        parameters = (pointwise.weight, pointwise.bias, depthwise.weight, depthwise.bias, norm.weight, norm.bias)
        return _apply(_Separable, library, _running(norm), x, *parameters)

    def norm_relu(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        if not _covered(x, norm.num_features, norm):
            return PLAIN.norm_relu(x, norm)
        return _apply(_NormRelu, library, _running(norm), x, norm.weight, norm.bias)

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
        library.run("depthwise_relu", wide, wide, depthwise.weight.float().contiguous(), depthwise.bias.float(), out)
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


def _running(norm: nn.BatchNorm2d) -> _Running:
    """The running side of a batch norm that is about to see a batch."""
    assert norm.momentum is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    return _Running(norm.eps, norm.momentum, norm.running_mean, norm.running_var)


def _nhwc(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _empty(like: Tensor, height: int, width: int) -> Tensor:
    shape = like.shape[0], like.shape[1], height, width
    return torch.empty(shape, dtype=like.dtype, memory_format=torch.channels_last)


class _NormRelu(torch.autograd.Function):
    """Batch norm of a batch, and ReLU."""

    @staticmethod
    def forward(ctx: Any, library: Library, running: _Running, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        x = _nhwc(x.to(_working_dtype(x)))
        batch_norm, norm, inverse = running.settled(weight, bias)
        out = torch.empty_like(x)
        library.run("norm_relu", x, batch_norm, x, out)
        ctx.library = library
        ctx.save_for_backward(x, norm, inverse)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, norm, inverse = ctx.saved_tensors
        out = torch.empty_like(x)
        of_norm = torch.empty(2, x.shape[1])
        ctx.library.run("norm_relu_backward", x, _nhwc(gradient), x, norm.clone(), inverse, out, *of_norm)
        return None, None, out, *of_norm


class _Separable(torch.autograd.Function):
    """1x1 convolution, depthwise convolution, batch norm of a batch, ReLU."""

    @staticmethod
    def forward(
        ctx: Any,
        library: Library,
        running: _Running,
        x: Tensor,
        point: Tensor,
        point_bias: Tensor,
        depth: Tensor,
        depth_bias: Tensor,
        weight: Tensor,
        bias: Tensor,
    ) -> Tensor:
        dtype = _working_dtype(x)
        x, point = _nhwc(x.to(dtype)), point.to(dtype)
        wide = _nhwc(F.conv2d(x, point, point_bias.to(dtype)))  # (B, outputs, H, W)
        batch_norm, norm, inverse = running.settled(weight, bias)
        middle, out = torch.empty_like(wide), torch.empty_like(wide)
        depth = depth.contiguous()
        library.run("separable", wide, batch_norm, wide, depth, depth_bias, middle, out)
        ctx.library = library
        ctx.save_for_backward(x, point, wide, depth, middle, norm, inverse)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, point, wide, depth, middle, norm, inverse = ctx.saved_tensors
        inner = torch.empty_like(wide)  # gradient of `wide`
        of_depth = torch.empty(depth.shape)
        weight, bias, point_bias = of_norm = torch.empty(3, wide.shape[1])
        ctx.library.run(
            *("separable_backward", wide, _nhwc(gradient), middle, wide, depth, norm.clone(), inverse),
            *(inner, of_depth, *of_norm),
        )
        outer, point = _pointwise_backward(inner, x, point, ctx.needs_input_grad[2])
        # batch norm takes the mean away: the bias before it changes nothing, and its gradient is exactly 0
        depth_bias = torch.zeros_like(bias)
        return None, None, outer, point.float(), point_bias, of_depth, depth_bias, weight, bias


def _pointwise_backward(gradient: Tensor, x: Tensor, weight: Tensor, of_x: bool) -> tuple[Tensor | None, Tensor]:
    """Gradients of x, if it is asked for, and of the weight of a 1x1 convolution; `gradient` is that of its result."""
    if gradient.shape[0] * gradient.shape[2] * gradient.shape[3] > _SMALL_MAP:
        wanted = [of_x, True, False]
        outer, inner, _ = torch.ops.aten.convolution_backward(
            gradient, x, weight, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, wanted
        )
        return outer, inner
    rows = gradient.permute(0, 2, 3, 1).flatten(0, 2)  # (pixels, outputs)
    inner = (rows.t() @ x.permute(0, 2, 3, 1).flatten(0, 2)).view_as(weight)
    if not of_x:
        return None, inner
    outer = (rows @ weight.flatten(1)).view(*gradient.permute(0, 2, 3, 1).shape[:3], -1)
    return outer.permute(0, 3, 1, 2), inner


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
