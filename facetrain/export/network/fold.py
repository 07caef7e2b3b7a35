"""From a torch model to its folded weights: the only place of the exports that reads torch modules."""

import numpy as np
import torch
from numpy.typing import NDArray

from facetrain.export.network.folded import FoldedNet, Weights
from facetrain.model.operations import Conv
from facetrain.model.yunet import YuNet


def fold(model: YuNet) -> FoldedNet:
    """Fold a model's batch norms, in double precision: scale = gamma / sqrt(variance + eps)."""
    return FoldedNet(model.config, model.network, {conv.y: _fold(model, conv) for conv in model.network.convs})


def _fold(model: YuNet, conv: Conv) -> Weights:
    convolution = model.convolution(conv.names[0])
    weight, bias = _double(convolution.weight), _double(convolution.bias)
    if conv.norm is not None:
        norm = model.batch_norm(conv.norm)
        scale = _double(norm.weight) / np.sqrt(_double(norm.running_var) + norm.eps)
        weight = weight * scale[:, None, None, None]
        bias = (bias - _double(norm.running_mean)) * scale + _double(norm.bias)
    return Weights(weight.astype(np.float32), bias.astype(np.float32))


def _double(tensor: torch.Tensor | None) -> NDArray[np.float64]:
    assert tensor is not None
    return tensor.detach().cpu().double().numpy()
