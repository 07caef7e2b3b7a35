"""Batch norm whose statistics are those of the global batch of all processes."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facetrain.train.parallel.world import World


def join_norms(model: nn.Module, world: World, device: torch.device) -> None:
    """Put synchronised batch norms in place of a model's own, with the same parameters, buffers and names.

    Then N processes compute what one would with the global batch, gradients and running statistics included. Torch has
    such a module, with fused kernels, but for GPUs only; CPUs get the one below.
    """
    if world.size == 1:
        return
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, SyncBatchNorm(child, world))


class SyncBatchNorm(nn.Module):
    """(B, C, H, W) -> (B, C, H, W), normalised by the global batch's mean and variance while training."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, norm: nn.BatchNorm2d, world: World) -> None:
        super().__init__()
        assert norm.momentum is not None
        self.eps, self.momentum, self.world = norm.eps, norm.momentum, world
        for name, parameter in norm.named_parameters():
            self.register_parameter(name, parameter)
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; while training also move the running statistics."""
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        out, mean, variance, count = _Normalise.apply(x, self.weight, self.bias, self.eps, self.world)
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)).float(), self.momentum)
        normalised: Tensor = out
        return normalised


class _Normalise(torch.autograd.Function):
    """x, weight (C,), bias (C,) -> normalised x, and mean (C,), variance (C,), count () of the global batch.

    Made of torch's own batch norm, which is ten times as fast as its general means and variances: one pass for this
    process's statistics, one with given statistics for the result. The gradient is that for given statistics plus what
    comes through them, and that is again a batch norm: -(weight / deviation) * (mean of dy + normalised x * mean of
    dy * normalised x), means over the global batch.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, world: World
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        channels = x.shape[1]
        _, own_mean, own_scale = torch.native_batch_norm(x, None, None, None, None, True, 0.0, eps)
        own_mean, own_variance = own_mean.double(), own_scale.double() ** -2 - eps
        count = own_mean.new_full((1,), x.numel() // channels)
        # sum of squares less square of the sum: in 64 bits nothing is lost by that, and one message suffices
        sums = world.sum(torch.cat([count * own_mean, count * (own_variance + own_mean.square()), count]))
        total = sums[-1]
        mean = sums[:channels] / total
        variance = (sums[channels:-1] / total - mean.square()).clamp(min=0)
        mean, variance = mean.float(), variance.float()
        out = F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)
        ctx.save_for_backward(x, weight, mean, variance, total)
        ctx.eps, ctx.world = eps, world
        ctx.mark_non_differentiable(mean, variance, total)
        return out, mean, variance, total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, total = ctx.saved_tensors
        of_x, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        by_weight, by_bias = (ctx.world.sum(torch.stack([of_weight, of_bias]).double()) / total).float()
        scale = weight * (variance + ctx.eps).rsqrt()
        of_x += F.batch_norm(x, mean, variance, -scale * by_weight, -scale * by_bias, False, 0.0, ctx.eps)
        return of_x, of_weight, of_bias, None, None
