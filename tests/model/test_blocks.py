"""Each block against its formula, said literally."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from facetrain.model.blocks import BLOCKS
from facetrain.model.module import NetworkModule
from facetrain.model.operations import IMAGE, Builder


def unit(model: NetworkModule, name: str, x: Tensor) -> Tensor:
    """1x1, depthwise 3x3, batch norm by running statistics, ReLU."""
    pointwise, depthwise = (model.convolution(f"{name}.{part}") for part in ("pointwise", "depthwise"))
    norm = model.batch_norm(f"{name}.norm")
    x = F.conv2d(x, pointwise.weight, pointwise.bias)
    x = F.conv2d(x, depthwise.weight, depthwise.bias, padding=1, groups=x.shape[1])
    x = (x - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + norm.eps).sqrt()
    return (x * norm.weight[:, None, None] + norm.bias[:, None, None]).clamp(min=0)


def residual(model: NetworkModule, name: str, x: Tensor) -> Tensor:
    y = unit(model, name, x)
    return y + x if y.shape == x.shape else y


FORMULAS = {"separable": unit, "residual": residual}


@pytest.mark.parametrize(("inputs", "outputs"), [(6, 6), (6, 10), (1, 1), (8, 3)])
@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_computes_its_formula(name: str, inputs: int, outputs: int) -> None:
    torch.manual_seed(0)
    builder = Builder(inputs)
    end = BLOCKS[name](builder, IMAGE, "block", outputs)
    model = NetworkModule(builder.network({("cls", 1): end})).double()
    x = torch.randn(2, inputs, 7, 9, dtype=torch.float64)
    with torch.no_grad():
        model.train().maps(x)  # running statistics that are not those of a new one
        found = model.eval().maps(x)[end]
        assert builder.maps[end].channels == found.shape[1] == outputs
        torch.testing.assert_close(found, FORMULAS[name](model, "block", x))
