"""What the command hands to the processes that train: everything resolved, nothing to be read again."""

import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from train_runs import STEPS, tiny_config

from facetrain.cli.app import run_cli
from facetrain.cli.commands.train import Order, train
from facetrain.config.load import config_to_yaml, load_config
from facetrain.core.run_dir import RunDir
from facetrain.train.parallel import launch
from facetrain.train.parallel.launch import Work, run_workers


@pytest.fixture
def file(data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(config_to_yaml(tiny_config(data, epochs=7)))
    return path


def arguments(file: Path) -> list[str]:
    runs = str(file.parent / "runs")
    return ["train", str(file), "--gpus", "cpu,cpu", "--epochs", "1", "--runs", runs, "--json"]


def test_an_order_is_whole_and_travels(
    data: Path, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    orders: list[Order] = []

    def keep(devices: Sequence[str], work: Work, arguments: Mapping[str, Any]) -> int:
        assert (list(devices), work) == (["cpu", "cpu"], train)
        orders.append(pickle.loads(pickle.dumps(arguments["order"])))
        return 0

    monkeypatch.setattr(launch, "run_workers", keep)
    assert run_cli(arguments(file)) == 0
    file.unlink()
    [order] = orders
    assert order.config == tiny_config(data, epochs=1)
    assert train(replace(order, devices=("cpu",))) == 0
    assert json.loads(capsys.readouterr().out)["step"] == STEPS
    # and the run that this made, to go on with
    assert run_cli(["train", "--resume", "--gpus", "cpu,cpu", "--runs", str(file.parent / "runs")]) == 0
    assert (orders[1].config, orders[1].resume) == (None, RunDir(file.parent / "runs" / "tiny-1"))


@pytest.mark.slow
def test_workers_do_not_read_the_configuration(data: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(devices: Sequence[str], work: Work, arguments: Mapping[str, Any]) -> int:
        file.write_text("train: [")
        return run_workers(devices, work, arguments)

    monkeypatch.setattr(launch, "run_workers", spoil)
    assert run_cli(arguments(file)) == 0
    run = RunDir(file.parent / "runs" / "tiny-1")
    assert load_config(run.config) == tiny_config(data, epochs=1)
