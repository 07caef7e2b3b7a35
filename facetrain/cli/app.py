"""The command `facetrain`: collects the subcommands and turns errors into exit codes.

A subcommand is a file in `commands/` with a function `run` in Typer's annotations; `export_onnx.py` becomes
`export-onnx`. A folder is a group of them: `data/check.py` becomes `data check`. These files import nothing heavy at
their top, so that help comes at once.
"""

import errno
import sys
import traceback
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Annotated

import typer

from facetrain import __version__
from facetrain.cli import commands, console
from facetrain.core.errors import FacetrainError, UsageError

# What the system refuses wherever it happens to be asked: no bug, and no traceback helps.
_REFUSALS = (
    *("ENOSPC", "EDQUOT", "EIO", "ENOMEM", "EACCES", "EPERM", "EROFS"),
    *("ENAMETOOLONG", "ELOOP", "EMFILE", "ENFILE", "ESTALE"),
)
_SYSTEM = {getattr(errno, name) for name in _REFUSALS if hasattr(errno, name)}


def main() -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(run_cli(sys.argv[1:]))


def run_cli(arguments: list[str]) -> int:
    """Run one command line. Returns 0 done, 1 failed wholly or in part, 2 not begun, 130 interrupted."""
    console.harden_streams()
    try:
        try:
            # Typer's own shell expansion on Windows is off: a file named `a[1].jpg` is no pattern (detect/sources.py)
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
        add_completion=False,
        pretty_exceptions_enable=False,
        pretty_exceptions_show_locals=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Train, measure and ship tiny face detectors.",
    )
    app.callback(invoke_without_command=True)(_root)
    _add_commands(app, commands)
    return app


def _add_commands(app: typer.Typer, folder: ModuleType) -> None:
    """Add each file of a folder as a subcommand, and each folder in it as a group of them."""
    for module in sorted(iter_modules(folder.__path__), key=lambda module: module.name):
        name = module.name.replace("_", "-")
        found = import_module(f"{folder.__name__}.{module.name}")
        if module.ispkg:
            group = typer.Typer(no_args_is_help=True, help=found.__doc__)
            _add_commands(group, found)
            app.add_typer(group, name=name)
        else:
            app.command(name)(found.run)


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


def _say_usage(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "facetrain"
    console.say(f"error: {error.format_message()}")  # type: ignore[attr-defined]
    console.say(f"hint: {command} --help lists what there is")
    return int(error.exit_code)  # type: ignore[attr-defined]
