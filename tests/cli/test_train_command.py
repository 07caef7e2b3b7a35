"""`facetrain train` on wrong calls: each a clear error, exit code 2, nothing begun."""

from pathlib import Path

import pytest

from facetrain.cli.app import run_cli


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["yunet_n", "--gpus", "0,0"], "--gpus 0,0: several processes need a GPU each"),
        (["yunet_n", "--gpus", "cpu,0"], "--gpus cpu,0"),
        (["yunet_n", "--gpus", "mps,mps"], "such as 0,1 or cpu,cpu"),
        (["yunet_m", "--gpus", "cpu,cpu"], "yunet_n"),
        (["yunet_n", "--max-time", "soon"], "--max-time soon: not a time"),
        (["yunet_n", "--max-time", "-3"], "not a time"),
        ([], "no CONFIG given"),
        (["yunet_m"], "yunet_n"),
        (["yunet_n", "--recipe", "quik"], "quick"),
        (["yunet_n", "--set", "train.epoch=3"], "train.epochs"),
        (["yunet_n", "--data", "nowhere"], "--data sample"),
        (["yunet_n", "--gpus", "tpu"], "unknown device 'tpu'"),
        (["--resume"], "no run to resume"),
        (["--resume", "nosuch"], "no run to resume here"),
        (["nosuch", "--resume", "--epochs", "3"], "--resume continues a run with its own settings"),
        (["yunet_n", "--epochs", "0"], "train.epochs"),
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
    assert "best.pt: neither a file nor bundled weights" in capsys.readouterr().err
