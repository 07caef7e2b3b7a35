"""The network against golden numbers and the released ONNX files; checkpoints of every kind; other shapes."""

import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from facetrain.config.check import check_config
from facetrain.config.schema import Config, DataConfig, LandmarksConfig, ModelConfig, TrainConfig
from facetrain.core.errors import DataError, InputError
from facetrain.model.blocks import output_unit
from facetrain.model.module import NetworkModule
from facetrain.model.operations import IMAGE, Builder
from facetrain.model.priors import decode_boxes, decode_landmarks
from facetrain.model.safe_file import read_tensors
from facetrain.model.weights import (
    FORMAT,
    fit_weights,
    load_checkpoint,
    load_model,
    rename_original,
    save_checkpoint,
)
from facetrain.model.yunet import YuNet, build

N = ModelConfig()
S = replace(N, stages=((16, 32), (32, 64), (64, 64), (64, 64), (64, 64)), shared_convs=0)
PARTS = {"cls": "cls", "obj": "obj", "bbox": "boxes", "kps": "landmarks"}  # the reference's name: ours
TINY = ModelConfig(stem=(3, 8, 8), stages=((8, 8), (8, 16), (16, 16), (16, 16), (16, 16)), head_channels=16)


def weights(shared: Path, name: str) -> Path:
    return shared / f"reference/yunet/yunet_{name}.pth"


def noise(height: int, width: int) -> np.ndarray:
    """The reference's image: a fresh generator a size."""
    return np.random.Generator(np.random.PCG64(20240607)).integers(0, 256, (1, 3, height, width), np.uint8)


def levels(model: YuNet, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Raw outputs by the reference's names, such as bbox_16: (priors, channels)."""
    with torch.inference_mode():
        predictions = model(torch.from_numpy(pixels).float())
    outputs, start = {}, 0
    for stride in model.config.strides:
        count = (pixels.shape[2] // stride) * (pixels.shape[3] // stride)
        for reference, ours in PARTS.items():
            values = getattr(predictions, ours)[0, start : start + count]
            outputs[f"{reference}_{stride}"] = values.reshape(count, -1).numpy()
        start += count
    assert start == len(predictions.priors)
    return outputs


@pytest.mark.parametrize("size", [(320, 320), (352, 480)])
@pytest.mark.parametrize("name", ["n", "s"])
def test_golden_forward(golden: dict, shared: Path, name: str, size: tuple[int, int]) -> None:
    """Logits and raw offsets of noise; float64 values to 2e-4, as the reference's tolerances say."""
    outputs = levels(load_model(weights(shared, name)), noise(*size))
    wanted = golden["forward"][name][f"{size[0]}x{size[1]}"]
    assert outputs.keys() == wanted.keys()
    for key, numbers in wanted.items():
        got = outputs[key].astype(np.float64)
        assert list(got.shape) == numbers["shape"]
        np.testing.assert_allclose(got.flat[:8], numbers["first8"], atol=2e-4, rtol=0)
        assert abs(got.sum() - numbers["sum"]) < 1e-5 * numbers["abs_sum"], key
        assert abs(np.abs(got).sum() - numbers["abs_sum"]) < 1e-5 * numbers["abs_sum"], key
        if "sigmoid_sum" in numbers:
            assert math.isclose((1 / (1 + np.exp(-got))).sum(), numbers["sigmoid_sum"], rel_tol=1e-5), key


@pytest.mark.parametrize("size", [(320, 320), (64, 160)])
@pytest.mark.parametrize("name", ["n", "s"])
def test_released_onnx_files_agree(shared: Path, name: str, size: tuple[int, int]) -> None:
    session = onnxruntime.InferenceSession(
        shared / f"reference/yunet/yunet_{name}_dynamic.onnx", providers=["CPUExecutionProvider"]
    )
    pixels = noise(*size)
    outputs = levels(load_model(weights(shared, name)), pixels)
    names = [output.name for output in session.get_outputs()]
    assert set(names) == outputs.keys()
    for key, values in zip(names, session.run(names, {"input": pixels.astype(np.float32)}), strict=True):
        ours = outputs[key]
        if key.startswith(("cls", "obj")):
            ours = 1 / (1 + np.exp(-ours))
        np.testing.assert_allclose(ours, values[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize(("name", "config"), [("n", N), ("s", S)])
def test_released_weights_are_read_whole(golden: dict, shared: Path, name: str, config: ModelConfig) -> None:
    wanted = golden["models"][name]
    checkpoint = load_checkpoint(weights(shared, name))
    assert checkpoint.model == config
    assert checkpoint.config is None
    model = build(config)
    assert len(checkpoint.state) == len(model.state_dict()) == wanted["state_dict_keys"]
    assert fit_weights(model, checkpoint.state) == []
    assert sum(p.numel() for p in model.parameters()) == wanted["parameters"]
    for part, modules in (("backbone", model.backbone), ("neck", model.neck), ("head", model.levels)):
        assert sum(p.numel() for p in modules.parameters()) == wanted["parameters_by_part"][part]
    floating = [value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")]
    total = sum(value.double().abs().sum().item() for value in floating)
    assert math.isclose(total, wanted["weight_abs_sum"], rel_tol=1e-9)


def test_published_sizes() -> None:
    """The counts of the reference without its files."""
    for config, keys, parameters in ((N, 208, 75856), (S, 181, 54608)):
        model = build(config)
        assert len(model.state_dict()) == keys
        assert sum(p.numel() for p in model.parameters()) == parameters


# Checkpoints of others: the original's names are made from our own weights, so that no reference file is needed

ORIGINAL_UNIT = {"pointwise": "conv1", "depthwise": "conv2", "norm": "bn"}
ORIGINAL_HEAD = {"shared": "share_convs", "cls_tower": "cls_convs", "box_tower": "reg_convs", "box": "bbox"}


def original_key(key: str) -> str:
    """Our name of a weight in the original trainer's words, written from its table of names."""
    part, *rest = key.split(".")
    if key.startswith("backbone.stem.") and rest[1] in ("conv", "norm"):
        return f"backbone.model0.{'conv1' if rest[1] == 'conv' else 'bn1'}.{rest[2]}"
    if key.startswith("backbone.stem.unit."):
        return f"backbone.model0.conv2.{ORIGINAL_UNIT[rest[2]]}.{rest[3]}"
    if key.startswith("backbone.stages."):
        _, stage, unit, layer, value = rest
        return f"backbone.model{int(stage) + 1}.conv{int(unit) + 1}.{ORIGINAL_UNIT[layer]}.{value}"
    if part == "neck":
        _, level, layer, value = rest
        return f"neck.lateral_convs.{level}.{ORIGINAL_UNIT[layer]}.{value}"
    level, what, *place, layer, value = rest
    name = {"landmarks": "kps"}.get(what, ORIGINAL_HEAD.get(what, what))
    return ".".join(["bbox_head", f"multi_level_{name}", level, *place, ORIGINAL_UNIT[layer], value])


TOWERS = replace(TINY, shared_convs=2, tower_convs=2, head_channels=24)


@pytest.mark.parametrize("config", [TINY, TOWERS, replace(TINY, shared_convs=0, tower_convs=1)])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"meta": {"epoch": 3}, "state_dict": state, "optimizer": {"lr": 0.1}},
        lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
    ],
    ids=["plain", "wrapped", "prefixed"],
)
def test_checkpoints_of_the_original_trainer(tmp_path: Path, config: ModelConfig, wrap: Callable[[dict], Any]) -> None:
    model = build(config, seed=4)
    state = {original_key(key): value for key, value in model.state_dict().items()}
    assert all(key.startswith(("backbone.model", "neck.lateral", "bbox_head.multi_level_")) for key in state)
    assert {rename_original(key) for key in state} == set(model.state_dict())
    torch.save(wrap(state), tmp_path / "their.pth")
    checkpoint = load_checkpoint(tmp_path / "their.pth")
    if config.shared_convs or config.tower_convs:
        assert checkpoint.model == config
    loaded = load_model(tmp_path / "their.pth")
    assert not loaded.training
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key


@pytest.mark.parametrize("points", [0, 3, 5])
def test_landmarks_of_a_foreign_checkpoint_are_counted(tmp_path: Path, points: int) -> None:
    names = LandmarksConfig().names[:points]
    model = build(replace(TINY, landmarks=LandmarksConfig(names, ())), seed=0)
    torch.save({original_key(k): v for k, v in model.state_dict().items()}, tmp_path / "their.pth")
    loaded = load_model(tmp_path / "their.pth")
    assert len(loaded.config.landmarks.names) == points
    assert loaded.config.landmarks == LandmarksConfig() or points != 5


class Harmful:
    """Runs code where it is unpickled without care."""

    def __reduce__(self) -> tuple:
        return (exec, ("raise SystemExit('code from a checkpoint was run')",))


def lfs_pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def cut_off(path: Path) -> None:
    torch.save(build(TINY).state_dict(), path)
    path.write_bytes(path.read_bytes()[:5000])


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "code": (lambda path: torch.save({"state_dict": Harmful()}, path), "read safely"),
    "bare pickle": (lambda path: path.write_bytes(pickle.dumps(Harmful(), protocol=2)), "read safely"),
    "cut off": (cut_off, "read safely"),
    "text": (lambda path: path.write_text("these are no weights"), "not a checkpoint by its content"),
    "empty": (lambda path: path.write_bytes(b""), "the file is empty"),
    "git-lfs": (lfs_pointer, "git-lfs pointer"),
    "a number": (lambda path: torch.save(3, path), "not a YuNet checkpoint"),
    "a list": (lambda path: torch.save([torch.zeros(2)], path), "not a YuNet checkpoint"),
    "a tensor": (lambda path: torch.save(torch.zeros(2), path), "not a YuNet checkpoint"),
    "another network": (lambda path: torch.save(nn.Linear(2, 2).state_dict(), path), "it holds weight, bias"),
    "state_dict that is none": (lambda path: torch.save({"state_dict": [1, 2]}, path), "their.pth"),
    "half a facetrain checkpoint": (lambda path: torch.save({"format": FORMAT}, path), "their.pth"),
    "only a stem": (
        lambda path: torch.save({"backbone.model0.conv1.weight": torch.zeros(8, 3, 3, 3)}, path),
        "incomplete",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_unusable_files_are_errors_that_name_them(tmp_path: Path, kind: str) -> None:
    make, text = BROKEN[kind]
    path = tmp_path / "their.pth"
    make(path)
    with pytest.raises(DataError, match=text) as caught:
        load_model(path)
    assert str(path) in caught.value.message


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_checkpoint(tmp_path / "absent.pt")


def test_weights_without_one_layer_are_an_error(tmp_path: Path) -> None:
    state = build(TINY).state_dict()
    del state["neck.units.1.norm.running_mean"]
    torch.save({original_key(k): v for k, v in state.items()}, tmp_path / "their.pth")
    with pytest.raises(DataError, match=r"1 weights do not fit.*neck\.units\.1\.norm\.running_mean: missing"):
        load_model(tmp_path / "their.pth")


def test_own_checkpoint_round_trip(tmp_path: Path) -> None:
    config = Config(model=TOWERS, data=DataConfig(size=96), train=TrainConfig(ema=0.99, clip=10.0))
    model = build(TOWERS, seed=8)
    model(torch.rand(2, 3, 32, 32) * 255)  # moves the running statistics
    info = {"epoch": 3, "ap": 0.25, "note": "tried"}
    save_checkpoint(tmp_path / "new" / "own.pt", model.state_dict(), config, info)
    checkpoint = load_checkpoint(tmp_path / "new" / "own.pt")
    assert (checkpoint.config, checkpoint.model, checkpoint.info) == (config, TOWERS, info)
    assert checkpoint.state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, checkpoint.state[key]) for key, value in model.state_dict().items())
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["own.pt"]
    loaded = load_model(tmp_path / "new" / "own.pt")
    pixels = torch.from_numpy(noise(64, 64)).float()
    with torch.inference_mode():
        found, expected = loaded(pixels), model.eval()(pixels)
    for name in ("cls", "obj", "boxes", "landmarks", "priors"):
        assert torch.equal(getattr(found, name), getattr(expected, name))


def test_failed_save_keeps_the_file_before(tmp_path: Path) -> None:
    path = tmp_path / "own.pt"
    save_checkpoint(path, build(TINY, seed=0).state_dict(), Config(model=TINY), {})
    before = path.read_bytes()
    with pytest.raises(Exception):  # noqa: B017
        save_checkpoint(path, {}, Config(model=TINY), {"bad": lambda: None})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_own_checkpoint_holds_no_more_than_it_must(tmp_path: Path) -> None:
    """Views are stored alone, not with the tensor they were cut from."""
    big = torch.zeros(1000, 1000)
    save_checkpoint(tmp_path / "own.pt", {"a": big[:2, :2]}, Config(model=TINY), {})
    assert (tmp_path / "own.pt").stat().st_size < 20_000
    assert read_tensors(tmp_path / "own.pt")["model"]["a"].shape == (2, 2)


def test_misfits_are_listed_and_the_rest_taken() -> None:
    model, other = build(TINY, seed=0), build(replace(TINY, head_channels=24), seed=1)
    state = dict(other.state_dict())
    del state["backbone.stem.conv.bias"]
    state["surplus"] = torch.zeros(1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    misfits = fit_weights(model, state)
    assert "backbone.stem.conv.bias: missing" in misfits
    assert "surplus: unknown" in misfits
    assert "levels.0.cls.pointwise.weight: (1, 24, 1, 1), the model has (1, 16, 1, 1)" in misfits
    different = {key for key in before if key not in state or state[key].shape != before[key].shape}
    assert len(misfits) == len(different) + 1
    assert {line.split(":")[0] for line in misfits} == different | {"surplus"}
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key] if key in different else state[key]), key


# Other networks

SHAPES = {
    "published n": N,
    "published s": S,
    "towers": replace(TINY, tower_convs=2, head_channels=12),
    "towers without shared": replace(TINY, shared_convs=0, tower_convs=1, head_channels=12),
    "no shared": replace(TINY, shared_convs=0, head_channels=12),
    "three shared": replace(TINY, shared_convs=3, head_channels=20),
    "no landmarks": replace(TINY, landmarks=LandmarksConfig((), ())),
    "three landmarks": replace(TINY, landmarks=LandmarksConfig(("a", "b", "c"), (("a", "b"),))),
    "strides 4 8": replace(TINY, stages=((8, 16), (16, 16)), pool_after=(0, 1), maps=(1, 2), strides=(4, 8)),
    "strides 16 32 64": replace(TINY, pool_after=(0, 1, 2, 3, 4), strides=(16, 32, 64)),
    "one level": replace(TINY, stages=((8, 8), (8, 16)), pool_after=(0, 1), maps=(2,), strides=(8,)),
    "four levels": replace(
        TINY,
        stages=((8, 16), (16, 16), (16, 16), (16, 16)),
        pool_after=(0, 1, 2, 3),
        maps=(1, 2, 3, 4),
        strides=(4, 8, 16, 32),
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_other_shapes_build_run_and_decode(name: str) -> None:
    config = SHAPES[name]
    assert check_config(Config(model=config)) == []
    model = build(config, seed=0).eval()
    height, width = 2 * max(config.strides), 3 * max(config.strides)
    with torch.inference_mode():
        predictions = model(255 * torch.rand(2, 3, height, width))
    count = sum((height // s) * (width // s) for s in config.strides)
    points = len(config.landmarks.names)
    assert predictions.cls.shape == predictions.obj.shape == (2, count)
    assert predictions.boxes.shape == (2, count, 4)
    assert predictions.landmarks.shape == (2, count, points, 2)
    assert predictions.priors.shape == (count, 3)
    assert predictions.priors[:, 2].unique().tolist() == list(config.strides)
    boxes = decode_boxes(predictions.boxes, predictions.priors)
    landmarks = decode_landmarks(predictions.landmarks, predictions.priors)
    assert boxes.shape == (2, count, 4)
    assert landmarks.shape == (2, count, points, 2)
    assert bool(boxes.isfinite().all())
    assert bool(landmarks.isfinite().all())
    assert bool((boxes[..., 2:] > boxes[..., :2]).all())


@pytest.mark.parametrize("name", SHAPES)
def test_every_weight_is_used(name: str) -> None:
    config = SHAPES[name]
    model = build(config, seed=0).train()
    side = 2 * max(config.strides)
    predictions = model(255 * torch.rand(2, 3, side, side))
    sum(getattr(predictions, part).square().sum() for part in ("cls", "obj", "boxes", "landmarks")).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key


@pytest.mark.parametrize(
    "name", ["published n", "published s", "towers", "three shared", "no landmarks", "four levels"]
)
def test_forward_equals_its_description(name: str) -> None:
    """A.2 to A.5 with functional calls, from the weights by name."""
    config = SHAPES[name]
    model = build(config, seed=3).double()
    model(255 * torch.rand(2, 3, 64, 64, dtype=torch.float64))  # statistics that are not 0 and 1
    model.eval()
    state = model.state_dict()
    f = nn.functional

    def convolve(x: torch.Tensor, key: str, **settings: int) -> torch.Tensor:
        return f.conv2d(x, state[f"{key}.weight"], state[f"{key}.bias"], **settings)

    def normalise(x: torch.Tensor, key: str) -> torch.Tensor:
        mean, var, weight, bias = (
            state[f"{key}.{v}"][:, None, None] for v in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (var + 1e-5).sqrt() * weight + bias).clamp(min=0)

    def unit(x: torch.Tensor, key: str, activated: bool = True) -> torch.Tensor:
        x = convolve(x, f"{key}.pointwise")
        x = convolve(x, f"{key}.depthwise", padding=1, groups=x.shape[1])
        return normalise(x, f"{key}.norm") if activated else x

    pixels = 255 * torch.rand(1, 3, 64, 96, dtype=torch.float64)
    x = normalise(convolve(pixels, "backbone.stem.conv", stride=2, padding=1), "backbone.stem.norm")
    x = unit(x, "backbone.stem.unit")
    maps = []
    for number in range(len(config.stages) + 1):
        if number > 0:
            x = unit(unit(x, f"backbone.stages.{number - 1}.0"), f"backbone.stages.{number - 1}.1")
        if number in config.maps:
            maps.append(x)
        if number in config.pool_after:
            x = f.max_pool2d(x, 2, 2)
    for level in reversed(range(len(maps))):
        coarser = maps[level + 1].repeat_interleave(2, 2).repeat_interleave(2, 3) if level + 1 < len(maps) else 0
        maps[level] = unit(maps[level] + coarser, f"neck.units.{level}")
    wanted: dict[str, list[torch.Tensor]] = {"cls": [], "obj": [], "box": [], "landmarks": []}
    for level, shared in enumerate(maps):
        for k in range(config.shared_convs):
            shared = unit(shared, f"levels.{level}.shared.{k}")  # noqa: PLW2901
        towers = {"cls": shared, "box": shared}
        for k in range(config.tower_convs):
            towers = {name: unit(x, f"levels.{level}.{name}_tower.{k}") for name, x in towers.items()}
        for part, rows in wanted.items():
            if part != "landmarks" or config.landmarks.names:
                y = unit(towers["cls" if part == "cls" else "box"], f"levels.{level}.{part}", activated=False)
                rows.append(y[0].permute(1, 2, 0).reshape(-1, y.shape[1]))
    with torch.inference_mode():
        got = model(pixels)
    for part, ours in (("cls", got.cls), ("obj", got.obj), ("box", got.boxes), ("landmarks", got.landmarks)):
        if wanted[part]:
            whole = torch.cat(wanted[part])
            torch.testing.assert_close(ours.double().reshape(whole.shape), whole, atol=1e-4, rtol=1e-5)


def test_joined_outputs_equal_each_unit_alone() -> None:
    torch.manual_seed(0)
    builder = Builder(12)
    kinds = {"cls": 1, "obj": 1, "box": 4, "landmarks": 10}
    outputs = {(kind, 1): output_unit(builder, IMAGE, f"levels.0.{kind}", count) for kind, count in kinds.items()}
    model = NetworkModule(builder.network(outputs))
    x = torch.randn(2, 12, 7, 9)
    maps = model.maps(x)
    assert maps.keys() == set(outputs.values())
    for kind in kinds:
        pointwise, depthwise = (model.convolution(f"levels.0.{kind}.{name}") for name in ("pointwise", "depthwise"))
        torch.testing.assert_close(maps[outputs[kind, 1]], depthwise(pointwise(x)), atol=1e-6, rtol=1e-5)


def test_images_of_a_batch_do_not_meet() -> None:
    model = build(TINY, seed=0).eval()
    pixels = 255 * torch.rand(3, 3, 64, 96)
    with torch.inference_mode():
        together, alone = model(pixels), model(pixels[1:2])
    torch.testing.assert_close(together.boxes[1], alone.boxes[0])
    torch.testing.assert_close(together.cls[1], alone.cls[0])


# Initial weights


def test_initial_weights_have_the_published_spread() -> None:
    """N(0, 2 / (fan_in + fan_out)), fan_out not divided by the groups: the named deviations are the reference's."""
    model = build(N, seed=0)
    samples: dict[str, list[torch.Tensor]] = {}
    for key, value in model.state_dict().items():
        if key.endswith("weight") and value.ndim == 4:
            samples.setdefault(str(tuple(value.shape)), []).append(value.flatten())
    for shape, deviation in (("(64, 1, 3, 3)", 0.0585), ("(16, 3, 3, 3)", 0.1081), ("(64, 64, 1, 1)", 0.125)):
        values = torch.cat(samples[shape])
        error = deviation / math.sqrt(2 * len(values))
        assert abs(values.std() - deviation) < 4 * error + 1e-4, shape
        assert abs(values.mean()) < 4 * deviation / math.sqrt(len(values)), shape
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            assert bool((module.bias == 0.02).all())
        elif isinstance(module, nn.BatchNorm2d):
            assert bool((module.weight == 1).all())
            assert bool((module.bias == 0).all())
            assert (module.eps, module.momentum) == (1e-5, 0.1)


def test_objectness_bias_starts_scores_low() -> None:
    model = build(replace(TINY, objectness_bias=-4.6), seed=0)
    for level in model.levels:
        assert bool((level.obj.depthwise.bias == -4.6).all())
        assert bool((level.obj.pointwise.bias == 0.02).all())
        assert bool((level.cls.depthwise.bias == 0.02).all())


def test_initial_weights_are_a_function_of_the_seed() -> None:
    torch.manual_seed(1)
    first = build(TINY, seed=5).state_dict()
    torch.manual_seed(2)
    again, other = build(TINY, seed=5).state_dict(), build(TINY, seed=6).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert not torch.equal(first["backbone.stem.conv.weight"], other["backbone.stem.conv.weight"])
