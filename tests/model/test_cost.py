"""Parameters and operations: golden counts, and what the layers really do."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from facetrain.config.schema import Config, LandmarksConfig, ModelConfig
from facetrain.core.errors import FacetrainError
from facetrain.model.cost import convolutions, describe
from facetrain.model.weights import save_checkpoint
from facetrain.model.yunet import YuNet, build

N = ModelConfig()
S = replace(N, stages=((16, 32), (32, 64), (64, 64), (64, 64), (64, 64)), shared_convs=0)
TINY = ModelConfig(stem=(3, 8, 12), stages=((12, 10), (10, 16), (16, 16), (16, 16), (16, 16)), head_channels=20)
CONFIGS = {
    "n": N,
    "s": S,
    "tiny": TINY,
    "towers": replace(TINY, tower_convs=2, shared_convs=2),
    "towers without shared": replace(TINY, tower_convs=1, shared_convs=0),
    "no landmarks": replace(TINY, landmarks=LandmarksConfig((), ())),
    "three landmarks": replace(TINY, landmarks=LandmarksConfig(("a", "b", "c"), ())),
    "strides 4 8": replace(TINY, stages=((12, 16), (16, 16)), pool_after=(0, 1), maps=(1, 2), strides=(4, 8)),
    "strides 16 32 64": replace(TINY, pool_after=(0, 1, 2, 3, 4), strides=(16, 32, 64)),
}

# The reference's golden `models`: per part parameters, multiply-adds at 320 x 320, biases, batch-norm and ReLU values
GOLDEN = {
    "n": {
        "backbone": (42688, 113523200, 4428800, 2419200),
        "neck": (14784, 9811200, 268800, 134400),
        "head": (18384, 12264000, 336000, 134400),
    },
    "s": {
        "backbone": (36224, 73792000, 3609600, 2009600),
        "neck": (14784, 9811200, 268800, 134400),
        "head": (3600, 2452800, 67200, 0),
    },
}
TOTALS = {"n": (75856, 135598400, 148.696), "s": (54608, 86056000, 96.4336)}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_counts(name: str) -> None:
    layers = list(convolutions(CONFIGS[name], 320, 320))
    for part, (parameters, multiply_adds, biases, normalised) in GOLDEN[name].items():
        some = [layer for layer in layers if layer.conv.part == part]
        assert sum(layer.parameters for layer in some) == parameters
        assert sum(layer.multiply_adds for layer in some) == multiply_adds
        published = sum(layer.published for layer in some)
        assert published == multiply_adds + biases + 3 * normalised  # 2 a batch-norm value, 1 a ReLU value
    assert len(layers) == {"n": 59, "s": 53}[name]


def test_golden_numbers_are_the_reference(golden: dict) -> None:
    for name, parts in GOLDEN.items():
        wanted = golden["models"][name]
        for part, (parameters, multiply_adds, biases, normalised) in parts.items():
            row = wanted["at_320x320"][part]
            assert (multiply_adds, biases, normalised, normalised) == (row["mac"], row["bias"], row["bn"], row["relu"])
            assert parameters == wanted["parameters_by_part"][part]
        assert math.isclose(TOTALS[name][2] * 1e6, wanted["flops_at_320x320"])
        assert TOTALS[name][1] == wanted["macs_at_320x320"]


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_are_those_of_the_network(name: str) -> None:
    model = build(CONFIGS[name])
    layers = list(convolutions(CONFIGS[name], 64, 64))
    for part, modules in (("backbone", model.backbone), ("neck", model.neck), ("head", model.levels)):
        counted = sum(layer.parameters for layer in layers if layer.conv.part == part)
        assert counted == sum(p.numel() for p in modules.parameters()), part


def run_layer_by_layer(model: YuNet, pixels: torch.Tensor) -> list[tuple[Any, ...]]:
    """What every convolution really gets and gives, in the order of execution, told by torch's own hooks.

    The network computes joined outputs as one convolution; here its list is run as it was written.
    """
    seen: list[tuple[Any, ...]] = []
    norms = {conv.names[0]: conv.norm is not None for conv in model.network.convs}
    parts = {"backbone": "backbone", "neck": "neck", "levels": "head"}

    def record(name: str, module: nn.Conv2d, out: torch.Tensor) -> None:
        sizes = module.in_channels, module.out_channels, module.kernel_size[0], module.groups
        seen.append((parts[name.partition(".")[0]], *sizes, norms[name], out.shape[2] * out.shape[3]))

    model._schedule = [(operation, []) for operation in model.network.operations]
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, _, out, name=name: record(name, m, out))
    model(pixels)
    return seen


@pytest.mark.parametrize("name", CONFIGS)
def test_convolutions_are_those_that_run(name: str) -> None:
    config = CONFIGS[name]
    model = build(config).eval()
    width, height = 3 * max(config.strides), 2 * max(config.strides)
    with torch.inference_mode():
        real = run_layer_by_layer(model, torch.zeros(1, 3, height, width))
    counted = [
        (c.conv.part, c.conv.inputs, c.conv.outputs, c.conv.kernel, c.conv.groups, c.conv.relu, c.pixels)
        for c in convolutions(config, width, height)
    ]
    assert counted == real
    multiply_adds = sum(i // g * k * k * o * p for _, i, o, k, g, _, p in real)
    assert sum(c.multiply_adds for c in convolutions(config, width, height)) == multiply_adds


@pytest.mark.parametrize("name", ["n", "s"])
def test_description_of_the_published_models(name: str) -> None:
    parameters, multiply_adds, mflops = TOTALS[name]
    document = describe(f"yunet_{name}", (320, 320))
    assert document["kind"] == "config"
    assert document["size"] == [320, 320]
    assert document["strides"] == [8, 16, 32]
    assert len(document["landmarks"]) == 5
    total = document["total"]
    assert (total["parameters"], total["multiply_adds"]) == (parameters, multiply_adds)
    assert math.isclose(total["mflops"], mflops)
    assert [part["name"] for part in document["parts"]] == ["backbone", "neck", "head"]
    for part in document["parts"]:
        assert (part["parameters"], part["multiply_adds"]) == GOLDEN[name][part["name"]][:2]


def test_description_of_a_checkpoint(tmp_path: Path) -> None:
    config = CONFIGS["towers"]
    path = tmp_path / "own.pt"
    save_checkpoint(path, build(config).state_dict(), Config(model=config), {})
    document = describe(str(path), (100, 65))
    assert document["kind"] == "checkpoint"
    assert document["size"] == [128, 96]  # rounded up to what the network needs
    assert document["total"]["parameters"] == sum(p.numel() for p in build(config).parameters())
    assert document["total"] == describe(str(path), (128, 96))["total"]


def test_description_of_nothing(tmp_path: Path) -> None:
    for name in ("absent.pt", "absent.onnx", "absent.yaml"):
        with pytest.raises(FacetrainError, match="no such file"):
            describe(str(tmp_path / name), (320, 320))
