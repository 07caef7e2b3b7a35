"""The CPU's own kernels against the plain network, computed in float64."""

import copy
import os
import stat
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from one_unit import OneUnit
from torch import Tensor, nn

from facetrain.config.schema import ModelConfig
from facetrain.core.compiler import Compiler, find_compiler
from facetrain.core.errors import DeviceError, OutputError
from facetrain.model.kernels import build as kernel_build
from facetrain.model.kernels.build import SOURCE, build_library
from facetrain.model.kernels.choose import use_fused
from facetrain.model.kernels.cpu import cpu_kernels
from facetrain.model.kernels.plain import PLAIN, Kernels
from facetrain.model.module import NetworkModule
from facetrain.model.yunet import build

WIDE = ModelConfig(stem=(3, 16, 16), stages=((16, 16), (16, 32), (32, 32), (32, 32), (32, 32)), head_channels=32)
CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def compiler() -> Compiler:
    found = find_compiler()
    if found is None:
        pytest.skip("needs a C++ compiler")
    return found


@pytest.fixture(scope="session", params=["native", "portable"])
def kernels(request: pytest.FixtureRequest, compiler: Compiler, tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    """Built as for use, and for the oldest processor: other instructions, the same numbers."""
    folder = tmp_path_factory.mktemp("kernels")
    if request.param == "native":
        return cpu_kernels(build_library(folder))
    path = folder / "portable.so"
    flags = ["-std=gnu++17", "-O2", "-fPIC", "-shared", "-pthread", "-w"]
    subprocess.run([*compiler.command, *flags, str(SOURCE), "-o", str(path)], check=True)
    return cpu_kernels(path)


def unit(inputs: int, outputs: int, seed: int) -> OneUnit:
    """A unit whose batch norm is not that of a fresh one."""
    torch.manual_seed(seed)
    made = OneUnit(inputs, outputs)
    norm = made.batch_norm("unit.norm")
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    assert norm.running_mean is not None
    nn.init.normal_(norm.running_mean)
    return made.to(memory_format=torch.channels_last)


def results(module: nn.Module, x: Tensor, gradient: Tensor, autocast: bool = False) -> dict[str, Tensor]:
    """Output, gradients and moved statistics of one step, from a copy of the module."""
    module = copy.deepcopy(module).to(x.dtype).train()
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = module(x)
    y.backward(gradient.to(y.dtype))
    found = {"output": y.detach(), "input": x.grad}
    found |= {f"gradient of {name}": p.grad for name, p in module.named_parameters()}
    return {key: value.double() for key, value in (found | dict(module.named_buffers())).items() if value is not None}


def distance(got: Tensor, wanted: Tensor) -> float:
    return ((got - wanted).norm() / wanted.norm().clamp(min=1e-30)).item()


def fused(module: NetworkModule, kernels: Kernels) -> NetworkModule:
    module = copy.deepcopy(module)
    module.kernels = kernels
    return module


# (batch, inputs, outputs, height, width): seams of bands (32 rows) and tiles (32 columns), maps of a pixel's width
CASES = [
    (2, 3, 16, 33, 34),
    (1, 16, 48, 1, 5),
    (3, 16, 16, 7, 1),
    (1, 8, 32, 2, 2),
    (2, 64, 64, 40, 67),
    (1, 5, 16, 65, 3),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_unit_in_float32(kernels: Kernels, case: tuple[int, int, int, int, int]) -> None:
    batch, inputs, outputs, height, width = case
    plain = unit(inputs, outputs, seed=sum(case))
    x = torch.randn(batch, inputs, height, width) + 1
    gradient = torch.randn(batch, outputs, height, width)
    wanted = results(plain, x.double(), gradient.double())
    got = results(fused(plain, kernels), x, gradient)
    assert got.keys() == wanted.keys()
    for key, value in got.items():
        if (
            key == "gradient of unit.depthwise.bias"
        ):  # batch norm takes it away: rounding noise in torch, exactly 0 here
            assert not value.any()
            assert wanted[key].abs().max() < 1e-10 * gradient.abs().sum()
        else:
            assert distance(value, wanted[key]) < 1e-5, key


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 3), st.integers(2, 70), st.integers(2, 70))
@example(3_143_039_173, 3, 3, 68, 48)  # one falls to the other side with AVX2
def test_unit_of_any_shape(kernels: Kernels, seed: int, batch: int, blocks: int, height: int, width: int) -> None:
    plain = unit(4, 16 * blocks, seed)
    x, gradient = torch.randn(batch, 4, height, width), torch.randn(batch, 16 * blocks, height, width)
    wanted = results(plain, x.double(), gradient.double())
    got = results(fused(plain, kernels), x, gradient)
    # A ReLU at 0 may fall to either side, and then all of its gradient comes or goes: a hundredth of a channel's.
    fallen = int(((got["output"] > 0) != (wanted["output"] > 0)).sum())
    assert fallen <= 3
    for key in wanted.keys() - {"gradient of unit.depthwise.bias"}:
        assert distance(got[key], wanted[key]) < (0.02 * fallen or 1e-3), key


@pytest.mark.parametrize("case", [CASES[0], CASES[4]], ids=str)  # maps of few values differ by chance
def test_unit_in_bfloat16_is_no_worse_than_autocast(kernels: Kernels, case: tuple[int, int, int, int, int]) -> None:
    batch, inputs, outputs, height, width = case
    plain = unit(inputs, outputs, seed=sum(case))
    x = torch.randn(batch, inputs, height, width)
    gradient = torch.randn(batch, outputs, height, width)
    wanted = results(plain, x.double(), gradient.double())
    autocast = results(plain, x, gradient, autocast=True)
    got = results(fused(plain, kernels), x, gradient, autocast=True)
    for key in wanted.keys() - {"gradient of unit.depthwise.bias"}:
        assert distance(got[key], wanted[key]) < 1.3 * distance(autocast[key], wanted[key]) + 1e-3, key


def network(seed: int = 0) -> nn.Module:
    return build(WIDE, seed=seed).train()


def step(model: nn.Module, pixels: Tensor, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Gradients and statistics after one step of a loss that uses all outputs unevenly."""
    with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        predictions = model(pixels.to(next(model.parameters()).dtype))
    parts = (predictions.cls, predictions.obj, predictions.boxes, predictions.landmarks)
    generator = torch.Generator().manual_seed(0)
    sum((part * torch.randn(part.shape, generator=generator)).sum() for part in parts).backward()
    found = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    return {key: value.detach().double() for key, value in (found | dict(model.named_buffers())).items()}


def test_whole_network(kernels: Kernels) -> None:
    pixels = 255 * torch.rand(2, 3, 96, 64)
    exact = step(network().double(), pixels)
    plain, plain16 = step(network(), pixels), step(network(), pixels, torch.bfloat16)
    got, got16 = step(fused(network(), kernels), pixels), step(fused(network(), kernels), pixels, torch.bfloat16)
    noise = tuple(key for key in exact if key.endswith(".bias") and exact[key].norm() < 1e-6)  # before a batch norm
    for key in exact.keys() - set(noise):
        assert distance(got[key], exact[key]) < 2 * distance(plain[key], exact[key]) + 1e-5, key
    for kind in ("weight", "bias", "running_mean", "running_var"):
        keys = [key for key in exact if key.endswith(kind) and key not in noise]
        whole, autocast, ours = (torch.cat([found[key].flatten() for key in keys]) for found in (exact, plain16, got16))
        assert distance(ours, whole) < 1.3 * distance(autocast, whole), kind


def test_evaluation_and_state_are_untouched(kernels: Kernels) -> None:
    plain = network()
    model = fused(plain, kernels)
    pixels = 255 * torch.rand(1, 3, 64, 64)
    assert list(model.state_dict()) == list(plain.state_dict())
    for mode in (lambda m: m.eval(), lambda m: m.train()):
        with torch.no_grad():
            one, other = mode(plain)(pixels), mode(model)(pixels)
        assert torch.equal(one.cls, other.cls)
        assert torch.equal(one.landmarks, other.landmarks)
    assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), model.state_dict().values(), strict=True))


def test_one_seed_gives_one_result(kernels: Kernels) -> None:
    pixels = 255 * torch.rand(2, 3, 64, 64)
    one, other = (step(fused(network(), kernels), pixels, torch.bfloat16) for _ in range(2))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_threads_change_no_bit(kernels: Kernels) -> None:
    torch.set_num_threads(2)
    plain = unit(16, 16, seed=1)
    x, gradient = torch.randn(2, 16, 70, 20), torch.randn(2, 16, 70, 20)
    both = results(fused(plain, kernels), x, gradient)
    torch.set_num_threads(1)
    alone = results(fused(plain, kernels), x, gradient)
    for key in both.keys() - {"gradient of unit.pointwise.weight"}:  # that one is torch's
        assert torch.equal(both[key], alone[key]), key


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pool_takes_the_first_of_equals(kernels: Kernels, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randint(-2, 3, (2, 32, 10, 68)).to(dtype)
    x[0, 0, 0, :4] = torch.tensor([float("nan"), 1, 2, float("nan")])
    gradient = torch.randn(2, 32, 5, 34).to(dtype)
    found = []
    for pool in (PLAIN.pool, kernels.pool):
        leaf = x.clone().requires_grad_()
        y = pool(leaf)
        y.backward(gradient)
        found.append((y.detach(), leaf.grad))
    assert torch.equal(found[0][0].nan_to_num(99), found[1][0].nan_to_num(99))
    whole = ~x.isnan().any(dim=(2, 3))  # where several are NaN, torch and we may differ in which one is meant
    assert torch.equal(found[0][1][whole], found[1][1][whole])


def test_what_is_not_finite_is_seen(kernels: Kernels) -> None:
    for value in (float("nan"), float("inf")):
        x = torch.randn(1, 16, 6, 6)
        x[0, 3, 2, 2] = value
        model = fused(unit(16, 16, seed=0), kernels).train()
        y = model(x.requires_grad_())
        y.sum().backward()
        assert not bool(y.isfinite().all())
        assert not bool(model.convolution("unit.pointwise").weight.grad.isfinite().all())
        with torch.autocast("cpu", torch.bfloat16):
            assert not bool(fused(unit(16, 16, seed=0), kernels).train()(x).isfinite().all())


def test_a_map_of_one_value(kernels: Kernels) -> None:
    """No deviation at all: sums of squares must not leave one behind."""
    plain = unit(16, 16, seed=3)
    with torch.no_grad():
        taps = plain.convolution("unit.depthwise").weight
        taps[:, :, 0], taps[:, :, 2] = 0, 0  # the border as the middle
        taps[:, :, 1, 0::2] = 0
    x, gradient = torch.full((2, 16, 40, 40), 200.0), torch.randn(2, 16, 40, 40)
    wanted, got = results(plain, x.double(), gradient.double()), results(fused(plain, kernels), x, gradient)
    torch.testing.assert_close(got["output"], wanted["output"], atol=5e-3, rtol=0)  # torch's float32 is 0.5 off
    variance = "unit.norm.running_var"
    torch.testing.assert_close(got[variance], wanted[variance], atol=1e-6, rtol=1e-6)
    assert distance(got["input"], wanted["input"]) < 1e-3


@pytest.mark.parametrize(
    "change",
    [lambda m, x: (m.double(), x.double()), lambda m, x: (m.eval(), x), lambda m, x: (freeze_mean(m), x)],
    ids=["float64", "eval", "no momentum"],
)
def test_what_is_not_covered_is_plain(kernels: Kernels, change: Callable) -> None:
    plain = unit(16, 16, seed=2)
    x = torch.randn(2, 16, 8, 8)
    one, seen = change(copy.deepcopy(plain), x)
    other, _ = change(fused(plain, kernels), x)
    assert torch.equal(one(seen), other(seen))


def freeze_mean(module: OneUnit) -> OneUnit:
    module.batch_norm("unit.norm").momentum = None
    return module


def test_channels_that_do_not_fit_are_plain(kernels: Kernels) -> None:
    plain = unit(16, 24, seed=2)
    x, gradient = torch.randn(2, 16, 8, 8), torch.randn(2, 24, 8, 8)
    one, other = results(plain, x, gradient), results(fused(plain, kernels), x, gradient)
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_single_value_is_refused_as_torch_does(kernels: Kernels) -> None:
    with pytest.raises(ValueError, match="more than 1 value"):
        fused(unit(16, 16, seed=0), kernels).train()(torch.randn(1, 16, 1, 1))


# The switch


@pytest.mark.slow
def test_switch(compiler: Compiler, tmp_path: Path) -> None:
    model = build(replace(WIDE, head_channels=16), seed=0)
    assert "own operations" in use_fused(model, "off", CPU, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert use_fused(model, "auto", CPU, tmp_path) == "network: fused kernels (cpu)"
    assert model.kernels is not PLAIN
    (built,) = tmp_path.iterdir()
    before = built.stat().st_mtime_ns
    use_fused(model, "on", CPU, tmp_path)
    assert [path.stat().st_mtime_ns for path in tmp_path.iterdir()] == [before]
    use_fused(model, "off", CPU, tmp_path)
    assert model.kernels is PLAIN


def broken_compiler(folder: Path) -> Path:
    path = folder / "compiler"
    path.write_text("#!/bin/sh\n[ $1 = --version ] && exit 0\necho 'cpu.cpp:1: error: too old' >&2\nexit 1\n")
    path.chmod(0o755)
    return path


def test_without_a_compiler_it_is_plain_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(WIDE, seed=0)
    for chosen, reason in (("no-such-compiler", "no-such-compiler"), (str(broken_compiler(tmp_path)), "too old")):
        monkeypatch.setenv("CXX", chosen)
        line = use_fused(model, "auto", CPU, tmp_path / "cache")
        assert line.startswith("network: torch's own operations (")
        assert reason in line
        assert model.kernels is PLAIN
        with pytest.raises(DeviceError, match=reason):
            use_fused(model, "on", CPU, tmp_path / "cache")
    assert not any((tmp_path / "cache").glob("*"))


def test_a_folder_that_cannot_be_written(compiler: Compiler, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    model = build(WIDE, seed=0)
    assert "cannot write here" in use_fused(model, "auto", CPU, tmp_path / "file" / "cache")
    with pytest.raises(OutputError):
        use_fused(model, "on", CPU, tmp_path / "file" / "cache")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:9000])


def change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def replace_by_another_library(path: Path) -> None:
    """One that would act when it is loaded."""
    source = path.with_name("other.c")
    trace = path.with_name("name_ran")
    act = f'fclose(fopen("{trace}", "w"));'
    source.write_text(f"#include <stdio.h>\n__attribute__((constructor)) void act(void) {{ {act} }}\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", path, source], check=True)


def link(path: Path) -> None:
    other = path.with_name("elsewhere")
    path.rename(other)
    path.symlink_to(other)


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [cut, change, replace_by_another_library, link, lambda path: path.chmod(0o777)])
def test_a_library_that_is_not_as_it_was_made_is_made_anew(
    compiler: Compiler, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """Never loaded: a cut one would end the process, another one would act."""
    folder = tmp_path / "kernels"
    built = build_library(folder)
    content = built.read_bytes()
    spoil(built)
    assert use_fused(build(WIDE, seed=0), "on", CPU, folder) == "network: fused kernels (cpu)"
    again = build_library(folder)
    assert not again.is_symlink()
    assert len(again.read_bytes()) == len(content)
    assert not (folder / "name_ran").exists()
    assert [path.name for path in folder.glob("*.so")] == [again.name]


@pytest.mark.slow
def test_it_is_compiled_once_and_closed_to_others(
    compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "kernels"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    built = build_library(folder)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, built)] == [0o700, 0o700]
    monkeypatch.setattr(kernel_build, "_compile", lambda *_: pytest.fail("compiled again"))
    assert build_library(folder) == built


@pytest.mark.slow
def test_another_users_folder_is_not_used(compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, folder = build(WIDE, seed=0), tmp_path / "kernels"
    build_library(folder)
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    assert "belongs to another user" in use_fused(model, "auto", CPU, folder)
    with pytest.raises(DeviceError, match="belongs to another user"):
        use_fused(model, "on", CPU, folder)


def test_a_library_without_the_kernels_is_an_error(compiler: Compiler, tmp_path: Path) -> None:
    source, library = tmp_path / "other.c", tmp_path / "other.so"
    source.write_text("int nothing;\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    with pytest.raises(DeviceError, match="cannot be loaded"):
        cpu_kernels(library)


@pytest.mark.slow
def test_a_compiler_may_have_options_and_a_wrapper(
    compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = tmp_path / "my wrapper"
    wrapper.write_text('#!/bin/sh\nexec "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("CXX", f"'{wrapper}' {compiler.command[0]} -O1")
    assert build_library(tmp_path / "kernels").is_file()
