"""A key that is new by its line in the schema: read, checked, written, told."""

import json
from dataclasses import dataclass

import pytest

from facetrain.cli.app import run_cli
from facetrain.config import load
from facetrain.config.check import check_config
from facetrain.config.load import config_from_dict, config_to_dict, config_to_yaml, load_config
from facetrain.config.schema import Config, TrainConfig, key
from facetrain.core.errors import ConfigError


@dataclass(frozen=True)
class Train(TrainConfig):
    """The optimisation recipe, and one key more."""

    label_smoothing: float = key(0.1, "how far scores stay from 0 and 1", "[0, 0.5)")


@dataclass(frozen=True)
class Wider(Config):
    """A configuration with that key."""

    train: Train = Train()


@pytest.fixture(autouse=True)
def wider(monkeypatch):
    monkeypatch.setattr(load, "Config", Wider)


def test_a_file_and_set_give_it(tmp_path):
    file = tmp_path / "my.yaml"
    file.write_text("train: {label_smoothing: 0.2}")
    assert load_config("yunet_n").train.label_smoothing == 0.1
    assert load_config(file).train.label_smoothing == 0.2
    assert load_config(file, ["train.label_smoothing=0.3"]).train.label_smoothing == 0.3


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            "label_smoothing: 0.5",
            "train.label_smoothing: must be at least 0 and below 0.5, not 0.5",
            "the default is 0.1",
        ),
        ("label_smoothing: a", 'train.label_smoothing: must be a number, not "a"', None),
        ("label_smothing: 0", "unknown key 'train.label_smothing'", "did you mean 'train.label_smoothing'?"),
    ],
)
def test_it_is_checked(tmp_path, text, message, hint):
    file = tmp_path / "my.yaml"
    file.write_text(f"train:\n  {text}")
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert (caught.value.message, caught.value.hint) == (f"{file}:2:3: {message}", hint)


def test_a_configuration_made_in_python_is_checked():
    [violation] = check_config(Wider(train=Train(label_smoothing=-1.0)))
    assert violation.text == "train.label_smoothing: must be at least 0 and below 0.5, not -1.0"


def test_it_is_written_with_its_comment_and_read_back(tmp_path):
    config = load_config("yunet_n", ["train.label_smoothing=0.3"])
    text = config_to_yaml(config)
    assert "\n  label_smoothing: 0.3       # how far scores stay from 0 and 1\n" in text
    (tmp_path / "config.yaml").write_text(text)
    assert load_config(tmp_path / "config.yaml") == config == config_from_dict(config_to_dict(config), "last.pt")


def test_info_shows_it(capsys):
    assert run_cli(["info", "yunet_s", "--yaml"]) == 0
    assert "\n  label_smoothing: 0.1       # how far scores stay from 0 and 1\n" in capsys.readouterr().out
    assert run_cli(["info", "yunet_s", "--yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["train"]["label_smoothing"] == 0.1
