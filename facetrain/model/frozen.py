"""A network that is only looked through: batch norms folded into the convolutions before them, nothing to train."""

import torch
from torch import nn

from facetrain.model.kernels.plain import FOLDED, Kernels
from facetrain.model.yunet import YuNet


def freeze(model: YuNet, kernels: Kernels = FOLDED) -> YuNet:
    """Fold a network's batch norms, in place, and stop all gradients. Its outputs stay, up to rounding.

    kernels: how it is computed from now on, a form for folded networks
    """
    for conv in model.network.convs:
        if conv.norm is not None:
            _fold(model.convolution(conv.names[0]), model.batch_norm(conv.norm))
    model.requires_grad_(False).eval()
    model.kernels = kernels
    return model


@torch.no_grad()
def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Scale = gamma / sqrt(variance + eps), in double precision."""
    assert convolution.bias is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    convolution.weight.copy_(convolution.weight.double() * scale[:, None, None, None])
    convolution.bias.copy_((convolution.bias.double() - norm.running_mean.double()) * scale + norm.bias.double())
