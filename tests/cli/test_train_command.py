"""`facetrain train` on wrong calls: each a clear error, exit code 2, nothing begun."""

from pathlib import Path

import pytest

from facetrain.cli.app import run_cli
from facetrain.cli.commands.train import _seconds
from facetrain.config.load import preset_names, recipe_names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["yunet_n", "--gpus", "0,0"], "--gpus 0,0: several processes need a GPU each"),
        (["yunet_n", "--gpus", "cpu,0"], "--gpus cpu,0"),
        (["yunet_n", "--gpus", "mps,mps"], "such as 0,1 or cpu,cpu"),
        (["yunet_m", "--gpus", "cpu,cpu"], "yunet_n"),
        (["yunet_n", "--max-time", "soon"], "--max-time soon: not a time"),
        (["yunet_n", "--max-time", "-3"], "not a time"),
        (["yunet_n", "--for", "0"], "--for 0: not a time"),
        (["yunet_n", "--for", "2 hours"], "--for 2 hours: not a time"),
        (["yunet_n", "--for", "-5m"], "not a time"),
        (["yunet_n", "--for", "1e999h"], "not a time"),
        (
            ["yunet_n", "--for", "2h", "--epochs", "3"],
            "--for plans the number of steps itself",
        ),
        (["nosuch", "--resume", "--for", "2h"], "--resume continues a run with its own settings"),
        (["yunet_n", "--recipe", "distil"], "train.label_weight: 0 with no train.teacher leaves nothing"),
        (["yunet_n", "--teacher", "nowhere.pt"], "train.teacher: nowhere.pt: no such file"),
        (["yunet_n", "--teacher", "yunet_n", "--set", "train.teacher_weight=-1"], "teacher_weight: must be at least 0"),
        (["yunet_n", "--teacher", "yunet_n", "--set", "train.teacher_weight=much"], "teacher_weight: must be a number"),
        ([], "no CONFIG given"),
        (["yunet_m"], "yunet_n"),
        (["yunet_n", "--recipe", "quik"], "quick"),
        (["yunet_n", "--set", "train.epoch=3"], "train.epochs"),
        (["yunet_n", "--data", "nowhere"], "--data sample"),
        (["yunet_n", "--gpus", "tpu"], "'tpu' is no device"),
        (["--resume"], "no run to resume"),
        (["--resume", "nosuch"], "no run to resume here"),
        (["nosuch", "--resume", "--epochs", "3"], "--resume continues a run with its own settings"),
        (["yunet_n", "--epochs", "0"], "train.epochs"),
        (["yunet_n", "--data", ".:0.3"], "the shares are 0.3 together, not 1"),
        (["yunet_n", "--data", ".", "--data", ".:0"], "--data .:0: a share must be above 0 and at most 1"),
        (["yunet_n", "--data", ".", "--data", ".:most"], "--data .:most: most is no share"),
        (["yunet_n", "--data", "sample", "--data", "sample:0.5"], "--data sample: the same set as sample"),
        (["yunet_n", "--data", "sample", "--data", "nowhere:0.5"], "nowhere: no such folder"),
        (["yunet_n", "--data", "sample", "--set", "data.roots=[{root: a}]"], "two values for one setting"),
        (["yunet_n", "--val", "1.5"], "data.val: must be above 0 and below 1"),
        (["yunet_n", "--data", "sample", "--or-resume"], "--or-resume needs --name"),
        (["nosuch", "--resume", "--or-resume"], "--resume continues a run with its own settings"),
        (["nosuch", "--resume", "--val", "0.5"], "--resume continues a run with its own settings"),
    ],
)
def test_wrong_calls(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_cli(["train", *arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("1.5m", 90), ("30min", 1800), ("2h", 7200), (" 2 H ", 7200)]
)
def test_times(text: str, seconds: float) -> None:
    assert _seconds("--for", text) == seconds


def test_help_names_every_preset_and_recipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert run_cli(["train", "--help"]) == 0
    said = capsys.readouterr().out
    assert f"a preset: {', '.join(preset_names())}." in said
    recipes = said.partition("Settings over CONFIG: ")[2].partition(", none")[0]
    assert sorted(recipes.split(", ")) == recipe_names()


def test_a_run_of_that_name_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "log.txt").touch()
    assert run_cli(["train", "yunet_n", "--data", "nowhere", "--name", "mine"]) == 2
    said = capsys.readouterr().err
    assert "a run of this name is there already" in said
    assert "--resume mine" in said


def test_weights_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_cli(["train", "yunet_n", "--weights", "best.pt"]) == 2
    assert "best.pt: no such file" in capsys.readouterr().err


def test_runs_and_names_as_weights_and_teachers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kept" / "mine-1").mkdir(parents=True)
    (tmp_path / "kept" / "mine-1" / "best.pt").write_bytes(b"PK")
    for options in (["--weights", "mine-1", "--teacher", "mine-1"], ["--weights", "kept/mine-1"]):
        assert run_cli(["train", "yunet_n", "--data", "nowhere", "--runs", "kept", *options]) == 2
        assert "nowhere" in capsys.readouterr().err  # the weights were found
    assert run_cli(["train", "yunet_n", "--data", "nowhere", "--weights", "mien-1", "--runs", "kept"]) == 2
    assert "did you mean 'mine-1'?" in capsys.readouterr().err
    assert run_cli(["train", "yunet_n", "--data", "nowhere", "--teacher", "yunet_n.onnx"]) == 2
    assert "train.teacher: yunet_n.onnx: no such file" in capsys.readouterr().err
