"""Runs that are broken off, at any point, and go on as if nothing had been."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from train_runs import (
    STEPS,
    Crash,
    Recorder,
    assert_same,
    assert_same_run,
    crash_at,
    ctrl_c_at,
    draw_set,
    numbers,
    start,
    tiny_config,
    train,
    wait_for_step,
)

from facetrain.config.load import config_to_yaml
from facetrain.core.errors import DataError, FacetrainError, InputError
from facetrain.core.run_dir import RunDir
from facetrain.model.safe_file import read_tensors
from facetrain.train import training
from facetrain.train.loop import train_model
from facetrain.train.run.metrics import read_metrics

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("number", [1, 4, 5, 6, 8])
def test_run_continues_after_a_crash_as_if_nothing_had_been(
    data: Path, tmp_path: Path, unbroken: Callable[..., RunDir], number: int
) -> None:
    """The steps since the last save are done again; the first save is made before the first step."""
    with pytest.raises(Crash):
        train_model(tiny_config(data), runs=tmp_path, events=crash_at(number))
    run = RunDir(tmp_path / "run-1")
    steps = [line["step"] for line in read_metrics(run.metrics) if line["kind"] == "train"]
    assert steps == list(range(1, number + 1))  # the killed run had written more lines than it had saved steps
    events = Recorder()
    result = train_model(resume=run, events=events)
    assert events.steps[0].step == (number - 1) // STEPS * STEPS + 1
    assert (result.run, result.step) == (run, 3 * STEPS)
    assert_same_run(run, unbroken())
    assert numbers(run) == numbers(unbroken())


def test_run_continues_from_a_save_within_an_epoch(
    data: Path, tmp_path: Path, unbroken: Callable[..., RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_SAVE_EVERY_S", 0.0)  # after every step
    with pytest.raises(Crash):
        train_model(tiny_config(data), runs=tmp_path, events=crash_at(6))
    run, events = RunDir(tmp_path / "run-1"), Recorder()
    train_model(resume=run, events=events)
    assert events.steps[0].step == 6
    assert_same_run(run, unbroken())
    assert numbers(run) == numbers(unbroken())


def test_crash_after_a_validation_writes_no_line_twice(
    data: Path, tmp_path: Path, unbroken: Callable[..., RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of the epoch's last step may be saved before its validation, which is then done again."""
    monkeypatch.setattr(training, "_SAVE_EVERY_S", 0.0)

    class Crashing(Recorder):
        def note(self, text: str) -> None:
            if text.startswith("epoch 2: AP"):
                raise Crash

    with pytest.raises(Crash):
        train_model(tiny_config(data), runs=tmp_path, events=Crashing())
    run = RunDir(tmp_path / "run-1")
    train_model(resume=run)
    assert numbers(run) == numbers(unbroken())
    assert_same_run(run, unbroken())


@pytest.mark.parametrize("images", [6, 18])
def test_resuming_on_other_data_is_refused(tmp_path: Path, images: int) -> None:
    """With another number of images the steps of an epoch are others, and the saved step means another place."""
    root = draw_set(tmp_path / "data")
    with pytest.raises(Crash):
        train_model(tiny_config(root), runs=tmp_path / "runs", events=crash_at(8))
    draw_set(root, train=images)
    with pytest.raises(FacetrainError):
        train_model(resume=RunDir(tmp_path / "runs" / "run-1"))


def test_a_state_that_counts_pictures_is_continued(data: Path, tmp_path: Path, unbroken: Callable[..., RunDir]) -> None:
    """As runs were saved before their images were called so."""
    with pytest.raises(Crash):
        train_model(tiny_config(data), runs=tmp_path, events=crash_at(5))
    run = RunDir(tmp_path / "run-1")
    document = read_tensors(run.last)
    document["state"]["pictures"] = document["state"].pop("images")
    torch.save(document, run.last)
    train_model(resume=run)
    assert_same_run(run, unbroken())


def test_averaged_run_continues_bit_by_bit(data: Path, tmp_path: Path, unbroken: Callable[..., RunDir]) -> None:
    with pytest.raises(Crash):
        train_model(tiny_config(data, ema=0.9), runs=tmp_path, events=crash_at(5))
    run = RunDir(tmp_path / "run-1")
    train_model(resume=run)
    assert_same_run(run, unbroken(ema=0.9))
    state = read_tensors(run.last)
    assert not torch.equal(state["ema"]["backbone.stem.conv.weight"], state["model"]["backbone.stem.conv.weight"])
    plain = read_tensors(unbroken().last)
    assert torch.equal(state["model"]["backbone.stem.conv.weight"], plain["model"]["backbone.stem.conv.weight"])


@pytest.mark.parametrize("number", [2, 5])
def test_ctrl_c_saves_the_step_and_stops(
    data: Path, tmp_path: Path, unbroken: Callable[..., RunDir], number: int
) -> None:
    before = signal.getsignal(signal.SIGINT)
    result = train_model(tiny_config(data), runs=tmp_path, events=ctrl_c_at(number))
    assert signal.getsignal(signal.SIGINT) is before
    assert result.interrupted
    assert result.step == number
    assert result.run is not None
    assert read_tensors(result.run.last)["state"]["step"] == number
    resumed = train_model(resume=result.run)
    assert not resumed.interrupted
    assert_same_run(result.run, unbroken())
    assert numbers(result.run) == numbers(unbroken())


@pytest.mark.parametrize("number", [STEPS, 3 * STEPS])
def test_ctrl_c_at_the_end_of_an_epoch_loses_no_validation(
    data: Path, tmp_path: Path, unbroken: Callable[..., RunDir], number: int
) -> None:
    """The validation that was due is made up for on resuming; after the last step there would be no best.pt."""
    result = train_model(tiny_config(data), runs=tmp_path, events=ctrl_c_at(number))
    assert result.run is not None
    train_model(resume=result.run)
    assert numbers(result.run) == numbers(unbroken())
    assert_same_run(result.run, unbroken())


def test_time_limit_saves_validates_and_stops(data: Path, tmp_path: Path, unbroken: Callable[..., RunDir]) -> None:
    result = train_model(tiny_config(data), runs=tmp_path, max_time=1e-9)
    assert (result.step, result.interrupted) == (1, False)
    assert result.run is not None
    assert result.ap is not None
    assert result.run.best.is_file()
    train_model(resume=result.run)
    for name in ("model", "optimizer"):
        assert_same(read_tensors(result.run.last)[name], read_tensors(unbroken().last)[name])


@pytest.mark.parametrize("damage", ["cut", "gone", "empty"])
def test_damaged_last_state_falls_back_to_the_one_before(
    data: Path, tmp_path: Path, unbroken: Callable[..., RunDir], caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    with pytest.raises(Crash):
        train_model(tiny_config(data), runs=tmp_path, events=crash_at(8))
    run = RunDir(tmp_path / "run-1")
    assert read_tensors(run.last)["state"]["step"] == 6
    if damage == "gone":
        run.last.unlink()
    else:
        run.last.write_bytes(run.last.read_bytes()[: 3000 if damage == "cut" else 0])
    events = Recorder()
    train_model(resume=run, events=events)
    assert "last.pt: " in caplog.text
    assert "going on from" in caplog.text
    assert "previous.pt" in caplog.text
    assert events.steps[0].step == 4
    assert_same_run(run, unbroken())
    assert numbers(run) == numbers(unbroken())


def test_damaged_states_are_named(data: Path, tmp_path: Path) -> None:
    run = train(tiny_config(data, epochs=1), tmp_path)
    for path in (run.last, run.previous):
        path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises((DataError, InputError)) as caught:
        train_model(resume=run)
    assert "last.pt" in str(caught.value)


def test_torn_line_of_metrics_is_dropped(data: Path, tmp_path: Path, unbroken: Callable[..., RunDir]) -> None:
    with pytest.raises(Crash):
        train_model(tiny_config(data), runs=tmp_path, events=crash_at(5))
    run = RunDir(tmp_path / "run-1")
    with run.metrics.open("a") as file:
        file.write('{"kind": "train", "st')
    train_model(resume=run)
    assert numbers(run) == numbers(unbroken())


def test_finished_run_resumes_to_nothing(data: Path, tmp_path: Path) -> None:
    run = train(tiny_config(data, epochs=1), tmp_path)
    before = run.best.read_bytes(), numbers(run)
    result = train_model(resume=run)
    assert (result.step, result.total_steps) == (STEPS, STEPS)
    assert (run.best.read_bytes(), numbers(run)) == before


@pytest.mark.slow
def test_killed_processes_leave_a_run_that_continues_bit_by_bit(data: Path, tmp_path: Path) -> None:
    """Ctrl-C first, then resumed as the message says and killed without warning, then resumed to the end."""
    config = tiny_config(data, epochs=8, ema=0.9)
    whole = train(config, tmp_path / "whole", name="r")
    file, run = tmp_path / "tiny.yaml", RunDir(tmp_path / "runs" / "r")
    file.write_text(config_to_yaml(config))

    process = start(str(file), "--runs", str(tmp_path / "runs"), "--name", "r", "--recipe", "none")
    wait_for_step(process, run, STEPS + 2)
    process.send_signal(signal.SIGINT)
    _, conversation = process.communicate(timeout=120)
    assert process.returncode == 130, conversation
    assert f"facetrain train --resume {run.path}" in conversation
    stopped_at = read_tensors(run.last)["state"]["step"]
    assert STEPS + 2 <= stopped_at < 8 * STEPS

    process = start("--resume", str(run.path))
    wait_for_step(process, run, (stopped_at // STEPS + 1) * STEPS + 2)
    process.kill()
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert stopped_at < read_tensors(run.last)["state"]["step"] < 8 * STEPS

    train_model(resume=run)
    assert_same_run(run, whole)
    assert numbers(run) == numbers(whole)
