"""A teacher's maps inside the network as hints for the student's.

What a network says is learnt many times faster where it is told also how a network that can do it sees (A. Romero et
al.: FitNets, ICLR 2015). Maps of the same name, width and stride are compared, so student and teacher may differ
elsewhere, and nothing is added to the student.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from facetrain.model.operations import Network
from facetrain.model.yunet import YuNet

_FINEST = 8  # the stride that finer maps are thinned to: neighbours say nearly the same
_TINY = 1e-3  # added to sums of squares: a channel that is silent in both networks is alike


def common_maps(student: Network, teacher: Network) -> list[str]:
    """The names of the activations, behind batch norm and ReLU, that both networks have in the same form, in order."""
    return [
        conv.y
        for conv in student.convs
        if conv.norm is not None and conv.relu and student.maps[conv.y] == teacher.maps.get(conv.y)
    ]


def watch_alike(student: YuNet, teacher: YuNet) -> str:
    """Let both keep the maps that they have in common. Returns a line that says how many these are."""
    names = common_maps(student.network, teacher.network)
    student.watch(names)
    teacher.watch(names)
    if not names:
        return "teacher: none of its maps has the student's form, train.teacher_maps has no effect"
    activations = sum(conv.norm is not None and conv.relu for conv in student.network.convs)
    return f"teacher: {len(names)} of the student's {activations} maps are compared with its own (train.teacher_maps)"


def difference(own: Sequence[Tensor], taught: Sequence[Tensor], side: int) -> Tensor:
    """How much maps differ, 0 to 1: 1 - the cosine of each channel over all places and images, the mean of them all.

    own, taught: (B, C, h, w) each, not negative, of images of `side` pixels

    The size of a channel is free: the layer behind makes up for it, and a teacher's batch norms, worn down by weight
    decay, are no aim of their own.
    """
    return torch.stack([_apart(x, y, side) for x, y in zip(own, taught, strict=True)]).mean()


def _apart(x: Tensor, y: Tensor, side: int) -> Tensor:
    step = max(1, _FINEST * x.shape[2] // side)
    x, y = (some.permute(0, 2, 3, 1)[:, ::step, ::step].flatten(0, 2).float() for some in (x, y))
    lengths = (x.square().sum(0) + _TINY) * (y.square().sum(0) + _TINY)
    return (1 - ((x * y).sum(0) + _TINY) * lengths.rsqrt()).mean()
