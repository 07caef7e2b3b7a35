"""`train --or-resume`: one command that begins a run, and goes on with it."""

from pathlib import Path

import pytest
from train_runs import STEPS, assert_same_file, tiny_config, train

from facetrain.cli.app import run_cli
from facetrain.config.load import config_to_yaml
from facetrain.core.run_dir import RunDir
from facetrain.model.safe_file import read_tensors
from facetrain.train import training


@pytest.fixture
def command(data: Path, tmp_path: Path) -> list[str]:
    (tmp_path / "tiny.yaml").write_text(config_to_yaml(tiny_config(data)))
    return [
        "train",
        str(tmp_path / "tiny.yaml"),
        "--runs",
        str(tmp_path),
        "--name",
        "r",
        "--gpus",
        "cpu",
        "--or-resume",
    ]


def test_the_same_command_begins_goes_on_and_finds_the_end(
    command: list[str],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = train(tiny_config(data), tmp_path / "whole")
    run = RunDir(tmp_path / "r")
    run.path.mkdir()
    (run.path / ".last.abc.pt").write_bytes(b"half")  # of a process that was killed before its first save

    broken_off = training.Training.end_epoch

    def dies(self: training.Training, *arguments: object) -> bool:
        broken_off(self, *arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training.Training, "end_epoch", dies)
        assert run_cli(command) == 130
    assert read_tensors(run.last)["state"]["step"] == STEPS
    capsys.readouterr()

    assert run_cli(command) == 0
    assert f"run: {run.path}, going on after step {STEPS}" in capsys.readouterr().err
    assert_same_file(run.last, whole.last)

    saved = run.last.read_bytes()
    assert run_cli(command) == 0
    assert f"finished after step {3 * STEPS}" in capsys.readouterr().err
    assert run.last.read_bytes() == saved


def test_other_settings_than_the_run_has_are_refused(
    command: list[str], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tiny_config(data, epochs=1), tmp_path, name="r")
    assert run_cli([*command, "--set", "train.lr=0.5"]) == 2
    said = capsys.readouterr().err
    assert "has begun with other settings than those of the command" in said
    assert "train.epochs: 1 in the run, 3 in the command" in said
    assert "train.lr: 0.01 in the run, 0.5 in the command" in said
    assert "data.root" not in said
