import errno
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import get_args, get_type_hints

import pytest
import typer
from cli.commands_there import COMMANDS

from facetrain import __version__
from facetrain.cli import app, commands, console
from facetrain.core.errors import ConfigError, DataError, InputError

HELLO = '''from facetrain.cli import console


def run(name: str = "you") -> None:
    """Say hello."""
    console.result({"name": name}, f"hello {name}")
'''


@pytest.fixture
def raising(monkeypatch):
    """Let `facetrain fail` raise a given exception; give the exit code of such a call."""

    def run(error):
        def fail() -> None:
            raise error

        application = typer.Typer(pretty_exceptions_enable=False)
        application.command("fail")(fail)
        application.command("other")(lambda: None)
        monkeypatch.setattr(app, "build_app", lambda: application)
        return app.run_cli(["fail"])

    return run


def test_a_subcommand_is_one_new_file(capsys, monkeypatch, tmp_path):
    (tmp_path / "say_hello.py").write_text(HELLO)
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    assert app.run_cli(["say-hello", "--name", "A"]) == 0
    assert capsys.readouterr().out == "hello A\n"
    assert app.run_cli(["--help"]) == 0
    assert "say-hello" in capsys.readouterr().out


def test_a_folder_of_files_is_a_group_of_subcommands(capsys, monkeypatch, tmp_path):
    (tmp_path / "greet").mkdir()
    (tmp_path / "greet/__init__.py").write_text('"""Greetings of all kinds."""\n')
    (tmp_path / "greet/say_hello.py").write_text(HELLO.replace("hello {name}", "hi {name}"))
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "facetrain.cli.commands.greet.say_hello", raising=False)
    assert app.run_cli(["greet", "say-hello", "--name", "A"]) == 0
    assert capsys.readouterr().out == "hi A\n"
    assert app.run_cli(["--help"]) == 0
    assert "Greetings of all kinds." in capsys.readouterr().out
    assert app.run_cli(["greet", "--help"]) == 0
    assert "say-hello" in capsys.readouterr().out
    assert app.run_cli(["greet", "say-hello", "--nonsense"]) == 2
    assert "facetrain greet say-hello --help" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_every_command(capsys, arguments):
    assert app.run_cli(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for command in COMMANDS:
        assert f" {command.split()[0]} " in out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_of_its_own(capsys, command):
    assert app.run_cli([*command.split(), "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert f"facetrain {command}" in out


def test_a_new_file_is_a_new_command(capsys, monkeypatch, tmp_path):
    (tmp_path / "say_hello.py").write_text('def run() -> None:\n    """Greet."""\n    print("hello")\n')
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "facetrain.cli.commands.say_hello", raising=False)
    assert app.run_cli(["say-hello"]) == 0
    assert capsys.readouterr().out == "hello\n"


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_imports_nothing_heavy(command):
    heavy = ("torch", "torchvision", "cv2", "numpy", "onnxruntime", "onnx", "matplotlib", "jinja2", "yaml")
    arguments = [*(command.split() if command else []), "--help"]
    code = f"""
import sys
from facetrain.cli.app import run_cli
code = run_cli({arguments!r})
print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_version(capsys):
    assert app.run_cli(["--version"]) == 0
    assert capsys.readouterr().out == f"facetrain {__version__}\n"


def test_as_a_module():
    done = subprocess.run([sys.executable, "-m", "facetrain", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"facetrain {__version__}\n"
    done = subprocess.run([sys.executable, "-m", "facetrain", "nonsense"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize(("arguments", "said"), [(["detec"], "detec"), (["--nonsense"], "--nonsense")])
def test_wrong_usage_is_an_error_and_a_hint(capsys, arguments, said):
    assert app.run_cli(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert said in err
    assert err.splitlines()[-1].startswith("hint: facetrain --help")


def numeric_options():
    """(words of the command, option) of all options that take numbers."""
    for words in map(str.split, COMMANDS):
        command = typer.main.get_command(app.build_app())
        for word in words:
            command = command.commands[word]
        place = ".".join(words).replace("-", "_")
        hints = get_type_hints(import_module(f"{commands.__name__}.{place}").run)
        for parameter in command.params:
            hint = hints.get(parameter.name)
            if {int, float} & {hint, *get_args(hint)}:
                yield tuple(words), max(parameter.opts, key=len)


def test_a_value_that_is_no_number_is_shown(capsys):
    """Whatever release of Typer says it."""
    options = list(numeric_options())
    assert (("detect",), "--min-face") in options
    assert (("data", "label"), "--score") in options
    for words, option in options:
        assert app.run_cli([*words, option, "a\x1b9"]) == 2
        said = capsys.readouterr().err.splitlines()[0]
        assert option in said
        assert "a\\x1b9" in said
        assert "valid" in said


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (DataError("a.txt:3: wrong", "do this"), 1, "error: a.txt:3: wrong\nhint: do this\n"),
        (InputError("nothing there"), 2, "error: nothing there\n"),
        (ConfigError("two:\n  a\n  b"), 2, "error: two:\n  a\n  b\n"),
        (typer.Exit(1), 1, ""),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(32, "Broken pipe"), 1, ""),
    ],
)
def test_errors_become_exit_codes(capfd, raising, error, code, text):
    try:
        assert raising(error) == code
    except SystemExit as leaving:  # what Typer itself makes of a broken pipe
        assert leaving.code == code
    assert capfd.readouterr().err == text


def test_a_bug_shows_its_traceback_and_asks_for_a_report(capsys, raising):
    assert raising(ZeroDivisionError("oops")) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" in err
    assert "ZeroDivisionError: oops" in err
    assert "facetrain info" in err.splitlines()[-1]


@pytest.mark.parametrize(
    "error, text",
    [
        (OSError(errno.ENAMETOOLONG, "File name too long", "aaa"), "error: aaa: File name too long"),
        (PermissionError(errno.EACCES, "Permission denied", "x/y"), "error: x/y: Permission denied"),
        (MemoryError("8 GiB"), "error: not enough memory: 8 GiB"),
    ],
)
def test_what_the_system_refuses_is_no_bug(capfd, raising, error, text):
    assert raising(error) == 1
    said = capfd.readouterr().err
    assert text in said
    assert "Traceback" not in said


def test_help_onto_a_full_disk_is_no_bug():
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "facetrain", "--help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "error: output: No space left on device\n"


def test_a_full_disk_behind_stdout_is_an_error_and_no_bug():
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    with full.open("w") as stdout:
        done = subprocess.run(
            [sys.executable, "-c", "from facetrain.cli import console; console.result({}, 'x'); console.flush()"],
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert "OutputError" in done.stderr
    assert "No space left" in done.stderr


def test_modules_of_commands_are_named_run():
    for command in COMMANDS:
        place = command.replace("-", "_").replace(" ", ".")
        module: ModuleType = __import__(f"{commands.__name__}.{place}", fromlist=["run"])
        assert module.run.__doc__
    assert console.say.__doc__
