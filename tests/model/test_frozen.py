"""A network with its batch norms folded says what it said before, by every way to compute it."""

from pathlib import Path

import pytest
import torch

from facetrain.config.load import load_config
from facetrain.config.schema import ModelConfig
from facetrain.core.errors import DeviceError
from facetrain.model.frozen import freeze
from facetrain.model.kernels.choose import look_kernels
from facetrain.model.kernels.plain import FOLDED
from facetrain.model.yunet import Predictions, YuNet, build

CPU = torch.device("cpu")


def trained(config: ModelConfig) -> YuNet:
    """A network whose statistics are not those of a new one."""
    model = build(config, 3)
    generator = torch.Generator().manual_seed(4)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(generator=generator)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 3.0, generator=generator)
    return model.eval()


def images(height: int, width: int) -> torch.Tensor:
    made = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(5)) * 255
    return made.contiguous(memory_format=torch.channels_last)


def close(one: Predictions, other: Predictions, tolerance: float) -> None:
    for name in ("cls", "obj", "boxes", "landmarks"):
        wanted = getattr(other, name)
        assert float((getattr(one, name) - wanted).abs().max() / wanted.abs().max()) < tolerance, name


@pytest.mark.parametrize("preset", ["yunet_n", "yunet_s"])
def test_folded_is_equal(preset: str) -> None:
    config = load_config(preset).model
    with torch.no_grad():
        wanted = trained(config)(images(96, 64))
        close(freeze(trained(config))(images(96, 64)), wanted, 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fused_is_equal(tmp_path: Path, dtype: torch.dtype) -> None:
    """Sizes whose coarse maps have odd sides, and one where no map is a whole number of the kernels' tiles."""
    try:
        kernels = look_kernels(CPU, tmp_path)
    except DeviceError as error:
        pytest.skip(str(error))
    config = load_config("yunet_n").model
    plain, fused = freeze(trained(config)), freeze(trained(config), kernels)
    assert look_kernels(torch.device("cuda"), tmp_path) is FOLDED
    for size in ((96, 64), (160, 288)):
        with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            close(fused(images(*size)), plain(images(*size)), 1e-4 if dtype == torch.float32 else 0.05)


def test_nothing_of_it_learns() -> None:
    model = freeze(trained(load_config("yunet_n").model))
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training
    assert not model(images(64, 64)).cls.requires_grad
