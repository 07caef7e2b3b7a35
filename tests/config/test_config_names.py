"""Names of tables: those that the tables have, read without loading them; and what a wrong name is told."""

import ast
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass, replace
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest

import facetrain
from facetrain.config.check import check_config
from facetrain.config.load import load_config, preset_names, preset_text
from facetrain.config.names import _written, names_at
from facetrain.config.schema import Config, TrainConfig
from facetrain.core.errors import ConfigError


def named_fields(section, start=""):
    """Every key that is named, and its place."""
    for each in fields(section):
        value = getattr(section, each.name)
        if is_dataclass(value):
            yield from named_fields(value, f"{start}{each.name}.")
        elif "names" in each.metadata:
            yield f"{start}{each.name}", each.metadata["names"]


NAMED = dict(named_fields(Config()))


def table_at(place):
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def test_nothing_of_the_configuration_is_left_over():
    """Every function and class of config/ is used somewhere in the package."""
    package = Path(facetrain.__file__).parent
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in package.rglob("*.py")}
    imports = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    taken = {(node.module, alias.name) for node in imports for alias in node.names}
    left_over = []
    for path, tree in trees.items():
        here = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        for node in tree.body if path.parent.name == "config" else ():
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name not in here:
                left_over += {(f"facetrain.config.{path.stem}", node.name)} - taken
    assert ("facetrain.config.load", "load_config") in taken
    assert left_over == []


def test_the_walk_sees_them():
    assert NAMED["train.loss.box"] == "facetrain.train.losses:BOX_LOSSES"
    assert NAMED["train.assign.name"] == "facetrain.train.assign:ASSIGNERS"


@pytest.mark.parametrize("key", NAMED)
def test_the_source_says_what_the_loaded_table_has(key):
    """None would mean that every start of the command loads torch to ask it."""
    module, _, name = NAMED[key].partition(":")
    assert _written(module, name) == names_at(NAMED[key]) == tuple(table_at(NAMED[key]))


@pytest.mark.parametrize("key", NAMED)
def test_every_name_is_taken_and_another_one_is_told_the_nearest(key, tmp_path):
    names = tuple(table_at(NAMED[key]))
    for name in names:
        assert attrgetter(key)(load_config("yunet_n", [f"{key}={name}"])) == name
    wrong = f"{names[0]}{names[0][-1]}"
    *sections, last = key.split(".")
    lines = [f"{'  ' * depth}{section}:" for depth, section in enumerate(sections)]
    file = tmp_path / "my.yaml"
    file.write_text("\n".join([*lines, f"{'  ' * len(sections)}{last}: {wrong}"]))
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert caught.value.message == f"{file}:{len(lines) + 1}:{2 * len(sections) + 1}: {key}: there is no '{wrong}'"
    assert caught.value.hint == f"did you mean '{names[0]}'? there are: {', '.join(sorted(names))}"


def test_capitals_still_find_the_nearest():
    [violation] = check_config(replace(Config(), train=TrainConfig(optimizer="SGD")))
    assert violation.text == "train.optimizer: there is no 'SGD'"
    assert violation.hint == "did you mean 'sgd'? there are: adamw, muon, sgd"


@pytest.mark.parametrize("preset", preset_names())
@pytest.mark.parametrize("key", NAMED)
def test_presets_tell_the_names_there_are(key, preset):
    section, _, name = key.rpartition(".")
    lines = [line for line in preset_text(preset).splitlines() if line.strip().startswith(f"{name}:")]
    wanted = sorted(names_at(NAMED[key]))
    told = [sorted(set(re.findall(r"\w+", line.partition("#")[2])) & set(wanted)) for line in lines]
    assert wanted in told, f"{section}: {name}"


def test_a_configuration_is_checked_without_torch():
    """Neither are the modules loaded whose names are read."""
    code = (
        "import sys\n"
        "from facetrain.config.load import load_config\n"
        "load_config('yunet_n', ['train.loss.box=giou', 'train.optimizer=muon'])\n"
        "print([name for name in sys.modules if name == 'torch' or name.startswith('facetrain.train.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['facetrain.train.optim']\n"  # a folder, which holds a sentence


def test_a_loaded_table_is_read_as_it_is_now(monkeypatch):
    place = NAMED["train.loss.box"]
    monkeypatch.setitem(table_at(place), "mine", None)
    assert "mine" in names_at(place)


@pytest.mark.parametrize(
    "source",
    [
        'TABLE = {"a": 1, "b": 2}',
        'TABLE: dict[str, int] = {"a": 1, "b": 2}',
        'OTHER = {"c": 3}\ndef f():\n    TABLE = {"d": 4}\nTABLE = {"a": 1, "b": 2}',
        "TABLE = dict(a=1, b=2)",
        'TABLE = {"a": 1} | {"b": 2}',
        'TABLE = {**{"a": 1}, "b": 2}',
    ],
)
def test_what_the_source_does_not_say_is_asked_of_the_module(source, tmp_path, monkeypatch):
    name = f"table_of_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert names_at(f"{name}:TABLE") == ("a", "b")
    assert (name in sys.modules) == (_written(name, "TABLE") is None)
