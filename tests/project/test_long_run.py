"""The long trainings' script: what it starts, what it keeps, and that what it makes names no place."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from facetrain.config.load import load_config
from facetrain.config.schema import Config, ModelConfig
from facetrain.detect import bundled
from facetrain.detect.detector import FaceDetector
from facetrain.model.weights import load_checkpoint, save_checkpoint
from facetrain.model.yunet import build

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "tests" / "benchmarks"
PLACE = re.compile(rb"/(home|root|tmp|Users|var|mnt)/")  # what an absolute path begins with
AP = {"easy": 0.845, "medium": 0.8261, "hard": 0.7299}


@pytest.fixture
def long_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script, keeping and installing in folders of the test's own."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    sys.modules.pop("long_run", None)
    import long_run

    monkeypatch.setattr(long_run, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(long_run, "RECIPES", tmp_path / "recipes.jsonl")
    monkeypatch.setattr(long_run, "ROOT", tmp_path)
    monkeypatch.setattr(bundled, "FOLDER", tmp_path / "weights")
    monkeypatch.setenv("FACETRAIN_REFERENCE", str(tmp_path / "reference data"))
    for name in ("kept", "weights", "reference data/reference/yunet"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "reference data" / "reference" / "yunet" / "yunet_n.pth").write_bytes(b"the teacher's file")
    module: ModuleType = long_run
    return module


def checkpoint(path: Path, network: str = "yunet_n") -> Path:
    places = ["data.root=/a/place", "data.roots=[{root: /a/place}, {root: /a/place/b, share: 0.3}]"]
    config = load_config(network, ["train.teacher=/a/place/w.pth", *places], "distil")
    save_checkpoint(path, build(config.model, 0).state_dict(), config, {})
    return path


def test_a_stage_is_an_ordinary_training(long_run: ModuleType, tmp_path: Path) -> None:
    place = long_run.Place(tmp_path / "work", "yunet_n")
    line = long_run.command(Path("python"), place, 0, 90.0)
    assert line[:7] == ["nice", "-n", "19", "python", "-m", "facetrain", "train"]
    assert "--weights" not in line  # nothing is bundled or kept here
    assert line[line.index("--for") + 1] == "90.0m"
    settings = [line[i + 1] for i, word in enumerate(line) if word == "--set"]
    load_config("yunet_n", [*settings, "train.teacher=t"], "distil")  # every stage's settings are settings
    for network, stages in long_run.PLAN.items():
        for stage in stages:
            load_config(network, [*(f"{k}={v}" for k, v in stage.settings.items()), "train.teacher=t"], "distil")
    wide = long_run.PLAN["yunet_n"].index(long_run.WIDE)
    line = long_run.command(Path("python"), place, wide, 90.0)
    named = [Path(line[i + 1]).name for i, word in enumerate(line) if word == "--data"]
    assert named == ["widerface", "extra:0.3"]
    (place.run(0)).mkdir(parents=True)
    (place.run(0) / "last.pt").touch()
    again = long_run.command(Path("python"), place, 0, 90.0)
    assert "--resume" in again
    assert "--for" not in again
    checkpoint(place.run(0) / "best.pt")
    following = long_run.command(Path("python"), place, 1, None)
    assert following[following.index("--weights") + 1] == str(place.run(0) / "best.pt")


def test_a_later_machine_goes_on_from_what_was_kept(long_run: ModuleType, tmp_path: Path) -> None:
    info = {"ap": AP, "stages_done": 2, "settings": {"teacher": "reference/yunet/yunet_n.pth"}}
    long_run.keep(checkpoint(tmp_path / "best.pt"), "yunet_n", info)
    place = long_run.Place(tmp_path / "work", "yunet_n")
    assert place.state()["stage"] == 2
    line = long_run.command(Path("python"), place, 2, None)
    assert line[line.index("--weights") + 1] == str(tmp_path / "kept" / "yunet_n.pt")


def test_what_a_card_made_is_measured_and_kept_where_it_is_better(
    long_run: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(long_run, "measure", lambda weights: AP)
    config = load_config("yunet_n", ["train.teacher=/a/place/w.pth"], "distil")
    save_checkpoint(tmp_path / "yunet_n.pt", build(config.model, 0).state_dict(), config, {"step": 500})
    for _ in range(2):
        with pytest.raises(SystemExit) as ended:
            long_run.main(["status", "--gpu", "--output", str(tmp_path)])
        assert ended.value.code == 0
    first, _, second, _ = capsys.readouterr().out.splitlines()
    assert first.endswith(": kept") and second.endswith(": not kept")
    kept = long_run.kept_info("yunet_n")
    assert (kept["ap"], kept["crops"], kept["stages_done"]) == (AP, 500 * config.train.batch, 0)
    assert len((tmp_path / "recipes.jsonl").read_text().splitlines()) == 2


def test_what_is_better_becomes_bundled_without_any_path(
    long_run: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info: dict[str, Any] = {
        "network": "yunet_n", "stage": "teacher alone", "seed": 0, "processor_s": 5400.0, "crops": 250_000, "ap": AP,
        "settings": {"teacher": "reference/yunet/yunet_n.pth", "data": "widerface"},
    }  # fmt: skip
    long_run.keep(checkpoint(tmp_path / "best.pt"), "yunet_n", info)
    row = "| yunet_n | yunet | 320x320 | 73,840 | 3.38 (3.46) ± 1% | 131 | {} | {} | {} |\n"
    sizes = "| yunet_n | yunet | 320x320 | 73,840 | 1.4 | 135.6 | 271 | 312 |\n"
    other = "| yunet_n_dynamic.onnx | yunet | 0.909 | 0.888 | 0.799 |\n"
    released = "| released YuNet-n, 640 epochs | 0.909 | 0.888 | 0.799 |\n"
    table = "| yunet_n | comes along | 73,840 | {} | {} | {} |\n"
    (tmp_path / "README.md").write_text("before\n" + table.format("0.794", "0.750 [.7, .8]", "0.618"))
    (tmp_path / "examples").mkdir()
    page = tmp_path / "examples/compare.md"
    page.write_text(sizes + row.format("0.794", "0.750", "0.618") + other + released)
    monkeypatch.setattr(long_run, "measure", lambda path: pytest.fail("nothing was bundled"))
    cells = "0.845 [.7, .9] | 0.826 [.7, .9] | 0.730 [.7, .9]"
    monkeypatch.setattr(long_run, "table_cells", lambda path: cells)
    long_run.install()
    assert (tmp_path / "README.md").read_text() == "before\n" + table.format(*cells.split(" | "))
    compared = page.read_text()
    added = f"| bundled `yunet_n` | {cells} |\n"
    assert compared == sizes + row.format(*cells.split(" | ")) + other + added + released
    again = long_run.with_row(compared, "yunet_n", "0.900 | 0.800 | 0.700")
    assert again.count("| bundled `yunet_n` | 0.900 | 0.800 | 0.700 |") == 1
    assert "0.845" not in again
    weights = tmp_path / "weights"
    for name in ("yunet_n.pt", "yunet_n.onnx", "yunet_n.md"):
        content = (weights / name).read_bytes()
        assert b"/a/place" not in content
        assert str(tmp_path).encode() not in content
    loaded = load_checkpoint(weights / "yunet_n.pt")
    assert loaded.config is not None
    assert (loaded.config.train.teacher, loaded.config.train.plan, loaded.config.data.root) == (
        None, None, Config().data.root,
    )  # fmt: skip
    assert len(loaded.info["teacher_sha256"]) == 64
    assert b".pth" not in (weights / "yunet_n.pt").read_bytes()
    assert torch.equal(
        loaded.state["backbone.stem.conv.bias"], build(loaded.model, 0).state_dict()["backbone.stem.conv.bias"]
    )
    assert FaceDetector(weights / "yunet_n.onnx") is not None
    card = (weights / "yunet_n.md").read_text(encoding="utf-8")
    assert f"| these weights | {cells} |" in card
    assert "250,000 crops in 1.5 processor hours" in " ".join(card.split())
    monkeypatch.setattr(long_run, "measure", lambda path: {"easy": 0.9, "medium": 0.9, "hard": 0.8})
    assert not (tmp_path / "kept" / "yunet_n.pt").exists()
    long_run.keep(tmp_path / "best.pt", "yunet_n", info)
    before = (weights / "yunet_n.pt").read_bytes()
    long_run.install()  # the bundled ones are better now
    assert (weights / "yunet_n.pt").read_bytes() == before


def test_the_recorded_lines_hold_no_place() -> None:
    for text in (BENCHMARKS / "recipes.jsonl").read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        assert line["kind"] in ("recipe", "long run", "groups")
        assert set(line["ap"]) == {"easy", "medium", "hard"}
        assert not {"path", "host", "machine"} & set(line)
        assert not PLACE.search(text.encode())
        assert '"/' not in text


def test_kept_weights_hold_no_place() -> None:
    for path in (BENCHMARKS / "long_run").glob("*.pt"):
        loaded = load_checkpoint(path)
        assert isinstance(loaded.model, ModelConfig)
        assert loaded.config is not None
        assert loaded.config.train.teacher is None
        assert loaded.config.data.root == Config().data.root
        assert not PLACE.search(path.read_bytes())
