"""What `--help` shows: words for values and none for flags, examples that work, all of it within 80 columns."""

import re
import shlex

import pytest
from cli.commands_there import COMMANDS, GROUPS, parameters_of
from typer.main import get_command

from facetrain.cli.app import build_app, run_cli


@pytest.fixture
def read(capsys, monkeypatch):
    """The help of a command in a terminal of 80 columns."""

    def help_of(command):
        monkeypatch.setenv("COLUMNS", "80")
        assert run_cli([*command.split(), "--help"]) == 0
        return capsys.readouterr().out

    return help_of


@pytest.mark.parametrize("command", ["", *GROUPS, *COMMANDS])
def test_help_shows_examples_with_their_lines_kept(read, command):
    out = read(command)
    assert max(map(len, out.splitlines())) <= 80
    examples = out.partition("\n Examples:\n")[2].splitlines()
    assert 2 <= len(examples) <= 4
    assert all(line.startswith(f"   facetrain {command}".rstrip()) for line in examples)


@pytest.mark.parametrize("command", ["", *GROUPS, *COMMANDS])
def test_examples_can_be_typed(read, command):
    for example in read(command).partition("\n Examples:\n")[2].splitlines():
        program, *words = shlex.split(example.partition(" > ")[0])
        assert program == "facetrain"
        below = get_command(build_app())
        while words and (found := getattr(below, "commands", {}).get(words[0])) is not None:
            below = found
            words = words[1:]
        below.make_context("facetrain", words)  # options that are there, with values of their types


@pytest.mark.parametrize("command", ["", *GROUPS, *COMMANDS])
def test_flags_show_no_type_and_values_a_word(read, command):
    out = read(command)
    assert not re.search(r"<(bool|str|int|float|path|list)", out)
    assert "[default: None]" not in out
    for parameter in parameters_of(command):
        if parameter.param_type_name == "option" and not parameter.is_flag:
            assert parameter.metavar not in (None, "", "TEXT"), parameter.opts


def test_usage_shows_which_words_may_be_missing(read):
    assert "Usage: facetrain init [OPTIONS] [PRESET] " in read("init")
    assert "Usage: facetrain detect [OPTIONS] SOURCE... " in read("detect")
    assert "Usage: facetrain weights [OPTIONS] [get] [NAME] " in read("weights")
    assert "Usage: facetrain data convert [OPTIONS] SOURCE " in read("data convert")
