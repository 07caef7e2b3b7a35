"""The command `facetrain`: collects the subcommands and turns errors into exit codes.

A subcommand is a file in `commands/` with a function `run` in Typer's annotations, and with command lines that show its
use, `EXAMPLES`; `export_onnx.py` becomes `export-onnx`. A folder is a group of them: `data/check.py` becomes
`data check`. These files import nothing heavy at their top, so that help comes at once.
"""

import errno
import sys
import traceback
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Annotated, Any

import typer

from facetrain import __version__
from facetrain.cli import commands, console
from facetrain.cli.help import Command, Group, dressed
from facetrain.config.problems import shorten
from facetrain.core.errors import FacetrainError, UsageError

EXAMPLES = """
facetrain detect photos/ -o drawn
facetrain train yunet_n --data sample --for 10m
facetrain eval --data my_faces --weights yunet_n
facetrain weights
"""

_EXAMPLES_OF_A_GROUP = 4

# What the system refuses wherever it happens to be asked: no bug, and no traceback helps.
_REFUSALS = (
    *("ENOSPC", "EDQUOT", "EIO", "ENOMEM", "EACCES", "EPERM", "EROFS"),
    *("ENAMETOOLONG", "ELOOP", "EMFILE", "ENFILE", "ESTALE"),
)
_HEAVY = ("torch", "torchvision")  # what an installation for ONNX files alone may lack
_SYSTEM = {getattr(errno, name) for name in _REFUSALS if hasattr(errno, name)}


def main() -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(run_cli(sys.argv[1:]))


def run_cli(arguments: list[str]) -> int:
    """Run one command line. Returns 0 done, 1 failed wholly or in part, 2 not begun, 130 interrupted."""
    console.harden_streams()
    try:
        try:
            # Typer's own shell expansion on Windows is off: a file named `a[1].jpg` is no pattern (media/find.py)
            command = typer.main.get_command(build_app())
            console.speak_for(_named(command, arguments))
            code = command.main(arguments, prog_name="facetrain", standalone_mode=False, windows_expand_args=False)
        finally:
            console.flush()  # here, where a closed pipe is still handled, and not while Python shuts down
    except FacetrainError as error:
        console.say_error(error)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        console.say("interrupted")
        return 130
    except BrokenPipeError:
        console.discard_stdout()
        return 1
    except Exception as error:
        if _is_usage_error(error):
            return _say_usage(error)
        if isinstance(error, OSError) and error.errno in _SYSTEM:
            console.discard_stdout()
            console.say(f"error: {error.filename or 'output'}: {error.strerror}")
            return 1
        if isinstance(error, ModuleNotFoundError) and error.name in _HEAVY:
            console.say(f"error: this needs {error.name}, which is not installed")
            console.say("hint: pip install torch torchvision")
            return 1
        if isinstance(error, MemoryError):
            console.say(f"error: not enough memory{f': {error}' if str(error) else ''}")
            return 1
        traceback.print_exc()
        console.say(
            "this is a bug in facetrain: please report it with the lines above and what `facetrain info` prints"
        )
        return 1
    return code if isinstance(code, int) else 0


def build_app() -> typer.Typer:
    """The Typer application with every file of `commands/` as a subcommand."""
    app = typer.Typer(
        cls=Group,
        pretty_exceptions_enable=False,
        pretty_exceptions_show_locals=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Train, measure and ship tiny face detectors.",
        epilog=EXAMPLES,
    )
    app.callback(invoke_without_command=True)(_root)
    _add_commands(app, commands)
    return app


def _add_commands(app: typer.Typer, folder: ModuleType) -> list[str]:
    """Add each file of a folder as a subcommand, each folder in it as a group of them. Returns an example of each."""
    first: list[str] = []
    for module in sorted(iter_modules(folder.__path__), key=lambda module: module.name):
        name = module.name.replace("_", "-")
        found = import_module(f"{folder.__name__}.{module.name}")
        if module.ispkg:
            group = typer.Typer(cls=Group, no_args_is_help=True, help=found.__doc__)
            group.info.epilog = "\n".join(_add_commands(group, found)[:_EXAMPLES_OF_A_GROUP])
            app.add_typer(group, name=name)
        else:
            examples = getattr(found, "EXAMPLES", "")
            app.command(name, cls=Command, epilog=examples)(dressed(found.run))
            first += examples.strip().splitlines()[:1]
    return first


def _named(command: object, arguments: list[str]) -> object:
    """The subcommand that a command line names; None where it names none."""
    for word in arguments:
        below = getattr(command, "commands", None)
        if below is None:
            return command
        if not word.startswith("-"):
            command = below.get(word)
    return None if hasattr(command, "commands") else command


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"facetrain {__version__}")
        raise typer.Exit


def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())
        return
    try:
        Path.cwd()
    except OSError as error:
        raise UsageError("the current folder is no longer there", "go to one that is, with `cd`") from error


def _is_usage_error(error: Exception) -> bool:
    # Known by what it can do: older releases of Typer raise click's classes, newer ones their own copies of them.
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def _usage_message(error: Any) -> str:
    """What is wrong with a command line. Of a refused value newer releases of Typer tell why, and not the value."""
    message: str = error.format_message()
    errors = getattr(error.__cause__, "errors", None)  # pydantic's, which does the refusing there
    names = getattr(getattr(error, "param", None), "opts", ())
    if not callable(errors) or not names:
        return message
    reason: str = error.message
    return f"{max(names, key=len)} {shorten(str(errors()[0]['input']))}: {reason[:1].lower()}{reason[1:]}"


def _say_usage(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "facetrain"
    console.say(f"error: {_usage_message(error)}")
    console.say(f"hint: {_saved(command, error) or f'{command} --help lists what there is'}")
    return int(error.exit_code)  # type: ignore[attr-defined]


def _saved(command: str, error: Any) -> str | None:
    """What to write in place of `detect --blur`: an output that was taken for an option."""
    from facetrain.detect.save import names

    wanted = str(getattr(error, "option_name", "")).lstrip("-")
    return f"--save {wanted}=PATH" if command.endswith(" detect") and wanted in names() else None
