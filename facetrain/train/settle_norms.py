"""Batch norms for weights that came without: what they may have been, by what training crops show.

In a file with folded norms a norm's scale and shift are part of the convolution before it. A norm that changes nothing
gives the file's outputs while it uses its stored numbers. In training it does not, for two reasons, and both are mended
here; with stored numbers the network still gives the file's outputs.

The batch brings each channel to mean 0 and variance 1, which takes scale and shift out of every layer: the first step
would begin with another, useless network. So the mean m and the variance v of each channel are measured on training
crops, and the norm is made to bring them back: stored mean m and variance v, scale sqrt(v + eps), shift m. The scores
of a first step of the released yunet_n on 16 crops then correlate by .98 with the file, as those of its checkpoint,
and by .22 without.

Before a norm only the direction of a filter counts, and the shorter it is the further a step turns it. Folding leaves
filters of any length, those of the stem a hundredth of what they were. So each is brought back to a usual length, and
its norm's numbers with it. With a rate of .001, six steps took the bundled yunet_s from .887 AP on drawn faces to .53
without; from its checkpoint to .83.
"""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facetrain.model.kernels.plain import PLAIN, Kernels
from facetrain.model.yunet import YuNet, initial_deviation

CROPS = 32  # that are looked at; 64 take twice the time and bring the first step from .982 to .989
_TRAINED = 2.0  # length of a trained filter over that of a drawn one; .8 to 4 in the released and the bundled networks


@dataclass
class _Sums:
    """Of what a norm takes: sums over batches of the mean and of the mean square, (C,) each, and their number."""

    mean: Tensor
    square: Tensor
    batches: int


@torch.no_grad()
def settle_norms(model: YuNet, names: Collection[str], batches: Iterable[Tensor]) -> None:
    """Give norms that change nothing the numbers with which training begins at the network as it is.

    names:   of these norms; others, of layers that begin anew, normalise by the batch meanwhile
    batches: images as in training, (B, 3, S, S)
    """
    convs = {conv.norm: model.convolution(conv.names[0]) for conv in model.network.convs if conv.norm is not None}
    settled = {id(model.batch_norm(name)): (convs[name], model.batch_norm(name)) for name in names}
    seen: dict[int, _Sums] = {}
    kernels, training = model.kernels, model.training
    model.kernels = _observer(settled.keys(), seen)
    model.eval()
    try:
        for images in batches:
            model(images)
    finally:
        model.kernels = kernels
        model.train(training)
    for key, sums in seen.items():
        mean = sums.mean / sums.batches
        variance = (sums.square / sums.batches - mean.square()).clamp(min=0)
        _set(*settled[key], mean, variance)


def _observer(settled: Collection[int], seen: dict[int, _Sums]) -> Kernels:
    """The plain kernels, which also add up what the norms to settle take."""

    def norm_relu(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        if id(norm) not in settled:
            return F.relu(F.batch_norm(x, None, None, norm.weight, norm.bias, training=True, eps=norm.eps))
        variance, mean = (part.double() for part in torch.var_mean(x, (0, 2, 3), correction=0))
        before = seen.setdefault(id(norm), _Sums(torch.zeros_like(mean), torch.zeros_like(mean), 0))
        square = before.square + variance + mean.square()
        seen[id(norm)] = _Sums(before.mean + mean, square, before.batches + 1)
        return F.relu(x)

    def separable(x: Tensor, pointwise: nn.Conv2d, depthwise: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
        return norm_relu(depthwise(pointwise(x)), norm)

    return Kernels(separable, norm_relu, PLAIN.pool)


def _set(convolution: nn.Conv2d, norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """mean, variance: (C,) double, of what the convolution gives."""
    assert convolution.bias is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    filters = convolution.weight.double().flatten(1)  # (C, numbers of a filter)
    length = filters.norm(dim=1)
    usual = _TRAINED * initial_deviation(convolution) * math.sqrt(filters.shape[1])
    factor = torch.where(length > 0, usual / length.clamp(min=1e-12), torch.ones_like(length))
    convolution.weight.copy_(convolution.weight.double() * factor[:, None, None, None])
    convolution.bias.copy_(convolution.bias.double() * factor)
    norm.running_mean.copy_(mean * factor)
    norm.running_var.copy_(variance * factor.square())
    norm.weight.copy_((norm.running_var.double() + norm.eps).sqrt() / factor)
    norm.bias.copy_(mean)
