"""YuNet: the network of a configuration, and what it says of images."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from facetrain.config.schema import ModelConfig
from facetrain.model.module import NetworkModule
from facetrain.model.network import network_of
from facetrain.model.operations import KINDS
from facetrain.model.priors import make_priors


@dataclass(frozen=True)
class Predictions:
    """What the network says of B images, float32, levels joined finest first.

    cls, obj:  (B, P) logits
    boxes:     (B, P, 4) raw: centre offset and log sides, in strides
    landmarks: (B, P, L, 2) raw offsets, in strides
    priors:    (P, 3) x, y, stride
    maps:      the watched maps inside the network, (B, channels, h, w) each
    """

    cls: Tensor
    obj: Tensor
    boxes: Tensor
    landmarks: Tensor
    priors: Tensor
    maps: tuple[Tensor, ...] = ()


class YuNet(NetworkModule):
    """(B, 3, H, W) images, BGR 0 … 255, H and W multiples of the largest stride -> Predictions."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(network_of(config))
        self.config = config

    def raw_levels(self, images: Tensor) -> list[list[Tensor]]:
        """Per level cls, obj, box and landmarks as (B, P_level, channels) logits and raw offsets."""
        return self._levels(self.maps(images))

    def _levels(self, maps: Mapping[str, Tensor]) -> list[list[Tensor]]:
        levels = []
        for stride in self.config.strides:
            names = [self.network.outputs.get((kind, stride)) for kind in KINDS]
            rows = [maps[name].permute(0, 2, 3, 1).flatten(1, 2) for name in names if name is not None]
            levels.append(rows if len(rows) == len(KINDS) else [*rows, rows[0][..., :0]])
        return levels

    def forward(self, images: Tensor) -> Predictions:
        maps = self.maps(images)
        joined = [torch.cat(part, dim=1).float() for part in zip(*self._levels(maps), strict=True)]
        cls, obj, boxes, landmarks = joined
        priors = make_priors(images.shape[2], images.shape[3], self.config.strides, images.device)
        return Predictions(
            cls[..., 0],
            obj[..., 0],
            boxes,
            landmarks.view(*landmarks.shape[:2], -1, 2)
            if landmarks.numel()
            else landmarks.new_zeros(*landmarks.shape[:2], 0, 2),
            priors,
            tuple(maps[name] for name in self.watched),
        )


def build(config: ModelConfig, seed: int | None = None) -> YuNet:
    """Make the network; with a seed also draw its initial weights (the same on any machine)."""
    model = YuNet(config)
    if seed is not None:
        init_weights(model, torch.Generator().manual_seed(seed))
    return model.to(memory_format=torch.channels_last)


def init_weights(model: YuNet, generator: torch.Generator) -> None:
    """Published initialisation: N(0, 2 / (fan_in + fan_out)) with fan_out not divided by the groups, all biases 0.02.

    The objectness outputs get the configuration's own bias: with -4.6 untrained scores start near 1 %.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.normal_(module.weight, std=initial_deviation(module), generator=generator)
            nn.init.constant_(module.bias, 0.02)
    for stride in model.config.strides:
        bias = model.convolution(model.network.outputs["obj", stride]).bias
        assert bias is not None
        nn.init.constant_(bias, model.config.objectness_bias)


def initial_deviation(convolution: nn.Conv2d) -> float:
    """The standard deviation of a convolution's drawn weights."""
    area = convolution.kernel_size[0] * convolution.kernel_size[1]
    fans = (convolution.in_channels // convolution.groups + convolution.out_channels) * area
    return math.sqrt(2 / fans)
