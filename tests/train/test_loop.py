"""Whole runs on a tiny drawn set: what they leave behind, what they take, and how they end."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from train_runs import (
    IMAGES,
    MODEL,
    STEPS,
    Recorder,
    assert_same,
    assert_same_run,
    draw_set,
    leaves,
    numbers,
    tiny_config,
    train,
)

from facetrain.config.load import load_config
from facetrain.config.schema import Config, EvalConfig, LandmarksConfig, ModelConfig
from facetrain.core.errors import DataError, InputError, TrainingError, UsageError
from facetrain.core.run_dir import RunDir
from facetrain.model.safe_file import read_tensors
from facetrain.model.weights import load_checkpoint, load_model, save_checkpoint
from facetrain.model.yunet import build
from facetrain.train import terms
from facetrain.train.loop import train_model
from facetrain.train.run import window
from facetrain.train.run.metrics import read_metrics


@pytest.mark.usefixtures("with_curves")
def test_run_leaves_everything_in_its_folder(data: Path, tmp_path: Path) -> None:
    config, events = tiny_config(data, epochs=2), Recorder()
    result = train_model(config, config_name="tiny", runs=tmp_path, events=events)
    run = result.run
    assert run is not None
    assert run.path == tmp_path / "tiny-1"
    names = {"config.yaml", "metrics.jsonl", "last.pt", "previous.pt", "best.pt", "curves.png", "first_batch.jpg"}
    assert {path.name for path in run.path.iterdir()} == names | {"environment.json"}
    assert (result.step, result.total_steps, result.interrupted) == (2 * STEPS, 2 * STEPS, False)

    assert load_config(str(run.config)) == config
    for image in (run.curves, run.first_batch):
        assert cv2.imread(str(image)) is not None

    lines = read_metrics(run.metrics)
    steps, validations = ([line for line in lines if line["kind"] == kind] for kind in ("train", "val"))
    assert [line["step"] for line in steps] == [1, 2, 3, 4, 5, 6]
    assert [line["epoch"] for line in steps] == [0, 0, 0, 1, 1, 1]
    assert [(line["step"], line["epoch"]) for line in validations] == [(3, 0), (6, 1)]
    for line in steps:
        assert line["losses"].keys() == {"cls", "obj", "box", "landmarks", "total"}
        assert line["losses"]["total"] == pytest.approx(sum(v for k, v in line["losses"].items() if k != "total"))
        assert line["positives"] > 0
    assert [progress.step for progress in events.steps] == [1, 2, 3, 4, 5, 6]

    best = load_checkpoint(run.best)
    assert best.config == config
    assert best.info["ap"] == result.best_ap == max(line["ap"] for line in validations)
    assert best.info["epoch"] == result.best_epoch
    assert best.info["validation_images"] == 3
    load_model(run.best)
    state = read_tensors(run.last)
    assert state["state"]["step"] == 6
    assert read_tensors(run.previous)["state"]["step"] == 3

    environment = json.loads(run.environment.read_text())
    assert torch.__version__.startswith(environment["versions"]["torch"])
    assert (environment["device"], environment["precision"], environment["images"]) == ("cpu", "float32", IMAGES)
    assert environment["validation_images"] == 3
    assert len(environment["labels"]["sha256"]) == 64
    assert any("10 (" in note for note in events.notes)
    assert any(str(run.path) in note for note in events.notes)


@pytest.mark.slow
def test_loss_falls_and_faces_are_found(data: Path, tmp_path: Path) -> None:
    result = train_model(
        replace(tiny_config(data, epochs=40, ema=0.9), eval=EvalConfig(every=20)), runs=tmp_path, events=Recorder()
    )
    assert result.run is not None
    lines = [line for line in read_metrics(result.run.metrics) if line["kind"] == "train"]
    totals = [line["losses"]["total"] for line in lines]
    assert np.mean(totals[-STEPS:]) < 0.5 * np.mean(totals[:STEPS])
    assert result.best_ap is not None
    assert result.best_ap > 0.3


def test_same_seed_gives_the_same_run(data: Path, tmp_path: Path, unbroken: Callable[..., RunDir]) -> None:
    again = train(tiny_config(data), tmp_path)
    assert_same_run(again, unbroken())
    assert numbers(again) == numbers(unbroken())


def test_seed_draws_weights_and_crops(data: Path, tmp_path: Path, unbroken: Callable[..., RunDir]) -> None:
    other = train(tiny_config(data, epochs=1, seed=1, lr=1e-30), tmp_path)
    weights, drawn = read_tensors(other.last)["model"], build(MODEL, seed=1).state_dict()
    for key in (key for key in weights if "running" not in key and "tracked" not in key):
        torch.testing.assert_close(weights[key], drawn[key], msg=key)
    sheets = [cv2.imread(str(run.first_batch)).astype(float) for run in (other, unbroken())]
    assert np.abs(sheets[0] - sheets[1]).mean() > 5


@pytest.mark.parametrize(("workers", "store"), [(1, "ram"), (5, "disk")])
def test_workers_and_place_change_no_bit(
    data: Path, tmp_path: Path, unbroken: Callable[..., RunDir], workers: int, store: Any
) -> None:
    config = tiny_config(data)
    run = train(replace(config, data=replace(config.data, workers=workers, store=store)), tmp_path)
    for name in ("model", "optimizer"):
        assert_same(read_tensors(run.last)[name], read_tensors(unbroken().last)[name])


@pytest.mark.parametrize(("memory", "said"), [(1e-6, "0.0 GB may be taken: read from disk anew"), (1.0, "kept in RAM")])
def test_little_memory_changes_the_place_and_no_bit(
    data: Path, tmp_path: Path, unbroken: Callable[..., RunDir], memory: float, said: str
) -> None:
    config, events = tiny_config(data), Recorder()
    limited = replace(config, data=replace(config.data, store="auto", memory=memory))
    run = train(limited, tmp_path, events=events)
    assert any(note.startswith("pixels: 10 images take") and said in note for note in events.notes)
    for name in ("model", "optimizer"):
        assert_same(read_tensors(run.last)[name], read_tensors(unbroken().last)[name])


def test_pixels_on_the_device_give_the_same_training_but_for_rounding(
    data: Path, tmp_path: Path, unbroken: Callable[..., RunDir]
) -> None:
    config = tiny_config(data, epochs=1)
    run = train(replace(config, data=replace(config.data, store="device")), tmp_path)
    first, wanted = read_metrics(run.metrics)[0], read_metrics(unbroken().metrics)[0]
    assert first["losses"] == pytest.approx(wanted["losses"], rel=1e-2)


def test_what_is_averaged_is_validated_and_kept(unbroken: Callable[..., RunDir]) -> None:
    run = unbroken(ema=0.9, epochs=1)
    averages = read_tensors(run.last)["ema"]
    assert all(torch.equal(value, averages[key]) for key, value in load_checkpoint(run.best).state.items())


def spoil(monkeypatch: pytest.MonkeyPatch, number: int, term: str, value: float) -> list[int]:
    """Make a loss term of one step something that is not finite, as an overflow would. Returns a list of all steps."""
    real = terms.compute_losses
    calls: list[int] = []

    def spoiled(*arguments: Any) -> dict[str, torch.Tensor]:
        calls.append(1)
        losses = real(*arguments)
        return losses | ({term: losses[term] * value} if len(calls) == number else {})

    monkeypatch.setattr(terms, "compute_losses", spoiled)
    return calls


@pytest.mark.parametrize(("term", "value"), [("box", float("nan")), ("landmarks", float("inf"))])
def test_loss_that_is_not_finite_is_reported(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, term: str, value: float
) -> None:
    calls = spoil(monkeypatch, 5, term, value)
    monkeypatch.setattr(window, "_LOG_LINES", 1)  # a line an epoch only: the step is looked at all the same
    with pytest.raises(TrainingError) as caught:
        train_model(tiny_config(data), runs=tmp_path)
    assert len(calls) == 5
    message = caught.value.message
    assert "step 5" in message
    assert f"'{term}'" in message
    assert str(value) in message
    assert message.count("drawn/train") == 4  # the images of this step
    state = read_tensors(tmp_path / "run-1" / "last.pt")
    assert state["state"]["step"] == 3
    assert all(
        bool(v.isfinite().all()) for _, v in leaves(state) if isinstance(v, torch.Tensor) and v.is_floating_point()
    )


def test_wild_learning_rate_ends_in_an_error(data: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"step \d: the loss term '\w+' is (nan|inf)"):
        train_model(tiny_config(data, lr=1e30), runs=tmp_path)
    for name in ("last.pt", "previous.pt", "best.pt"):
        path = tmp_path / "run-1" / name
        tensors = [v for _, v in leaves(read_tensors(path))] if path.exists() else []
        floating = [v for v in tensors if isinstance(v, torch.Tensor) and v.is_floating_point()]
        assert all(bool(v.isfinite().all()) for v in floating)


def test_without_validation_the_last_weights_are_the_best(tmp_path: Path) -> None:
    events = Recorder()
    config = tiny_config(draw_set(tmp_path / "data", val=0), epochs=2)
    result = train_model(config, runs=tmp_path, events=events)
    assert result.run is not None
    assert (result.ap, result.best_ap) == (None, None)
    assert any("no validation" in note and "last weights" in note for note in events.notes)
    last, best = read_tensors(result.run.last)["model"], load_checkpoint(result.run.best)
    assert all(torch.equal(value, last[key]) for key, value in best.state.items())
    assert (best.info["ap"], best.info["epoch"], best.info["validation_images"]) == (None, 2, 0)


def test_fine_tuning_takes_what_fits_and_lists_the_rest(data: Path, tmp_path: Path) -> None:
    """From a model without landmarks, wider in its head: backbone and neck fit, the head does not."""
    given = Config(model=replace(MODEL, head_channels=24, landmarks=LandmarksConfig((), ())))
    weights = build(given.model, seed=9).state_dict()
    save_checkpoint(tmp_path / "given.pt", weights, given, {})
    events = Recorder()
    config = tiny_config(data, epochs=1, lr=1e-30, weight_decay=0.0)
    run = train(config, tmp_path / "runs", weights=tmp_path / "given.pt", events=events)
    got, drawn = read_tensors(run.last)["model"], build(MODEL, seed=0).state_dict()
    misfits = [note for note in events.notes if "not taken over" in note]
    more = [note for note in events.notes if note.strip().startswith("…")]
    assert any("levels.0.shared.0.pointwise.weight: (24, 16, 1, 1), the model has (16, 16, 1, 1)" in n for n in misfits)
    assert len(misfits) == 20
    assert len(more) == 1
    for key in (key for key in got if "norm.running" not in key and "tracked" not in key):
        fits = key in weights and weights[key].shape == got[key].shape
        torch.testing.assert_close(got[key], weights[key] if fits else drawn[key], msg=key)
    assert any(f"{len(weights)}" in n or "weights taken over" in n for n in events.notes)


def test_fine_tuning_starts_from_a_run_by_its_name(data: Path, tmp_path: Path) -> None:
    best = tmp_path / "runs" / "mine-1" / "best.pt"
    best.parent.mkdir(parents=True)
    save_checkpoint(best, build(MODEL, seed=9).state_dict(), Config(model=MODEL), {})
    events = Recorder()
    train_model(tiny_config(data), runs=tmp_path / "runs", weights="mine-1", dry_run=True, events=events)
    assert any(note.startswith(f"starting from {best}") for note in events.notes)
    with pytest.raises(InputError, match="mine-2: neither a file, nor a run"):
        train_model(tiny_config(data), runs=tmp_path / "other", weights="mine-2")
    assert not (tmp_path / "other").exists()


def test_weights_of_which_nothing_fits_are_refused(data: Path, tmp_path: Path) -> None:
    other = Config(model=ModelConfig(stem=(3, 6, 6), stages=((6, 6),), maps=(1,), strides=(4,), pool_after=(0,)))
    foreign = {f"other.{key}": value for key, value in build(other.model, seed=0).state_dict().items()}
    save_checkpoint(tmp_path / "other.pt", foreign, other, {})
    with pytest.raises(TrainingError, match="none of its weights"):
        train_model(tiny_config(data), runs=tmp_path / "runs", weights=tmp_path / "other.pt")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("batch", "steps"), [(4, STEPS), (8, 2)])  # in one piece, and in groups
def test_dry_run_trains_a_step_and_writes_nothing(data: Path, tmp_path: Path, batch: int, steps: int) -> None:
    events = Recorder()
    before = sorted(path.name for path in data.rglob("*"))
    result = train_model(tiny_config(data, batch=batch), runs=tmp_path / "runs", dry_run=True, events=events)
    assert (result.run, result.step, result.total_steps) == (None, 1, 3 * steps)
    assert len(events.steps) == 1
    assert list(tmp_path.iterdir()) == []
    assert sorted(path.name for path in data.rglob("*")) == before


def test_missing_data_folder_hints_at_the_sample_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`data` sample"):
        train_model(tiny_config(tmp_path / "nowhere"), runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_only_ignored_faces_are_an_error(tmp_path: Path) -> None:
    root = draw_set(tmp_path / "data", train=2)
    labels = root / "train" / "labelv2.txt"
    lines = [line for line in labels.read_text().splitlines() if line.startswith("#")]
    labels.write_text("".join(f"{line}\n10 10 30 30 1\n" for line in lines))
    with pytest.raises(DataError, match="has a face that counts"):
        train_model(tiny_config(root), runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_broken_images_are_left_out_and_too_many_are_an_error(tmp_path: Path) -> None:
    root = draw_set(tmp_path / "data")
    (root / "train" / "images" / "drawn" / "train2.png").write_bytes(b"no image")
    config = tiny_config(root, epochs=1)
    with pytest.raises(DataError, match=r"train2\.png"):
        train_model(config, runs=tmp_path / "runs")
    events = Recorder()
    tolerant = replace(config, data=replace(config.data, max_broken=0.2))
    result = train_model(tolerant, runs=tmp_path / "runs", events=events)
    assert result.total_steps == STEPS
    assert any("left out 1 " in note and "train2.png" in note for note in events.notes)


def test_unreadable_validation_images_are_named(tmp_path: Path) -> None:
    """They lower the AP by which the best weights are chosen, so nobody should have to guess."""
    root = draw_set(tmp_path / "data")
    (root / "val" / "images" / "drawn" / "val1.png").write_bytes(b"no image")
    events = Recorder()
    train_model(tiny_config(root, epochs=1), runs=tmp_path / "runs", events=events)
    assert any("val1.png" in note for note in events.notes)


def test_all_images_broken_is_an_error_for_the_user(tmp_path: Path) -> None:
    root = draw_set(tmp_path / "data", train=2)
    for path in (root / "train" / "images").rglob("*.png"):
        path.write_bytes(b"no image")
    config = tiny_config(root, epochs=1)
    with pytest.raises(DataError):
        train_model(replace(config, data=replace(config.data, max_broken=1.0)), runs=tmp_path / "runs")


def test_name_that_is_taken_is_refused(data: Path, tmp_path: Path) -> None:
    config = tiny_config(data, epochs=1)
    run = train(config, tmp_path, name="mine")
    content = run.last.read_bytes()
    with pytest.raises(UsageError, match="`resume` mine"):
        train_model(config, runs=tmp_path, name="mine")
    assert run.last.read_bytes() == content
