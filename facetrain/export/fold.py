"""From a torch model to its folded layers: the only place of the exports that reads torch modules."""

import numpy as np
import torch
from torch import nn

from facetrain.export.folded import FoldedConv, FoldedLevel, FoldedNet, FoldedUnit
from facetrain.model.blocks import Unit
from facetrain.model.head import HeadLevel
from facetrain.model.yunet import YuNet


def fold(model: YuNet) -> FoldedNet:
    """Fold a model's batch norms, in double precision: scale = gamma / sqrt(variance + eps)."""
    levels = []
    for level in model.levels:
        assert isinstance(level, HeadLevel)
        outputs = {"cls": level.cls, "obj": level.obj, "box": level.box}
        if level.landmarks is not None:
            outputs["landmarks"] = level.landmarks
        levels.append(
            FoldedLevel(
                _units(level.shared),
                _units(level.cls_tower),
                _units(level.box_tower),
                {name: _unit(unit) for name, unit in outputs.items()},
            )
        )
    stem = model.backbone.stem
    return FoldedNet(
        config=model.config,
        stem=_fold(stem.conv, stem.norm),
        stem_unit=_unit(stem.unit),
        stages=[_units(stage) for stage in model.backbone.stages],
        neck=_units(model.neck.units),
        levels=levels,
    )


def _units(modules: nn.Module) -> list[FoldedUnit]:
    return [_unit(unit) for unit in modules.children() if isinstance(unit, Unit)]


def _unit(unit: Unit) -> FoldedUnit:
    return _fold(unit.pointwise, None), _fold(unit.depthwise, unit.norm)


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d | None) -> FoldedConv:
    weight, bias = _double(convolution.weight), _double(convolution.bias)
    if norm is not None:
        scale = _double(norm.weight) / np.sqrt(_double(norm.running_var) + norm.eps)
        weight = weight * scale[:, None, None, None]
        bias = (bias - _double(norm.running_mean)) * scale + _double(norm.bias)
    return FoldedConv(
        weight.astype(np.float32),
        bias.astype(np.float32),
        convolution.groups,
        convolution.stride[0],
        norm is not None,
    )


def _double(tensor: torch.Tensor | None) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    assert tensor is not None
    return tensor.detach().cpu().double().numpy()
