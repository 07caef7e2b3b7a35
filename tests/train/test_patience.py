"""`train.patience`: a run ends after so many validations that brought nothing better, and goes on as it would have."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from train_runs import STEPS, Crash, Recorder, assert_same_file, crash_at, tiny_config, train

from facetrain.config.load import config_to_yaml
from facetrain.core.run_dir import RunDir
from facetrain.train import training
from facetrain.train.loop import train_model
from facetrain.train.run.metrics import read_metrics
from facetrain.train.validation import ValidationResult

APS = (0.1, 0.3, 0.2, 0.3, 0.4, 0.4, 0.2, 0.1, 0.9)


@pytest.fixture
def validated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Validations have the APs of `APS`, by their epoch; which were made is remembered."""
    made: list[int] = []

    def by_epoch(self: training.Training, *rest: Any) -> None:
        epoch = self.state.epoch
        made.append(epoch)

        def fake(*arguments: Any) -> ValidationResult:
            return ValidationResult(APS[epoch], {}, 3, 0, [])

        monkeypatch.setattr(training, "validate", fake)
        original(self, *rest)

    original = training.Training.validate
    monkeypatch.setattr(training.Training, "validate", by_epoch)
    return made


def test_run_ends_where_nothing_better_came(data: Path, tmp_path: Path, validated: list[int]) -> None:
    events = Recorder()
    result = train_model(tiny_config(data, epochs=9, patience=2), runs=tmp_path, events=events)
    assert validated == [0, 1, 2, 3]
    assert result.gave_up
    assert not result.interrupted
    assert (result.best_ap, result.best_epoch, result.step) == (0.3, 2, 4 * STEPS)
    assert result.total_steps == 9 * STEPS
    assert any("the end after epoch 4: 2 validations in a row brought nothing" in note for note in events.notes)


@pytest.mark.parametrize(("patience", "epochs"), [(3, 8), (4, 9), (None, 9)])
def test_a_better_one_begins_the_count_anew(
    data: Path, tmp_path: Path, validated: list[int], patience: int | None, epochs: int
) -> None:
    result = train_model(tiny_config(data, epochs=9, patience=patience), runs=tmp_path)
    assert validated == list(range(epochs))
    assert result.gave_up is (epochs < 9)


def test_count_outlives_a_crash(data: Path, tmp_path: Path, validated: list[int]) -> None:
    config = tiny_config(data, epochs=9, patience=2)
    whole = train(config, tmp_path / "whole")
    with pytest.raises(Crash):
        train_model(config, runs=tmp_path / "broken", events=crash_at(3 * STEPS + 2))  # one has failed by then
    run = RunDir(tmp_path / "broken" / "run-1")
    result = train_model(resume=run)
    assert result.gave_up
    assert_same_file(run.last, whole.last)
    assert_same_file(run.best, whole.best)


def test_run_that_gave_up_stays_so_until_it_may_wait_longer(data: Path, tmp_path: Path, validated: list[int]) -> None:
    config = tiny_config(data, epochs=9, patience=2)
    run = train(config, tmp_path)
    assert train_model(resume=run).step == 4 * STEPS
    run.config.write_text(config_to_yaml(replace(config, train=replace(config.train, patience=3))))
    result = train_model(resume=run)
    assert (result.step, result.best_ap, result.gave_up) == (8 * STEPS, 0.4, True)
    lines = [line["step"] for line in read_metrics(run.metrics) if line["kind"] == "val"]
    assert lines == [epoch * STEPS for epoch in range(1, 9)]


def test_without_validation_images_it_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    from train_runs import draw_set

    folder = tmp_path_factory.mktemp("no_val")
    events = Recorder()
    result = train_model(tiny_config(draw_set(folder / "data", val=0), patience=1), runs=folder, events=events)
    assert not result.gave_up
    assert any(note.startswith("train.patience has no effect") for note in events.notes)
