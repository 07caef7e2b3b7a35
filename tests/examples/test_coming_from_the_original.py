"""examples/coming_from_the_original.md: its values, options and numbers, and its commands with the released weights."""

import json
import re
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import torch
from pages import ROOT, blocks, options_of, run, table

from facetrain.cli.app import run_cli
from facetrain.config.load import load_config

PAGE = ROOT / "examples/coming_from_the_original.md"
AP = re.compile(r"AP +easy +medium +hard\s+([\d.]+) +([\d.]+) +([\d.]+)")


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.fixture
def home(shared: Path, tmp_path: Path) -> Path:
    """A folder as the original's checkout has it, of links into the reference folder."""
    for place, target in (
        ("weights", "reference/yunet"),
        ("onnx", "reference/yunet"),
        ("data/widerface", "widerface"),
        ("image.jpg", "reference/images/family.jpg"),
    ):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).symlink_to(shared / target)
    return tmp_path


def test_the_values_are_those_of_the_presets() -> None:
    config = load_config("yunet_n")
    rows = table(PAGE, "YAML")
    assert len(rows) > 20
    for _, keys, value in rows:
        wanted: Any = attrgetter(words(keys)[0])(config)
        assert value == (wanted if isinstance(wanted, str) else json.dumps(wanted)), keys
    small = load_config("yunet_s").data.crop_scales
    assert ", ".join(map(str, small)) in PAGE.read_text(encoding="utf-8")


def test_the_commands_and_options_exist() -> None:
    every = {option for name in ("train", "detect", "eval", "export-onnx", "compare") for option in options_of(name)}
    for *_, here in table(PAGE, "here"):
        for word in words(here):
            found = re.findall(r"(?:^| )(--[a-z-]+)", word)
            if word.startswith("facetrain "):
                assert set(found) <= options_of(word.split()[1]), word
            else:
                assert set(found) <= every, word
            for setting in re.findall(r"--set (\S+)", word):
                load_config("yunet_n", [setting])


def test_the_numbers_are_the_measured_ones(shared: Path) -> None:
    expected = json.loads((shared / "reference/expected.json").read_text())
    rows = table(PAGE, "published, 3,226 images")
    for (_, published, here), name in zip(rows, ("n", "s"), strict=True):
        assert numbers(published) == expected["published"]["models"][f"YuNet_{name}"]["original"]
        measured = expected["widerface_val_part"]["models"][f"yunet_{name}"]["original"]
        assert numbers(here) == pytest.approx(measured, abs=0.0006)


def numbers(cell: str) -> list[float]:
    return [float(word) for word in cell.split()]


@pytest.mark.parametrize("wrap", ["mmcv", "rewrite", "module"])
def test_checkpoints_of_both_versions_are_read(
    home: Path, wrap: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = torch.load(home / "weights/yunet_s.pth", weights_only=True)
    document: dict[str, Any] = {
        "mmcv": {"meta": {"epoch": 560}, "state_dict": state, "optimizer": {"state": {}, "param_groups": []}},
        "rewrite": {"epoch": 3, "state_dict": state, "config": {"variant": "yunet_s"}, "metrics": {"loss": 1.5}},
        "module": {f"module.{name}": value for name, value in state.items()},
    }[wrap]
    monkeypatch.chdir(home)
    torch.save(document, "own.pth")
    assert run_cli(["info", "own.pth"]) == 0
    assert "54,608" in capsys.readouterr().out
    assert run_cli(["detect", "image.jpg", "--weights", "own.pth", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["images"][0]["faces"]) == 5


@pytest.mark.slow
def test_the_blocks_run(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path_factory: Any
) -> None:
    monkeypatch.setenv("FACETRAIN_CACHE", str(tmp_path_factory.mktemp("cache")))
    for block in blocks(PAGE):
        if block.mark == "reference":
            run(block, home, monkeypatch)
    found = AP.findall(capsys.readouterr().out)
    wanted = [numbers(row[2]) for row in table(PAGE, "published, 3,226 images")]
    for ap, expected in zip(found, wanted, strict=True):
        assert [float(value) for value in ap] == pytest.approx(expected, abs=0.0006)
    assert (home / "yunet_n_dynamic.onnx").is_file()
    assert (home / "work_dirs/cpp/facedetectcnn-data.cpp").is_file()
