"""`facetrain init` writes a model file, once."""

import json
from pathlib import Path

import pytest

from facetrain.cli.app import run_cli
from facetrain.config.load import load_config, preset_text, recipe_text
from facetrain.data.sample_set.make import write_sample


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_without_images_it_is_the_preset_in_this_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["init"]) == 0
    assert Path("yunet_n.yaml").read_text() == preset_text("yunet_n")
    assert "facetrain train yunet_n.yaml --data FOLDER" in capsys.readouterr().out


def test_beside_the_images_fitted_to_them(capsys: pytest.CaptureFixture[str]) -> None:
    write_sample(Path("my faces"), train=4, val=2)
    assert run_cli(["init", "yunet_s.yaml", "--data", "my faces"]) == 0
    out, err = capsys.readouterr()
    assert load_config("my faces/yunet_s.yaml").data.root == "my faces"
    assert "facetrain train 'my faces/yunet_s.yaml' --weights yunet_s" in out
    assert "landmarks: right_eye" in err
    assert run_cli(["train", "my faces/yunet_s.yaml", "--dry-run", "--set", "data.size=64", "--batch", "2"]) == 0


def test_nothing_is_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    Path("yunet_n.yaml").write_text("mine")
    assert run_cli(["init"]) == 2
    assert "is there already, and nothing is replaced" in capsys.readouterr().err
    assert Path("yunet_n.yaml").read_text() == "mine"
    Path("dangling.yaml").symlink_to("nowhere.yaml")
    assert run_cli(["init", "-o", "dangling.yaml"]) == 2
    assert not Path("nowhere.yaml").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["yunet_x"], 2, "yunet_x: no such preset"),
        (["quick"], 2, "quick: no such preset"),
        (["--data", "nowhere"], 2, "--data nowhere: no such folder"),
        (["--print", "-o", "x.yaml"], 2, "exclude each other"),
        (["quick", "--print", "--data", "."], 2, "does not go with the recipe quick"),
        (["--data", "."], 2, "cannot find the train labels"),
    ],
)
def test_what_cannot_be(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str) -> None:
    assert run_cli(["init", *arguments]) == code
    assert said in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_listing_and_printing_write_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["init", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("yunet_n", "yunet_s", "quick", "distil", "sample"))
    assert run_cli(["init", "quick", "--print"]) == 0
    assert capsys.readouterr().out.strip() == recipe_text("quick").strip()
    assert run_cli(["init", "yunet_s", "--print", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == preset_text("yunet_s")
    assert list(Path().iterdir()) == []


def test_the_drawn_set_needs_no_look(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["init", "--data", "sample"]) == 0
    assert load_config("yunet_n.yaml").data.root == "sample"
