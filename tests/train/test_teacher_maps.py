"""A teacher's maps as hints: which are compared, by what, and that a student comes nearer to them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from train_runs import MODEL, Recorder, ctrl_c_at, draw_set, leaves, tiny_config, train

from facetrain.config.schema import Config, ModelConfig, TrainConfig
from facetrain.data.batch import Batch
from facetrain.model.frozen import freeze
from facetrain.model.safe_file import read_tensors
from facetrain.model.weights import save_checkpoint
from facetrain.model.yunet import build
from facetrain.train.loop import train_model
from facetrain.train.run.metrics import read_metrics
from facetrain.train.step import Task, batch_losses
from facetrain.train.teacher_maps import common_maps, difference, watch_alike

NARROW = replace(MODEL, stages=((8, 8), (8, 8), (8, 16), (16, 16), (16, 16)))
DEEP = replace(MODEL, shared_convs=2)
IMAGES = torch.from_numpy(np.random.default_rng(3).integers(0, 255, (2, 3, 64, 96)).astype(np.float32))


def by_loop(own: list[torch.Tensor], taught: list[torch.Tensor], side: int) -> float:
    """Channel by channel and place by place, in Python's numbers."""
    maps = []
    for x, y in zip(own, taught, strict=True):
        step = max(1, 8 * x.shape[2] // side)
        channels = []
        for channel in range(x.shape[1]):
            product = xx = yy = 0.0
            for image in range(x.shape[0]):
                for row in range(0, x.shape[2], step):
                    for column in range(0, x.shape[3], step):
                        a, b = x[image, channel, row, column].item(), y[image, channel, row, column].item()
                        product, xx, yy = product + a * b, xx + a * a, yy + b * b
            channels.append(1 - (product + 1e-3) / ((xx + 1e-3) * (yy + 1e-3)) ** 0.5)
        maps.append(sum(channels) / len(channels))
    return sum(maps) / len(maps)


def maps(seed: int) -> list[torch.Tensor]:
    """Activations of strides 4, 8 and 16 of images of 64 pixels; one channel is silent."""
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(2, 3, 64 // stride, 96 // stride, generator=generator).relu() for stride in (4, 8, 16)]
    made[1][:, 1] = 0
    return made


def test_the_difference_is_that_of_a_loop() -> None:
    own, taught = maps(0), maps(1)
    assert difference(own, taught, 64).item() == pytest.approx(by_loop(own, taught, 64), rel=1e-5)


def test_agreement_is_nothing_at_any_size_of_a_channel() -> None:
    own = [map_ + 0.1 for map_ in maps(0)]
    larger = [map_ * torch.tensor([0.2, 3.0, 7.0]).view(1, 3, 1, 1) for map_ in own]
    assert difference(own, larger, 64).item() == pytest.approx(0, abs=1e-3)
    assert difference(own, maps(1), 64).item() > 0.1


def test_gradients_are_finite_where_a_channel_is_silent() -> None:
    own = [map_.requires_grad_() for map_ in maps(0)]
    difference(own, [torch.zeros_like(map_) for map_ in own], 64).backward()
    assert all(bool(map_.grad.isfinite().all()) for map_ in own if map_.grad is not None)


def test_maps_of_one_name_and_form_are_compared() -> None:
    whole = common_maps(build(MODEL).network, build(MODEL).network)
    assert whole[0] == "backbone.stem.conv"
    assert whole[-1] == "levels.2.shared.0.depthwise"
    assert len(whole) == 18
    narrow = common_maps(build(NARROW).network, build(MODEL).network)
    assert set(whole) - set(narrow) == {f"backbone.stages.{unit}.depthwise" for unit in ("1.1", "2.0")}
    deep = common_maps(build(DEEP).network, build(MODEL).network)
    assert set(deep) == set(whole)
    other = replace(MODEL, stem=(3, 4, 4), stages=((4, 12),) + ((12, 12),) * 4, head_channels=12)
    student = build(other)
    assert common_maps(student.network, build(MODEL).network) == []
    assert "no effect" in watch_alike(student, build(MODEL))


def test_watched_maps_stand_beside_the_same_outputs() -> None:
    student, teacher = build(MODEL, 0).eval(), freeze(build(MODEL, 0))
    before = student(IMAGES)
    assert before.maps == ()
    assert "18 of the student's 18 maps" in watch_alike(student, teacher)
    after, taught = student(IMAGES), teacher(IMAGES)
    assert torch.equal(after.obj, before.obj)
    assert len(after.maps) == 18
    assert [map_.shape for map_ in after.maps] == [map_.shape for map_ in taught.maps]
    assert difference(after.maps, taught.maps, 64).item() == pytest.approx(0, abs=1e-3)  # a folded twin sees alike
    assert all(bool((map_ >= 0).all()) for map_ in after.maps)
    student.watch([])
    assert student(IMAGES).maps == ()


def test_the_term_stands_beside_the_others_with_its_weight() -> None:
    student, teacher = build(MODEL, 1).train(), freeze(build(MODEL, 2))
    none, kind = torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int8)
    batch = Batch(IMAGES[:, :, :64, :64], torch.zeros(0, 4), torch.zeros(0, 5, 3), none, kind)
    task = Task(TrainConfig(label_weight=0, teacher_maps=3.0), torch.float32, teacher=teacher)
    assert "teacher_maps" not in batch_losses(student, batch, task)  # nothing is watched
    watch_alike(student, teacher)
    losses = batch_losses(student, batch, task)
    seen = student(batch.images)
    expected = 3 * difference(seen.maps, teacher(batch.images).maps, 64)
    assert losses["teacher_maps"].item() == pytest.approx(expected.item(), rel=1e-5)


def teacher_file(folder: Path, model: ModelConfig = MODEL) -> Path:
    path = folder / "teacher.pt"
    save_checkpoint(path, build(model, 7).state_dict(), Config(model=model), {})
    return path


def test_a_run_comes_nearer_and_can_be_resumed(tmp_path: Path) -> None:
    data = draw_set(tmp_path / "set")
    settings = {"teacher": str(teacher_file(tmp_path)), "teacher_maps": 10.0, "epochs": 16, "lr": 0.02}
    events = Recorder()
    run = train(tiny_config(data, **settings), tmp_path / "runs", name="whole", events=events)
    assert "teacher: 18 of the student's 18 maps are compared with its own (train.teacher_maps)" in events.notes
    told = [line["losses"]["teacher_maps"] for line in read_metrics(run.metrics) if line["kind"] == "train"]
    assert len(told) == 48
    assert sum(told[-3:]) < 0.95 * sum(told[:3])
    other = train(tiny_config(data, **settings), tmp_path / "runs", name="stopped", events=ctrl_c_at(7))
    train_model(resume=other)
    one, two = (dict(leaves(read_tensors(some.last)["model"])) for some in (run, other))
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_a_teacher_of_another_form_teaches_by_what_it_says(tmp_path: Path) -> None:
    data = draw_set(tmp_path / "set")
    other = replace(MODEL, stem=(3, 4, 4), stages=((4, 12),) + ((12, 12),) * 4, head_channels=12)
    settings = {"teacher": str(teacher_file(tmp_path, other)), "teacher_maps": 10.0, "epochs": 1}
    events = Recorder()
    run = train(tiny_config(data, **settings), tmp_path / "runs", name="r", events=events)
    assert any("train.teacher_maps has no effect" in note for note in events.notes)
    lines = [line for line in read_metrics(run.metrics) if line["kind"] == "train"]
    assert all("teacher_maps" not in line["losses"] and "teacher_obj" in line["losses"] for line in lines)
