"""The numbers of a run: lines that survive, a disk that is full, and TensorBoard beside them."""

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from facetrain.core.errors import OutputError
from facetrain.core.run_dir import RunDir
from facetrain.train.run import board
from facetrain.train.run.metrics import MetricsLog, read_metrics

TRAIN = {"epoch": 0, "lr": 0.01, "losses": {"box": 1.5, "total": 2.0}, "positives": 7.0}


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


def test_every_line_is_on_the_disk_at_once(run: RunDir) -> None:
    log = MetricsLog(run, 0, 0)
    for step in (1, 2):
        log.write({"kind": "train", "step": step, **TRAIN})
        assert [line["step"] for line in read_metrics(run.metrics)] == list(range(1, step + 1))
    log.close()


def test_lines_past_the_saved_step_are_cut_off(run: RunDir) -> None:
    log = MetricsLog(run, 0, 0)
    for step in (1, 2, 3, 4):
        log.write({"kind": "train", "step": step, **TRAIN})
    log.write({"kind": "val", "step": 4, "epoch": 0, "ap": 0.5})
    log.close()
    again = MetricsLog(run, 2, 0)
    again.write({"kind": "train", "step": 3, **TRAIN, "lr": 0.5})
    again.close()
    assert [(line["step"], line["lr"]) for line in read_metrics(run.metrics)] == [(1, 0.01), (2, 0.01), (3, 0.5)]


def test_without_a_run_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = MetricsLog(None, 0, 0)
    log.write({"kind": "train", "step": 1, **TRAIN})
    log.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_full_disk_is_told_with_the_way_on(run: RunDir) -> None:
    log = MetricsLog(run, 0, 0)
    assert log.file is not None
    log.file.close()
    log.file = Path("/dev/full").open("ab", buffering=0)  # noqa: SIM115
    with pytest.raises(OutputError, match=r"metrics\.jsonl: cannot be written: No space left") as caught:
        log.write({"kind": "train", "step": 1, **TRAIN})
    assert f"go on with `resume` {run.path}" in str(caught.value.hint)
    log.close()


class Writer:
    """Stands for torch.utils.tensorboard.SummaryWriter."""

    made: list["Writer"] = []  # noqa: RUF012

    def __init__(self, folder: str, purge_step: int) -> None:
        self.folder, self.purge_step = folder, purge_step
        self.scalars: list[tuple[str, float, int]] = []
        self.closed = False
        Writer.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, value, step))

    def close(self) -> None:
        self.closed = True


def test_tensorboard_gets_the_same_numbers(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(board, "find_spec", lambda name: name == "tensorboard")
    Writer.made.clear()
    log = MetricsLog(run, 6, 2)
    log.write({"kind": "train", "step": 7, **TRAIN})
    log.write({"kind": "val", "step": 7, "epoch": 2, "ap": None, "easy": 0.5, "images": 3})
    log.close()
    (writer,) = Writer.made
    assert (writer.folder, writer.purge_step, writer.closed) == (str(run.path / "tensorboard"), 7, True)
    assert set(writer.scalars) == {
        ("train/epoch", 0, 7),
        ("train/lr", 0.01, 7),
        ("train/losses/box", 1.5, 7),
        ("train/losses/total", 2.0, 7),
        ("train/positives", 7.0, 7),
        ("val/epoch", 2, 7),
        ("val/easy", 0.5, 7),
        ("val/images", 3, 7),
    }
    assert json.loads(run.metrics.read_text().splitlines()[0])["lr"] == 0.01


def test_without_tensorboard_there_is_no_board(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "find_spec", lambda name: None)
    assert board.open_board(run, 0) is None
