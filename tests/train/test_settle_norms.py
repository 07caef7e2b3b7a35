"""Training that begins from a file without batch norms begins with the file's network, and keeps what it knows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from train_runs import MODEL, Recorder, tiny_config

from facetrain.config.load import load_config
from facetrain.config.schema import Config, DataConfig, EvalConfig, LandmarksConfig, TrainConfig
from facetrain.core.errors import DataError
from facetrain.core.run_dir import RunDir
from facetrain.data.sample_set.make import write_sample
from facetrain.detect.bundled import bundled_weights
from facetrain.eval.evaluate import evaluate_model
from facetrain.export.network.fold import fold
from facetrain.export.onnx.model import write_onnx
from facetrain.model.weights import load_checkpoint, load_model
from facetrain.model.yunet import YuNet, build, initial_deviation
from facetrain.train.loop import train_model
from facetrain.train.settle_norms import settle_norms


def images(seed: int, count: int = 4) -> Tensor:
    """Smooth noise with bright squares."""
    rng = np.random.default_rng(seed)
    small = torch.from_numpy(rng.uniform(0, 255, (count, 3, 16, 16)).astype(np.float32))
    return torch.nn.functional.interpolate(small, scale_factor=8.0, mode="bilinear")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An ONNX file of a network whose norms scale and shift."""
    model = build(MODEL, 3).train()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for conv in model.network.convs:
            if conv.norm is not None:
                norm = model.batch_norm(conv.norm)
                norm.weight.copy_(torch.rand(conv.outputs, generator=generator) * 2)
                norm.bias.copy_(torch.randn(conv.outputs, generator=generator))
        for seed in range(20):
            model(images(seed))
    write_onnx(fold(model.eval()), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def norms(model: YuNet) -> list[str]:
    return [conv.norm for conv in model.network.convs if conv.norm is not None]


def scores(model: YuNet, x: Tensor) -> Tensor:
    with torch.no_grad():
        found = model(x)
    return (found.cls + found.obj).flatten()


def test_settled_norms_change_nothing_and_hold_in_training(file: Path) -> None:
    plain, settled = load_model(file), load_model(file)
    settle_norms(settled, norms(settled), [images(seed) for seed in range(100, 108)])
    x = images(200, count=8)
    before = scores(plain.eval(), x)
    torch.testing.assert_close(scores(settled.eval(), x), before, rtol=1e-4, atol=1e-4)

    def distance(model: YuNet) -> float:
        return float((scores(model.train(), x) - before).std() / before.std())

    assert distance(settled) < 0.25
    assert distance(plain) > 0.9
    assert settled.kernels is plain.kernels


def test_filters_have_a_usual_length(file: Path) -> None:
    model = load_model(file)
    settle_norms(model, norms(model), [images(1)])
    for conv in model.network.convs:
        if conv.norm is not None:
            layer = model.convolution(conv.names[0])
            length = layer.weight.detach().flatten(1).norm(dim=1)
            torch.testing.assert_close(length, length.new_full(length.shape, float(length[0])))
            assert float(length[0]) == pytest.approx(2 * initial_deviation(layer) * layer.weight[0].numel() ** 0.5)


def test_a_filter_of_nothing_stays_one(file: Path) -> None:
    model = load_model(file)
    layer = model.convolution("backbone.stem.conv")
    with torch.no_grad():
        layer.weight[0] = 0
    before = scores(model.eval(), images(5))
    settle_norms(model, norms(model), [images(1)])
    torch.testing.assert_close(scores(model.eval(), images(5)), before, rtol=1e-4, atol=1e-4)


def test_norms_of_new_layers_are_left_alone(file: Path) -> None:
    model = load_model(file)
    kept = norms(model)[-1]
    settle_norms(model, [name for name in norms(model) if name != kept], [images(1)])
    assert torch.equal(model.batch_norm(kept).weight, torch.ones_like(model.batch_norm(kept).weight))
    assert not model.training


def start(data: Path, runs: Path, weights: Path, **changes: Any) -> tuple[RunDir, Recorder]:
    events = Recorder()
    config = tiny_config(data, epochs=1)
    result = train_model(replace(config, **changes), runs=runs, weights=weights, events=events)
    assert result.run is not None
    return result.run, events


def test_a_run_says_what_it_does(data: Path, tmp_path: Path, file: Path) -> None:
    _, events = start(data, tmp_path / "runs", file)
    assert any("weights taken over" in note and "net.onnx" in note for note in events.notes)
    assert any(note.startswith("the file has no batch norms") for note in events.notes)


def test_other_points_begin_anew(data: Path, tmp_path: Path, file: Path) -> None:
    model = replace(MODEL, landmarks=LandmarksConfig((), ()))
    run, events = start(data, tmp_path / "runs", file, model=model)
    assert any("levels.0.landmarks.pointwise.weight: unknown" in note for note in events.notes)
    assert load_checkpoint(run.best).model.landmarks.names == ()


def test_another_preset_is_named(data: Path, tmp_path: Path) -> None:
    _, events = start(data, tmp_path / "runs", bundled_weights("yunet_s", ".onnx"))
    assert "  all of them fit the preset yunet_s" in events.notes


def test_an_onnx_file_teaches(data: Path, tmp_path: Path, file: Path) -> None:
    config = tiny_config(data, epochs=1, teacher=str(file))
    result = train_model(config, runs=tmp_path / "runs")
    assert result.step == 3


def test_what_is_no_yunet_is_refused_before_the_data_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"\x08\x07")
    with pytest.raises(DataError, match="not a YuNet"):
        train_model(tiny_config(tmp_path / "nothing"), runs=tmp_path, weights=tmp_path / "x.onnx")


def test_a_short_fine_tuning_keeps_what_the_file_knows(tmp_path: Path) -> None:
    write_sample(tmp_path / "data", train=24, val=12)
    preset = load_config("yunet_s")
    config = Config(
        model=preset.model,
        data=DataConfig(root=str(tmp_path / "data"), size=256, store="ram", workers=1),
        train=TrainConfig(epochs=2, batch=8, lr=0.001, lr_batch=8, precision="fp32"),
        eval=EvalConfig(every=2),
    )
    path = bundled_weights("yunet_s", ".onnx")
    before = evaluate_model(path, tmp_path / "data", draws=0).ap["all"]
    result = train_model(config, runs=tmp_path / "runs", weights=path)
    assert before is not None
    assert result.ap is not None
    assert result.ap > before - 0.03
