"""The Triton kernels against the plain network, run by Triton's interpreter: no GPU is needed, and none is used.

The interpreter is chosen when Triton is imported, so that the comparison runs in a process of its own: this file as a
program prints what it found, and the tests judge it.
"""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from one_unit import OneUnit
from torch import Tensor, nn

from facetrain.config.schema import ModelConfig
from facetrain.core.errors import DeviceError
from facetrain.model.kernels.choose import use_fused
from facetrain.model.kernels.plain import PLAIN
from facetrain.model.yunet import build

pytestmark = pytest.mark.slow

# (batch, inputs, outputs, height, width): one tile and several, one row, more than one step of a program
CASES = [(2, 16, 16, 5, 7), (1, 16, 32, 1, 3), (2, 32, 16, 12, 10), (1, 64, 64, 9, 8)]
TINY = ModelConfig(
    stem=(3, 16, 16), stages=((16, 16), (16, 16)), pool_after=(0, 1), maps=(1, 2), strides=(4, 8), head_channels=16
)


def distance(got: Tensor, wanted: Tensor) -> float:
    return ((got.double() - wanted).norm() / wanted.double().norm().clamp(min=1e-30)).item()


def step(module: nn.Module, x: Tensor, gradient: Tensor, autocast: bool = False) -> dict[str, Tensor]:
    """Output, gradients and moved statistics of one step, from a copy of the module."""
    module = copy.deepcopy(module).to(x.dtype).train()
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = module(x)
    y.backward(gradient.to(y.dtype))
    assert x.grad is not None
    found = {"output": y.detach(), "input": x.grad} | dict(module.named_buffers())
    return found | {f"gradient of {name}": p.grad for name, p in module.named_parameters() if p.grad is not None}


def unit(inputs: int, outputs: int) -> OneUnit:
    torch.manual_seed(inputs + outputs)
    made = OneUnit(inputs, outputs)
    norm = made.batch_norm("unit.norm")
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return made.to(memory_format=torch.channels_last)


def compare_unit(case: tuple[int, int, int, int, int]) -> dict[str, dict[str, list[float]]]:
    """Relative errors, [ours, torch's], in both number formats."""
    batch, inputs, outputs, height, width = case
    plain = unit(inputs, outputs)
    fused = copy.deepcopy(plain)
    fused.kernels = fast()
    x, gradient = torch.randn(batch, inputs, height, width) + 1, torch.randn(batch, outputs, height, width)
    wanted = step(plain, x.double(), gradient.double())
    errors: dict[str, dict[str, list[float]]] = {}
    for name, autocast in (("float32", False), ("bfloat16", True)):
        ours, torchs = step(fused, x, gradient, autocast), step(plain, x, gradient, autocast)
        hidden = "gradient of unit.depthwise.bias"  # before a batch norm: noise in torch, 0 here
        assert not ours[hidden].any()
        keys = wanted.keys() - {hidden}
        errors[name] = {key: [distance(found[key], wanted[key]) for found in (ours, torchs)] for key in keys}
    return errors


def compare_network(compiled: bool) -> dict[str, list[float]]:
    """Relative errors of all gradients of a small network in float32, [ours, torch's]; captured whole if compiled."""
    pixels = 255 * torch.rand(2, 3, 8, 16, generator=torch.Generator().manual_seed(0))
    gradients = []
    for way, dtype in ((fast(), torch.float32), (PLAIN, torch.float32), (PLAIN, torch.float64)):
        model = build(TINY, seed=0).train().to(dtype)
        model.kernels = way
        forward = model.raw_levels
        if compiled and way is not PLAIN:
            forward = torch.compile(forward, backend="aot_eager", fullgraph=True)
        outputs = [part for level in forward(pixels.to(dtype)) for part in level]
        sum((part * torch.linspace(-1, 1, part.numel()).view_as(part)).sum() for part in outputs).backward()
        named = dict(model.named_parameters())
        gradients.append({key: p.grad for key, p in named.items() if p.grad is not None} | dict(model.named_buffers()))
    ours, torchs, wanted = gradients
    kept = [key for key in wanted if not (key.endswith("bias") and wanted[key].norm() < 1e-6)]
    return {key: [distance(ours[key], wanted[key]), distance(torchs[key], wanted[key])] for key in kept}


def compare_pool() -> list[bool]:
    """Whether values and gradients equal torch's, ties included."""
    torch.manual_seed(0)
    x = torch.randint(-2, 3, (2, 32, 6, 10)).float()
    gradient = torch.randn(2, 32, 3, 5)
    found = []
    for pool in (PLAIN.pool, fast().pool):
        leaf = x.clone().requires_grad_()
        y = pool(leaf)
        y.backward(gradient)
        found.append((y.detach(), leaf.grad))
    return [torch.equal(one, other) for one, other in zip(*found, strict=True)]


def fast() -> Any:
    from facetrain.model.kernels.triton import gpu_kernels

    return gpu_kernels()


def main() -> None:
    from facetrain.model.kernels import triton as fused_triton

    document: dict[str, Any] = {"units": [compare_unit(case) for case in CASES]}
    usual = fused_triton.FORWARD, fused_triton.BACKWARD
    fused_triton.FORWARD = fused_triton.BACKWARD = fused_triton.Launch(256, 4)  # two programs of several tiles each
    document["long"] = compare_unit((2, 16, 16, 9, 11))
    document["long, of other channels"] = compare_unit((2, 32, 16, 9, 11))
    fused_triton.FORWARD, fused_triton.BACKWARD = usual
    document["network"] = compare_network(compiled=False)
    document["compiled"] = compare_network(compiled=True)
    document["pool"] = compare_pool()
    broken = torch.randn(1, 16, 4, 4)
    broken[0, 3, 2, 2] = float("nan")
    model = unit(16, 16).train()
    model.kernels = fast()
    document["nan"] = bool(model(broken).isnan().any())
    print(json.dumps(document))


@pytest.fixture(scope="session")
def found() -> dict[str, Any]:
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return document


@pytest.mark.parametrize("index", range(len(CASES)))
def test_unit(found: dict[str, Any], index: int) -> None:
    for key, (ours, _) in found["units"][index]["float32"].items():
        assert ours < 1e-5, key
    values = CASES[index][0] * CASES[index][3] * CASES[index][4]
    if values >= 50:  # few values differ by chance
        pairs = found["units"][index]["bfloat16"].values()
        assert sum(ours for ours, _ in pairs) < 1.5 * sum(torchs for _, torchs in pairs)


@pytest.mark.parametrize("case", ["long", "long, of other channels"])
def test_programs_of_several_tiles(found: dict[str, Any], case: str) -> None:
    assert max(ours for ours, _ in found[case]["float32"].values()) < 1e-5


@pytest.mark.parametrize("way", ["network", "compiled"])
def test_network(found: dict[str, Any], way: str) -> None:
    assert len(found[way]) > 50
    for key, (ours, torchs) in found[way].items():
        assert ours < 3 * torchs + 1e-5, key


def test_pool_takes_the_first_of_equals(found: dict[str, Any]) -> None:
    assert found["pool"] == [True, True]


def test_what_is_not_a_number_is_seen(found: dict[str, Any]) -> None:
    assert found["nan"]


def test_off_without_triton_and_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from facetrain.model.kernels import triton as fused_triton

    model, gpu = build(TINY, seed=0), torch.device("cuda")
    monkeypatch.setattr(fused_triton, "triton", None)
    for mode in ("off", "auto"):
        assert use_fused(model, mode, gpu, tmp_path) == "network: torch's own operations"
        assert model.kernels is PLAIN
    with pytest.raises(DeviceError, match="Triton"):
        use_fused(model, "on", gpu, tmp_path)


def test_on_a_gpu_only_when_asked(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    model = build(TINY, seed=0)
    assert use_fused(model, "on", torch.device("cuda"), tmp_path) == "network: fused kernels (cuda)"
    assert model.kernels is not PLAIN
    with torch.no_grad():  # a map that Triton does not reach is left to torch
        assert model(torch.rand(1, 3, 16, 16)).cls.isfinite().all()


if __name__ == "__main__":
    main()
