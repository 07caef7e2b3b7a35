"""A network that is only looked through: batch norms folded into the convolutions before them, nothing to train."""

import torch
from torch import nn

from facetrain.model.blocks import Stem, Unit
from facetrain.model.kernels.choose import set_operations
from facetrain.model.kernels.plain import FOLDED, Operations
from facetrain.model.yunet import YuNet


def freeze(model: YuNet, operations: Operations = FOLDED) -> YuNet:
    """Fold a network's batch norms, in place, and stop all gradients. Its outputs stay, up to rounding.

    operations: how it is computed from now on, a form for folded networks
    """
    for module in model.modules():
        if isinstance(module, Stem):
            _fold(module.conv, module.norm)
        elif isinstance(module, Unit) and module.norm is not None:
            _fold(module.depthwise, module.norm)
    model.requires_grad_(False).eval()
    set_operations(model, operations)
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
